/** Sealing what rests on disk or in a store that others can write: authenticated encryption under the root key. */
import { createCipheriv, createDecipheriv, createHmac, hkdfSync, randomBytes } from 'node:crypto'

export interface Sealer {
  /** `label` names the use (a constant of the code), `context` the place: text sealed for one opens at no other. */
  seal(label: string, context: string, bytes: Uint8Array): string
  /** Throws `SealBroken` where the text was changed, moved to another place, or sealed under another root key. */
  open(label: string, context: string, text: string): Uint8Array
  /** A key of its own for one use, the same at each start; never one that seals. */
  derive(label: string, length: number): Uint8Array
}

export class SealBroken extends Error {
  readonly code = 'key_file_unsafe'
  constructor(label: string) {
    super(
      `a sealed ${label} does not open under this root key: it was changed, or root.key is not the one it was made with`,
    )
    this.name = 'SealBroken'
  }
}

const FORM = 's1.'
const SALT = 16
const IV = 12
const TAG = 16

export function createSealer(rootKey: Uint8Array): Sealer {
  if (rootKey.length !== 32) throw new Error('the root key has 32 bytes')
  const root = Uint8Array.from(rootKey)
  const hkdf = (info: string, length: number) => new Uint8Array(hkdfSync('sha256', root, 'errand', info, length)) // RFC 5869
  const labelKeys = new Map<string, Uint8Array>()
  const labelKey = (label: string) => {
    let key = labelKeys.get(label)
    if (!key) {
      key = hkdf(`seal:${label}`, 32)
      labelKeys.set(label, key)
    }
    return key
  }
  // A key per message: random 96-bit nonces under one key run out after 2^32 messages (NIST SP 800-38D §8.3).
  const messageKey = (label: string, salt: Uint8Array) => createHmac('sha256', labelKey(label)).update(salt).digest()

  return {
    seal(label, context, bytes) {
      const nonce = randomBytes(SALT + IV)
      const cipher = createCipheriv('aes-256-gcm', messageKey(label, nonce.subarray(0, SALT)), nonce.subarray(SALT))
      cipher.setAAD(Buffer.from(context, 'utf8'))
      const sealed = Buffer.concat([nonce, cipher.update(bytes), cipher.final(), cipher.getAuthTag()])
      return FORM + sealed.toString('base64url')
    },
    open(label, context, text) {
      if (!text.startsWith(FORM)) throw new SealBroken(label)
      const sealed = Buffer.from(text.slice(FORM.length), 'base64url')
      if (sealed.length < SALT + IV + TAG) throw new SealBroken(label)
      const key = messageKey(label, sealed.subarray(0, SALT))
      const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(SALT, SALT + IV), { authTagLength: TAG })
      decipher.setAAD(Buffer.from(context, 'utf8'))
      decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
      try {
        return Buffer.concat([decipher.update(sealed.subarray(SALT + IV, sealed.length - TAG)), decipher.final()])
      } catch {
        throw new SealBroken(label)
      }
    },
    derive: (label, length) => hkdf(`derive:${label}`, length),
  }
}
