/** The interface behind which every kind of evidence stands, and the answers they share. */
import type { AttestationKind, Tier } from '@errand/verifier/claims.ts'
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import type { ParsedJws } from '@errand/verifier/jws.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { ok, type Result, refuse, type Slot } from '../oauth/refusal.ts'
import type { AttestationResult } from './attestation-result.ts'
import type { HeldToken } from './held-token.ts'
import type { AgentRegistration } from './registration.ts'
import type { WorkloadMatch } from './workload-rules.ts'
import type { Measurements } from './release.ts'

export type EvidenceSlot = Extract<Slot, 'client' | 'client_attestation' | 'actor_token' | 'api'>

export interface Evidence {
  readonly slot: EvidenceSlot
  /** Evidence that is a JWT, parsed and not yet believed. */
  readonly jws?: ParsedJws
  /** Evidence that is a certificate: DER, leaf first. */
  readonly chain?: readonly Uint8Array[]
  /** Where the JWT came in a header field of its own. */
  readonly held?: HeldToken
  /** The client that the request names, where the evidence does not. */
  readonly clientId?: string
}

/** What evidence proves: who made the request. Whether that agent may attest in this way is decided afterwards. */
export interface Proven extends Omit<AttestationResult, 'kind' | 'tier' | 'spiffeId'> {
  /** Where whoever vouches for it reaches another tier than its kind does by itself. */
  readonly tier?: Tier
  /** What the platform says of the code that runs, where it says so. */
  readonly measurements?: Measurements
  /** Id of the release that the agent says it is: its own word. */
  readonly statedRelease?: string
  /** What the request may call its client besides the `client_id`: the name that the evidence itself gives. */
  readonly alsoCalled?: string
}

export interface Attestor {
  readonly kind: AttestationKind
  readonly tier: Tier
  verify(evidence: Evidence): Result<Proven> | Promise<Result<Proven>>
}

export interface AgentLookup {
  byClientId(clientId: string): AgentRegistration | undefined
  bySpiffeId(spiffeId: string): AgentRegistration | undefined
  /** Whose evidence a token of this workload issuer (its `iss`) with these claims is. */
  byWorkload(issuer: string, payload: JsonObject): WorkloadMatch | undefined
  /** Whom an attester knows under this subject, and which attester that must be. */
  byAttestedSubject(subject: string): { readonly agent: AgentRegistration; readonly attester: string } | undefined
}

/** The life of a JWT, and the bound on it; `iat` may be absent (RFC 7519 §4.1.6), `exp` may not. */
export interface Life {
  readonly expiresAt: number
  readonly issuedAt?: number
}

export function readLife(
  { exp, iat, nbf }: JsonObject,
  { now, maxLifetimeSeconds, slot }: { now: number; maxLifetimeSeconds: number; slot: EvidenceSlot },
): Result<Life> {
  const expires = readNumericDate(exp)
  if (!expires.ok) return refuse('bad_numeric_date', slot)
  for (const date of [iat, nbf]) {
    if (date === undefined) continue
    const read = readNumericDate(date)
    if (!read.ok) return refuse('bad_numeric_date', slot)
    if (read.value > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', slot)
  }
  if (expires.value <= now) return refuse('expired', slot)
  const issued = typeof iat === 'number' ? iat : undefined
  const from = issued ?? now
  if (expires.value <= from || expires.value - from > maxLifetimeSeconds) {
    return refuse('evidence_lifetime', slot, { detail: `evidence may live ${maxLifetimeSeconds} s at most` })
  }
  return ok({ expiresAt: expires.value, ...(issued === undefined ? {} : { issuedAt: issued }) })
}
