/** Remembers, up to a bound, that exact bytes were verified: what has not changed need not be computed again. */
import { createHash } from 'node:crypto'

export interface Remembered<T> {
  get(key: string): T | undefined
  put(key: string, value: T): void
  drop(key: string): void
  clear(): void
}

/**
 * What was not asked for the longest goes first, half of it at a time: asking costs one look-up, and nothing is moved
 * about. A wrong guess costs one verification, never a wrong answer.
 */
export function createRemembered<T>(max: number): Remembered<T> {
  const half = Math.max(1, Math.floor(max / 2))
  let recent = new Map<string, T>()
  let older = new Map<string, T>()
  const put = (key: string, value: T): void => {
    if (recent.size >= half && !recent.has(key)) {
      older = recent
      recent = new Map()
    }
    recent.set(key, value)
  }
  return {
    get: (key) => {
      const value = recent.get(key)
      if (value !== undefined) return value
      const before = older.get(key)
      if (before !== undefined) put(key, before)
      return before
    },
    put,
    drop: (key) => {
      recent.delete(key)
      older.delete(key)
    },
    clear: () => {
      recent = new Map()
      older = new Map()
    },
  }
}

/** SHA-256 over all parts with their lengths, so that no two lists share a digest. */
export function digestOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part)
  return hash.digest('base64url')
}
