/** What an attestor says of the evidence it verified (RFC 9334 §8.4). */
import type { AttestationKind, Tier } from '@errand/verifier/claims.ts'
import type { AgentRegistration } from './registration.ts'

export interface AttestationResult {
  readonly agent: AgentRegistration
  readonly kind: AttestationKind
  readonly tier: Tier
  readonly spiffeId: string
  readonly release?: string
  /** Unix seconds at which the evidence stops counting. */
  readonly expiresAt: number
  /** Unix seconds at which it was issued, where it says so. */
  readonly issuedAt?: number
  /** Present for one-use evidence: must be spent exactly once, before anything is issued. */
  readonly oneUse?: { readonly id: string; readonly expiresAt: number; readonly issuedAt?: number }
  /**
   * RFC 7638 thumbprint of the key that the evidence carries or pins, where a proof must be made with that key.
   * For an X.509-SVID the certificate's own key.
   */
  readonly keyThumbprint?: string
  /** SHA-256 of the client certificate, base64url, where it came over mTLS (RFC 8705 §3.1). */
  readonly certificateThumbprint?: string
  /** What the evidence names, where that is not the agent's SPIFFE id: where any of it passes on, a new life begins. */
  readonly principals?: readonly string[]
  /** Whether the DPoP proof may carry an attestation challenge as its nonce: it stands for the attestation's own proof. */
  readonly challengeAsNonce?: boolean
  /** For standing evidence without a key in it: the digest under which the first proof key is pinned. */
  readonly standingId?: string
}
