/** What an exchange leaves in the audit log. */
import type { AttestationResult } from '../attest/attestation-result.ts'
import type { AuditEvent, Json } from '../audit/log.ts'
import { explained } from '../oauth/explanation.ts'
import { type Refusal, Unavailable } from '../oauth/refusal.ts'
import type { Decision } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import type { TokenFacts } from '../tokens/issue.ts'
import type { ProvenAgent, Wire } from './authenticate.ts'
import { recordedClaims } from './foreign.ts'
import type { Granted } from './granted.ts'
import { operandsFrom, wholeRowsOf } from './intersection.ts'
import type { Prepared } from './prepared.ts'
import type { Standing } from './standing.ts'

/** One operation, as `dry_run` answers it. */
export const verdictRows = (decision: Decision) =>
  decision.verdicts.map(({ tool, operation, permitted, effect, lostAt, policies, reasons, leastChange, passed }) => ({
    tool,
    operation,
    permitted,
    ...(effect === undefined ? {} : { effect }),
    operands: operandsFrom(passed),
    ...(lostAt === undefined ? {} : { lost_at: lostAt }),
    ...(policies.length === 0 ? {} : { policies }),
    ...(reasons.length === 0 ? {} : { reasons }),
    ...(leastChange === undefined ? {} : { least_change: leastChange }),
  }))

/** What was told to the caller, but for what stands in the rows. */
export function explanationDetails({ explanation = {}, detail }: Pick<Refusal, 'explanation' | 'detail'>) {
  const { narrower: _, lost, ...told } = explained(explanation)
  return {
    ...told,
    ...(lost === undefined ? {} : { lost: lost.map(({ had: _, ...each }) => each) }),
    ...(detail === undefined ? {} : { detail }),
  }
}

/** How the agent proved what it is, as records have it. */
export const attestationOf = ({ kind, tier, release }: AttestationResult) => ({
  kind,
  tier,
  ...(release === undefined ? {} : { release }),
})

export function permitEvent(
  facts: TokenFacts,
  claims: object,
  prepared: Prepared,
  { granted, wire, parent }: { readonly granted: Granted; readonly wire: Wire; readonly parent: string | undefined },
): AuditEvent {
  const { standing, decision, proven, target, handOverTo } = prepared
  return {
    type: 'token.issuing',
    decision: 'permit',
    decisionId: prepared.decisionId,
    agent: facts.clientId,
    subject: facts.subject,
    task: facts.task.id,
    root: facts.task.root,
    ...(parent === undefined ? {} : { parentTask: parent }),
    tool: target.tool.name,
    operations: granted.operations,
    rules: decision.policies,
    attestation: facts.attestation,
    correlation: wire.correlation,
    ...(standing.cause === undefined ? {} : { cause: standing.cause }),
    epoch: facts.epoch,
    jti: facts.jti,
    claims: recordedClaims(claims) as unknown as { readonly [name: string]: Json },
    ...('opens' in standing.task ? { purpose: standing.task.opens.purpose } : {}),
    // In the order in which records have them.
    details: {
      evidence: proven.attested.kind,
      ...(standing.grant === undefined ? {} : { grant: standing.grant }),
      kind: target.tool.takes?.kind ?? (handOverTo === undefined ? 'access_token' : 'hand_over'),
      opened_task: 'opens' in standing.task,
      ...granted.rows,
    },
  }
}

/** Of that intent nothing came: who reads it must look for no token. */
export function unsignedEvent(intent: AuditEvent, cause: unknown): AuditEvent {
  const { decisionId, agent, task, root, tool, correlation, jti } = intent as Required<AuditEvent>
  const reason = cause instanceof Unavailable ? { reason: cause.reason } : {}
  // Not by its own decision: who looks for that one is to find what was decided.
  return { type: 'token.unsigned', ...reason, cause: decisionId, agent, task, root, tool, correlation, jti }
}

export function refusalEvent(
  refusal: Refusal,
  context: {
    readonly decisionId: string
    readonly proven: ProvenAgent
    readonly wire: Wire
    readonly standing?: Standing
    readonly tool?: Tool
    readonly decision?: Decision
  },
): AuditEvent {
  const { proven, standing, tool, decision, wire } = context
  const task = standing && 'existing' in standing.task ? standing.task.existing : undefined
  return {
    type: 'token.refused',
    decision: 'refuse',
    reason: refusal.reason,
    decisionId: context.decisionId,
    agent: proven.attested.agent.clientId,
    ...(standing ? { subject: standing.subject.id } : {}),
    ...(task ? { task: task.id, root: task.root } : {}),
    ...(tool ? { tool: tool.name } : {}),
    ...(decision
      ? { operations: decision.verdicts.map((verdict) => verdict.operation), rules: decision.policies }
      : {}),
    attestation: attestationOf(proven.attested),
    correlation: wire.correlation,
    ...(standing?.cause === undefined ? {} : { cause: standing.cause }),
    details: {
      ...explanationDetails(refusal),
      ...(decision ? wholeRowsOf(decision) : {}),
    },
  }
}
