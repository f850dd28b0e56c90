/** What an exchange has worked out before it changes anything, and the questions that its last steps share. */
import { type Confirmation, MAX_UNFOLLOWED_LIFETIME_SECONDS, type ToolAuthorization } from '@errand/verifier/claims.ts'
import { type CheckedHop, type HopFacts, trustDomainOf } from '@errand/verifier/shapes.ts'
import type { KeyPins } from '../attest/key-pins.ts'
import type { AuditLog } from '../audit/log.ts'
import type { Sealer } from '../keys/seal.ts'
import type { Reason, Refusal } from '../oauth/refusal.ts'
import type { Decision } from '../policy/decision.ts'
import type { Task } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { NoteIssued } from '../tokens/issued.ts'
import type { Issuer, SigningKeys } from '../tokens/issue.ts'
import type { RevocationAnswer, Revocations } from '../tokens/revocations.ts'
import type { SignOuts } from '../tokens/sign-outs.ts'
import type { StatusIndexes } from '../tokens/status.ts'
import type { ReadSubjectToken } from '../tokens/subject.ts'
import type { ProvenAgent, ProveAgent } from './authenticate.ts'
import type { Directory } from './directory.ts'
import type { TxnContext } from './foreign.ts'
import type { GrantedBy } from './granted.ts'
import type { IdempotencyStore } from './idempotency.ts'
import { LEAST_USEFUL_SECONDS, type Standing } from './standing.ts'
import type { ReadTarget, Target } from './targets.ts'

export interface TokenResponse {
  readonly access_token: string
  readonly issued_token_type: string
  readonly token_type: 'DPoP' | 'Bearer' | 'N_A'
  readonly expires_in: number
  readonly scope: string
  readonly authorization_details: readonly ToolAuthorization[]
  readonly task_id: string
  readonly decision_id: string
  readonly log: { readonly id: string; readonly index: number }
}

/** What the exchange is made of, and what it remembers between requests. */
export interface ExchangeDeps extends ExchangeParts {
  readonly granted: GrantedBy
  readonly readTarget: ReadTarget
}

export interface ExchangeParts {
  readonly directory: () => Directory
  readonly now: () => number
  readonly nowMs: () => number
  readonly proveAgent: ProveAgent
  readonly proveWorkload: ProveAgent
  readonly readSubject: (directory: Directory) => ReadSubjectToken
  readonly tasks: TaskStore
  readonly revocations: Revocations
  readonly signOuts: Pick<SignOuts, 'before'>
  readonly grants: KeyPins
  readonly issuer: Issuer
  readonly keys: SigningKeys
  readonly audit: AuditLog
  readonly noteIssued: NoteIssued
  readonly statusIndexes: StatusIndexes
  readonly idempotency: IdempotencyStore
  /** What is remembered for a retry is signed again: whoever can write the store must not be able to write that. */
  readonly sealer: Pick<Sealer, 'seal' | 'open'>
}

/** What was worked out before anything is changed. */
export interface Prepared {
  readonly directory: Directory
  readonly proven: ProvenAgent
  readonly standing: Standing
  readonly target: Target
  readonly decision: Decision
  readonly decisionId: string
  readonly handOverTo?: string
  /** What a transaction token carries. */
  readonly context: TxnContext
  readonly taskId: string
  readonly deadline: number
  /** Entries after which the task was read once more: what they closed is seen in it. */
  readonly reread: ReadonlySet<string>
}

/** The policies, or what a task may do, have changed since they were read: what was judged is judged again. */
export type JudgeAgain = 'policy_changed' | { readonly after: readonly string[] }

/** Writes the refusal down, then tells it. */
export type No = (refusal: Refusal) => Promise<{ readonly ok: false; readonly refusal: Refusal }>

/** Seconds of life: the least of every bound. */
export function lifetime(prepared: Prepared, now: number): number {
  const { directory, target, decision, deadline, proven, standing, handOverTo } = prepared
  const { tool } = target
  const { settings } = directory
  return Math.floor(
    Math.min(
      settings.tokens.maxLifetimeSeconds,
      tool.takes?.lifetimeSeconds ?? tool.maxTokenLifetimeSeconds,
      decision.obligations.maxLifetimeSeconds ?? Number.POSITIVE_INFINITY,
      tool.takes || (tool.followsFeed && proven.confirmation)
        ? Number.POSITIVE_INFINITY
        : MAX_UNFOLLOWED_LIFETIME_SECONDS,
      ...(handOverTo === undefined
        ? []
        : [settings.tokens.handOverLifetimeSeconds, (standing.subjectExpiresAt ?? deadline) - now]),
      deadline - now,
    ),
  )
}

