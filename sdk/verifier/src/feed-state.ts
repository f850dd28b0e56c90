/**
 * What a verifier knows of the revocation log, and how old that knowledge can be at most. No clock, timer or network
 * of its own: frames and statements come in, verdicts go out (DESIGN.md, Revocation: Verifiers, Freshness).
 */
import { compareEpochs, type Epoch } from './epoch.ts'
import type { FeedEntry, FeedFrame, Statement } from './feed-frame.ts'
import { type CheckedHop, createShapeDigests, MAX_SHAPES, type Shape, type ShapeDigest } from './shapes.ts'

/** A run whose clock was not asked for so long may have drifted away from ours. */
const ANCHOR_LIFE_MS = 120_000
const MAX_ANCHORS = 4
/** An answer may take so long; by so much it seems earlier than it is. */
const ANSWER_SECONDS = 5
const MAX_RUNS = 16
const MAX_PENDING_NONCES = 64
const LIVE: Verdict = { kind: 'live' }
/** Of a hop that lacks one of the shape's dimensions. */
const NO_DIGEST = ''
/** Entries outlive the tokens they match by so much, for clocks that differ. */
const PRUNE_MARGIN_SECONDS = 120

/** A point of a run's history: stamped `s`, the log was at `epoch`. */
interface Point {
  readonly s: number
  readonly epoch: Epoch
}

interface Run {
  /** What our nonces were answered with: the service's clock read `offset + t` at local time `t` or later. */
  readonly anchors: { readonly offset: number; readonly askedAt: number }[]
  /** Latest stamp up to which our entries are known to be complete. */
  covered: number
  /** The latest point of all. */
  latest: Point | undefined
  /** A point that we heard of before we had reached its epoch. */
  ahead: Point | undefined
}

export type Verdict =
  | { readonly kind: 'live' }
  /** `hop` 0 is the token's own, others are its ancestors'. */
  | { readonly kind: 'dead'; readonly hop: number }
  /** The token was checked at an epoch that has not arrived here. */
  | { readonly kind: 'behind' }
  | { readonly kind: 'stale'; readonly ageSeconds: number }

/**
 * `missing`: entries before it are not here, a delta brings them. `gap`: out of order, re-sync. `reset`: only a snapshot can help. `other_key`: the value
 * digests are made with another key.
 */
type FrameOutcome = 'applied' | 'old' | 'missing' | 'gap' | 'reset' | 'other_key'

export interface FeedState {
  /** The epoch up to which every live entry is here. */
  epoch(): Epoch | undefined
  /** The highest epoch heard of, perhaps not reached. */
  behind(): boolean
  /** The log went back within its generation: nothing is fresh until there is a new generation. */
  forked(): boolean
  /** Call just before a nonce is sent. */
  asked(nonce: string): void
  /** False where it answers none of our nonces. */
  statement(statement: Statement): boolean
  /** Whether this run has answered a nonce lately: without that its frames prove no freshness. */
  knowsRun(run: string): boolean
  frame(frame: FeedFrame): FrameOutcome
  /** A new connection: the next live frame begins a chain. */
  connected(): void
  /** Something was lost or out of order: nothing counts as fresh before new proof. */
  suspect(): void
  verdict(hops: readonly CheckedHop[], boundSeconds: number): Verdict
  ageSeconds(): number
  /** A lower bound of the service's time, Unix seconds; undefined before the first statement. */
  serviceTime(): number | undefined
  prune(now: number): void
  size(): number
}

/** Entries of one shape by the digests of their values. */
interface Shaped {
  readonly number: number
  readonly digest: ShapeDigest
  readonly values: Map<string, Known>
}

export interface FeedStateDeps {
  readonly feedKey: Uint8Array
  readonly keyId: string
  /** Milliseconds. */
  readonly monotonic: () => number
}

interface Known {
  readonly epoch: Epoch
  readonly absolute: boolean
  readonly expiresAt: number
}

