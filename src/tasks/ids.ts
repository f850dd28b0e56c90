/** Names of things: a prefix that says what it is, and 128 random bits. */
import { randomUUID } from 'node:crypto'

export type IdPrefix = 'task' | 'rev' | 'req' | 'op' | 'stream'

export const newId = (prefix: IdPrefix): string =>
  `${prefix}_${Buffer.from(digits() + digits(), 'hex').toString('base64url')}`

/** Sixteen random ones: Node draws the bytes of UUIDs many at a time, and RFC 9562 §5.4 fixes none of these. */
function digits(): string {
  const uuid = randomUUID()
  return uuid.slice(0, 4) + uuid.slice(24)
}

/** A caller's spelling of an id, checked before any store sees it. */
export const isId = (prefix: IdPrefix, text: unknown): text is string =>
  typeof text === 'string' &&
  text.length === prefix.length + 23 &&
  new RegExp(`^${prefix}_[A-Za-z0-9_-]{22}$`).test(text)
