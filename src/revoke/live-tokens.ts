/**
 * Counts the tokens that live, by what a revocation can match: a preview asks how many it would kill, and no token is
 * kept or looked through for the answer. In memory: after a start it is made again from the audit log.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { IssuedToken, NoteIssued } from '../tokens/issued.ts'
import { addExpiry, clearExpiries, expire, type Expiries, latestExpiry, newExpiries } from './expiries.ts'
import {
  alike,
  applyKill,
  doubt,
  fits,
  type Kill,
  killsToken,
  type LiveGroup,
  newGroup,
  wantedBy,
} from './live-group.ts'
import type { Revocation } from './revocation-log.ts'

/** Kinds of tokens that are told apart; what comes beyond is one number. */
const MAX_GROUPS = 100_000
const MAX_KILLED_TASKS = 100_000
/** What was checked before a revocation is over so long after it, also where clocks differ. */
const KILLED_SECONDS = MAX_TOKEN_LIFETIME_SECONDS + 120
/** As many as are looked at without letting others have a turn. */
const AT_ONCE = 10_000
const SWEPT_AT_ONCE = 4_000

export interface LiveMatch {
  readonly count: number
  /** Whether it is so many; else it is no more than that. */
  readonly exact: boolean
  /** Unix seconds. */
  readonly latestExpiry?: number
  /** Of those that are known one by one. */
  readonly tasks: ReadonlySet<string>
  readonly subjects: ReadonlySet<string>
  readonly agents: ReadonlySet<string>
  readonly audiences: ReadonlySet<string>
}

export interface LiveTokens {
  readonly note: NoteIssued
  /** One of which nothing is known but when it ends. */
  noteUnknown(expiresAt: number): void
  /** What was issued before and has not been counted yet: so many at most, the last of which ends then. */
  uncounted(most: number, until: number): void
  killed(entry: Revocation): void
  /** The tasks of what matches only where they are asked for: there are many. */
  matching(match: HopFacts, options: { readonly withTasks: boolean }): Promise<LiveMatch>
  /** Forgets some of what has ended. */
  sweep(): void
}

