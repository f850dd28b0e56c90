/** Whoever vouches for workloads beside SPIFFE: issuers of workload tokens, and attesters of clients. */
import type { Tier } from '@errand/verifier/claims.ts'
import type { JWK } from 'jose'
import type { Result } from '../oauth/refusal.ts'
import type { EvidenceSlot } from './attestor.ts'

/** The public keys in force now, by kid; throws `Unavailable('jwks_rejected')` where there are none. */
export type KeysByKid = (kid: string) => Promise<JWK | undefined>

/** An issuer whose OIDC tokens speak for workloads: a Kubernetes cluster, a CI system, a cloud. */
export interface WorkloadIssuer {
  /** Our name for it, in registrations. */
  readonly name: string
  /** Compared as an exact string with `iss`. */
  readonly issuer: string
  readonly keys: KeysByKid
  readonly algorithms: readonly string[]
  /** A token has one of these as its sole audience. */
  readonly audiences: readonly string[]
  readonly maxLifetimeSeconds: number
  /** Names that lead to the claim in which it says which image runs. */
  readonly imageDigestClaim?: readonly string[]
  /** Asks whoever issued it whether it still stands by it, where the configuration says so. */
  readonly review?: ReviewToken
}

export interface ReviewedToken {
  readonly token: string
  readonly audience: string
  readonly subject: string
  readonly slot: EvidenceSlot
}

/** Throws `Unavailable('attestation_unavailable')` where there is no answer. */
export type ReviewToken = (reviewed: ReviewedToken) => Promise<Result<true>>

/** Attests clients by their own keys (draft-ietf-oauth-attestation-based-client-auth). */
export interface Attester {
  readonly name: string
  /** Compared with `iss`, where an attestation has one: the draft knows none since -08. */
  readonly issuer?: string
  readonly keys: KeysByKid
  readonly maxLifetimeSeconds: number
  /** Names that lead to the claim in which it says which image runs. */
  readonly imageDigestClaim?: readonly string[]
  /** Older attestations are not fresh enough, whenever they expire. */
  readonly maxAgeSeconds?: number
  /** What its word is worth: whether it saw a key, or the platform that the key lives on. */
  readonly tier: Tier
}
