/**
 * The indexes of all status lists: which tokens each stands for, and whether the revocation log has killed them. What
 * kills is decided by `verdicts`, which is fed every entry of the log: an index is marked where the hops of its first
 * token are dead, so an index and its tokens cannot disagree.
 */
import { setImmediate as nextTurn } from 'node:timers/promises'
import type { StatusClaim } from '@errand/verifier/claims.ts'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop } from '@errand/verifier/shapes.ts'
import { Unavailable } from '../oauth/refusal.ts'
import type { RevocationAnswer, RevocationCheck } from '../tokens/revocations.ts'
import type { StatusIndex, StatusIndexes } from '../tokens/status.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'
import type { StatusDecoys } from './status-decoys.ts'
import type { StatusRecord, StatusRegistry } from './status-registry.ts'

/** Indexes of one list. */
export const LIST_SIZE = 16_384
/** A list is full when it is half full: what is drawn at random stays random. */
const MOST_IN_A_LIST = LIST_SIZE / 2
const MOST_LISTS = 16
/** Further than a token needs, so that the next ones of its kind need no write. */
const AHEAD_SECONDS = 300
/** A mark stays past the last token's end: clocks of verifiers may lag. */
const SHOWN_SECONDS = 60
/** And the index is given to others only when no copy of a list can show the mark of before. */
const KEPT_SECONDS = 150
const AT_ONCE = 2_000
const MOST_TRIES = 64

/** What the revocation log decides, of the entries that were added. */
export interface Verdicts {
  add(entry: Revocation): void
  check(question: RevocationCheck, now: number): RevocationAnswer
  prune(now: number): void
}

export interface StatusIndexesDeps {
  readonly now: () => number
  /** What ended before it may be forgotten; it does not believe a clock that jumps ahead. */
  readonly forgetBefore: () => number
  readonly registry: StatusRegistry
  readonly log: Pick<RevocationLog, 'epoch' | 'after' | 'onAdded'>
  readonly verdicts: Verdicts
  readonly decoys: Pick<StatusDecoys, 'is'>
  /** From 0 on, below `most`. */
  readonly random: (most: number) => number
  /** Ends with the list's name. */
  readonly uriOf: (list: string) => string
  /** Whether there are tools whose tokens get a status. */
  readonly inUse: () => boolean
}

interface Cell {
  record: StatusRecord
  marked: boolean
  readonly index: StatusIndex
}
interface List {
  taken: number
  readonly marked: Set<Cell>
  /** Another one after each change. */
  version: number
}

export interface MarkedList {
  readonly marked: readonly number[]
  readonly version: number
}

export interface OpenedStatusIndexes extends StatusIndexes {
  /** Resolves when everything counts that the log and the registry held when it was called. */
  refresh(): Promise<void>
  /** Names of those that there are. */
  lists(): readonly string[]
  list(name: string): MarkedList | undefined
  sweep(): Promise<void>
  close(): void
}

