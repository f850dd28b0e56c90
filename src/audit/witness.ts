/** What a witness makes of the next checkpoint of a log, given the one it holds. It remembers; the log cannot go back. */
import { type Checkpoint, openCheckpoint, parseCheckpoint } from './checkpoint.ts'
import { HASH_BYTES, verifyConsistency } from './merkle.ts'
import { noteKey, parseNote } from './note.ts'

export interface Presented {
  readonly note: string
  /** From the held size to this one, in base64; absent where the log gave none. */
  readonly path?: readonly string[]
}

export type Alarm =
  | 'unsigned' // by none of the keys
  | 'another_log'
  | 'went_back' // smaller than what was seen
  | 'forked' // not the continuation of what was seen

export type Judgement =
  | { readonly ok: true; readonly checkpoint: Checkpoint }
  | { readonly ok: false; readonly alarm: Alarm; readonly why: string }

/** `keys`: the 32 bytes of each key of the issuer. */
export function judge(held: Checkpoint | undefined, { note, path }: Presented, keys: readonly Buffer[]): Judgement {
  const parsed = parseNote(note)
  const { origin = '' } = (parsed && parseCheckpoint(parsed.text)) ?? {}
  const next =
    origin === ''
      ? undefined
      : openCheckpoint(
          note,
          keys.map((raw) => noteKey(origin, raw)),
        )
  const alarm = (kind: Alarm, why: string): Judgement => ({ ok: false, alarm: kind, why })
  if (next === undefined) return alarm('unsigned', 'what was given is no checkpoint that a key of the issuer signed')
  if (held === undefined) return { ok: true, checkpoint: next }
  if (next.origin !== held.origin) return alarm('another_log', `this is ${next.origin}, and ${held.origin} was seen`)
  if (next.size < held.size) return alarm('went_back', `${next.size} records are signed, and ${held.size} were before`)
  if (next.size === held.size) {
    if (next.root.equals(held.root)) return { ok: true, checkpoint: next }
    return alarm('forked', `two roots over ${next.size} records were signed`)
  }
  const hashes = (path ?? []).map((hash) => Buffer.from(hash, 'base64'))
  const whole = path !== undefined && hashes.every(({ length }) => length === HASH_BYTES)
  if (whole && verifyConsistency(held.size, held.root, next.size, next.root, hashes))
    return { ok: true, checkpoint: next }
  return alarm('forked', `no proof that the first ${held.size} of ${next.size} records are those that were seen`)
}