export function createLiveTokens({
  now,
  maxGroups = MAX_GROUPS,
}: {
  readonly now: () => number
  readonly maxGroups?: number
}): LiveTokens {
  const groups = new Set<LiveGroup>()
  /** By the task they are for, and by the tasks above it. */
  const ofTask = new Map<string, Set<LiveGroup>>()
  const below = new Map<string, Set<LiveGroup>>()
  const rest = newExpiries()
  let left = { most: 0, until: 0 }

  /** Oldest first; each group is held against those that it has not seen when it is looked at next. */
  let broad: Kill[] = []
  let dropped = 0
  /** What ends a task is found by its name, and done at once. */
  const tasksKilled = new Map<string, Kill>()
  let last: Epoch = { generation: 0, sequence: 0 }
  let forgotten: Epoch = last
  let unsureUntil = 0
  let sweeping = groups.values()

  const settle = (group: LiveGroup): void => {
    const all = dropped + broad.length
    for (let at = Math.max(group.seen, dropped); at < all; at++) applyKill(group, broad[at - dropped]!)
    group.seen = all
  }

  const forget = (group: LiveGroup): void => {
    groups.delete(group)
    take(ofTask, group.task, group)
    for (const task of tasksAbove(group)) take(below, task, group)
  }

  /** Whether a token is dead by what was added after it was checked. */
  function deadAlready(group: LiveGroup, rev: Epoch): 'no' | 'perhaps' | 'yes' {
    let best: 'no' | 'perhaps' = compareEpochs(rev, forgotten) < 0 ? 'perhaps' : 'no'
    for (const { facts } of group.hops) {
      const kill = facts.task === undefined ? undefined : tasksKilled.get(facts.task)
      if (kill && compareEpochs(kill.epoch, rev) > 0 && killsToken(group, rev, kill) === 'yes') return 'yes'
    }
    for (let at = broad.length - 1; at >= 0 && compareEpochs(broad[at]!.epoch, rev) > 0; at--) {
      const killed = killsToken(group, rev, broad[at]!)
      if (killed === 'yes') return killed
      if (killed === 'perhaps') best = killed
    }
    return best
  }

  /** The group of this token, which is counted in it; undefined where there are too many. */
  function begun(...[token, rev, hopsOf]: Parameters<NoteIssued>): LiveGroup | undefined {
    const hops = groups.size < maxGroups ? hopsOf() : undefined
    if (!hops?.[0]) return undefined
    const group = newGroup(token, rev, hops, dropped + broad.length)
    groups.add(group)
    put(ofTask, token.task.id, group)
    for (const task of tasksAbove(group)) put(below, task, group)
    return group
  }

  const candidates = ({ task }: HopFacts): Iterable<LiveGroup> =>
    task === undefined ? groups : [...(ofTask.get(task) ?? []), ...(below.get(task) ?? [])]

  return {
    note(token, rev, hopsOf) {
      const known = likeIn(ofTask.get(token.task.id), token)
      const group = known ?? begun(token, rev, hopsOf)
      if (!group) {
        addTo(rest, token.expiresAt, now())
        return
      }
      if (group.seen !== dropped + broad.length) settle(group)
      const dead = compareEpochs(rev, last) < 0 ? deadAlready(group, rev) : 'no'
      if (dead === 'yes') {
        if (!known) clearExpiries(group.expiries)
        return
      }
      if (known) addExpiry(group.expiries, token.expiresAt)
      if (dead === 'perhaps') doubt(group)
      if (compareEpochs(rev, group.newest) > 0) group.newest = rev
    },
    noteUnknown: (expiresAt) => addTo(rest, expiresAt, now()),
    uncounted(most, until) {
      left = { most, until }
    },
    killed({ match, epoch, before = epoch, absolute = false, expiresAt }) {
      if (expiresAt <= now()) return
      // An entry may be kept for much longer, until caches have forgotten a key: here it would hold up what comes after it.
      const until = Math.min(expiresAt, now() + KILLED_SECONDS)
      const kill: Kill = { match: wantedBy(match), epoch, before, absolute, until }
      last = later(last, epoch)
      const { task, ...others } = match
      if (task === undefined || Object.keys(others).length > 0) {
        // Ids are not kept: somewhere one is counted that is dead.
        if (match.jti !== undefined) unsureUntil = Math.max(unsureUntil, until)
        broad.push(kill)
        return
      }
      for (const group of candidates(match)) {
        settle(group)
        applyKill(group, kill)
      }
      if (tasksKilled.size >= MAX_KILLED_TASKS) {
        const [first, oldest] = tasksKilled.entries().next().value!
        tasksKilled.delete(first)
        forgotten = later(forgotten, oldest.epoch)
      }
      const known = tasksKilled.get(task)
      tasksKilled.delete(task) // what ends last stands last
      tasksKilled.set(task, known ? both(known, kill) : kill)
    },
    async matching(match, { withTasks }) {
      const found = { count: 0, exact: true, latest: 0 }
      const [tasks, subjects, agents, audiences] = [
        new Set<string>(),
        new Set<string>(),
        new Set<string>(),
        new Set<string>(),
      ]
      const wanted = wantedBy(match)
      let at = now()
      let looked = 0
      let perhapsOne = false
      for (const group of candidates(match)) {
        looked += 1
        if (looked % AT_ONCE === 0) {
          await nextTurn()
          at = now()
        }
        settle(group)
        const { expiries, unsureUntil: unsure, hops } = group
        expire(expiries, at)
        if (expiries.total === 0) continue
        const fit = fits(group, wanted)
        if (fit === 'no') continue
        if (fit === 'perhaps' && match.jti !== undefined) {
          perhapsOne = true
          continue
        }
        found.count += expiries.total
        found.latest = Math.max(found.latest, latestExpiry(expiries)!)
        if (fit === 'perhaps' || at < unsure) found.exact = false
        const { task, sub, client_id: agent, aud } = hops[0]!.facts
        if (withTasks && task !== undefined) tasks.add(task)
        if (sub !== undefined) subjects.add(sub)
        if (agent !== undefined) agents.add(agent)
        if (aud !== undefined) audiences.add(aud)
      }
      expire(rest, now())
      const more = rest.total + (now() < left.until ? left.most : 0) + (perhapsOne ? 1 : 0)
      const latest = Math.max(found.latest, latestExpiry(rest) ?? 0, left.most > 0 ? left.until : 0)
      const count = found.count + more
      return {
        count,
        exact: found.exact && more === 0 && (count === 0 || now() >= unsureUntil),
        ...(count === 0 || latest === 0 ? {} : { latestExpiry: latest }),
        tasks,
        subjects,
        agents,
        audiences,
      }
    },
    sweep() {
      const at = now()
      for (let looked = 0; looked < SWEPT_AT_ONCE; looked++) {
        const { value: group } = sweeping.next()
        if (!group) {
          sweeping = groups.values()
          break
        }
        expire(group.expiries, at)
        if (group.expiries.total === 0) forget(group)
      }
      const over = broad.findIndex(({ until }) => at < until)
      const gone = over < 0 ? broad.length : over
      broad = broad.slice(gone)
      dropped += gone
      for (const [task, { until }] of tasksKilled) {
        if (at < until) break
        tasksKilled.delete(task)
      }
    },
  }
}

/** Its ancestors' tasks, each once; not its own. */
const tasksAbove = ({ hops, task: own }: LiveGroup): ReadonlySet<string> =>
  new Set(hops.flatMap(({ facts: { task } }) => (task === undefined || task === own ? [] : [task])))

function addTo(expiries: Expiries, at: number, now: number): void {
  expire(expiries, now)
  if (at > now) addExpiry(expiries, at)
}

function put(index: Map<string, Set<LiveGroup>>, task: string, group: LiveGroup): void {
  const groups = index.get(task)
  if (groups) groups.add(group)
  else index.set(task, new Set([group]))
}

function take(index: Map<string, Set<LiveGroup>>, task: string, group: LiveGroup): void {
  const groups = index.get(task)
  groups?.delete(group)
  if (groups?.size === 0) index.delete(task)
}

function likeIn(groups: Iterable<LiveGroup> | undefined, token: IssuedToken): LiveGroup | undefined {
  if (groups) for (const group of groups) if (alike(group, token)) return group
  return undefined
}

const later = (one: Epoch, other: Epoch): Epoch => (compareEpochs(one, other) < 0 ? other : one)

/** Of the same match: dead is what either kills, also where the later one is about a window that ended before the other. */
const both = (one: Kill, other: Kill): Kill => ({
  match: other.match,
  before: later(one.before, other.before),
  epoch: later(one.epoch, other.epoch),
  absolute: one.absolute || other.absolute,
  until: Math.max(one.until, other.until),
})
