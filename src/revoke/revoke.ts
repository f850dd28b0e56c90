/**
 * Ends things, in the order that makes it final: issuing stops, tokens die, people are told. A task that ends is
 * banned until its deadline, so that an exchange already under way either sees the ban or dies of the entry.
 */
import { type AccessTokenClaims, MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { AuditEvent, AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { NewRevocation, Revocation, RevocationLog, RevocationMode } from './revocation-log.ts'

/** How long past the longest token an entry is kept: clocks of verifiers may lag. */
const MARGIN_SECONDS = 120

export interface RevokeDeps {
  readonly now: () => number
  readonly log: RevocationLog
  readonly tasks: TaskStore
  readonly audit: AuditLog
  /** Told of a record that could not be written after its effect. */
  readonly onUnrecorded?: (type: string) => void
}

export interface RevokeRequest {
  readonly match: HopFacts
  readonly mode: RevocationMode
  readonly reason: string
  readonly by: string
  readonly correlation?: string
  readonly absolute?: boolean
  readonly banUntil?: number
  /** Unix seconds: kept longer than any token lives, where caches must forget a key first. */
  readonly keepUntil?: number
  /** Given where the same revocation may be asked for again: the same id is the same entry. */
  readonly id?: string
}

export type EndState = 'completed' | 'cancelled' | 'revoked' | 'expired'

export interface Revoke {
  byMatch(
    request: RevokeRequest,
  ): Promise<{ readonly entry: Revocation; readonly added: boolean; readonly tasks: readonly string[] }>
  /** Ends a task and all below it. Answers the ids that this call ended. */
  endTask(id: string, state: EndState, reason: string, by: string, correlation?: string): Promise<readonly string[]>
  /** One token by its claims (RFC 7009), with everything that was made from it. */
  token(claims: Pick<AccessTokenClaims, 'jti' | 'exp'>, by: string, correlation?: string): Promise<Revocation>
  readmit(id: string, by: string, reason: string, correlation?: string): Promise<boolean>
  /** Ends every task whose deadline or heartbeat has passed, and forgets what no token can match. Answers how many ended. */
  sweep(): Promise<number>
}

export function createRevoke(deps: RevokeDeps): Revoke {
  const add = async (entry: NewRevocation, correlation: string | undefined, tasks: readonly string[]) => {
    const added = await deps.log.add(entry)
    // After the effect: the kill switch must not wait for a disk. Nothing depends on this record.
    await told(deps, {
      type: 'revocation.added',
      cause: entry.id,
      by: entry.by,
      correlation,
      epoch: formatEpoch(added.entry.epoch),
      // A subject is personal: it goes where the log hashes and seals it.
      ...(entry.match.sub === undefined ? {} : { subject: entry.match.sub }),
      details: {
        match: { ...entry.match, ...(entry.match.sub === undefined ? {} : { sub: '(subject)' }) },
        mode: entry.mode,
        reason: entry.reason,
        added: added.added,
        tasks_ended: tasks.length,
      },
    })
    return added
  }

  const endTask: Revoke['endTask'] = async (id, state, reason, by, correlation) => {
    const now = deps.now()
    const task = await deps.tasks.get(id)
    if (!task) return []
    const ended = await deps.tasks.end(id, state, reason, now)
    if (ended.length === 0) return []
    // Past its deadline no token of it is alive and none can be made: no entry is needed.
    if (now < task.deadline) {
      await add(
        {
          id: newId('rev'),
          match: { task: id },
          mode: 'ban',
          reason: `task ${state}: ${reason}`,
          by,
          at: now,
          expiresAt: task.deadline + MARGIN_SECONDS,
          banUntil: task.deadline,
        },
        correlation,
        ended,
      )
    }
    await told(deps, {
      type: 'task.ended',
      agent: task.agent,
      subject: task.subject.id,
      task: id,
      root: task.root,
      by,
      correlation,
      details: { state, reason, ended: [...ended] },
    })
    return ended
  }

  return {
    endTask,
    async byMatch({ match, mode, reason, by, correlation, absolute, banUntil, keepUntil = 0, id }) {
      const now = deps.now()
      const entry: NewRevocation = {
        id: id ?? newId('rev'),
        match,
        mode,
        reason,
        by,
        at: now,
        expiresAt: Math.max(now + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS, keepUntil),
        ...(absolute ? { absolute } : {}),
        ...(banUntil === undefined ? {} : { banUntil }),
      }
      const { entry: stored, added } = await add(entry, correlation, [])
      // Issuing is cut by now; the tasks follow, so that re-admission does not wake them.
      return { entry: stored, added, tasks: mode === 'ban' ? await endMatching(deps, match, reason, now) : [] }
    },
    async token({ jti, exp }, by, correlation) {
      const { entry } = await add(
        {
          id: `rev_${jti.slice(0, 22).padEnd(22, '0')}`,
          match: { jti },
          mode: 'cut',
          reason: 'revoked by its holder or audience (RFC 7009)',
          by,
          at: deps.now(),
          // Descendants may outlive it: an entry by jti must outlast the longest of them.
          expiresAt: Math.max(exp, deps.now()) + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS,
        },
        correlation,
        [],
      )
      return entry
    },
    async readmit(id, by, reason, correlation) {
      const done = await deps.log.readmit(id, by, reason, deps.now())
      if (done) await told(deps, { type: 'revocation.readmitted', cause: id, by, correlation, details: { reason } })
      return done
    },
    async sweep() {
      const now = deps.now()
      let count = 0
      for (const id of await deps.tasks.due(now, 1000)) {
        const task = await deps.tasks.get(id)
        const reason = task && now >= task.deadline ? 'deadline passed' : 'heartbeat missed'
        count += (await endTask(id, 'expired', reason, 'system')).length
      }
      await deps.log.prune(now)
      await deps.tasks.prune(now - 7 * 86_400)
      return count
    },
  }
}

/** Ends the tasks that a ban names by task, root, agent or subject. */
async function endMatching(deps: RevokeDeps, match: HopFacts, reason: string, now: number): Promise<readonly string[]> {
  const [dimension, ...more] = Object.keys(match) as (keyof HopFacts)[]
  if (dimension === undefined || more.length > 0) return []
  const only = match.task ?? match.root
  if (only !== undefined) return deps.tasks.end(only, 'revoked', reason, now)
  const whose =
    dimension === 'client_id'
      ? { agent: match.client_id! }
      : dimension === 'sub'
        ? { subject: match.sub! }
        : dimension === 'agent'
          ? { agentSpiffeId: match.agent! }
          : undefined
  if (!whose) return []
  const ended: string[] = []
  for (;;) {
    const tasks = await deps.tasks.list({ ...whose, state: 'active', limit: 500 })
    if (tasks.length === 0) return ended
    for (const task of tasks) ended.push(...(await deps.tasks.end(task.id, 'revoked', reason, now)))
  }
}

type Told = Omit<AuditEvent, 'correlation' | 'reason'> & { readonly correlation: string | undefined }

/** What is recorded after the effect helps the reader of the log; the effect stands also where the disk is full. */
async function told(deps: RevokeDeps, { correlation, ...event }: Told): Promise<void> {
  try {
    await deps.audit.append({ ...event, ...(correlation === undefined ? {} : { correlation }) })
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    deps.onUnrecorded?.(event.type)
  }
}
