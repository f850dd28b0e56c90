/**
 * Signed notes (C2SP signed-note): a text, an empty line, and signatures of which each names its key. A reader takes
 * those of keys it knows and passes over the others.
 */
import { createHash, createPublicKey, type KeyObject, verify } from 'node:crypto'

/** What a key signs: the note itself, or that its text was seen at a time (C2SP tlog-cosignature). */
const ALGORITHM = { ed25519: 0x01, cosignature: 0x04 } as const
export type NoteAlgorithm = keyof typeof ALGORITHM

export interface NoteSignature {
  readonly name: string
  /** Four bytes that tell keys of one name apart; not unforgeable, so a hint and no more. */
  readonly keyId: Buffer
  readonly signature: Buffer
}

export interface Note {
  /** With the line feed at its end: what is signed. */
  readonly text: string
  readonly signatures: readonly NoteSignature[]
}

export interface NoteKey {
  readonly name: string
  readonly keyId: Buffer
  readonly publicKey: KeyObject
}

const MAX_NOTE_LENGTH = 1 << 16
const MAX_SIGNATURES = 32
const LINE = /^— ([^ +]+) ([A-Za-z0-9+/]+={0,2})$/
const NAME = /^[^\s+\p{Cc}]+$/u

export function noteKeyId(name: string, rawPublicKey: Uint8Array, algorithm: NoteAlgorithm = 'ed25519'): Buffer {
  const digest = createHash('sha256').update(`${name}\n`, 'utf8').update(Buffer.of(ALGORITHM[algorithm]))
  return digest.update(rawPublicKey).digest().subarray(0, 4)
}

/** An Ed25519 public key, given as its 32 bytes, under a name. */
export function noteKey(name: string, raw: Uint8Array, algorithm: NoteAlgorithm = 'ed25519'): NoteKey {
  const jwk = { kty: 'OKP', crv: 'Ed25519', x: Buffer.from(raw).toString('base64url') }
  return { name, keyId: noteKeyId(name, raw, algorithm), publicKey: createPublicKey({ key: jwk, format: 'jwk' }) }
}

/** The line by which other programs are told a key: `<name>+<key id>+<algorithm and key>`. */
export function verifierKeyLine(name: string, raw: Uint8Array, algorithm: NoteAlgorithm = 'ed25519'): string {
  const key = Buffer.concat([Buffer.of(ALGORITHM[algorithm]), raw])
  return `${name}+${noteKeyId(name, raw, algorithm).toString('hex')}+${key.toString('base64')}`
}

export const isNoteName = (name: string): boolean => NAME.test(name)

function signatureLine({ name, keyId, signature }: NoteSignature): string {
  return `— ${name} ${Buffer.concat([keyId, signature]).toString('base64')}\n`
}

export const formatNote = ({ text, signatures }: Note): string => `${text}\n${signatures.map(signatureLine).join('')}`

/** Undefined where it is no note. What it says is believed only after `isSignedBy`. */
export function parseNote(note: string): Note | undefined {
  if (note.length > MAX_NOTE_LENGTH || hasControl(note) || !note.endsWith('\n')) return undefined
  const end = note.lastIndexOf('\n\n')
  if (end < 0) return undefined
  const lines = note.slice(end + 2, -1).split('\n')
  if (lines.length > MAX_SIGNATURES) return undefined
  const signatures: NoteSignature[] = []
  for (const line of lines) {
    const [, name = '', encoded = ''] = LINE.exec(line) ?? []
    const bytes = Buffer.from(encoded, 'base64')
    if (!isNoteName(name) || bytes.length < 5 || bytes.toString('base64') !== encoded) return undefined
    signatures.push({ name, keyId: bytes.subarray(0, 4), signature: bytes.subarray(4) })
  }
  return { text: note.slice(0, end + 1), signatures }
}

const hasControl = (text: string): boolean => {
  for (let at = 0; at < text.length; at += 1) {
    const code = text.charCodeAt(at)
    if (code < 0x20 && code !== 0x0a) return true
  }
  return false
}

const by = ({ signatures }: Note, { name, keyId }: NoteKey) =>
  signatures.filter((each) => each.name === name && each.keyId.equals(keyId))

/** Whether one of the keys has signed it, and every signature that says it is by one of them is good. */
export function isSignedBy(note: Note, keys: readonly NoteKey[]): boolean {
  const text = Buffer.from(note.text, 'utf8')
  const claimed = keys.flatMap((key) =>
    by(note, key).map(({ signature }) => verify(null, text, key.publicKey, signature)),
  )
  return claimed.length > 0 && claimed.every((good) => good)
}
