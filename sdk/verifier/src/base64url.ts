/** Base64url in its one canonical spelling (RFC 4648 §5, RFC 7515 §2): two texts never mean the same bytes. */
import { Buffer } from 'node:buffer'

const FORM = /^[A-Za-z0-9_-]*$/
// The last character of a group of two carries four unused bits, of a group of three two; they must be zero.
const LAST_OF_TWO = 'AQgw'
const LAST_OF_THREE = 'AEIMQUYcgkosw048'

/** Undefined for padding, foreign characters, an impossible length or unused trailing bits. */
export function decodeBase64url(text: string): Uint8Array | undefined {
  const rest = text.length % 4
  if (rest === 1 || !FORM.test(text)) return undefined
  if (rest === 2 && !LAST_OF_TWO.includes(text.charAt(text.length - 1))) return undefined
  if (rest === 3 && !LAST_OF_THREE.includes(text.charAt(text.length - 1))) return undefined
  return Buffer.from(text, 'base64url')
}

export const encodeBase64url = (bytes: Uint8Array | string): string =>
  (typeof bytes === 'string'
    ? Buffer.from(bytes, 'utf8')
    : Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  ).toString('base64url')
