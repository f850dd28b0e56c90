/**
 * Indexes that stand for no token and are marked now and then, so that neither the number of marks in a list nor their
 * change says how much was revoked (draft-ietf-oauth-status-list §12.4). Every process computes the same ones.
 */
import { createHmac } from 'node:crypto'

/** As many bits as one SHA-256 has: one for each. */
const DECOYS = 256
/** How long one of them stays as it is; each changes at its own moment of it. */
const WINDOW_SECONDS = 300

export interface StatusDecoys {
  is(list: string, idx: number): boolean
  /** Those that are marked at `now`, Unix seconds. */
  marked(list: string, now: number): readonly number[]
}

export function createStatusDecoys({ key, size }: { readonly key: Uint8Array; readonly size: number }): StatusDecoys {
  const known = new Map<string, readonly number[]>()
  const digest = (...words: readonly (string | number)[]) =>
    createHmac('sha256', key).update(JSON.stringify(words)).digest()

  function of(list: string): readonly number[] {
    const found = known.get(list)
    if (found) return found
    const chosen = new Set<number>()
    for (let block = 0; chosen.size < DECOYS; block++) {
      const bytes = digest('place', list, block)
      for (let at = 0; at < bytes.length && chosen.size < DECOYS; at += 4) chosen.add(bytes.readUInt32BE(at) % size)
    }
    const places = [...chosen]
    known.set(list, places)
    return places
  }

  return {
    is: (list, idx) => of(list).includes(idx),
    marked(list, now) {
      const window = (nth: number) => Math.floor((now + (nth * WINDOW_SECONDS) / DECOYS) / WINDOW_SECONDS)
      const first = window(0)
      const states = [digest('state', list, first), digest('state', list, first + 1)]
      return of(list).filter((_, nth) => (states[window(nth) - first]![nth >> 3]! >> (nth & 7)) & 1)
    },
  }
}
