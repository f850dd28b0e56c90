/** The public key set as it is served (RFC 7517 §5): what verifiers may meet now or soon. */
import { createHash } from 'node:crypto'
import type { JWK } from 'jose'
import type { KeyPurpose, KeyState } from './key-store.ts'

export interface PublishedKey {
  readonly kid: string
  readonly purpose: KeyPurpose
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

export function jwksDocument(all: readonly PublishedKey[]): JwksDocument {
  const keys = all
    .filter((key) => isPublished(key.state))
    .sort((a, b) => (a.kid < b.kid ? -1 : 1))
    .map(
      ({ kid, purpose, publicJwk: { kty, crv, x, y } }): PublicSigningKey => ({
        kid,
        ...(kty === undefined ? {} : { kty }),
        ...(crv === undefined ? {} : { crv }),
        ...(x === undefined ? {} : { x }),
        ...(y === undefined ? {} : { y }),
        alg: 'ES256',
        use: 'sig',
        errand_use: purpose,
      }),
    )
  const text = JSON.stringify({ keys })
  const etag = `"${createHash('sha256').update(text).digest('base64url').slice(0, 22)}"`
  return { keys, text, etag }
}
