/** Signatures by a key of ours: the key decides the algorithm, nobody asks for one. */
import { type KeyObject, sign, verify } from 'node:crypto'
import { encodeBase64url } from '@errand/verifier/base64url.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import type { KeyAlgorithm } from './key-store.ts'

/** The one algorithm of a key; throws for a kind that none of ours has. */
export function algorithmOf({ asymmetricKeyType: type, asymmetricKeyDetails: details }: KeyObject): KeyAlgorithm {
  if (type === 'ec' && details?.namedCurve === 'prime256v1') return 'ES256'
  if (type === 'ed25519') return 'EdDSA'
  if (type === 'rsa') return 'RS256'
  throw new TypeError(`a signing key of an unknown kind: ${type}`)
}

/** RFC 7515 §5.1: what is signed of a JWS. */
export function signingInput(alg: KeyAlgorithm, header: object, payload: object | string): string {
  const text = typeof payload === 'string' ? payload : JSON.stringify(payload)
  return `${encodeBase64url(JSON.stringify({ ...header, alg }))}.${encodeBase64url(text)}`
}

/** A compact JWS; `alg` comes from here and cannot be given. */
export function signJws(alg: KeyAlgorithm, key: KeyObject, header: object, payload: object | string): string {
  if (alg === 'ES256') return signEs256(key, header, payload)
  const input = signingInput(alg, header, payload)
  // RFC 8037 §3.1 and RFC 7518 §3.3; node:crypto pads an RSA signature by PKCS #1 v1.5 unless told otherwise.
  const signature = sign(alg === 'EdDSA' ? null : 'sha256', Buffer.from(input, 'latin1'), key)
  return `${input}.${signature.toString('base64url')}`
}

/** Over the bytes as they are (RFC 8032 §5.1.6): what signed notes carry. */
export const signRaw = (key: KeyObject, bytes: Uint8Array): Uint8Array => new Uint8Array(sign(null, bytes, key))

/** Whether that is a signature of a JWS over these bytes. */
export function isSignature(alg: KeyAlgorithm, key: KeyObject, bytes: Uint8Array, signature: Uint8Array): boolean {
  switch (alg) {
    case 'ES256':
      return verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature)
    case 'EdDSA':
      return verify(null, bytes, key, signature)
    case 'RS256':
      return verify('sha256', bytes, key, signature)
  }
}
