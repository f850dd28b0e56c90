/** Sheds load before it hurts: a bound on what runs at once, and a token bucket for each client and each source. */

export interface Limits {
  /** False where too much runs already; otherwise call `leave` when done. */
  enter(): boolean
  leave(): void
  /** Seconds to wait, or 0 where the caller may go on. */
  take(key: string, perSecond: number): number
}

export interface LimitBounds {
  readonly maxConcurrent: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly maxKeys?: number
}

/** Two seconds' worth may come in a burst. */
const BURST_SECONDS = 2

export function createLimits({ maxConcurrent, monotonic, maxKeys = 50_000 }: LimitBounds): Limits {
  let running = 0
  const buckets = new Map<string, { tokens: number; at: number }>()
  return {
    enter() {
      if (running >= maxConcurrent()) return false
      running += 1
      return true
    },
    leave() {
      running -= 1
    },
    take(key, perSecond) {
      const at = monotonic()
      const most = perSecond * BURST_SECONDS
      const bucket = buckets.get(key)
      if (!bucket) {
        // The oldest go first: an attacker with many names forgets its own, and everybody starts with a full bucket.
        if (buckets.size >= maxKeys) buckets.delete(buckets.keys().next().value!)
        buckets.set(key, { tokens: most - 1, at })
        return 0
      }
      bucket.tokens = Math.min(most, bucket.tokens + ((at - bucket.at) / 1000) * perSecond)
      bucket.at = at
      if (bucket.tokens < 1) return Math.ceil((1 - bucket.tokens) / perSecond)
      bucket.tokens -= 1
      return 0
    },
  }
}
