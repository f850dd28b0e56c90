/** Private keys as agents have them, and compact JWS made with them; the algorithm is pinned by the key. */
import {
  createHash,
  createPrivateKey,
  createPublicKey,
  generateKeyPairSync,
  type JsonWebKey,
  type KeyObject,
  sign,
} from 'node:crypto'
import { badArgument } from './errors.ts'

/** A private key as a JSON Web Key (RFC 7517): EC P-256 or Ed25519. */
export interface PrivateJwk {
  readonly kty: string
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly d?: string
  readonly kid?: string
  readonly [member: string]: unknown
}

export interface SigningKey {
  readonly alg: 'ES256' | 'EdDSA'
  readonly kid: string
  readonly publicJwk: { readonly [member: string]: string }
  /** RFC 7638 thumbprint of the public key. */
  readonly thumbprint: string
  sign(header: object, payload: object): string
}

const base64url = (value: object): string => Buffer.from(JSON.stringify(value)).toString('base64url')

export const sha256 = (text: string): string => createHash('sha256').update(text).digest('base64url')

/** From a JWK, the text of a JWK file or of a PEM file. Messages never quote the key. */
export function readPrivateKey(key: PrivateJwk | string, kid?: string): SigningKey {
  let jwk: PrivateJwk | undefined
  let object: KeyObject
  try {
    if (typeof key === 'string' && key.trimStart().startsWith('{')) jwk = JSON.parse(key) as PrivateJwk
    else if (typeof key !== 'string') jwk = key
    object = jwk ? createPrivateKey({ key: jwk as JsonWebKey, format: 'jwk' }) : createPrivateKey(key as string)
  } catch {
    // The parser's message may quote what it read.
    throw badArgument('the private key is neither a private JWK nor an unencrypted PEM file')
  }
  return signingKey(object, kid ?? jwk?.kid)
}

/**
 * A new P-256 key, read in again: one that comes straight out of `generateKeyPair` may wait for ever in
 * `export({ format: 'jwk' })` in Node 20, should what made it be collected meanwhile.
 */
export function freshKey(): KeyObject {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  })
  return createPrivateKey({ key: privateKey, type: 'pkcs8', format: 'der' })
}

export function signingKey(key: KeyObject, kid?: string): SigningKey {
  const exported = createPublicKey(key).export({ format: 'jwk' })
  const curve = exported.crv
  if (curve !== 'P-256' && curve !== 'Ed25519') throw badArgument('the private key must be EC P-256 or Ed25519')
  // RFC 7638 §3.2: required members only, in lexicographic order.
  const publicJwk: { readonly [member: string]: string } =
    curve === 'P-256'
      ? { crv: curve, kty: 'EC', x: exported.x!, y: exported.y! }
      : { crv: curve, kty: 'OKP', x: exported.x! }
  const thumbprint = sha256(JSON.stringify(publicJwk))
  const alg = curve === 'P-256' ? 'ES256' : 'EdDSA'
  return {
    alg,
    kid: kid ?? thumbprint,
    publicJwk,
    thumbprint,
    sign(header, payload) {
      const input = `${base64url({ alg, ...header })}.${base64url(payload)}`
      const signature =
        alg === 'ES256'
          ? sign('sha256', Buffer.from(input), { key, dsaEncoding: 'ieee-p1363' }) // RFC 7518 §3.4
          : sign(null, Buffer.from(input), key)
      return `${input}.${signature.toString('base64url')}`
    },
  }
}

/** A part of a JWT as its holder may read it, unverified: the service judges it. Undefined where it is none. */
export function peek(jwt: string, part: 'header' | 'payload'): { readonly [name: string]: unknown } | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(jwt.split('.')[part === 'header' ? 0 : 1]!, 'base64url').toString())
    return typeof value === 'object' && value !== null ? (value as { [name: string]: unknown }) : undefined
  } catch {
    return undefined
  }
}
