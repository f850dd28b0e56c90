/** Base64 in its one canonical spelling (RFC 4648 §4), for certificates in JWKs and HTTP fields. */

/** Undefined for whatever another encoder would not have written. */
export function decodeBase64(text: string): Uint8Array | undefined {
  const bytes = Buffer.from(text, 'base64')
  return bytes.toString('base64') === text ? bytes : undefined
}
