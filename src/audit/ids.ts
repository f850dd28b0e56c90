/** Ids that carry their log and their time, so that a record is found without an index. */
import { randomBytes, randomUUID } from 'node:crypto'

/** 4 bytes log id, 6 bytes time in ms, 10 bytes random: 27 characters. */
const BYTES = 20
const FORM = /^[A-Za-z0-9_-]{27}$/
const LOG_ID = /^[0-9a-f]{8}$/

export const newLogId = (): string => randomBytes(4).toString('hex')
export const isLogId = (text: string): boolean => LOG_ID.test(text)

export function newJti(logId: string, nowMs: number): string {
  const id = Buffer.allocUnsafe(BYTES)
  id.write(logId, 0, 4, 'hex')
  id.writeUIntBE(nowMs, 4, 6)
  // Node draws the bytes of UUIDs many at a time. Of these digits none is fixed by RFC 9562 §5.4.
  const uuid = randomUUID()
  id.write(uuid.slice(0, 8) + uuid.slice(24), 10, 10, 'hex')
  return id.toString('base64url')
}

export const newDecisionId = (logId: string, nowMs: number): string => `dec_${newJti(logId, nowMs)}`

/** By length as well: a jti may happen to begin with `dec_`. */
export const isDecisionId = (id: string): boolean => id.length === 31 && id.startsWith('dec_')

/** Log and time of a jti or `dec_…` id; undefined where it is neither, or not in its one canonical spelling. */
export function timeOfId(id: string): { readonly logId: string; readonly ms: number } | undefined {
  const text = isDecisionId(id) ? id.slice(4) : id
  if (!FORM.test(text)) return undefined
  const bytes = Buffer.from(text, 'base64url')
  if (bytes.toString('base64url') !== text) return undefined
  return { logId: bytes.toString('hex', 0, 4), ms: bytes.readUIntBE(4, 6) }
}