export function createFeedState({ feedKey, keyId, monotonic }: FeedStateDeps): FeedState {
  const digestOf = createShapeDigests(feedKey)
  const shapes = new Map<Shape, Shaped>()
  /** A shape that comes back has the number it had: digests stand under it. */
  const numbers = new Map<Shape, number>()
  /** The same in a list, which is walked for each token. */
  let live: readonly Shaped[] = []
  const runs = new Map<string, Run>()
  const pending = new Map<string, { readonly at: number; readonly epoch: Epoch | undefined }>()
  const me = {}
  let reached: Epoch | undefined
  let heardOf: Epoch | undefined
  let forkedIn: number | undefined
  let chain: { readonly run: string; readonly seq: number; readonly digest: string } | undefined
  let clock: { readonly time: number; readonly at: number; readonly askedAt: number } | undefined

  /** By maximum, never lowered: whatever order, repetition or age frames arrive in. */
  function merge(entry: FeedEntry): boolean {
    const shaped = shapes.get(entry.shape) ?? addShape(entry.shape)
    if (!shaped) return false
    const { values } = shaped
    const known = values.get(entry.value)
    values.set(entry.value, {
      epoch: known && compareEpochs(known.epoch, entry.epoch) > 0 ? known.epoch : entry.epoch,
      absolute: entry.absolute || known?.absolute === true,
      expiresAt: Math.max(entry.expiresAt, known?.expiresAt ?? 0),
    })
    return true
  }

  function addShape(shape: Shape): Shaped | undefined {
    if (shapes.size >= MAX_SHAPES) return undefined
    const number = numbers.get(shape) ?? numbers.size
    numbers.set(shape, number)
    const made: Shaped = { number, digest: digestOf(shape), values: new Map() }
    shapes.set(shape, made)
    live = [...shapes.values()]
    return made
  }

  const isBehind = (): boolean => heardOf !== undefined && (!reached || compareEpochs(reached, heardOf) < 0)
  const hear = (epoch: Epoch): void => {
    if (!heardOf || compareEpochs(epoch, heardOf) > 0) heardOf = epoch
  }
  const fork = (): void => {
    forkedIn = reached?.generation ?? heardOf?.generation
  }
  const isForked = (): boolean => forkedIn !== undefined && !(reached && reached.generation > forkedIn)

  function runOf(name: string): Run {
    const known = runs.get(name)
    if (known) {
      runs.delete(name)
      runs.set(name, known) // most recently used last
      return known
    }
    const made: Run = { anchors: [], covered: Number.NEGATIVE_INFINITY, latest: undefined, ahead: undefined }
    runs.set(name, made)
    if (runs.size > MAX_RUNS) {
      const idle = [...runs].find(([, run]) => run.anchors.length === 0 && run !== made)
      runs.delete(idle ? idle[0] : runs.keys().next().value!)
    }
    return made
  }

  /** Takes note that, stamped `s`, the log of this run was at `epoch`. */
  function note(name: string, point: Point): void {
    const run = runOf(name)
    const { latest } = run
    // Within a run stamps and epochs rise together; where they do not, the log has lost entries.
    const contradicts =
      latest &&
      ((point.s > latest.s && compareEpochs(point.epoch, latest.epoch) < 0) ||
        (point.s < latest.s && compareEpochs(point.epoch, latest.epoch) > 0))
    if (contradicts) fork()
    hear(point.epoch)
    if (!latest || point.s > latest.s || (point.s === latest.s && compareEpochs(point.epoch, latest.epoch) > 0))
      run.latest = point
    if (!run.ahead || point.s > run.ahead.s) run.ahead = point
    settle()
    if (reached && compareEpochs(point.epoch, reached) <= 0) run.covered = Math.max(run.covered, point.s)
  }

  /** What was beyond us when we heard of it counts as soon as we have reached it. */
  function settle(): void {
    if (!reached) return
    for (const run of runs.values())
      if (run.ahead && compareEpochs(run.ahead.epoch, reached) <= 0) {
        run.covered = Math.max(run.covered, run.ahead.s)
        run.ahead = undefined
      }
  }

  function suspect(): void {
    chain = undefined
    for (const run of runs.values()) {
      run.covered = Number.NEGATIVE_INFINITY
      run.ahead = undefined
    }
  }

  function ageMs(): number {
    if (isForked() || isBehind() || !reached) return Number.POSITIVE_INFINITY
    const now = monotonic()
    let best = Number.POSITIVE_INFINITY
    // Stamps are whole milliseconds, rounded down: one more is the most they can hide.
    for (const run of runs.values())
      for (const { offset, askedAt } of run.anchors)
        if (now - askedAt <= ANCHOR_LIFE_MS) best = Math.min(best, offset + now - run.covered + 1)
    return best
  }

  function deadHop(hops: readonly CheckedHop[]): number | undefined {
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
        if (entry && (entry.absolute || compareEpochs(entry.epoch, hop.rev) > 0)) return index
      }
    }
    return undefined
  }

  return {
    epoch: () => reached,
    behind: isBehind,
    forked: isForked,

    asked(nonce) {
      pending.set(nonce, { at: monotonic(), epoch: reached })
      if (pending.size > MAX_PENDING_NONCES) pending.delete(pending.keys().next().value!)
    },

    statement({ run: name, s, epoch, nonces, time }) {
      const nonce = nonces.find((candidate) => pending.has(candidate))
      const question = nonce === undefined ? undefined : pending.get(nonce)
      if (nonce === undefined || !question) return false
      pending.delete(nonce)
      // Its epoch was read after we asked, so it cannot be before what we had then.
      if (question.epoch && compareEpochs(epoch, question.epoch) < 0) fork()
      const run = runOf(name)
      run.anchors.push({ offset: s - question.at, askedAt: question.at })
      if (run.anchors.length > MAX_ANCHORS) run.anchors.shift()
      note(name, { s, epoch })
      const at = monotonic()
      // The newest answer counts, also where it is earlier: the service's clock was ahead and has been put right.
      if (!clock || question.at >= clock.askedAt) {
        const expected = clock ? clock.time + (at - clock.at) / 1000 : Number.NEGATIVE_INFINITY
        const onItsWay = time <= expected && expected - time <= ANSWER_SECONDS
        clock = onItsWay ? { ...clock!, askedAt: question.at } : { time, at, askedAt: question.at }
      }
      return true
    },

    knowsRun(name) {
      const now = monotonic()
      return runs.get(name)?.anchors.some(({ askedAt }) => now - askedAt <= ANCHOR_LIFE_MS) ?? false
    },

    frame(frame) {
      if (frame.keyId !== keyId) return 'other_key'
      // Entries are true wherever they come from; what a frame proves beyond them is looked at below.
      const merged = frame.entries.map(merge).every(Boolean)
      hear(frame.epoch)
      if (!merged) return 'gap'
      if (frame.kind === 'snapshot') {
        if (reached && compareEpochs(frame.epoch, reached) < 0 && frame.epoch.generation < reached.generation)
          return 'old'
        if (!reached || compareEpochs(frame.epoch, reached) > 0) reached = frame.epoch
      } else {
        if (!reached || frame.epoch.generation > reached.generation) return 'reset'
        if (frame.epoch.generation < reached.generation) return 'old'
        if (frame.kind === 'live') {
          const follows =
            !chain || (frame.run === chain.run && frame.seq === chain.seq + 1 && frame.prev === chain.digest)
          if (!follows) {
            suspect()
            return 'gap'
          }
          chain = { run: frame.run, seq: frame.seq, digest: frame.digest }
        }
        if (compareEpochs(frame.after!, reached) > 0) return 'missing'
        if (compareEpochs(frame.epoch, frame.after!) < 0) {
          fork()
          return 'gap'
        }
        if (compareEpochs(frame.epoch, reached) > 0) reached = frame.epoch
      }
      note(frame.run, { s: frame.s, epoch: frame.epoch })
      return 'applied'
    },

    connected() {
      chain = undefined
    },
    suspect,

    verdict(hops, boundSeconds) {
      // Certain whatever the age of the state: rejected once, rejected for ever.
      const hop = deadHop(hops)
      if (hop !== undefined) return { kind: 'dead', hop }
      for (const { rev } of hops) if (!reached || compareEpochs(rev, reached) > 0) return { kind: 'behind' }
      const age = ageMs()
      return age <= boundSeconds * 1000 ? LIVE : { kind: 'stale', ageSeconds: age / 1000 }
    },

    ageSeconds: () => ageMs() / 1000,
    serviceTime: () => clock && clock.time + Math.floor((monotonic() - clock.at) / 1000),

    prune(now) {
      // Of two clocks the one that is behind: a clock that ran ahead for a moment must not bring anything back.
      const service = clock && clock.time + Math.floor((monotonic() - clock.at) / 1000)
      if (service === undefined) return
      const time = Math.min(now, service)
      for (const [shape, { values }] of shapes) {
        for (const [value, { expiresAt }] of values) if (expiresAt + PRUNE_MARGIN_SECONDS < time) values.delete(value)
        if (values.size === 0) shapes.delete(shape)
      }
      live = [...shapes.values()]
    },
    size: () => live.reduce((sum, { values }) => sum + values.size, 0),
  }
}
