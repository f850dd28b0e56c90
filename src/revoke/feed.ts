/**
 * The producer of the revocation feed: signed frames, snapshots, deltas and statements of "now" over the log.
 * Whoever relays them needs no trust; how fresh they are is for the follower to compute (DESIGN.md, Freshness).
 */
import { createHash } from 'node:crypto'
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { shapeOf, shapeText, valueDigest } from '@errand/verifier/shapes.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import type { Revocation, RevocationLog } from './revocation-log.ts'
import { createStatements, type Statements } from './statement.ts'

/** Entries that come close together share a frame; none waits longer than this (at most 20 ms are promised). */
const GATHER_MS = 10
const HEARTBEAT_MS = 1000
/** One signature serves every delta of the same place for so long. */
const DELTA_REUSE_MS = 250
const MAX_CACHED_DELTAS = 64
/** A subscriber this many frames behind is dropped: it re-syncs when it is back. */
const MAX_QUEUED_FRAMES = 64

export interface FeedFrame {
  /** Compact JWS. */
  readonly frame: string
  /** Epoch after the frame, `<generation>.<sequence>`: the `id` of its server-sent event. */
  readonly epoch: string
  /** The whole server-sent event: the same bytes for every reader. */
  readonly event: Uint8Array
}

export function feedFrame(frame: string, epoch: string): FeedFrame {
  let event: Uint8Array | undefined
  return {
    frame,
    epoch,
    get event() {
      event ??= Buffer.from(`event: frame\nid: ${epoch}\ndata: ${frame}\n\n`, 'latin1')
      return event
    },
  }
}

export interface FeedDeps {
  readonly log: Pick<RevocationLog, 'after' | 'epoch' | 'onAdded'>
  /** Signs with the active feed key. */
  readonly sign: (typ: string, payload: object) => Promise<{ readonly jws: string }>
  /** The key that registered verifiers hold: values travel as keyed digests. */
  readonly feedKey: Uint8Array
  readonly issuer: string
  /** Unix seconds. */
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly newRunId: () => string
  /** The newest checkpoint of the audit log, a signed note: each verifier is a witness of it. */
  readonly checkpoint?: () => string | undefined
  /** Digest of the key set that is published: verifiers fetch it when it changes. */
  readonly keySet?: () => string
}

/** A place in the log, with what was the newest checkpoint when it was stamped: of later stamps neither is earlier. */
interface Position {
  readonly s: number
  readonly epoch: Epoch
  readonly cp: string | undefined
}

export interface Feed extends Statements {
  /** All live entries, signed once per epoch. */
  snapshot(): Promise<FeedFrame>
  /** Entries after that epoch; a snapshot where the epoch is of another generation or ahead of ours. */
  delta(after: Epoch): Promise<FeedFrame>
  /** Resolves with a delta as soon as there is an entry after `after`, or after so many seconds without one. */
  wait(after: Epoch, seconds: number, signal?: AbortSignal): Promise<FeedFrame>
  /**
   * Calls `listener` with each frame in order, waiting for it where it answers a promise. One that is too far behind
   * or throws is unsubscribed, and `dropped` is called.
   */
  subscribe(listener: (frame: FeedFrame) => void | Promise<void>, dropped?: () => void): () => void
  /** A frame now and not at the next heartbeat: what it says beside entries has changed. */
  tell(): void
  close(): void
}

interface Subscriber {
  readonly queue: FeedFrame[]
  readonly listener: (frame: FeedFrame) => void | Promise<void>
  readonly dropped: (() => void) | undefined
  busy: boolean
}

