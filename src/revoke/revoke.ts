/**
 * Ends things, in the order that makes it final: issuing stops and tokens die by one entry, then tasks end, then people
 * are told. Stopping in between leaves what is dead dead, and asking again does the rest. A task that ends is banned
 * until its deadline, so that an exchange already under way either sees the ban or dies of the entry.
 */
import { type AccessTokenClaims, MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { AuditEvent, AuditLog } from '../audit/log.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import { stateAt, type TaskState } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import type { HandOverClaims } from '../tokens/hand-over.ts'
import type { NewRevocation, Revocation, RevocationLog, RevocationMode } from './revocation-log.ts'

/** How long past the longest token an entry is kept: clocks of verifiers may lag. */
const MARGIN_SECONDS = 120

export interface TokenLine {
  readonly task: string
  readonly client_id: string
  readonly aud: string
}

/**
 * A renewed token has no trace of the one it was renewed from. So a token is revoked with its whole line: what its agent
 * holds for its task at its audience, checked before now. The agent may ask again; what was handed over may not.
 */
const lineOf = ({ task, client_id, aud }: TokenLine): HopFacts => ({ task, client_id, aud })

/** A match by jti alone, as the line of that token; as it is where nothing is known of it. */
async function widened({ issued }: RevokeDeps, match: HopFacts): Promise<HopFacts> {
  if (match.jti === undefined || Object.keys(match).length !== 1) return match
  const line = await issued(match.jti)
  return line ? lineOf(line) : match
}

export interface RevokeDeps {
  readonly now: () => number
  /** For what ends by itself, and what is forgotten: it does not believe a clock that jumps ahead. */
  readonly patient: { now(): number; forgetBefore(): number }
  readonly log: RevocationLog
  readonly tasks: TaskStore
  readonly audit: AuditLog
  /** What the record of a token's issue says of it; undefined where there is none. */
  readonly issued: (jti: string) => Promise<TokenLine | undefined>
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
  /** A token by its claims (RFC 7009), with everything that was made from it: see `lineOf`. */
  token(claims: AccessTokenClaims | HandOverClaims, by: string, correlation?: string): Promise<Revocation>
  /** Ends a ban. False where none is in force by that id, or it is of a compromised key. */
  readmit(id: string, by: string, reason: string, correlation?: string): Promise<boolean>
  /** Active tasks that a ban on `match` would end, 500 at most; undefined where it is not about whole tasks. */
  matching(match: HopFacts): Promise<readonly string[] | undefined>
  /** After a start: ends the tasks of bans whose writer was stopped before it could. */
  resume(): Promise<void>
  /** Ends every task whose deadline or heartbeat has passed, and forgets what no token can match. Answers how many ended. */
  sweep(): Promise<number>
}

export function createRevoke(deps: RevokeDeps): Revoke {
  // Tokens made while the clock was ahead end by that clock, also when it has come back.
  let furthest = Number.NEGATIVE_INFINITY
  const latest = (): number => {
    furthest = Math.max(furthest, deps.now())
    return furthest
  }

  const add = async (entry: NewRevocation, correlation: string | undefined) => {
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
      },
    })
    return added
  }

  const endTask: Revoke['endTask'] = async (id, state, reason, by, correlation) => {
    const now = deps.now()
    const task = await deps.tasks.get(id)
    if (!task || ENDED.includes(task.state)) return []
    // The entry first: were the task ended first, a stop in between would leave its tokens alive and nothing to do.
    // Past its deadline no token of it is alive and none can be made: no entry is needed.
    if (now < task.deadline) {
      await add(
        {
          id: `rev_${id.slice('task_'.length)}`,
          match: { task: id },
          mode: 'ban',
          reason: `task ${state}: ${reason}`,
          by,
          at: now,
          // The ban stays until the deadline; as an entry of the feed it has nothing left to kill long before.
          expiresAt: Math.min(task.deadline, latest() + MAX_TOKEN_LIFETIME_SECONDS) + MARGIN_SECONDS,
          banUntil: task.deadline,
        },
        correlation,
      )
    }
    const ended = await deps.tasks.end(id, state, reason, now)
    if (ended.length === 0) return []
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
        match: await widened(deps, match),
        mode,
        reason,
        by,
        at: now,
        expiresAt: Math.max(latest() + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS, keepUntil),
        ...(absolute ? { absolute } : {}),
        ...(banUntil === undefined ? {} : { banUntil }),
      }
      const { entry: stored, added } = await add(entry, correlation)
      // Issuing is cut by now; the tasks follow, so that re-admission does not wake them.
      return { entry: stored, added, tasks: mode === 'ban' ? await endMatching(deps, match, reason, now) : [] }
    },
    async token(claims, by, correlation) {
      const { jti, exp } = claims
      const { entry } = await add(
        {
          id: `rev_${jti.slice(0, 22).padEnd(22, '0')}`,
          match: 'may_act' in claims ? { jti } : lineOf({ ...claims, task: claims.task.id }),
          mode: 'cut',
          reason: 'revoked by its holder or audience (RFC 7009)',
          by,
          at: deps.now(),
          // Descendants may outlive it: an entry by jti must outlast the longest of them.
          expiresAt: Math.max(exp, latest()) + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS,
        },
        correlation,
      )
      return entry
    },
    async readmit(id, by, reason, correlation) {
      const now = deps.now()
      // What a compromised key signed is dead whatever happens: no word of anybody's brings the key back.
      if (!(await deps.log.bans(now)).some((ban) => ban.id === id && !ban.absolute)) return false
      // It widens what may be issued: no record, no re-admission.
      await deps.audit.append({
        type: 'revocation.readmitted',
        cause: id,
        by,
        details: { reason },
        ...(correlation === undefined ? {} : { correlation }),
      })
      return deps.log.readmit(id, by, reason, now)
    },
    async matching(match) {
      const named = filterOf(match)
      if (!named) return undefined
      if ('below' in named) return activeBelow(deps.tasks, named.below, deps.now())
      return (await deps.tasks.list({ ...named, state: 'active', limit: 500 })).map((task) => task.id)
    },
    async resume() {
      for (const { match, reason } of await deps.log.bans(deps.now())) {
        // The tasks of a single task's ban are read anew when somebody asks for it; the sweep ends it at its deadline.
        if (match.task === undefined) await endMatching(deps, match, reason, deps.now())
      }
    },
    async sweep() {
      latest()
      const now = deps.patient.now()
      let count = 0
      for (const id of await deps.tasks.due(now, 1000)) {
        const task = await deps.tasks.get(id)
        const reason = task && now >= task.deadline ? 'deadline passed' : 'heartbeat missed'
        count += (await endTask(id, 'expired', reason, 'system')).length
      }
      await deps.log.prune(deps.patient.forgetBefore())
      await deps.tasks.prune(now - 7 * 86_400)
      return count
    },
  }
}

