/** Checkpoints (C2SP tlog-checkpoint): how large a log's tree is and what its root hash, in a signed note. */
import { HASH_BYTES } from './merkle.ts'
import { isNoteName, isSignedBy, type NoteKey, parseNote } from './note.ts'

export interface Checkpoint {
  /** Which log: two with one origin would be two histories of one log. */
  readonly origin: string
  readonly size: number
  readonly root: Buffer
}

/** The issuer without its scheme, and the log's id: a replica, and a data folder begun anew, is a log of its own. */
export const originOf = (issuer: string, logId: string): string =>
  `${issuer
    .replace(/^[a-z]+:\/\//, '')
    .replace(/\/$/, '')
    .replaceAll('+', '%2B')}/log/${logId}`

export const checkpointText = ({ origin, size, root }: Checkpoint): string =>
  `${origin}\n${size}\n${root.toString('base64')}\n`

const SIZE = /^(?:0|[1-9][0-9]{0,15})$/

/** Of a note's text; further lines are somebody's extensions. Undefined where it is no checkpoint. */
export function parseCheckpoint(text: string): Checkpoint | undefined {
  const [origin = '', size = '', encoded = '', ...more] = text.split('\n')
  const root = Buffer.from(encoded, 'base64')
  const whole = isNoteName(origin) && SIZE.test(size) && Number.isSafeInteger(Number(size))
  if (
    !whole ||
    more.indexOf('') !== more.length - 1 ||
    root.length !== HASH_BYTES ||
    root.toString('base64') !== encoded
  )
    return undefined
  return { origin, size: Number(size), root }
}

/** What a signed note says, where one of the keys signed it. */
export function openCheckpoint(note: string, keys: readonly NoteKey[]): Checkpoint | undefined {
  const parsed = parseNote(note)
  return parsed && isSignedBy(parsed, keys) ? parseCheckpoint(parsed.text) : undefined
}
