/** A record as one line for people and pipes: still the same JSON, and nothing in it can steer a terminal. */
import { canonicalize } from './canonical.ts'
import type { AuditRecord, Json } from './log.ts'

// C0 is escaped by JSON itself; here DEL and C1, what formats without being seen (zero-width, bidirectional and tag
// characters), line and paragraph separators, and private use.
const STEERING = /[\u007f-\u009f\p{Cf}\p{Zl}\p{Zp}\p{Co}]/gu

const escaped = (text: string) =>
  text.replace(/[\s\S]/g, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, '0')}`)

export const toLine = (record: AuditRecord): string => canonicalize(record as Json).replace(STEERING, escaped)
