/**
 * Ends things, in the order that makes it final: issuing stops and tokens die by one entry, then tasks end, then people
 * are told. Stopping in between leaves what is dead dead, and asking again does the rest. A task that ends is banned
 * until its deadline, so that an exchange already under way either sees the ban or dies of the entry.
 */
import { type AccessTokenClaims, MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { newId } from '../tasks/ids.ts'
import type { TaskState } from '../tasks/task.ts'
import type { TaskStore } from '../tasks/task-store.ts'
import { endedBecause } from '../tasks/touched.ts'
import type { HandOverClaims } from '../tokens/hand-over.ts'
import { shownMatch } from './component-match.ts'
import { endedItself, endMatching, filterOf, suspendMatching } from './matching-tasks.ts'
import { CONTAIN_KEPT_SECONDS, createNarrowing } from './narrowing.ts'
import { limitsOf } from './receipt.ts'
import {
  MARGIN_SECONDS,
  type NewRevocation,
  type Revocation,
  type RevocationLog,
  type RevocationMode,
} from './revocation-log.ts'
import { type Telling, told, toldTasks } from './told.ts'

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
export async function widened({ issued }: Pick<RevokeDeps, 'issued'>, match: HopFacts): Promise<HopFacts> {
  if (match.jti === undefined || Object.keys(match).length !== 1) return match
  const line = await issued(match.jti)
  return line ? lineOf(line) : match
}

export interface RevokeDeps extends Telling {
  readonly now: () => number
  /** For what ends by itself, and what is forgotten: it does not believe a clock that jumps ahead. */
  readonly patient: { now(): number; forgetBefore(): number }
  readonly log: RevocationLog
  readonly tasks: TaskStore
  /** What the record of a token's issue says of it; undefined where there is none. */
  readonly issued: (jti: string) => Promise<TokenLine | undefined>
}

export interface RevokeRequest {
  readonly match: HopFacts
  readonly mode: RevocationMode
  /** For `contain`. */
  readonly taken?: NonNullable<NewRevocation['taken']>
  readonly reason: string
  readonly by: string
  readonly confirmedBy?: string
  readonly partOf?: string
  readonly correlation?: string
  readonly absolute?: boolean
  readonly banUntil?: number
  readonly closes?: string
  /** Unix seconds: kept longer than any token lives, where caches must forget a key first. */
  readonly keepUntil?: number
  /** Given where the same revocation may be asked for again: the same id is the same entry. */
  readonly id?: string
  /** About what was checked before this mark, and no more; tasks are for whoever pinned them. */
  readonly before?: Epoch
}

export type EndState = 'completed' | 'cancelled' | 'revoked' | 'expired'

export interface Revoked {
  readonly entry: Revocation
  readonly added: boolean
  readonly tasks: readonly string[]
  readonly another?: true
  /** By component: the releases that have it. */
  readonly releases?: readonly string[]
}

export interface Revoke {
  /**
   * Answers the tasks that it ended, holds suspended, or took something from. With an id that is known, it does what is
   * left to do of that entry; `another`: the entry of that id was asked for otherwise, and nothing is done.
   */
  byMatch(request: RevokeRequest): Promise<Revoked>
  /** Ends a task and all below it. Answers the ids that this call ended. */
  endTask(id: string, state: EndState, reason: string, by: string, correlation?: string): Promise<readonly string[]>
  /** A token by its claims (RFC 7009), with everything that was made from it: see `lineOf`. */
  token(claims: AccessTokenClaims | HandOverClaims, by: string, correlation?: string): Promise<Revocation>
  /** Ends a ban. False where none is in force by that id, or it is of a compromised key. */
  readmit(id: string, by: string, reason: string, correlation?: string): Promise<boolean>
  /**
   * Lifts a suspension: what it alone held goes on, and has to ask for new tokens. Answers the tasks that are active
   * again; undefined where there is no such suspension. Again, it does what is left to do.
   */
  resume(id: string, by: string, reason: string, correlation?: string): Promise<readonly string[] | undefined>
  /** After a start: does to tasks what a stopped process had begun. */
  finish(): Promise<void>
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
        match: { ...shownMatch(entry.match), ...(entry.match.sub === undefined ? {} : { sub: '(subject)' }) },
        mode: entry.mode,
        ...(entry.partOf === undefined ? {} : { part_of: entry.partOf }),
        ...(entry.confirmedBy === undefined ? {} : { confirmed_by: entry.confirmedBy }),
        ...limitsOf(entry),
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
          id: revocationOf(id),
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
      cause: revocationOf(id),
      by,
      correlation,
      details: { state, reason, ended: [...ended] },
    })
    return ended
  }

  const expire = (id: string, reason: string) => endTask(id, 'expired', reason, 'system')

  const suspend = async ({ id, match }: Revocation): Promise<readonly string[]> => {
    const held = await suspendMatching(deps.tasks, match, id, deps.now(), expire)
    // Lifted meanwhile: what was held after that would be held for ever.
    if ((await deps.log.get(id))?.readmitted === undefined) return held
    await deps.tasks.wake(id, deps.now())
    return []
  }

  const narrowing = createNarrowing({
    now: deps.now,
    latest,
    log: deps.log,
    tasks: deps.tasks,
    add,
    expire,
    tell: (entry, tasks, correlation) => toldTasks(deps, entry, tasks, correlation),
  })

  return {
    endTask,
    async byMatch(request) {
      const { match, mode, taken, reason, by, confirmedBy, partOf, correlation, absolute, banUntil, before } = request
      const now = deps.now()
      const entry: NewRevocation = {
        id: request.id ?? newId('rev'),
        match: await widened(deps, match),
        mode,
        reason,
        by,
        at: now,
        expiresAt: Math.max(
          latest() + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS,
          request.keepUntil ?? 0,
          mode === 'contain' ? now + CONTAIN_KEPT_SECONDS : 0,
        ),
        ...(taken ? { taken } : {}),
        ...(confirmedBy === undefined ? {} : { confirmedBy }),
        ...(partOf === undefined ? {} : { partOf }),
        ...(absolute ? { absolute } : {}),
        ...(banUntil === undefined ? {} : { banUntil }),
        ...(request.closes === undefined ? {} : { closes: request.closes }),
        ...(before === undefined ? {} : { before }),
      }
      const { entry: stored, added } = await add(entry, correlation)
      if (!added && !sameRequest(stored, entry)) return { entry: stored, added, tasks: [], another: true }
      // Lifted since: what goes on again is not stopped by a request that comes late.
      if (stored.readmitted) return { entry: stored, added, tasks: [] }
      // Issuing is cut by now; the tasks follow, so that re-admission does not wake them.
      if (mode === 'cut' || before) return { entry: stored, added, tasks: [] }
      if (mode === 'contain') return { entry: stored, added, tasks: await narrowing.contain(stored, correlation) }
      const tasks =
        mode === 'ban'
          ? await endMatching(deps.tasks, match, endedBecause(reason, stored.id), now)
          : await suspend(stored)
      await toldTasks(deps, stored, tasks, correlation)
      return { entry: stored, added, tasks }
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
      const open = await deps.log.bans(now)
      const ban = open.find((each) => each.id === id && each.mode === 'ban' && !each.absolute)
      if (!ban) return false
      // It widens what may be issued: no record, no re-admission.
      await deps.audit.append({
        type: 'revocation.readmitted',
        cause: id,
        by,
        details: { reason },
        ...(correlation === undefined ? {} : { correlation }),
      })
      // Who read one of its tasks before it ended reads it again: from here on nothing else would keep them out.
      if (filterOf(ban.match) && ban.before === undefined) await narrowing.close(ban, by, correlation)
      return deps.log.readmit(id, by, reason, now)
    },
    async resume(id, by, reason, correlation) {
      const entry = await deps.log.get(id)
      const now = deps.now()
      // Lifted, and forgotten before its tasks were woken: what it holds says that there was one.
      if (!entry && (await deps.tasks.holders()).includes(id)) return deps.tasks.wake(id, now)
      if (entry?.mode !== 'suspend') return undefined
      if (entry.readmitted === undefined) {
        await deps.audit.append({
          type: 'revocation.resumed',
          cause: id,
          by,
          details: { reason },
          ...(correlation === undefined ? {} : { correlation }),
        })
        await deps.log.readmit(id, by, reason, now)
      }
      return deps.tasks.wake(id, now)
    },
    async finish() {
      const now = deps.now()
      // Who holds something is asked first: its entry was there before, and what is not in force now was lifted.
      const holders = await deps.tasks.holders()
      const open = await deps.log.bans(now)
      for (const entry of open) {
        // The tasks of a single task's ban are read anew when somebody asks for it; the sweep ends it at its deadline.
        if ((entry.mode !== 'suspend' && entry.match.task !== undefined) || entry.before) continue
        const tasks =
          entry.mode === 'suspend'
            ? await suspend(entry)
            : await endMatching(deps.tasks, entry.match, endedBecause(entry.reason, entry.id), now)
        await toldTasks(deps, entry, tasks)
      }
      await narrowing.finish()
      for (const id of holders) if (!open.some((entry) => entry.id === id)) await deps.tasks.wake(id, now)
    },
    async sweep() {
      latest()
      const now = deps.patient.now()
      let count = 0
      for (const id of await deps.tasks.due(now, 1000)) {
        const task = await deps.tasks.get(id)
        if (task) count += (await expire(id, endedItself(task, now))).length
      }
      await deps.log.prune(deps.patient.forgetBefore())
      await deps.tasks.prune(now - 7 * 86_400)
      await narrowing.sweep()
      return count
    },
  }
}

/** The same task is ended by the same entry, however often it is asked for. */
const revocationOf = (task: string): string => `rev_${task.slice('task_'.length)}`

function sameRequest(one: NewRevocation, other: NewRevocation): boolean {
  const said = ({ match, mode, taken, before }: NewRevocation) => [
    DIMENSIONS.map((each) => match[each] ?? null),
    mode,
    taken ?? null,
    before !== undefined,
  ]
  return JSON.stringify(said(one)) === JSON.stringify(said(other))
}

const ENDED: readonly TaskState[] = ['completed', 'cancelled', 'revoked', 'expired']
