/** Judges what is asked for: the binding that the tool wants, the intersection with policy, and what to answer. */
import type { Grant } from '@errand/verifier/claims.ts'
import type { AttestationResult } from '../attest/attestation-result.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import type { Decision, DecisionQuestion } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { takes } from '../tasks/containment.ts'
import type { ProvenAgent } from './authenticate.ts'
import type { Directory } from './directory.ts'
import { explainDecision } from './explain.ts'
import { withinReach } from './reach.ts'
import { chainLength, type Standing } from './standing.ts'
import type { Target } from './targets.ts'

export function checkBinding(tool: Tool, standing: Standing, proven: ProvenAgent): Result<void> {
  if (standing.onlyAudience !== undefined && tool.audience !== standing.onlyAudience) {
    return refuse('audience_denied', 'request', {
      explanation: {
        rule: 'parent',
        next: "a holder's own token can be renewed or narrowed for its own audience only",
      },
    })
  }
  // What goes to others is not called with: who may present it is said in it.
  if (!proven.confirmation && !tool.acceptsBearer && !tool.takes) {
    return refuse('proof_required', 'dpop', {
      explanation: { rule: 'sender_constraint', next: 'send a DPoP proof (RFC 9449), or come over mTLS' },
    })
  }
  return ok(undefined)
}

/** How what is issued will be bound: a transaction token to nothing, an ID-JAG to a DPoP key alone. */
function boundBy(
  confirmation: ProvenAgent['confirmation'],
  { takes }: Tool,
): DecisionQuestion['facts']['senderConstraint'] {
  if (!confirmation || takes?.kind === 'txn_token') return 'bearer'
  if ('jkt' in confirmation) return 'dpop'
  return takes ? 'bearer' : 'mtls'
}

/** The decision as its agent may read it; judged at every operand where it is a no, or only asked for. */
export function decide(
  directory: Directory,
  proven: ProvenAgent,
  standing: Standing,
  target: Target,
  now: number,
  dryRun: boolean,
): Decision {
  const { attested, confirmation } = proven
  const { task, subject, subjectRights, parentGrants } = standing
  const { environment, dataClassification } = 'existing' in task ? task.existing.context : task.opens.context
  const question: DecisionQuestion = {
    tools: [target.tool],
    ...(target.requested ? { requested: target.requested } : {}),
    operands: {
      ceiling: attested.agent.ceiling,
      ...(subjectRights ? { subject: subjectRights } : {}),
      ...('existing' in task ? { task: task.existing.authority } : {}),
      ...(parentGrants ? { parent: parentGrants } : {}),
    },
    facts: {
      agent: attested.agent,
      attestation: {
        kind: attested.kind,
        tier: attested.tier,
        ...(attested.release === undefined ? {} : { release: attested.release }),
        ...(attested.issuedAt === undefined ? {} : { issuedAt: attested.issuedAt }),
      },
      subject,
      task: { environment, dataClassification, depth: chainLength(standing) },
      senderConstraint: boundBy(confirmation, target.tool),
      now,
    },
  }
  const asked = target.requested !== undefined
  const whole = () => withinReach(directory.decide({ ...question, whole: true }), attested.agent, asked)
  if (dryRun) return whole()
  const decision = withinReach(directory.decide(question), attested.agent, asked)
  return decision.allowed ? decision : whole()
}

/** Asking for more is refused whole, with the refused part named; asking for nothing in particular gets what there is. */
export function judge(
  decision: Decision,
  target: Target,
  standing: Standing,
  { agent }: AttestationResult,
  dryRun: boolean,
): Result<void> {
  if (!dryRun && (agent.stage === 'suggest' || agent.stage === 'draft')) {
    return refuse('stage_no_token', 'request', {
      explanation: {
        ...explainDecision(decision, target),
        rule: 'stage',
        next: `an agent at stage ${agent.stage} gets no token: use dry_run, or raise its stage in ${agent.file}`,
      },
    })
  }
  if (decision.allowed || dryRun) return ok(undefined)
  const lost = decision.verdicts.filter((verdict) => !verdict.permitted)
  const explanation = explainDecision(decision, target)
  const taken = takenBy(lost, standing)
  if (taken !== undefined) {
    const nextAction = explanation.narrower ? 'ask_narrower' : 'ask_person'
    const next = explanation.narrower ? 'ask for what narrower holds' : 'ask security staff what may still be done'
    return refuse('authority_contained', target.askedIn, {
      explanation: { ...explanation, rule: taken, nextAction, next },
    })
  }
  const byPolicy = lost.filter((verdict) => verdict.lostAt === 'policy')
  if (!target.requested) {
    // Nothing of this tool is left: by policy, or because it was never the caller's to reach.
    return byPolicy.length > 0
      ? refuse('policy_denied', 'request', { explanation })
      : refuse('audience_denied', 'request', { explanation })
  }
  // D24: an own token is renewed within the ceiling of today, whatever the token once was.
  if (standing.kind === 'own' && lost.some((verdict) => verdict.lostAt === 'ceiling')) {
    return refuse('policy_denied', 'request', { explanation })
  }
  if (outsideParent(target.requested, standing)) return refuse('audience_denied', 'request', { explanation })
  return byPolicy.length === lost.length
    ? refuse('policy_denied', 'request', { explanation })
    : refuse('scope_not_granted', target.askedIn, { explanation })
}

/** The containment that took what is missing from the task (or from the one above it). */
function takenBy(lost: Decision['verdicts'], { task }: Standing): string | undefined {
  const { contained = [] } = ('existing' in task ? task.existing : task.parent) ?? {}
  const there = lost.filter(({ lostAt }) => lostAt === 'task' || lostAt === 'parent')
  return contained.find((each) => there.some((verdict) => takes(each, verdict)))?.by
}

/** D3: the parent has nothing at all at this audience. */
const outsideParent = (requested: readonly Grant[], { parentGrants }: Standing): boolean =>
  parentGrants !== undefined && requested.every(({ tool }) => !parentGrants.some((grant) => grant.tool === tool))
