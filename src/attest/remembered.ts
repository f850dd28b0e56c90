/** Remembers, up to a bound, that exact bytes were verified: what has not changed need not be computed again. */
import { createHash, hash } from 'node:crypto'

export interface Remembered<T> {
  get(key: string): T | undefined
  put(key: string, value: T): void
  drop(key: string): void
  clear(): void
}

/**
 * What was not asked for the longest goes first, half of it at a time: asking costs one look-up, and nothing is moved
 * about. A wrong guess costs one verification, never a wrong answer. `max` counts values, or what `weigh` says of them
 * where one may be as large as hundreds of others; what is put again in its place must weigh the same, or nearly so.
 */
export function createRemembered<T>(max: number, weigh: (value: T) => number = () => 1): Remembered<T> {
  const half = Math.max(1, Math.floor(max / 2))
  let recent = new Map<string, T>()
  let older = new Map<string, T>()
  let weight = 0
  const put = (key: string, value: T): void => {
    if (!recent.has(key)) {
      if (weight >= half) {
        older = recent
        recent = new Map()
        weight = 0
      }
      weight += weigh(value)
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
      const value = recent.get(key)
      if (value !== undefined) weight -= weigh(value)
      recent.delete(key)
      older.delete(key)
    },
    clear: () => {
      recent = new Map()
      older = new Map()
      weight = 0
    },
  }
}

/**
 * Whether what this text names came before, as far as that is still known: most of what comes but once is seldom worth
 * keeping, and keeping it costs more than reading it. A guess either way costs one reading, never a wrong answer.
 * Looked at are the last characters, which of a signed token are of its signature.
 */
export function createSecondSight(places = 1 << 14): (text: string) => boolean {
  const seen = new Int32Array(places)
  return (text) => {
    let mark = text.length + 1
    for (let at = Math.max(0, text.length - MARKED); at < text.length; at++)
      mark = (Math.imul(mark, 31) + text.charCodeAt(at)) | 0
    const place = (mark ^ (mark >>> 15)) & (places - 1)
    if (seen[place] === mark) return true
    seen[place] = mark
    return false
  }
}
const MARKED = 16

/** Printable ASCII as a text of its own: a part of a longer one keeps the whole of it in memory. */
export const ownText = (text: string): string => Buffer.from(text, 'latin1').toString('latin1')

/** What something is remembered by: a long text by its digest, where callers choose how long it is. */
export const keyFor = (text: string): string => (text.length > LONG ? digestOf([text]) : text)
const LONG = 512

/** SHA-256 over all parts with their lengths, so that no two lists share a digest. */
export function digestOf(parts: readonly (string | Uint8Array)[]): string {
  // Mostly one text: at once, that costs a third.
  const [first] = parts
  if (parts.length === 1 && typeof first === 'string')
    return hash('sha256', `${Buffer.byteLength(first)}:${first}`, 'base64url')
  const digest = createHash('sha256')
  for (const part of parts) digest.update(`${Buffer.byteLength(part)}:`).update(part)
  return digest.digest('base64url')
}
