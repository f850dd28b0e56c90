/** The public key set as it is served (RFC 7517 §5): what verifiers may meet now or soon. */
import { keySetDigest } from '@errand/verifier/jwks.ts'
import type { JWK } from 'jose'
import type { KeyAlgorithm, KeyPurpose, KeyState, StoredKey } from './key-store.ts'

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
  /** Names this set to verifiers, who compute it of the body. */
  readonly digest: string
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

const signingKey = ({ kid, purpose, alg, publicJwk }: PublishedKey): PublicSigningKey => ({
  kid,
  ...publicMembers(publicJwk),
  alg,
  use: 'sig',
  errand_use: purpose,
})

export function jwksDocument(all: readonly PublishedKey[]): JwksDocument {
  const keys = all
    .filter((key) => isPublished(key.state))
    .sort((a, b) => (a.kid < b.kid ? -1 : 1))
    .map(signingKey)
  const text = JSON.stringify({ keys })
  const digest = keySetDigest(text)
  return { keys, text, digest, etag: `"${digest}"` }
}

/** Of as many as verifiers take in one set, room is left for those that nobody asks for. */
export const MAX_ASKED_FOR_KEYS = 768

/** A key for reading old evidence: when it signed, and what became of it. Never one to accept a token by. */
export type EvidenceKey = PublicSigningKey & {
  readonly errand_state: KeyState
  /** Unix seconds, as all of these. */
  readonly prepared_at: number
  readonly activated_at?: number
  readonly retiring_at?: number
  readonly retired_at?: number
  readonly compromised_at?: number
}

type KeyTimes = Pick<StoredKey, 'preparedAt' | 'activatedAt' | 'retiringAt' | 'retiredAt'>

export function evidenceKey(key: PublishedKey & KeyTimes): EvidenceKey {
  const { activatedAt, retiringAt, retiredAt } = key
  return {
    ...signingKey(key),
    errand_state: key.state,
    prepared_at: key.preparedAt,
    ...(activatedAt === undefined ? {} : { activated_at: activatedAt }),
    ...(retiringAt === undefined ? {} : { retiring_at: retiringAt }),
    ...(retiredAt === undefined
      ? {}
      : key.state === 'compromised'
        ? { compromised_at: retiredAt }
        : { retired_at: retiredAt }),
  }
}
