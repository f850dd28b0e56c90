/** A workload trust domain with its bundle (SPIFFE Trust Domain and Bundle §4): pinned anchors, from file. */
import type { JWK } from 'jose'

export interface TrustDomain {
  /** `company.example`, without scheme. */
  readonly name: string
  /** Keys with `use: jwt-svid` of the bundle. */
  readonly jwtKeys: readonly JWK[]
  /** Keys with `use: wit-svid`. */
  readonly witKeys: readonly JWK[]
  /** DER certificates with `use: x509-svid`. */
  readonly x509Anchors: readonly Uint8Array[]
  /** Path below which its ids may serve here, `/agents`; without it, all of them. */
  readonly pathRoot?: string
  /** Names that lead to the claim of a JWT-SVID in which the platform says which image runs. */
  readonly imageDigestClaim?: readonly string[]
  /** Where it was read, for messages. */
  readonly file: string
}
