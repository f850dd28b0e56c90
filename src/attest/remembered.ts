/** Remembers, up to a bound, that exact bytes were verified: what has not changed need not be computed again. */
import { createHash } from 'node:crypto'

export interface Remembered<T> {
  get(digest: string): T | undefined
  put(digest: string, value: T): void
}

/** The oldest go first; a wrong guess costs one verification, never a wrong answer. */
export function createRemembered<T>(max: number): Remembered<T> {
  const known = new Map<string, T>()
  return {
    get: (digest) => known.get(digest),
    put: (digest, value) => {
      known.delete(digest)
      known.set(digest, value)
      if (known.size > max) known.delete(known.keys().next().value!)
    },
  }
}

/** SHA-256 over all parts with their lengths, so that no two lists share a digest. */
export function digestOf(parts: readonly (string | Uint8Array)[]): string {
  const hash = createHash('sha256')
  for (const part of parts) hash.update(`${Buffer.byteLength(part)}:`).update(part)
  return hash.digest('base64url')
}