export function createFeed(deps: FeedDeps): Feed {
  const { log, issuer, monotonic } = deps
  const run = deps.newRunId()
  const k = feedKeyId(deps.feedKey)
  let seq = 0
  let prev = ''
  /** The epoch up to which the chain has told everything; undefined until it was read first. */
  let told: Epoch | undefined
  let closed = false
  const subscribers = new Set<Subscriber>()
  const waiting = new Set<() => void>()
  const deltas = new Map<string, { readonly s: number; readonly epoch: string; readonly made: Promise<FeedFrame> }>()
  let snapshotMade: { readonly epoch: string; readonly made: Promise<FeedFrame> } | undefined

  /**
   * The stamp is taken before the epoch is read, and one pair is taken at a time: so what is stamped `s` knows every
   * entry acknowledged before `s`, and within a run a later stamp never has an earlier epoch.
   */
  let lastPosition: Promise<unknown> = Promise.resolve()
  function position(): Promise<Position> {
    const next = lastPosition.then(async () => {
      const s = Math.floor(monotonic())
      const cp = deps.checkpoint?.()
      return { s, cp, epoch: await log.epoch() }
    })
    lastPosition = next.catch(() => undefined)
    return next
  }

  const entriesUpTo = async (epoch: Epoch, after?: Epoch) => {
    const entries = await log.after(after)
    // A fail-over in between has placed them anew: a frame of the place that was would leave them out.
    if (entries.some((entry) => entry.epoch.generation > epoch.generation))
      throw new Unavailable('store_unavailable', 'a generation was opened while entries were read')
    return entries.filter((entry) => compareEpochs(entry.epoch, epoch) <= 0).map(wireEntry)
  }

  // What is about what was there at a mark says the mark as its place: verifiers merge by maximum, in whatever order.
  function wireEntry({ match, before, epoch, expiresAt, absolute }: Revocation) {
    const shape = shapeOf(match)
    return {
      e: formatEpoch(before ?? epoch),
      d: shape,
      v: valueDigest(deps.feedKey, shape, shapeText(shape, match) ?? ''),
      x: expiresAt,
      ...(absolute ? { a: true } : {}),
    }
  }

  // Snapshots and deltas stand beside the chain: their seq and prev say where it was when they were made.
  async function sideFrame(kind: 'snapshot' | 'delta', { s, epoch, cp }: Position, after?: Epoch): Promise<FeedFrame> {
    const entries = await entriesUpTo(epoch, after)
    const payload = {
      iss: issuer,
      run,
      seq,
      s,
      prev,
      k,
      kind,
      ...(after ? { after: formatEpoch(after) } : {}),
      epoch: formatEpoch(epoch),
      entries,
      ...(cp === undefined ? {} : { cp }),
    }
    return feedFrame((await deps.sign(TYP.feedFrame, payload)).jws, formatEpoch(epoch))
  }

  async function snapshot(): Promise<FeedFrame> {
    const at = await position()
    const text = formatEpoch(at.epoch)
    if (snapshotMade?.epoch === text) return snapshotMade.made
    const made = sideFrame('snapshot', at)
    const mine = { epoch: text, made }
    snapshotMade = mine
    made.catch(() => {
      if (snapshotMade === mine) snapshotMade = undefined
    })
    return made
  }

  async function delta(after: Epoch): Promise<FeedFrame> {
    const at = await position()
    const { s, epoch } = at
    if (after.generation !== epoch.generation || compareEpochs(after, epoch) > 0) return snapshot()
    const key = formatEpoch(after)
    const known = deltas.get(key)
    if (known?.epoch === formatEpoch(epoch) && s - known.s <= DELTA_REUSE_MS) return known.made
    const made = sideFrame('delta', at, after)
    const mine = { s, epoch: formatEpoch(epoch), made }
    deltas.delete(key)
    deltas.set(key, mine)
    if (deltas.size > MAX_CACHED_DELTAS) deltas.delete(deltas.keys().next().value!)
    made.catch(() => {
      if (deltas.get(key) === mine) deltas.delete(key)
    })
    return made
  }

  async function wait(after: Epoch, seconds: number, signal?: AbortSignal): Promise<FeedFrame> {
    await new Promise<void>((resolve) => {
      let over = false
      const done = () => {
        if (over) return
        over = true
        clearTimeout(timer)
        signal?.removeEventListener('abort', done)
        waiting.delete(done)
        resolve()
      }
      const timer = setTimeout(done, seconds * 1000)
      signal?.addEventListener('abort', done)
      // Listening starts before the epoch is read, so an entry in between wakes it.
      waiting.add(done)
      if (closed || signal?.aborted) return done()
      log.epoch().then((epoch) => {
        if (compareEpochs(epoch, after) !== 0) done()
      }, done)
    })
    return delta(after)
  }

  // Frames are made one after the other: each holds the digest of the one before.
  let lastFrame: Promise<void> = Promise.resolve()
  const emit = (): Promise<void> => {
    lastFrame = lastFrame.then(makeFrame).catch(() => undefined) // the next heartbeat tries again; followers turn stale
    return lastFrame
  }
  async function makeFrame(): Promise<void> {
    if (closed) return
    const { s, epoch, cp } = await position()
    const after = told ?? epoch
    if (subscribers.size === 0) {
      told = epoch // nobody listens, nothing is signed; who comes asks for a delta after subscribing
      return
    }
    const entries = await entriesUpTo(epoch, after)
    const payload = {
      iss: issuer,
      run,
      seq: seq + 1,
      s,
      prev,
      k,
      after: formatEpoch(after),
      epoch: formatEpoch(epoch),
      ...(entries.length > 0 ? { entries } : {}),
      ...(deps.keySet ? { ks: deps.keySet() } : {}),
      ...(cp === undefined ? {} : { cp }),
    }
    const { jws } = await deps.sign(TYP.feedFrame, payload)
    seq += 1
    prev = createHash('sha256').update(jws).digest('base64url')
    told = epoch
    const frame = feedFrame(jws, payload.epoch)
    for (const subscriber of subscribers) enqueue(subscriber, frame)
  }

  function enqueue(subscriber: Subscriber, frame: FeedFrame): void {
    if (subscriber.queue.length >= MAX_QUEUED_FRAMES) drop(subscriber)
    else {
      subscriber.queue.push(frame)
      if (!subscriber.busy) void drain(subscriber)
    }
  }
  async function drain(subscriber: Subscriber): Promise<void> {
    subscriber.busy = true
    try {
      for (let next = subscriber.queue[0]; next && subscribers.has(subscriber); next = subscriber.queue[0]) {
        const taken = subscriber.listener(next)
        if (taken) await taken
        subscriber.queue.shift()
      }
    } catch {
      drop(subscriber)
    } finally {
      subscriber.busy = false
    }
  }
  function drop(subscriber: Subscriber): void {
    if (subscribers.delete(subscriber)) subscriber.dropped?.()
  }

  let gathering: NodeJS.Timeout | undefined
  // A mark too: what is checked from now on carries it, and is kept waiting by verifiers that have not heard of it.
  const news = () => {
    for (const wake of [...waiting]) wake()
    if (closed || subscribers.size === 0 || gathering) return
    gathering = setTimeout(() => {
      gathering = undefined
      void emit()
    }, GATHER_MS)
    gathering.unref()
  }
  const unlisten = log.onAdded(news, news)
  const heartbeat = setInterval(() => void emit(), HEARTBEAT_MS)
  heartbeat.unref()
  void emit()

  return {
    snapshot,
    delta,
    wait,
    ...createStatements({ position, run, issuer, now: deps.now, sign: deps.sign }),
    subscribe(listener, dropped) {
      const subscriber: Subscriber = { queue: [], listener, dropped, busy: false }
      subscribers.add(subscriber)
      return () => subscribers.delete(subscriber)
    },
    tell: () => void emit(),
    close() {
      closed = true
      unlisten()
      clearInterval(heartbeat)
      clearTimeout(gathering)
      for (const wake of [...waiting]) wake()
      for (const subscriber of [...subscribers]) drop(subscriber)
    },
  }
}
