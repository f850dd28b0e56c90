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

const encoder = new TextEncoder()
const utf8 = (data: string | Uint8Array): Uint8Array => (typeof data === 'string' ? encoder.encode(data) : data)

/** In one call, where the runtime has that (Node 20.12): making an object of the hash costs more than short texts do. */
const oneShot = nodeCrypto?.hash

/** SHA-256, base64url. */
export const sha256Base64url: (data: string | Uint8Array) => string = oneShot
  ? (data) => oneShot('sha256', data, 'base64url')
  : nodeCrypto
    ? (data) => nodeCrypto.createHash('sha256').update(data).digest('base64url')
    : (data) => encodeBase64url(plain.sha256(utf8(data)))

export const hmacSha256: (key: Uint8Array, text: string) => Uint8Array = nodeCrypto
  ? (key, text) => nodeCrypto.createHmac('sha256', key).update(text).digest()
  : (key, text) => plain.hmacSha256(key, utf8(text))

/** For many texts under one key, of a block at most: its two pads (RFC 2104 §2) are made once. */
export function hmacSha256By(key: Uint8Array): (text: string) => Uint8Array {
  if (!oneShot || key.length > HMAC_BLOCK_BYTES) return (text) => hmacSha256(key, text)
  /** A pad with room behind it: nothing is copied together for a short text. */
  const pad = (byte: number, room: number) => {
    const block = Buffer.alloc(HMAC_BLOCK_BYTES + room)
    for (let at = 0; at < HMAC_BLOCK_BYTES; at++) block[at] = byte ^ (key[at] ?? 0)
    return block
  }
  const inner = pad(0x36, MAX_SHORT_BYTES)
  const outer = pad(0x5c, SHA256_BYTES)
  return (text) => {
    if (text.length * 3 > MAX_SHORT_BYTES) return hmacSha256(key, text) // UTF-8 has three bytes for a unit at most
    const length = inner.write(text, HMAC_BLOCK_BYTES)
    outer.write(oneShot('sha256', inner.subarray(0, HMAC_BLOCK_BYTES + length), 'binary'), HMAC_BLOCK_BYTES, 'latin1')
    return Buffer.from(oneShot('sha256', outer, 'binary'), 'latin1')
  }
}
const HMAC_BLOCK_BYTES = 64
const SHA256_BYTES = 32
const MAX_SHORT_BYTES = 1024

/** So many random bytes, base64url. */
export const randomBase64url: (bytes: number) => string = nodeCrypto
  ? (bytes) => nodeCrypto.randomBytes(bytes).toString('base64url')
  : (bytes) => encodeBase64url(globalThis.crypto.getRandomValues(new Uint8Array(bytes)))