/** A hand-over of a token that is about to end is refused by that name; everything else ends with its task. */
export function tooLate({ standing, handOverTo, deadline }: Prepared, now: number): Refusal | undefined {
  const subjectEnds = standing.subjectExpiresAt ?? deadline
  if (handOverTo !== undefined && subjectEnds - now < LEAST_USEFUL_SECONDS) {
    return { reason: 'parent_expiring', slot: 'subject_token' }
  }
  return deadline - now < 1 ? { reason: 'task_expired', slot: 'request' } : undefined
}

/** The revocation question of this exchange: its ancestors as they are, and the hop it would add. */
export async function checkRevocation(
  deps: ExchangeDeps,
  prepared: Prepared,
  jti: string,
  kid: string,
  root: string,
  hops: readonly CheckedHop[] = prepared.standing.checked,
): Promise<RevocationAnswer> {
  return deps.revocations.check({ hops, issuing: issuingHop(prepared, jti, kid, root) })
}

/** Asked after the revocation check: see `SignOuts`. */
export async function signedOut(
  { signOuts }: Pick<ExchangeDeps, 'signOuts'>,
  { subject, signedInAt }: { readonly subject: { readonly id: string }; readonly signedInAt?: number },
): Promise<Refusal | undefined> {
  if (signedInAt === undefined) return undefined
  const before = await signOuts.before(subject.id)
  return before === undefined || signedInAt > before ? undefined : { reason: 'signed_out', slot: 'subject_token' }
}

/** Those after which the task behind this exchange must be read again: it may have been read before what they close. */
export function unread({ contained = [] }: RevocationAnswer, { standing, reread }: Prepared): readonly string[] {
  const task = 'existing' in standing.task ? standing.task.existing : standing.task.parent
  if (!task) return []
  return contained
    .filter(({ entry, by }) => !reread.has(entry) && !task.contained?.some((known) => known.by === by))
    .map(({ entry }) => entry)
}

/** The hop that this exchange would add. */
export function issuingHop(
  { proven, standing, target, decision, taskId, handOverTo, directory }: Prepared,
  jti: string,
  kid: string,
  root: string,
): HopFacts {
  const { agent, release } = proven.attested
  return {
    jti,
    kid,
    root,
    task: taskId,
    sub: standing.subject.id,
    agent: agent.spiffeId,
    domain: trustDomainOf(agent.spiffeId),
    client_id: agent.clientId,
    aud: handOverTo === undefined ? target.tool.audience : directory.settings.issuer,
    policy: decision.policyDigest,
    ...(release === undefined ? {} : { release }),
  }
}

export function refusedByRevocation(answer: RevocationAnswer): Refusal | 'policy_changed' | undefined {
  if (answer.dead) return { reason: 'revoked', slot: 'subject_token', explanation: { rule: answer.dead.entry } }
  if (!answer.banned) return undefined
  const { dimensions, entry, suspended } = answer.banned
  if (suspended) return keptOut(answer.banned)
  if (dimensions.length === 1 && dimensions[0] === 'policy') return 'policy_changed'
  const ended = dimensions.includes('task') || dimensions.includes('root')
  return ended ? { reason: 'task_not_active', slot: 'request', explanation: { rule: entry } } : keptOut(answer.banned)
}

/** Until a person lifts it. */
export function keptOut({ entry, suspended }: NonNullable<RevocationAnswer['banned']>): Refusal {
  const reason: Reason = suspended ? 'suspended' : 'banned'
  return { reason, slot: 'request', explanation: { rule: entry } }
}

/** Where the task stands in its tree, also before it is opened. */
export const rootOf = ({ standing, taskId }: Prepared): { root: string; depth: number; parent?: Task } => {
  const { task } = standing
  if ('existing' in task) return { root: task.existing.root, depth: task.existing.depth }
  if (!task.parent) return { root: taskId, depth: 1 }
  return { root: task.parent.root, depth: task.parent.depth + 1, parent: task.parent }
}

export const tokenType = (
  { handOverTo, target }: Pick<Prepared, 'handOverTo' | 'target'>,
  confirmation: Confirmation | undefined,
): TokenResponse['token_type'] =>
  handOverTo !== undefined || target.tool.takes ? 'N_A' : confirmation && 'jkt' in confirmation ? 'DPoP' : 'Bearer' // RFC 9449 §5, RFC 8705 §3
