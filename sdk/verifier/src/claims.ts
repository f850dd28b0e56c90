/** The claims contract: what an Errand access token says (RFC 9068 with the claims of docs/claims.md). */

/** How strong an effect an operation has; a tool labels each of its operations with exactly one. */
export const EFFECTS = [
  'read',
  'reversible_write',
  'irreversible_write',
  'external_communication',
  'privileged',
] as const
export type Effect = (typeof EFFECTS)[number]

/**
 * A closed subset of JSON Schema on the arguments of an operation. Closed under conjunction, so authority can be
 * intersected exactly; a verifier that meets a keyword it does not know refuses.
 */
export interface Constraint {
  readonly type?: 'object' | 'array' | 'string' | 'integer' | 'number' | 'boolean' | 'null'
  readonly enum?: readonly (string | number | boolean | null)[]
  readonly minimum?: number
  readonly maximum?: number
  readonly minLength?: number
  readonly maxLength?: number
  readonly minItems?: number
  readonly maxItems?: number
  readonly items?: Constraint
  readonly properties?: { readonly [name: string]: Constraint }
  readonly required?: readonly string[]
  readonly additionalProperties?: false
}

/** One operation of one tool, perhaps with constraints on its arguments: the atom of authority. */
export interface Grant {
  readonly tool: string
  readonly operation: string
  readonly constraints?: Constraint
}

/** An entry of `authorization_details` (RFC 9396): operations of one tool that share an effect and constraints. */
export interface ToolAuthorization {
  readonly type: 'tool'
  readonly tool: string
  readonly effect: Effect
  readonly operations: readonly string[]
  readonly constraints?: Constraint
}

/** RFC 8693 §4.1: the agent, earlier actors nested inside, newest outermost. */
export interface Actor {
  readonly sub: string
  readonly act?: Actor
}

/** RFC 7800: the key the token is bound to; exactly one member. */
export type Confirmation = { readonly jkt: string } | { readonly 'x5t#S256': string }

/** What an ancestor of a delegated token was, so that its revocation kills the descendants. */
export interface Hop {
  readonly jti: string
  readonly task: string
  /** This and the next four: absent where it is the same as in the hop before, or in the token for the newest. */
  readonly aud?: string
  readonly client_id?: string
  readonly kid?: string
  readonly pol?: string
  readonly rev?: string
  readonly rel?: string
}

/** draft-ietf-oauth-status-list §6.2: where the token's status stands, for verifiers that read such lists. */
export interface StatusClaim {
  readonly status_list: { readonly idx: number; readonly uri: string }
}

export type Tier = 'key' | 'platform' | 'measured'
/** Every kind of evidence, with the tier that it reaches by itself. */
export const EVIDENCE_TIERS = {
  private_key_jwt: 'key',
  join_token: 'key',
  tls_client_auth: 'key',
  self_signed_tls_client_auth: 'key',
  client_attestation: 'key',
  jwt_svid: 'platform',
  workload_grant: 'platform',
  x509_svid: 'platform',
  wit_svid: 'platform',
  workload_oidc: 'platform',
} as const satisfies Readonly<Record<string, Tier>>
export type AttestationKind = keyof typeof EVIDENCE_TIERS
export const ATTESTATION_KINDS = Object.keys(EVIDENCE_TIERS) as readonly AttestationKind[]

export interface AccessTokenClaims {
  readonly iss: string
  /** Exactly one audience. */
  readonly aud: string
  readonly exp: number
  readonly iat: number
  readonly jti: string
  readonly client_id: string
  /** `<configured issuer name>|<its sub>`; for an autonomous task the agent's SPIFFE id. */
  readonly sub: string
  /** Absent on a root autonomous token. */
  readonly act?: Actor
  readonly scope: string
  readonly authorization_details: readonly ToolAuthorization[]
  /** Absent only for bearer audiences. */
  readonly cnf?: Confirmation
  readonly task: { readonly id: string; readonly root: string; readonly depth: number }
  readonly att: { readonly kind: AttestationKind; readonly tier: Tier; readonly release?: string }
  /** The epoch that was checked for this hop, `<generation>.<sequence>`. */
  readonly rev: string
  /** Short digest of the policy set that decided. */
  readonly pol: string
  /** One per ancestor, in the order of the nested `act`. */
  readonly hops?: readonly Hop[]
  /** For tools that read status lists. */
  readonly status?: StatusClaim
  /** Present when development shortcuts issued it: production verifiers refuse. */
  readonly dev?: true
}

/** Longest life of an access token in seconds; verifiers refuse `exp - iat` above it. */
export const MAX_TOKEN_LIFETIME_SECONDS = 300
/** Longest life of a token whose audience does not read the feed, or that is a bearer token. */
export const MAX_UNFOLLOWED_LIFETIME_SECONDS = 60
/** How far a clock may be ahead of ours: `iat` or `nbf` 30 s in the future is still accepted. */
export const CLOCK_LEEWAY_SECONDS = 30
export const MAX_ACTORS = 4
