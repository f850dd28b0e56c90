/** Names in a log's folder, and the two members that are read from a record's bytes without parsing it. */

/** Beside the logs' own folders: which of them is this service's. */
export const LOG_ID_FILE = 'log-id'
/** The newest checkpoint, where tlog-tiles has it too. */
export const CHECKPOINT_FILE = 'checkpoint'
/** Earlier ones, each named by its size in 16 digits. */
export const CHECKPOINT_FOLDER = 'checkpoints'
/** The public keys that signed them, for people; who checks brings the keys from elsewhere. */
export const CHECKPOINT_KEYS_FILE = 'checkpoint-keys.json'
/** Leaf hashes of the newest checkpoint's records that fill no tile: they tell which of them was changed. */
export const EDGE_FILE = 'edge'
const SEGMENT = /^(\d{16})\.seg$/

export const segmentName = (first: number): string => `${String(first).padStart(16, '0')}.seg`
/** The sidecar of a closed segment: its size and sparse index. Made again where it is missing. */
export const sidecarName = (first: number): string => `${String(first).padStart(16, '0')}.idx`

export function firstOfSegment(name: string): number | undefined {
  const digits = SEGMENT.exec(name)?.[1]
  return digits === undefined ? undefined : Number(digits)
}

/** Time set back by more than this is recorded; less is a clock being disciplined. */
export const REGRESSION_MS = 1000

/**
 * Index and time of a record by its canonical bytes. After each of the two names no nested object follows, and a
 * quote inside a string is escaped, so the last occurrence is the record's own member.
 */
export const indexOf = (payload: Buffer): number => numberAfter(payload, '"i":')
export const timeOf = (payload: Buffer): number => numberAfter(payload, ',"t":')

function numberAfter(payload: Buffer, name: string): number {
  const found = payload.lastIndexOf(name, undefined, 'latin1')
  if (found < 0) return Number.NaN
  let value = 0
  let at = found + name.length
  const start = at
  for (; at < payload.length; at += 1) {
    const digit = payload[at]! - 48
    if (digit < 0 || digit > 9) break
    value = value * 10 + digit
  }
  return at === start ? Number.NaN : value
}
