/**
 * The live entries of the revocation log, by shape: a map from the digest of a value to the highest epoch that kills it.
 * Memory is bounded by revocations and not by tokens: some 150 bytes for each.
 */
import { compareEpochs } from './epoch.ts'
import type { FeedEntry } from './feed-frame.ts'
import { type CheckedHop, createShapeDigests, MAX_SHAPES, type Shape, type ShapeDigest } from './shapes.ts'
import { apart } from './utf8.ts'

/** Of a hop that lacks one of the shape's dimensions. */
const NO_DIGEST = ''

/** Entries of one shape by the digests of their values. */
interface Shaped {
  readonly shape: Shape
  readonly number: number
  readonly digest: ShapeDigest
  readonly values: Map<string, Known>
}

/** Flat: an epoch of its own would be another object for each of them. */
interface Known {
  generation: number
  sequence: number
  absolute: boolean
  expiresAt: number
}

export interface KnownEntries {
  /** By maximum, never lowered: whatever order, repetition or age entries arrive in. False where that is a shape too many. */
  merge(entry: FeedEntry): boolean
  /** The first hop that an entry kills. */
  deadHop(hops: readonly CheckedHop[]): number | undefined
  /** Forgets what can match nothing that is alive. */
  prune(expiredBefore: number): void
  all(): Generator<FeedEntry>
  size(): number
}

export function createKnownEntries(feedKey: Uint8Array): KnownEntries {
  const digestOf = createShapeDigests(feedKey)
  const shapes = new Map<Shape, Shaped>()
  /** A shape that comes back has the number it had: digests stand under it. */
  const numbers = new Map<Shape, number>()
  /** The same in a list, which is walked for each token. */
  let live: readonly Shaped[] = []
  const me = {}

  function addShape(read: Shape): Shaped | undefined {
    if (shapes.size >= MAX_SHAPES) return undefined
    const shape = apart(read)
    const number = numbers.get(shape) ?? numbers.size
    numbers.set(shape, number)
    const made: Shaped = { shape, number, digest: digestOf(shape), values: new Map() }
    shapes.set(shape, made)
    live = [...shapes.values()]
    return made
  }

  return {
    merge({ epoch, shape, value, expiresAt, absolute }) {
      const shaped = shapes.get(shape) ?? addShape(shape)
      if (!shaped) return false
      const { generation, sequence } = epoch
      const known = shaped.values.get(value)
      if (!known) {
        shaped.values.set(apart(value), { generation, sequence, absolute, expiresAt })
        return true
      }
      if (compareEpochs(known, epoch) < 0) {
        known.generation = generation
        known.sequence = sequence
      }
      known.absolute ||= absolute
      known.expiresAt = Math.max(known.expiresAt, expiresAt)
      return true
    },

    deadHop(hops) {
      if (live.length === 0) return undefined
      for (let index = 0; index < hops.length; index++) {
        const hop = hops[index]!
        if (hop.digests?.by !== me) hop.digests = { by: me, list: new Array<string | undefined>(numbers.size) }
        const { list } = hop.digests!
        for (let each = 0; each < live.length; each++) {
          const { number, digest, values } = live[each]!
          const value = list[number] ?? digest(hop.facts) ?? NO_DIGEST
          list[number] = value
          const entry = value === NO_DIGEST ? undefined : values.get(value)
          if (entry && (entry.absolute || compareEpochs(entry, hop.rev) > 0)) return index
        }
      }
      return undefined
    },

    prune(expiredBefore) {
      for (const [shape, { values }] of shapes) {
        for (const [value, { expiresAt }] of values) if (expiresAt < expiredBefore) values.delete(value)
        if (values.size === 0) shapes.delete(shape)
      }
      live = [...shapes.values()]
    },

    *all() {
      for (const { shape, values } of live)
        for (const [value, { generation, sequence, absolute, expiresAt }] of values)
          yield { epoch: { generation, sequence }, shape, value, expiresAt, absolute }
    },
    size: () => live.reduce((sum, { values }) => sum + values.size, 0),
  }
}