export async function openStatusIndexes(deps: StatusIndexesDeps): Promise<OpenedStatusIndexes> {
  const { now, registry, log, verdicts } = deps
  const cells = new Map<string, Cell>()
  const ofGroup = new Map<string, Cell>()
  /** By every task that one of its hops names, and by its root. */
  const ofTask = new Map<string, Set<Cell>>()
  const lists = new Map<string, List>()
  let changes = 0
  let generation = 0
  let applied: Epoch | undefined
  let place = 0
  /** The newest place that is no entry's: a revocation may say "before that". */
  let mark: Epoch = { generation: 0, sequence: 0 }

  const listOf = (name: string): List => {
    const known = lists.get(name)
    if (known) return known
    const list: List = { taken: 0, marked: new Set(), version: 0 }
    lists.set(name, list)
    return list
  }

  function judge(cell: Cell): void {
    const { hops, named, list, idx } = cell.record
    if (cell.marked || cells.get(keyOf(list, idx)) !== cell) return
    const own = hops[0]!
    const byName = named.map((jti) => ({ rev: own.rev, facts: { ...own.facts, jti } }))
    if (!verdicts.check({ hops: [...hops, ...byName] }, now()).dead) return
    cell.marked = true
    listOf(list).marked.add(cell)
    listOf(list).version = ++changes
  }

  function put(record: StatusRecord): Cell {
    const { list, idx, group, hops } = record
    const known = cells.get(keyOf(list, idx))
    // It was given back and taken for others before it was forgotten here: nothing of theirs is said by the old one.
    if (known && !isSameTaking(known.record, record)) drop(known)
    else if (known) {
      const named = new Set([...known.record.named, ...record.named])
      known.record = { ...record, named: [...named], until: Math.max(record.until, known.record.until) }
      judge(known)
      return known
    }
    const cell: Cell = { record, marked: false, index: { status: claimOf(deps.uriOf(list), idx), hops } }
    cells.set(keyOf(list, idx), cell)
    const held = ofGroup.get(group)
    if (!held || compareEpochs(held.record.hops[0]!.rev, hops[0]!.rev) < 0) ofGroup.set(group, cell)
    for (const task of tasksOf(hops)) {
      const there = ofTask.get(task)
      if (there) there.add(cell)
      else ofTask.set(task, new Set([cell]))
    }
    listOf(list).taken += 1
    judge(cell)
    return cell
  }

  function drop(cell: Cell): void {
    const { list: name, idx, group, hops } = cell.record
    cells.delete(keyOf(name, idx))
    if (ofGroup.get(group) === cell) ofGroup.delete(group)
    for (const task of tasksOf(hops)) {
      const there = ofTask.get(task)
      there?.delete(cell)
      if (there?.size === 0) ofTask.delete(task)
    }
    const list = listOf(name)
    list.taken -= 1
    if (list.marked.delete(cell)) list.version = ++changes
    if (list.taken === 0) lists.delete(name)
  }

  /** One token by its own id: the registry knows the index that it has, whoever issued it. */
  async function named(jti: string): Promise<void> {
    const at = await registry.name(jti)
    const cell = at && cells.get(keyOf(at.list, at.idx))
    if (cell) put({ ...cell.record, named: [jti] })
  }

  async function apply(entries: readonly Revocation[]): Promise<void> {
    const some = new Set<Cell>()
    let all = false
    for (const { match } of entries) {
      const task = match.task ?? match.root
      if (task === undefined) all = true
      else for (const cell of ofTask.get(task) ?? []) some.add(cell)
      if (match.jti !== undefined) await named(match.jti)
    }
    if (!all) return some.forEach(judge)
    let looked = 0
    for (const cell of cells.values()) {
      judge(cell)
      looked += 1
      if (looked % AT_ONCE === 0) await nextTurn()
    }
  }

  async function round(): Promise<void> {
    const epoch = await log.epoch()
    // A store that lost what it held counts from the beginning.
    if (epoch.generation !== generation) place = 0
    generation = epoch.generation
    const changed = await registry.since(place)
    // Nobody has an index: what was revoked is read when somebody does.
    if (cells.size === 0 && changed.records.length === 0 && !deps.inUse()) return
    const entries = applied && compareEpochs(epoch, applied) <= 0 ? [] : await log.after(applied)
    for (const entry of entries) verdicts.add(entry)
    for (const record of changed.records) if (isOf(generation, record.list)) put(record)
    place = changed.place
    await apply(entries)
    applied = entries.reduce((last, entry) => (compareEpochs(entry.epoch, last) > 0 ? entry.epoch : last), epoch)
  }

  let running: Promise<void> = Promise.resolve()
  let following: Promise<void> | undefined
  /** A round that has begun may have read before what the caller knows of: another follows it. */
  const refresh = (): Promise<void> => {
    following ??= running
      .catch(() => undefined)
      .then(() => {
        following = undefined
        running = round()
        return running
      })
    return following
  }

  function cellOf({ status_list: { idx, uri } }: StatusClaim): Cell | undefined {
    const list = listIn(uri)
    return deps.uriOf(list) === uri ? cells.get(keyOf(list, idx)) : undefined
  }

  /** A list with room; a further one where there is none. */
  function withRoom(of: number): string {
    const names = namesOf(of)
    const room = names.filter((name) => (lists.get(name)?.taken ?? 0) < MOST_IN_A_LIST)
    if (room.length > 0) return room[deps.random(room.length)]!
    if (names.length >= MOST_LISTS) throw new Unavailable('overloaded', 'every status list is full')
    return `${of}-${names.length + 1}`
  }

  const namesOf = (of: number): readonly string[] => {
    const numbers = [...lists.keys()].filter((name) => isOf(of, name)).map((name) => Number(name.split('-')[1]))
    const last = Math.max(deps.inUse() ? 1 : 0, ...numbers)
    return Array.from({ length: last }, (_, nth) => `${of}-${nth + 1}`)
  }

  const unlisten = log.onAdded(
    () => undefined,
    () =>
      void log.epoch().then(
        (epoch) => {
          if (compareEpochs(epoch, mark) > 0) mark = epoch
        },
        // The store is away: nothing is issued meanwhile.
        () => undefined,
      ),
  )
  let sweeping = cells.values()
  await refresh()
  // Of marks before the start nothing is known.
  mark = await log.epoch()

  return {
    held(group) {
      const cell = ofGroup.get(group)
      // Past a mark another is taken: what a revocation says of before the mark is then true of all its tokens or none.
      if (!cell || cell.marked || compareEpochs(cell.record.hops[0]!.rev, mark) < 0) return undefined
      return cell.index
    },
    async keep(index, expiresAt) {
      const cell = cellOf(index.status)
      if (cell?.index !== index || cell.marked) return false
      if (cell.record.until >= expiresAt) return true
      const until = expiresAt + AHEAD_SECONDS
      const isKept = await registry.keep(cell.record, until)
      const isCurrent = cellOf(index.status) === cell
      if (isCurrent && isKept) put({ ...cell.record, until })
      // Another replica gave it back: it stands for others by now, or for nobody.
      else if (isCurrent) drop(cell)
      return isKept
    },
    async take(group, hops, expiresAt) {
      for (let tries = 0; tries < MOST_TRIES; tries++) {
        const list = withRoom(hops[0]!.rev.generation)
        const idx = deps.random(LIST_SIZE)
        if (cells.has(keyOf(list, idx)) || deps.decoys.is(list, idx)) continue
        const record = { list, idx, group, hops, named: [], until: expiresAt + AHEAD_SECONDS }
        if (await registry.take(record)) return put(record).index
      }
      throw new Unavailable('overloaded', 'no free index was found in any status list')
    },
    async enter(jti, status, expiresAt) {
      const { idx, uri } = status.status_list
      await registry.enter(jti, listIn(uri), idx, expiresAt)
    },
    hopsOf: (status) => cellOf(status)?.record.hops ?? [],
    refresh,
    lists: () => namesOf(generation),
    list(name) {
      if (!namesOf(generation).includes(name)) return undefined
      const list = lists.get(name)
      return { marked: [...(list?.marked ?? [])].map(({ record }) => record.idx), version: list?.version ?? 0 }
    },
    async sweep() {
      // There never was one.
      if (place === 0 && cells.size === 0 && !deps.inUse()) return
      const moment = deps.forgetBefore()
      for (let looked = 0; looked < AT_ONCE; looked++) {
        const { value: cell } = sweeping.next()
        if (!cell) {
          sweeping = cells.values()
          break
        }
        if (cell.record.until + SHOWN_SECONDS <= moment) drop(cell)
      }
      verdicts.prune(moment)
      await registry.prune(moment - KEPT_SECONDS)
    },
    close: unlisten,
  }
}

const keyOf = (list: string, idx: number): string => `${list}:${idx}`
const isOf = (generation: number, list: string): boolean => list.startsWith(`${generation}-`)
const listIn = (uri: string): string => uri.slice(uri.lastIndexOf('/') + 1)
/** An index is taken again only long after all its tokens ended, and marks move the epoch meanwhile. */
const isSameTaking = (one: StatusRecord, other: StatusRecord): boolean =>
  one.group === other.group && compareEpochs(one.hops[0]!.rev, other.hops[0]!.rev) === 0
const claimOf = (uri: string, idx: number): StatusClaim => ({ status_list: { idx, uri } })

function tasksOf(hops: readonly CheckedHop[]): ReadonlySet<string> {
  const tasks = new Set<string>()
  for (const { facts } of hops) {
    if (facts.task !== undefined) tasks.add(facts.task)
    if (facts.root !== undefined) tasks.add(facts.root)
  }
  return tasks
}
