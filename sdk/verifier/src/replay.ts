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
/** One holder's flood must not shut the others out. */
const MAX_PROOFS_PER_HOLDER = MAX_PROOFS / 4

/** For one process. Tools that run in several share a guard of their own through the option `replayGuard`. */
export function createReplayGuard({
  now,
  max = MAX_PROOFS,
  maxPerHolder = MAX_PROOFS_PER_HOLDER,
}: {
  readonly now: () => number
  readonly max?: number
  readonly maxPerHolder?: number
}): ReplayGuard {
  const seen = new Map<string, { readonly holder: string; readonly expiresAt: number }>()
  const counts = new Map<string, number>()
  let sweptAt = Number.NEGATIVE_INFINITY

  function sweep(time: number): void {
    sweptAt = time
    for (const [id, { holder, expiresAt }] of seen) {
      if (expiresAt >= time) continue
      seen.delete(id)
      const left = (counts.get(holder) ?? 1) - 1
      if (left === 0) counts.delete(holder)
      else counts.set(holder, left)
    }
  }

  return {
    spend(holder, id, expiresAt) {
      const time = now()
      if (time - sweptAt >= 10 || (seen.size >= max && time > sweptAt)) sweep(time)
      const key = `${holder} ${id}`
      if (seen.has(key)) return 'replayed'
      const count = counts.get(holder) ?? 0
      if (seen.size >= max || count >= maxPerHolder) return 'full'
      seen.set(key, { holder, expiresAt })
      counts.set(holder, count + 1)
      return 'first'
    },
  }
}
