/** The public key set as it is served (RFC 7517 §5): what verifiers may meet now or soon. */
import { createHash } from 'node:crypto'
import type { JWK } from 'jose'
import type { KeyAlgorithm, KeyPurpose, KeyState } from './key-store.ts'

export interface PublishedKey {
  readonly kid: string
  readonly purpose: KeyPurpose
  readonly alg: KeyAlgorithm
  readonly state: KeyState
  readonly publicJwk: JWK
}

/** One key, one purpose: a verifier does not take a feed key for a token key. */
export type PublicSigningKey = JWK & { readonly errand_use: KeyPurpose }

export interface JwksDocument {
  readonly keys: readonly PublicSigningKey[]
  /** The body, the same bytes for the same keys. */
  readonly text: string
  /** An entity tag with its quotes (RFC 9110 §8.8.3). */
  readonly etag: string
}

/** Prepared keys are there before they sign, retiring ones until nothing they signed is alive. */
export const isPublished = (state: KeyState): boolean =>
  state === 'prepared' || state === 'active' || state === 'retiring'

/** RFC 7518 §6, RFC 8037 §2: what makes the key, in the order it is always written; never anything else of a JWK. */
const MEMBERS = ['kty', 'crv', 'x', 'y', 'n', 'e'] as const

function publicMembers(jwk: JWK): JWK {
  const members: JWK = {}
  for (const name of MEMBERS) {
    const value = jwk[name]
    if (value !== undefined) members[name] = value
  }
  return members
}

export function jwksDocument(all: readonly PublishedKey[]): JwksDocument {
  const keys = all
    .filter((key) => isPublished(key.state))
    .sort((a, b) => (a.kid < b.kid ? -1 : 1))
    .map(
      ({ kid, purpose, alg, publicJwk }): PublicSigningKey => ({
        kid,
        ...publicMembers(publicJwk),
        alg,
        use: 'sig',
        errand_use: purpose,
      }),
    )
  const text = JSON.stringify({ keys })
  const etag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
  return { keys, text, etag }
}
