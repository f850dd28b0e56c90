/** `dry_run`: the whole decision and what would be issued; nothing is opened, charged, spent or signed. */
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { scopeOf, toAuthorizationDetails } from '@errand/verifier/grants.ts'
import type { ToolAuthorization } from '@errand/verifier/claims.ts'
import { newJti } from '../audit/ids.ts'
import { explained, type Explained } from '../oauth/explanation.ts'
import { ok, type Result } from '../oauth/refusal.ts'
import type { Wire } from './authenticate.ts'
import {
  checkRevocation,
  type ExchangeDeps,
  lifetime,
  type No,
  type Prepared,
  refusedByRevocation,
  rootOf,
  signedOut,
  tokenType,
  tooLate,
} from './prepared.ts'
import { explainDecision } from './explain.ts'
import { wholeRowsOf } from './intersection.ts'
import { explanationDetails, verdictRows } from './record.ts'

/** A no is explained in the members of a refusal. */
export interface DryRunResponse extends Explained {
  readonly dry_run: true
  readonly allowed: boolean
  readonly decision_id: string
  readonly would_issue?: {
    readonly audience: string
    readonly scope: string
    readonly authorization_details: readonly ToolAuthorization[]
    readonly expires_in: number
    readonly token_type: string
  }
  readonly verdicts: readonly object[]
}

export async function dryRun(
  deps: ExchangeDeps,
  prepared: Prepared,
  wire: Wire,
  no: No,
): Promise<Result<DryRunResponse> | 'policy_changed'> {
  const { decision, target, proven, standing, decisionId } = prepared
  const now = deps.now()
  const place = rootOf(prepared)
  const late = tooLate(prepared, now)
  if (late) return no(late)
  const life = lifetime(prepared, now)
  const kid = deps.keys.activeKid('token')
  const answer = await checkRevocation(deps, prepared, newJti(deps.audit.logId, deps.nowMs()), kid, place.root)
  const revoked = refusedByRevocation(answer)
  if (revoked === 'policy_changed') return revoked
  if (revoked) return no(revoked)
  const left = await signedOut(deps, prepared.standing)
  if (left) return no(left)
  const explanation = explainDecision(decision, target)
  await deps.audit.append({
    type: 'decision.evaluated',
    decision: decision.allowed ? 'permit' : 'refuse',
    decisionId,
    agent: proven.attested.agent.clientId,
    subject: standing.subject.id,
    ...('existing' in standing.task ? { task: standing.task.existing.id } : {}),
    tool: target.tool.name,
    operations: decision.verdicts.map((verdict) => verdict.operation),
    rules: decision.policies,
    correlation: wire.correlation,
    epoch: formatEpoch(answer.epoch),
    details: { dry_run: true, ...explanationDetails({ explanation }), ...wholeRowsOf(decision) },
  })
  return ok({
    dry_run: true,
    allowed: decision.allowed,
    decision_id: decisionId,
    ...(decision.allowed
      ? {
          would_issue: {
            audience: target.tool.audience,
            scope: scopeOf(decision.permitted),
            authorization_details: toAuthorizationDetails(
              decision.permitted,
              (_, operation) => target.tool.operations.get(operation)!.effect,
            ),
            expires_in: life,
            token_type: tokenType(prepared, proven.confirmation),
          },
        }
      : {}),
    ...explained(explanation),
    verdicts: verdictRows(decision),
  })
}
