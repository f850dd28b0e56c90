/** What the configuration says of an agent: who it is, how it proves it, and what it may do at most. */
import type { AttestationKind, Grant, Tier } from '@errand/verifier/claims.ts'
import type { JWK } from 'jose'
import type { EvidenceAges, ReleaseRule } from './release.ts'
import type { WorkloadRule } from './workload-rules.ts'
import type { OwnCertificate, TlsClientAuth } from './tls-client-auth.ts'

/** The rooms that only carry keys take the type from here. */
export type { JWK }

/** An agent's autonomy: a cap on effects. `suggest` and `draft` get no token, only `dry_run`. */
export const STAGES = ['suggest', 'draft', 'read', 'reversible_write', 'irreversible_write', 'external'] as const
export type Stage = (typeof STAGES)[number]

export interface AgentRegistration {
  readonly clientId: string
  /** Own SPIFFE id, also when it attests by key: the value of `act.sub`. */
  readonly spiffeId: string
  readonly displayName: string
  readonly owner?: string
  readonly disabled: boolean
  /** How it may attest. A kind that is not listed is refused as `evidence_not_registered`. */
  readonly evidence: readonly AttestationKind[]
  /** Public keys for `private_key_jwt`: each ES256 or EdDSA, with `kid`. */
  readonly keys: readonly JWK[]
  readonly tlsClientAuth?: TlsClientAuth
  /** For `self_signed_tls_client_auth`: these certificates and no other. */
  readonly ownCertificates?: readonly OwnCertificate[]
  /** Workload tokens that are its evidence (`workload_oidc`). */
  readonly workload?: readonly WorkloadRule[]
  /** Attesters of its client attestations, and the subject under which each knows it. */
  readonly attestedBy?: readonly { readonly attester: string; readonly subject: string }[]
  readonly stage: Stage
  /** What it may do at most, whoever asks. */
  readonly ceiling: readonly Grant[]
  /** Whether it may open a task for itself (`client_credentials`). */
  readonly autonomous: boolean
  /** It is there for fire drills alone. */
  readonly drill?: boolean
  /** client_ids to which it may hand over; none by default. */
  readonly delegatesTo: readonly string[]
  /** Evidence issued before this (Unix seconds) belonged to another principal: `instance_epoch`. */
  readonly instanceSince?: number
  /** Lowest tier it must attest with. */
  readonly minimumTier?: Tier
  /** What it may run, where its releases are registered. */
  readonly release?: ReleaseRule
  /** How old its evidence may grow before it counts for less. */
  readonly evidenceAges?: EvidenceAges
  /** JSON of the `request_details` of a task that it opens without any: its client cannot send them. */
  readonly defaultTask?: string
  /** Name of the platform that speaks for it, where no file of its own does. */
  readonly platform?: string
  /** Where it came from, for messages: `config/agents/research.yaml`. */
  readonly file: string
}

/** A tool API, an administrator or another machine that authenticates by key and is not an agent. */
export interface MachineClient {
  /** An administrator's own; a tool's is `tool:<name>`, a receiver's `receiver:<name>`, so that it is never an agent's. */
  readonly clientId: string
  readonly kind: 'tool' | 'admin' | 'receiver'
  readonly keys: readonly JWK[]
  /** For kind `tool`: its audience. */
  readonly audience?: string
  /** For kind `receiver`: what stands in `aud` of its security events, and where they may be pushed. */
  readonly receiver?: { readonly audience: string; readonly pushUrl?: string }
}