const ENDED: readonly TaskState[] = ['completed', 'cancelled', 'revoked', 'expired']

type Filter = { readonly below: string } | Omit<Parameters<TaskStore['list']>[0], 'state' | 'limit'>

/** Which tasks a match names as a whole; undefined where it speaks of some of a task's tokens only. */
function filterOf(match: HopFacts): Filter | undefined {
  const { task, root, client_id, agent, sub, ...rest } = match
  if (Object.keys(rest).length > 0) return undefined
  const below = task ?? root
  if (below !== undefined) return Object.keys(match).length === 1 ? { below } : undefined
  return {
    ...(client_id === undefined ? {} : { agent: client_id }),
    ...(agent === undefined ? {} : { agentSpiffeId: agent }),
    ...(sub === undefined ? {} : { subject: sub }),
  }
}

async function endMatching(deps: RevokeDeps, match: HopFacts, reason: string, now: number): Promise<readonly string[]> {
  const named = filterOf(match)
  if (!named) return []
  if ('below' in named) return deps.tasks.end(named.below, 'revoked', reason, now)
  const ended: string[] = []
  for (;;) {
    const tasks = await deps.tasks.list({ ...named, state: 'active', limit: 500 })
    if (tasks.length === 0) return ended
    for (const task of tasks) ended.push(...(await deps.tasks.end(task.id, 'revoked', reason, now)))
  }
}

async function activeBelow(tasks: TaskStore, id: string, now: number): Promise<readonly string[]> {
  const top = await tasks.get(id)
  if (!top) return []
  const below = new Set([top.id])
  const tree = await tasks.tree(top.root) // parents come before their children
  for (const each of tree) if (each.parent !== undefined && below.has(each.parent)) below.add(each.id)
  return tree.filter((each) => below.has(each.id) && stateAt(each, now) === 'active').map((each) => each.id)
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
