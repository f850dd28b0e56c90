/** Remembers the proofs it has seen for as long as they could be accepted (RFC 9449 §11.1). */

export interface ReplayGuard {
  /** `first` for one call per id; `full` where it cannot be known, and the proof must be refused. */
  spend(
    holder: string,
    id: string,
    expiresAt: number,
  ): 'first' | 'replayed' | 'full' | Promise<'first' | 'replayed' | 'full'>
}

const MAX_PROOFS = 200_000
const SWEEP_EVERY_MS = 10_000
/** One holder's flood must not shut the others out. */
const MAX_PROOFS_PER_HOLDER = MAX_PROOFS / 4

/** For one process. Tools that run in several share a guard of their own through the option `replayGuard`. */
export function createReplayGuard({
  now,
  monotonic = () => now() * 1000,
  max = MAX_PROOFS,
  maxPerHolder = MAX_PROOFS_PER_HOLDER,
}: {
  readonly now: () => number
  /** Milliseconds of a clock that is never set: what was seen is kept by it, and no jump of the other forgets a proof. */
  readonly monotonic?: () => number
  readonly max?: number
  readonly maxPerHolder?: number
}): ReplayGuard {
  /** Until which second each is kept. Numbers, and no object for each of so many. */
  const seen = new Map<string, number>()
  /** Proofs of each holder; made only once there are so many that one of them could have too many. */
  let counts: Map<string, number> | undefined
  let sweptAt = Number.NEGATIVE_INFINITY

  function sweep(time: number): void {
    sweptAt = time
    for (const [key, keepUntil] of seen) {
      if (keepUntil * 1000 >= time) continue
      seen.delete(key)
      if (!counts) continue
      const holder = holderOf(key)
      const left = (counts.get(holder) ?? 1) - 1
      if (left === 0) counts.delete(holder)
      else counts.set(holder, left)
    }
    if (seen.size < maxPerHolder) counts = undefined
  }

  function countAll(): Map<string, number> {
    const made = new Map<string, number>()
    for (const key of seen.keys()) made.set(holderOf(key), (made.get(holderOf(key)) ?? 0) + 1)
    return made
  }

  return {
    spend(holder, id, expiresAt) {
      const time = monotonic()
      if (time - sweptAt >= SWEEP_EVERY_MS || (seen.size >= max && time > sweptAt)) sweep(time)
      const key = `${holder} ${id}`
      if (seen.has(key)) return 'replayed'
      if (seen.size >= max) return 'full'
      if (seen.size >= maxPerHolder) {
        counts ??= countAll()
        const count = counts.get(holder) ?? 0
        if (count >= maxPerHolder) return 'full'
        counts.set(holder, count + 1)
      }
      seen.set(key, Math.ceil(time / 1000 + expiresAt - now()))
      return 'first'
    },
  }
}

/** An id has no space in it. */
const holderOf = (key: string): string => key.slice(0, key.lastIndexOf(' '))
