/** A workload trust domain with its bundle (SPIFFE Trust Domain and Bundle §4): pinned anchors, from file. */
import type { JWK } from 'jose'

/** SPIFFE Federation §5.2: where bundles are fetched, and how the endpoint proves that it is the one that is meant. */
export interface BundleEndpoint {
  readonly url: string
  /** `https_web` with authorities of one's own: DER; the system's where absent. */
  readonly authorities?: readonly Uint8Array[]
  /** `https_spiffe`: the SPIFFE id in the endpoint's certificate. */
  readonly spiffeId?: string
}

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
  /** `spiffe_sequence` of the bundle, where it has one: a later bundle has no lower one. */
  readonly sequence?: number
  /** Where newer bundles come from; what stands above is then only what it began with. */
  readonly bundleEndpoint?: BundleEndpoint
  /** Where it was read, for messages. */
  readonly file: string
}
