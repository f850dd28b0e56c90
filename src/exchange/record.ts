/** What an exchange leaves in the audit log. */
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import type { AuditEvent, Json } from '../audit/log.ts'
import type { Refusal } from '../oauth/refusal.ts'
import type { Decision, Operand } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import type { HandOverClaims } from '../tokens/hand-over.ts'
import type { TokenFacts } from '../tokens/issue.ts'
import type { ProvenAgent, Wire } from './authenticate.ts'
import type { Standing } from './standing.ts'

/** One row an operation: the table that `errand explain` prints. */
export const verdictRows = (decision: Decision): { readonly [name: string]: Json }[] =>
  decision.verdicts.map((verdict) => ({
    tool: verdict.tool,
    operation: verdict.operation,
    permitted: verdict.permitted,
    ...(verdict.effect === undefined ? {} : { effect: verdict.effect }),
    ...(verdict.lostAt === undefined ? {} : { lost_at: verdict.lostAt }),
    ...(verdict.policies.length === 0 ? {} : { policies: verdict.policies }),
    ...(verdict.reasons.length === 0 ? {} : { reasons: verdict.reasons }),
    ...(verdict.leastChange === undefined ? {} : { least_change: verdict.leastChange }),
  }))

/** Operands that this exchange did not have: a root task has no parent, an autonomous one no subject. */
const absentOperands = ({ subjectRights, parentGrants, task }: Standing): readonly Operand[] => [
  ...(subjectRights ? [] : (['subject'] as const)),
  ...('existing' in task ? [] : (['task'] as const)),
  ...(parentGrants ? [] : (['parent'] as const)),
]

export function permitEvent(
  facts: TokenFacts,
  claims: AccessTokenClaims | HandOverClaims,
  context: {
    readonly decisionId: string
    readonly proven: ProvenAgent
    readonly standing: Standing
    readonly target: { readonly tool: Tool }
    readonly decision: Decision
    readonly wire: Wire
    readonly parent?: string | undefined
    readonly handOverTo?: string
  },
): AuditEvent {
  const { standing, decision, proven, wire } = context
  return {
    type: 'token.issuing',
    decision: 'permit',
    decisionId: context.decisionId,
    agent: facts.clientId,
    subject: facts.subject,
    task: facts.task.id,
    root: facts.task.root,
    ...(context.parent === undefined ? {} : { parentTask: context.parent }),
    tool: context.target.tool.name,
    operations: facts.grants.map((grant) => grant.operation),
    rules: decision.policies,
    attestation: facts.attestation,
    correlation: wire.correlation,
    ...(standing.cause === undefined ? {} : { cause: standing.cause }),
    epoch: facts.epoch,
    jti: facts.jti,
    claims: claims as unknown as { readonly [name: string]: Json },
    ...('opens' in standing.task ? { purpose: standing.task.opens.purpose } : {}),
    details: {
      kind: context.handOverTo === undefined ? 'access_token' : 'hand_over',
      opened_task: 'opens' in standing.task,
      evidence: proven.attested.kind,
      absent: absentOperands(standing),
      verdicts: verdictRows(decision),
    },
  }
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
    attestation: { kind: proven.attested.kind, tier: proven.attested.tier },
    correlation: wire.correlation,
    ...(standing?.cause === undefined ? {} : { cause: standing.cause }),
    details: {
      ...(refusal.explanation?.rule === undefined ? {} : { rule: refusal.explanation.rule }),
      ...(refusal.explanation?.missing === undefined ? {} : { missing: refusal.explanation.missing }),
      ...(refusal.explanation?.next === undefined ? {} : { next: refusal.explanation.next }),
      ...(refusal.detail === undefined ? {} : { detail: refusal.detail }),
      ...(decision ? { verdicts: verdictRows(decision) } : {}),
      ...(decision && standing ? { absent: absentOperands(standing) } : {}),
    },
  }
}
