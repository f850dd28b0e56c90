/** Every live entry and ban in memory, by shape and value: a check is a few look-ups and never a scan. */
import { type CheckedHop, type HopFacts, type Shape, shapeOf, shapeText } from '@errand/verifier/shapes.ts'
import type { Epoch } from '@errand/verifier/epoch.ts'
import { compareEpochs } from '@errand/verifier/epoch.ts'
import type { Revocation } from '../../revoke/revocation-log.ts'
import { changedTasks, keepsOut, MAX_CONJUNCTIONS, TOLD_SECONDS } from '../revocations.ts'
import type { Contained, RevocationAnswer, RevocationCheck } from '../../tokens/revocations.ts'

/** What a check needs of an entry; the rest stays in the database. */
interface Kill {
  readonly id: string
  /** What was checked before it is dead. */
  readonly epoch: Epoch
  readonly expiresAt: number
}
interface Closed extends Kill {
  readonly by: string
}
interface Ban {
  readonly id: string
  readonly until: number
  readonly suspended: boolean
}
/** Of kills the highest epoch last. */
type ByShape<T> = Map<Shape, Map<string, T[]>>

export interface RevocationIndex {
  epoch(): Epoch
  add(entry: Revocation): void
  /** To a place that no entry has. */
  moveTo(epoch: Epoch): void
  readmit(entry: Revocation): void
  /** Whether an entry of this shape may still be added, beside those that are being added in the same transaction. */
  hasRoomFor(shape: Shape, adding: () => readonly Shape[]): boolean
  check(question: RevocationCheck, now: number): RevocationAnswer
  prune(now: number): void
}

export function createRevocationIndex(start: Epoch): RevocationIndex {
  let epoch = start
  const cuts: ByShape<Kill> = new Map()
  const absolutes: ByShape<Kill> = new Map()
  const bans: ByShape<Ban> = new Map()
  const containments: ByShape<Closed> = new Map()

  function killer(hop: CheckedHop): string | undefined {
    for (const [shape, values] of absolutes) {
      const text = shapeText(shape, hop.facts)
      const entry = text === undefined ? undefined : values.get(text)?.at(-1)
      if (entry) return entry.id
    }
    for (const [shape, values] of cuts) {
      const text = shapeText(shape, hop.facts)
      const newest = text === undefined ? undefined : values.get(text)?.at(-1)
      if (newest && compareEpochs(newest.epoch, hop.rev) > 0) return newest.id
    }
    return undefined
  }

  function banOn(facts: HopFacts, now: number): RevocationAnswer['banned'] {
    for (const [shape, values] of bans) {
      const text = shapeText(shape, facts)
      const ban = text === undefined ? undefined : values.get(text)?.find(({ until }) => now < until)
      if (!ban) continue
      const dimensions = shape === '' ? [] : shape.split('+')
      return { entry: ban.id, dimensions, ...(ban.suspended ? { suspended: true } : {}) }
    }
    return undefined
  }

  function containing(issuing: HopFacts, hops: readonly CheckedHop[]): readonly Contained[] {
    const found = new Map<string, Contained>()
    for (const facts of [issuing, ...hops.map((hop) => hop.facts)]) {
      for (const [shape, values] of containments) {
        const text = shapeText(shape, facts)
        for (const { id, by } of (text === undefined ? undefined : values.get(text)) ?? [])
          found.set(id, { entry: id, by })
      }
    }
    return [...found.values()]
  }

  return {
    epoch: () => epoch,
    add: (entry) => {
      const shape = shapeOf(entry.match)
      const text = shapeText(shape, entry.match) ?? ''
      const kill: Kill = { id: entry.id, epoch: entry.before ?? entry.epoch, expiresAt: entry.expiresAt }
      put(entry.absolute ? absolutes : cuts, shape, text, kill, (one, other) => compareEpochs(one.epoch, other.epoch))
      const by = changedTasks(entry)
      const toldUntil = Math.min(entry.expiresAt, entry.at + TOLD_SECONDS)
      if (by !== undefined) put(containments, shape, text, { ...kill, by, expiresAt: toldUntil })
      if (keepsOut(entry) && entry.before === undefined && entry.readmitted === undefined) {
        const until = entry.banUntil ?? Number.POSITIVE_INFINITY
        put(bans, shape, text, { id: entry.id, until, suspended: entry.mode === 'suspend' })
      }
      if (compareEpochs(entry.epoch, epoch) > 0) epoch = entry.epoch
    },
    moveTo: (place) => {
      if (compareEpochs(place, epoch) > 0) epoch = place
    },
    readmit: ({ id, match }) => {
      const shape = shapeOf(match)
      const text = shapeText(shape, match) ?? ''
      keep(bans, shape, text, (ban) => ban.id !== id)
    },
    hasRoomFor: (shape, adding) => {
      if (!shape.includes('+')) return true
      const taken = new Set([...cuts.keys(), ...absolutes.keys(), ...bans.keys()])
      if (taken.has(shape)) return true
      for (const one of adding()) taken.add(one)
      return taken.has(shape) || [...taken].filter((one) => one.includes('+')).length < MAX_CONJUNCTIONS
    },
    check: (question, now) => {
      let dead: RevocationAnswer['dead']
      for (const [hop, checked] of question.hops.entries()) {
        const entry = killer(checked)
        if (entry !== undefined) {
          dead = { entry, hop }
          break
        }
      }
      let banned: RevocationAnswer['banned']
      if (question.issuing) {
        // A ban on an ancestor's agent, task or release forbids what would descend from it too.
        for (const facts of [question.issuing, ...question.hops.map((hop) => hop.facts)]) {
          banned = banOn(facts, now)
          if (banned) break
        }
      }
      const contained = question.issuing && containments.size > 0 ? containing(question.issuing, question.hops) : []
      const also = contained.length > 0 ? { contained } : undefined
      return { epoch, ...(dead && { dead }), ...(banned && { banned }), ...also }
    },
    prune: (now) => {
      for (const index of [cuts, absolutes, containments]) keepAll(index, ({ expiresAt }) => now < expiresAt)
      keepAll(bans, ({ until }) => now < until)
    },
  }
}

function put<T>(
  index: ByShape<T>,
  shape: Shape,
  text: string,
  item: T,
  order: (one: T, other: T) => number = () => 0,
): void {
  const values = index.get(shape) ?? new Map<string, T[]>()
  index.set(shape, values)
  const items = values.get(text)
  if (!items) {
    values.set(text, [item])
    return
  }
  let place = items.length
  while (place > 0 && order(items[place - 1]!, item) > 0) place -= 1
  items.splice(place, 0, item)
}

function keep<T>(index: ByShape<T>, shape: Shape, text: string, wanted: (item: T) => boolean): void {
  const values = index.get(shape)
  const items = values?.get(text)
  if (!values || !items) return
  const left = items.filter(wanted)
  if (left.length > 0) values.set(text, left)
  else values.delete(text)
  if (values.size === 0) index.delete(shape)
}

function keepAll<T>(index: ByShape<T>, wanted: (item: T) => boolean): void {
  for (const [shape, values] of index) {
    for (const [text, items] of values) if (!items.every(wanted)) keep(index, shape, text, wanted)
  }
}
