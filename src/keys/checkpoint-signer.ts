/** The ring's `checkpoint` keys under the name of a log: what signs its notes, and what verifies those that were signed. */
import { type NoteKey, type NoteSignature, noteKey, noteKeyId } from '../audit/note.ts'
import type { KeyRing } from './key-ring.ts'
import type { Signed } from './signing.ts'

export interface CheckpointSigner {
  readonly sign: (text: string) => Signed<NoteSignature>
  readonly keys: (origin: string) => readonly NoteKey[]
  readonly jwks: () => string
}

export function checkpointSigner(
  ring: Pick<KeyRing, 'activeKid' | 'signBytes' | 'verifyKey' | 'keys'>,
  name: string,
): CheckpointSigner {
  const all = () =>
    ring
      .keys()
      // One that is prepared has signed nothing; one that was compromised did sign what it signed.
      .filter(({ purpose, state }) => purpose === 'checkpoint' && state !== 'prepared')
      .flatMap(({ kid, publicJwk: { x } }) => (x === undefined ? [] : [{ kid, x }]))
  const raw = (x: string) => Buffer.from(x, 'base64url')
  return {
    sign: (text) => {
      const { x = '' } = ring.verifyKey(ring.activeKid('checkpoint'))?.jwk ?? {}
      const signed = ring.signBytes('checkpoint', Buffer.from(text, 'utf8'))
      const note = (signature: Uint8Array) => ({
        name,
        keyId: noteKeyId(name, raw(x)),
        signature: Buffer.from(signature),
      })
      return signed instanceof Uint8Array ? note(signed) : signed.then(note)
    },
    keys: (origin) => all().map(({ x }) => noteKey(origin, raw(x))),
    jwks: () =>
      `${JSON.stringify({
        keys: all().map(({ kid, x }) => ({ kid, kty: 'OKP', crv: 'Ed25519', x, alg: 'EdDSA', use: 'sig' })),
      })}\n`,
  }
}
