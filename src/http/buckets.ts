/** A token bucket for each key: so much a second, and two seconds' worth in a burst. */
export interface Buckets {
  /** Seconds to wait, or 0 where the caller may go on. */
  take(key: string, perSecond: number): number
  /** What was taken for nothing. */
  giveBack(key: string, perSecond: number): void
  /** The same answer as `take`, and nothing is taken. */
  wait(key: string, perSecond: number): number
}

const BURST_SECONDS = 2

export function createBuckets({
  monotonic,
  maxKeys = 50_000,
}: {
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly maxKeys?: number
}): Buckets {
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

  return {
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
