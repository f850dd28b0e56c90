/**
 * What a verifier knows of the revocation log, and how old that knowledge can be at most. No clock, timer or network
 * of its own: frames and statements come in, verdicts go out (DESIGN.md, Revocation: Verifiers, Freshness).
 */
import { compareEpochs, type Epoch } from './epoch.ts'
import type { FeedFrame, Statement } from './feed-frame.ts'
import type { KeptState } from './kept-state.ts'
import { createKnownEntries } from './known-entries.ts'
import type { CheckedHop } from './shapes.ts'

/** A run whose clock was not asked for so long may have drifted away from ours. */
const ANCHOR_LIFE_MS = 120_000
const MAX_ANCHORS = 4
/** An answer may take so long; by so much it seems earlier than it is. */
const ANSWER_SECONDS = 5
const MAX_RUNS = 16
const MAX_PENDING_NONCES = 64
const LIVE: Verdict = { kind: 'live' }
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
  /** By our monotonic clock: what this run stamped `s` was not stamped before. Undefined where it has not answered us. */
  notBefore(run: string, s: number): number | undefined
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
  /** What a restarted verifier begins with; undefined before there is anything. */
  kept(): Omit<KeptState, 'checkpoints'> | undefined
}

export interface FeedStateDeps {
  readonly feedKey: Uint8Array
  readonly keyId: string
  /** Milliseconds. */
  readonly monotonic: () => number
  /** From before a restart: this state is never behind it. */
  readonly restored?: Omit<KeptState, 'checkpoints'> | undefined
}

export function createFeedState({ feedKey, keyId, monotonic, restored }: FeedStateDeps): FeedState {
  const entries = createKnownEntries(feedKey)
  const runs = new Map<string, Run>()
  const pending = new Map<string, { readonly at: number; readonly epoch: Epoch | undefined }>()
  let reached = restored?.reached
  let heardOf = restored?.heardOf
  let forkedIn = restored?.forkedIn
  for (const entry of restored?.entries ?? []) entries.merge(entry)
  let chain: { readonly run: string; readonly seq: number; readonly digest: string } | undefined
  let clock: { readonly time: number; readonly at: number; readonly askedAt: number } | undefined

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

  return {
    epoch: () => reached,
    behind: isBehind,
    forked: isForked,

    asked(nonce) {
      pending.set(nonce, { at: monotonic(), epoch: heardOf })
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

    notBefore(name, s) {
      const offsets = runs.get(name)?.anchors.map(({ offset }) => offset) ?? []
      return offsets.length === 0 ? undefined : s - Math.min(...offsets)
    },

    frame(frame) {
      if (frame.keyId !== keyId) return 'other_key'
      // Entries are true wherever they come from; what a frame proves beyond them is looked at below.
      const merged = frame.entries.map(entries.merge).every(Boolean)
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
      const hop = entries.deadHop(hops)
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
      entries.prune(Math.min(now, service) - PRUNE_MARGIN_SECONDS)
    },
    size: entries.size,
    kept: () => reached && { reached, heardOf: heardOf ?? reached, forkedIn, entries: entries.all() },
  }
}
