/**
 * Values that only we can have given, and only lately: a place in time and a MAC over it (RFC 9449 §8). Nothing is kept
 * of them, and every replica with the same key knows them.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { createRemembered } from './remembered.ts'

export interface Windowed {
  /** The value of this window, for this name. */
  fresh(name?: string): string
  /** Whether it is the value of this window or of the one before. */
  isOurs(value: string, name?: string): boolean
}

const MAX_REMEMBERED = 4096

export function createWindowed({
  now,
  key,
  lifetimeSeconds,
  purpose,
}: {
  readonly now: () => number
  /** The same at every replica; at least 32 bytes. */
  readonly key: Uint8Array
  /** How long a window is. */
  readonly lifetimeSeconds: number
  /** What it is for: a value for one thing is none for another. */
  readonly purpose: string
}): Windowed {
  /** A client asks for the same value again and again while its window lasts. */
  const made = createRemembered<string>(MAX_REMEMBERED)
  const of = (window: number, name: string): string => {
    const which = `${window}|${name}`
    const known = made.get(which)
    if (known !== undefined) return known
    const value = make(window, name)
    made.put(which, value)
    return value
  }
  const make = (window: number, name: string): string => {
    const mac = createHmac('sha256', key).update(`${purpose}|${window}|${name}`).digest()
    return `${window.toString(36)}.${mac.subarray(0, 16).toString('base64url')}`
  }
  const current = (): number => Math.floor(now() / lifetimeSeconds)
  return {
    fresh: (name = '') => of(current(), name),
    isOurs: (value, name = '') => {
      const window = current()
      return [window, window - 1].some((each) => sameText(value, of(each, name)))
    },
  }
}

function sameText(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
