/** A private key in a JWK file, as agents, tools and administrators keep theirs. */
import { createECDH, createPrivateKey, type KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import { calculateJwkThumbprint } from 'jose/jwk/thumbprint'
import { freshKey } from './fresh-key.ts'
import { KeyMaterialError, readSecretFile } from './key-file.ts'

export interface PrivateJwk {
  readonly kid: string
  readonly jwk: JWK
  readonly privateKey: KeyObject
  readonly publicJwk: JWK
}

/** What a key made by the development mode is called: production refuses it by this name. */
export const DEVELOPMENT_KID = 'dev-'
export const isDevelopmentKid = (kid: string | undefined): boolean => kid?.startsWith(DEVELOPMENT_KID) ?? false

export async function generatePrivateJwk(kidPrefix: string): Promise<PrivateJwk> {
  const { kty, crv, x, y, d } = freshKey().export({ format: 'jwk' }) as Required<JWK>
  const kid = kidPrefix + (await calculateJwkThumbprint({ kty, crv, x, y })).slice(0, 16)
  return fromJwk({ kid, kty, crv, x, y, d, alg: 'ES256', use: 'sig' }, 'a key just made')
}

/** Throws `KeyMaterialError` where the file is missing, unsafe, or no private P-256 JWK with a `kid`. */
export async function readPrivateJwkFile(path: string): Promise<PrivateJwk> {
  const text = await readSecretFile(path)
  let parsed: unknown
  try {
    parsed = JSON.parse(text)
  } catch {
    // The parser's own message quotes the text, and this text is a key.
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${path} is not JSON, perhaps cut short: restore it or make a new key`,
    )
  }
  return fromJwk(parsed, path)
}

function fromJwk(parsed: unknown, path: string): PrivateJwk {
  const jwk = (typeof parsed === 'object' && parsed !== null ? parsed : {}) as JWK
  if (jwk.kty !== 'EC' || jwk.crv !== 'P-256' || typeof jwk.d !== 'string' || (jwk.alg ?? 'ES256') !== 'ES256')
    throw new KeyMaterialError('key_file_unsafe', `${path} is not a private JWK for ES256 (kty EC, crv P-256, with d)`)
  if (typeof jwk.kid !== 'string' || jwk.kid === '')
    throw new KeyMaterialError('key_file_unsafe', `${path} has no kid: give it the kid of its registered public half`)
  try {
    const privateKey = createPrivateKey({ key: { ...jwk, d: jwk.d }, format: 'jwk' })
    // Computed: Node takes a file's x and y on trust, and a key would pass for another one's.
    const curve = createECDH('prime256v1')
    curve.setPrivateKey(Buffer.from(jwk.d, 'base64url'))
    const point = curve.getPublicKey()
    const x = point.subarray(1, 33).toString('base64url')
    const y = point.subarray(33).toString('base64url')
    if (x !== jwk.x || y !== jwk.y) throw new Error('halves differ')
    const publicJwk: JWK = { kid: jwk.kid, kty: 'EC', crv: 'P-256', x, y, alg: 'ES256', use: 'sig' }
    return { kid: jwk.kid, jwk, privateKey, publicJwk }
  } catch {
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${path} holds numbers that are no P-256 key: restore it or make a new one`,
    )
  }
}
