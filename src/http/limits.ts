/** Sheds load before it hurts: bounds on what runs and what stays open at once, and a token bucket for each client and source. */
import { type Result, refuse } from '../oauth/refusal.ts'
import type { Pace } from './pace.ts'

export interface Limits {
  /** False where too much runs already; otherwise call `leave` when done. `kept` goes beyond pace and a tenant's quota. */
  enter(kept?: boolean): boolean
  leave(): void
  /** Whether `enter` would say false. */
  full(): boolean
  running(): number
  /** A place among what stays open without working; undefined where there is none. Answers how to give it back. */
  hold(who: Holder): (() => void) | undefined
  /** Seconds to wait, or 0 where the caller may go on. */
  take(key: string, perSecond: number): number
  /** What was taken for nothing. */
  giveBack(key: string, perSecond: number): void
  /** The same answer, and nothing is taken. */
  wait(key: string, perSecond: number): number
}

/** A stranger by its address, whoever has proven who it is by that. */
export type Holder = { readonly source: string } | { readonly client: string }

export interface LimitBounds {
  readonly maxConcurrent: () => number
  /** Of a tenant: what of that its quota lets it run. */
  readonly quota?: () => number
  readonly pace?: Pace
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly maxKeys?: number
}

/** Two seconds' worth may come in a burst. */
const BURST_SECONDS = 2
/** What strangers may hold open of all there is: the rest is for those who have proven who they are. */
const SHARE_OF_STRANGERS = 1 / 2
/** Of all there is, too: the rest is for the others. */
const SHARE_OF_ONE_SOURCE = 1 / 16
const SHARE_OF_ONE_CLIENT = 1 / 4

export function createLimits({ maxConcurrent, quota, pace, monotonic, maxKeys = 50_000 }: LimitBounds): Limits {
  let running = 0
  let open = 0
  let openToStrangers = 0
  const openBy = new Map<string, number>()
  const buckets = new Map<string, { tokens: number; at: number }>()

  function bucketOf(key: string, perSecond: number): { tokens: number; at: number } {
    const at = monotonic()
    const most = perSecond * BURST_SECONDS
    let bucket = buckets.get(key)
    if (!bucket) {
      // The oldest go first: an attacker with many names forgets its own, and everybody starts with a full bucket.
      if (buckets.size >= maxKeys) buckets.delete(buckets.keys().next().value!)
      bucket = { tokens: most, at }
      buckets.set(key, bucket)
      return bucket
    }
    bucket.tokens = Math.min(most, bucket.tokens + ((at - bucket.at) / 1000) * perSecond)
    bucket.at = at
    return bucket
  }
  const waitFor = ({ tokens }: { readonly tokens: number }, perSecond: number): number =>
    tokens < 1 ? Math.ceil((1 - tokens) / perSecond) : 0

  const full = (kept: boolean): boolean =>
    running >= maxConcurrent() ||
    (!kept && (running >= (quota?.() ?? running + 1) || running >= (pace?.most() ?? running + 1)))

  return {
    enter(kept = false) {
      if (full(kept)) return false
      running += 1
      return true
    },
    leave() {
      running -= 1
      pace?.answered()
    },
    full: () => full(false),
    running: () => running,
    hold(who) {
      const stranger = 'source' in who
      const key = stranger ? `source:${who.source}` : `client:${who.client}`
      const most = maxConcurrent()
      const share = (of: number): number => Math.max(1, Math.floor(most * of))
      const own = openBy.get(key) ?? 0
      if (open >= most || own >= share(stranger ? SHARE_OF_ONE_SOURCE : SHARE_OF_ONE_CLIENT)) return undefined
      if (stranger && openToStrangers >= share(SHARE_OF_STRANGERS)) return undefined
      open += 1
      openToStrangers += stranger ? 1 : 0
      openBy.set(key, own + 1)
      let given = false
      return () => {
        if (given) return
        given = true
        open -= 1
        openToStrangers -= stranger ? 1 : 0
        const left = openBy.get(key)! - 1
        if (left === 0) openBy.delete(key)
        else openBy.set(key, left)
      }
    },
    take(key, perSecond) {
      const bucket = bucketOf(key, perSecond)
      const wait = waitFor(bucket, perSecond)
      if (wait === 0) bucket.tokens -= 1
      return wait
    },
    giveBack(key, perSecond) {
      const bucket = buckets.get(key)
      if (bucket) bucket.tokens = Math.min(perSecond * BURST_SECONDS, bucket.tokens + 1)
    },
    // A key without a bucket has a full one, and asking makes none.
    wait: (key, perSecond) => (buckets.has(key) ? waitFor(bucketOf(key, perSecond), perSecond) : 0),
  }
}

/**
 * Rations verified clients, each by who it has proven to be: by a name that is only claimed, anybody could use up
 * another's share. Nothing one-use is spent yet, so what is turned away here can be sent again.
 */
export const rationed =
  <P, T>(
    { take }: Pick<Limits, 'take'>,
    perSecond: () => number,
    clientOf: (proven: T) => string,
    verify: (presented: P) => Promise<Result<T>>,
  ) =>
  async (presented: P): Promise<Result<T>> => {
    const proven = await verify(presented)
    if (!proven.ok) return proven
    const wait = take(`client:${clientOf(proven.value)}`, perSecond())
    return wait > 0 ? refuse('rate_limited', 'request', { retryAfterSeconds: wait, proven: true }) : proven
  }
