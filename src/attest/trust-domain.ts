/** A workload trust domain with its bundle (SPIFFE Trust Domain and Bundle §4): pinned anchors, from file. */
import type { JWK } from 'jose'

export interface TrustDomain {
  /** `company.example`, without scheme. */
  readonly name: string
  /** Keys with `use: jwt-svid` of the bundle. */
  readonly jwtKeys: readonly JWK[]
  /** DER certificates with `use: x509-svid`. */
  readonly x509Anchors: readonly Uint8Array[]
  /** Audience values accepted in JWT-SVIDs besides the issuer; none by default. */
  readonly file: string
}
