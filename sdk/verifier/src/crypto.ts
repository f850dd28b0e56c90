/** The one file that touches node:crypto: it serves where the runtime has it, plain code and WebCrypto elsewhere. */
import type * as NodeCrypto from 'node:crypto'
import { encodeBase64url } from './base64url.ts'
import * as plain from './sha256.ts'

interface Runtime {
  readonly process?: { readonly getBuiltinModule?: (id: string) => object | undefined }
}

/** Asked for and not imported: a bundle for a runtime that has none must load there all the same. */
export const nodeCrypto = (globalThis as Runtime).process?.getBuiltinModule?.('node:crypto') as
  | typeof NodeCrypto
  | undefined

/** For what only ever runs on Node: signing and verifying at once, as the service does. */
export function requireNodeCrypto(): typeof NodeCrypto {
  if (!nodeCrypto) throw new TypeError('this runtime has no node:crypto, which checks signatures synchronously')
  return nodeCrypto
}

const utf8 = (data: string | Uint8Array): Uint8Array =>
  typeof data === 'string' ? new TextEncoder().encode(data) : data

/** SHA-256, base64url. */
export const sha256Base64url: (data: string | Uint8Array) => string = nodeCrypto
  ? (data) => nodeCrypto.createHash('sha256').update(data).digest('base64url')
  : (data) => encodeBase64url(plain.sha256(utf8(data)))

export const hmacSha256: (key: Uint8Array, text: string) => Uint8Array = nodeCrypto
  ? (key, text) => nodeCrypto.createHmac('sha256', key).update(text).digest()
  : (key, text) => plain.hmacSha256(key, utf8(text))

/** So many random bytes, base64url. */
export const randomBase64url: (bytes: number) => string = nodeCrypto
  ? (bytes) => nodeCrypto.randomBytes(bytes).toString('base64url')
  : (bytes) => encodeBase64url(globalThis.crypto.getRandomValues(new Uint8Array(bytes)))
