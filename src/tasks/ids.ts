/** Names of things: a prefix that says what it is, and 128 random bits. */
import { randomBytes } from 'node:crypto'

export type IdPrefix = 'task' | 'rev' | 'req' | 'op'

export const newId = (prefix: IdPrefix): string => `${prefix}_${randomBytes(16).toString('base64url')}`

/** A caller's spelling of an id, checked before any store sees it. */
export const isId = (prefix: IdPrefix, text: unknown): text is string =>
  typeof text === 'string' &&
  text.length === prefix.length + 23 &&
  new RegExp(`^${prefix}_[A-Za-z0-9_-]{22}$`).test(text)
