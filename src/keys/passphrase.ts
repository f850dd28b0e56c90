/** The root key under a passphrase: a key made of it by scrypt (RFC 7914) wraps the root key by AES-256-GCM. */
import { createCipheriv, createDecipheriv, randomBytes, scrypt } from 'node:crypto'
import { KeyMaterialError } from './key-file.ts'
import type { RootGuard } from './root-key.ts'

/** 128 MiB and some tenths of a second: what one guess costs. */
const COST = { N: 2 ** 17, r: 8, p: 1 } as const
const MAX_N = 2 ** 20
const MIN_LENGTH = 12
const MAX_LENGTH = 1024
const [SALT, IV, TAG] = [16, 12, 16]
const CONTEXT = Buffer.from('errand root key')
const FORM = /^([0-9]{5,7})\.([A-Za-z0-9_-]{22})\.([A-Za-z0-9_-]{80})$/

const unsafe = (what: string): KeyMaterialError => new KeyMaterialError('key_file_unsafe', what)

/** Asks a person or reads a file. `anew`: a mistake in it would be found when nothing opens any more. */
export type AskPassphrase = (anew: boolean) => Promise<string>

/** `ask` is called once, at the first use. */
export function createPassphraseGuard(ask: AskPassphrase): RootGuard {
  let asked: Promise<string> | undefined
  const passphrase = (anew: boolean): Promise<string> => {
    asked ??= ask(anew).then(read)
    return asked
  }
  return {
    kind: 'passphrase',
    async wrap(key) {
      const salt = randomBytes(SALT)
      const iv = randomBytes(IV)
      const cipher = createCipheriv('aes-256-gcm', await keyFrom(await passphrase(true), salt, COST.N), iv)
      cipher.setAAD(CONTEXT)
      const sealed = Buffer.concat([iv, cipher.update(key), cipher.final(), cipher.getAuthTag()])
      return `${COST.N}.${salt.toString('base64url')}.${sealed.toString('base64url')}`
    },
    async unwrap(wrapped) {
      const [, n = '', salt = '', text = ''] = FORM.exec(wrapped) ?? []
      const cost = Number(n)
      if (text === '' || cost > MAX_N || (cost & (cost - 1)) !== 0) throw unsafe('the wrapped root key is cut short')
      const sealed = Buffer.from(text, 'base64url')
      const derived = await keyFrom(await passphrase(false), Buffer.from(salt, 'base64url'), cost)
      const decipher = createDecipheriv('aes-256-gcm', derived, sealed.subarray(0, IV), { authTagLength: TAG })
      decipher.setAAD(CONTEXT)
      decipher.setAuthTag(sealed.subarray(sealed.length - TAG))
      try {
        return Buffer.concat([decipher.update(sealed.subarray(IV, sealed.length - TAG)), decipher.final()])
      } catch {
        throw unsafe('the root key does not open with this passphrase: it is the wrong one, or root.key was changed')
      }
    },
  }
}

/** One line; whether an editor ended it or not, and however its letters are composed, it is the same. */
function read(text: string): string {
  const line = text.replace(/\r?\n$/, '').normalize('NFC')
  if (/[\r\n\0]/.test(line)) throw unsafe('the passphrase has more than one line')
  if (line.length < MIN_LENGTH || line.length > MAX_LENGTH)
    throw unsafe(`the passphrase has fewer than ${MIN_LENGTH} or more than ${MAX_LENGTH} characters: choose another`)
  return line
}

const keyFrom = (passphrase: string, salt: Uint8Array, N: number): Promise<Buffer> =>
  new Promise((resolve, reject) => {
    const { r, p } = COST
    scrypt(passphrase, salt, 32, { N, r, p, maxmem: 256 * N * r }, (error, key) =>
      error ? reject(error) : resolve(key),
    )
  })
