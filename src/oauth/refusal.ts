/** Every way Errand says no, and the one table that turns a reason into the answer of the RFCs. */
import type { Explanation } from './explanation.ts'

/**
 * Where the refused thing was presented. The same fault is `invalid_client` in one slot and `invalid_request` in
 * another (RFC 6749 §5.2, RFC 8693 §2.2.2).
 */
export type Slot =
  | 'client' // client authentication, at any endpoint
  | 'client_attestation' // the same by the headers of draft-ietf-oauth-attestation-based-client-auth
  | 'subject_token'
  | 'actor_token'
  | 'assertion' // an authorization grant that is a JWT (RFC 7523 §2.1)
  | 'dpop' // the DPoP header at /token
  | 'api' // a proof or assertion at our own JSON endpoints
  | 'enrolment' // a join token, where an agent registers its key
  | 'request' // parameters and bodies
  | 'authorization_details' // what was asked for in that parameter (RFC 9396 §5)

type Code =
  | 'by_slot'
  | 'ir' // 400 invalid_request
  | 'ic' // 401 invalid_client
  | 'is' // 400 invalid_scope
  | 'asked' // invalid_scope, or invalid_authorization_details where it was asked for there
  | 'it' // 400 invalid_target (RFC 8707, RFC 8693)
  | 'ad' // 400 invalid_authorization_details (RFC 9396)
  | 'dp' // invalid_dpop_proof (RFC 9449)
  | 'nonce' // use_dpop_nonce (RFC 9449 §8)
  | 'challenge' // use_attestation_challenge (draft-ietf-oauth-attestation-based-client-auth §7.4)
  | 'stale' // use_fresh_attestation (the same)
  | 'unauthorized_client'
  | 'unsupported_grant_type'
  | 'denied' // 403 access_denied at our own JSON API
  | 'absent' // 404
  | 'too_large' // 413
  | 'not_acceptable' // 406
  | 'media_type' // 415
  | 'conflict' // 422
  | 'exists' // 409
  | 'headers' // 431
  | 'slow' // 408
  | 'rate' // 429
  | 'un' // 503 temporarily_unavailable
  | 'bad' // 400 on the admin and JSON API
  | 'host' // 421

/**
 * Reason → answer. A new reason does not compile until somebody decides what the caller may learn. `by_slot` is the
 * default of SECURITY-CASES groups A to C and F: what it means depends on where the thing was presented.
 */
const table = {
  // A. tokens as text and structure
  token_too_large: 'too_large',
  headers_too_large: 'headers',
  jws_not_compact: 'by_slot',
  jwe_not_accepted: 'by_slot',
  noncanonical_encoding: 'by_slot',
  bad_utf8: 'by_slot',
  bad_json: 'by_slot',
  duplicate_member: 'by_slot',
  json_limits: 'by_slot',
  alg_not_allowed: 'by_slot',
  bad_numeric_date: 'by_slot',
  not_yet_valid: 'by_slot',
  expired: 'by_slot',
  unknown_claim: 'by_slot',
  bad_claim: 'by_slot',
  bad_subject: 'by_slot',
  crit_unsupported: 'by_slot',
  bad_signature: 'by_slot',
  bad_key: 'by_slot',
  bad_auth_scheme: 'by_slot',
  // B. keys and issuers
  unknown_kid: 'by_slot',
  header_forbidden: 'by_slot',
  key_state: 'by_slot',
  key_scope: 'by_slot',
  untrusted_issuer: 'by_slot',
  jwks_rejected: 'un',
  jwks_untrusted: 'un',
  // C. kinds
  wrong_typ: 'by_slot',
  assertion_audience: 'ic',
  wrong_audience: 'by_slot',
  token_type_mismatch: 'ir',
  self_actor: 'ir',
  not_a_token: 'by_slot',
  caller_not_audience: 'denied',
  client_auth_required: 'ic',
  // D. exchange
  scope_not_granted: 'asked',
  authority_contained: 'asked',
  bad_scope: 'is',
  bad_authorization_details: 'ad',
  audience_denied: 'it',
  one_target: 'it',
  resource_not_canonical: 'it',
  parent_expiring: 'ir',
  bad_request_details: 'ir',
  forged_actor: 'ir',
  may_act: 'ir',
  depth: 'ir',
  actor_required: 'ir',
  context_mismatch: 'ir',
  presenter_not_audience: 'ir',
  task_expired: 'ir',
  task_not_active: 'ir',
  param_missing: 'ir',
  param_duplicate: 'ir',
  param_in_query: 'ir',
  bad_param: 'ir',
  not_acceptable: 'not_acceptable',
  media_type: 'media_type',
  subject_disabled: 'ir',
  signed_out: 'ir',
  banned: 'ir',
  suspended: 'ir',
  replayed: 'ir',
  idempotency_conflict: 'conflict',
  token_type_unsupported: 'ir',
  policy_denied: 'ir',
  grant_not_allowed: 'unauthorized_client',
  platform_full: 'ir',
  unsupported_grant_type: 'unsupported_grant_type',
  budget_exhausted: 'ir',
  revoked: 'by_slot',
  stage_no_token: 'ir',
  // E. proof of possession
  proof_replayed: 'dp',
  htu: 'dp',
  htm: 'dp',
  ath: 'dp',
  proof_key: 'dp',
  proof_duplicate: 'dp',
  proof_required: 'dp',
  proof_invalid: 'dp',
  nonce_missing: 'nonce',
  nonce_stale: 'nonce',
  key_switch: 'dp',
  replay_guard_unavailable: 'un',
  binding_downgrade: 'by_slot',
  cnf_mismatch: 'by_slot',
  peer_invalid: 'by_slot',
  // F. attestation
  unknown_client: 'by_slot',
  agent_disabled: 'by_slot',
  evidence_replayed: 'by_slot',
  origin_not_authorized: 'by_slot',
  noncanonical_id: 'by_slot',
  not_descendant: 'by_slot',
  instance_epoch: 'by_slot',
  attestation_expired: 'by_slot',
  evidence_not_registered: 'by_slot',
  release_unknown: 'by_slot',
  release_required: 'by_slot',
  measurement_changed: 'by_slot',
  evidence_lifetime: 'by_slot',
  evidence_revoked: 'by_slot',
  attestation_challenge: 'challenge',
  attestation_stale: 'stale',
  attestation_unavailable: 'un',
  header_duplicate: 'by_slot',
  x509_validity: 'by_slot',
  x509_path_length: 'by_slot',
  x509_name_constraints: 'by_slot',
  x509_san: 'by_slot',
  x509_subject: 'by_slot',
  x509_policy: 'by_slot',
  x509_signature: 'by_slot',
  x509_untrusted: 'by_slot',
  x509_ca: 'by_slot',
  x509_key_usage: 'by_slot',
  x509_critical_extension: 'by_slot',
  x509_malformed: 'by_slot',
  // G. policy and identifiers
  bad_identifier: 'bad',
  bad_limit: 'bad',
  policy_too_large: 'too_large',
  policy_rejected: 'bad',
  // H. bounds
  rate_limited: 'rate',
  overloaded: 'un',
  quota_exceeded: 'un',
  body_too_large: 'too_large',
  request_timeout: 'slow',
  bad_body: 'bad',
  bad_host: 'host',
  // own JSON API
  not_permitted: 'denied',
  not_found: 'absent',
  method_not_allowed: 'absent',
  stream_exists: 'exists',
  // L, M, Q: away
  bulk_token_unknown: 'bad',
  bulk_token_used: 'bad',
  bulk_token_expired: 'bad',
  confirmation_own: 'denied',
  confirmation_changed: 'bad',
  confirmation_used: 'bad',
  confirmation_expired: 'bad',
  time_in_future: 'bad',
  sealed: 'un',
  no_active_key: 'un',
  signer_unavailable: 'un',
  audit_unavailable: 'un',
  audit_mirror_behind: 'un',
  store_unavailable: 'un',
  stopping: 'un',
} as const satisfies Record<string, Code>

export type Reason = keyof typeof table
export const REASONS = Object.keys(table) as readonly Reason[]
export const isReason = (text: string): text is Reason => Object.hasOwn(table, text)

export interface Refusal {
  readonly reason: Reason
  readonly slot: Slot
  /** A sentence about the caller's own request; holds no secret and nothing the caller may not know. */
  readonly detail?: string
  readonly explanation?: Explanation
  /** Whether the caller had proven who it is when it was refused; a stranger gets the bare code. */
  readonly proven?: boolean
  readonly retryAfterSeconds?: number
}

export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal }

export const ok = <T>(value: T): Result<T> => ({ ok: true, value })
export const refuse = (
  reason: Reason,
  slot: Slot,
  more: Omit<Refusal, 'reason' | 'slot'> = {},
): { readonly ok: false; readonly refusal: Refusal } => ({ ok: false, refusal: { reason, slot, ...more } })

export interface Answer {
  readonly status: 400 | 401 | 403 | 404 | 406 | 408 | 409 | 413 | 415 | 421 | 422 | 429 | 431 | 503
  readonly error: string
}

/** Status and OAuth error of a refusal: the whole of the error map. */
export function answerTo({ reason, slot }: Pick<Refusal, 'reason' | 'slot'>): Answer {
  const code: Code = table[reason]
  switch (code) {
    case 'by_slot':
      switch (slot) {
        case 'client':
          return { status: 401, error: 'invalid_client' } // RFC 6749 §5.2
        case 'client_attestation':
          return { status: 401, error: 'invalid_client_attestation' }
        case 'subject_token':
        case 'actor_token':
        case 'request':
          return { status: 400, error: 'invalid_request' } // RFC 8693 §2.2.2
        case 'assertion':
          return { status: 400, error: 'invalid_grant' } // RFC 7523 §3.1
        case 'dpop':
          return { status: 400, error: 'invalid_dpop_proof' } // RFC 9449 §5
        case 'api':
          return { status: 401, error: 'invalid_token' } // RFC 6750 §3.1
        case 'enrolment':
          return { status: 403, error: 'access_denied' }
        case 'authorization_details':
          return { status: 400, error: 'invalid_authorization_details' }
      }
      break
    case 'ir':
      if (slot === 'enrolment') return { status: 403, error: 'access_denied' }
      return { status: 400, error: slot === 'assertion' ? 'invalid_grant' : 'invalid_request' } // RFC 7523 §3.1
    case 'ic':
      return { status: 401, error: 'invalid_client' }
    case 'asked':
      return {
        status: 400,
        error: slot === 'authorization_details' ? 'invalid_authorization_details' : 'invalid_scope',
      }
    case 'is':
      return { status: 400, error: 'invalid_scope' }
    case 'it':
      return { status: 400, error: 'invalid_target' }
    case 'ad':
      return { status: 400, error: 'invalid_authorization_details' }
    case 'dp':
      return { status: slot === 'api' ? 401 : 400, error: 'invalid_dpop_proof' }
    case 'nonce':
      return { status: slot === 'api' ? 401 : 400, error: 'use_dpop_nonce' }
    case 'challenge':
      return { status: slot === 'api' ? 401 : 400, error: 'use_attestation_challenge' }
    case 'stale':
      return { status: slot === 'api' ? 401 : 400, error: 'use_fresh_attestation' }
    case 'unauthorized_client':
      return { status: 400, error: 'unauthorized_client' }
    case 'unsupported_grant_type':
      return { status: 400, error: 'unsupported_grant_type' }
    case 'denied':
      return { status: 403, error: 'access_denied' }
    case 'absent':
      return { status: 404, error: 'not_found' }
    case 'too_large':
      return { status: 413, error: 'invalid_request' }
    case 'not_acceptable':
      return { status: 406, error: 'invalid_request' }
    case 'media_type':
      return { status: 415, error: 'invalid_request' }
    case 'conflict':
      return { status: 422, error: 'invalid_request' }
    case 'exists':
      return { status: 409, error: 'invalid_request' }
    case 'headers':
      return { status: 431, error: 'invalid_request' }
    case 'slow':
      return { status: 408, error: 'invalid_request' }
    case 'rate':
      return { status: 429, error: 'temporarily_unavailable' }
    case 'host':
      return { status: 421, error: 'invalid_request' }
    case 'bad':
      return { status: 400, error: 'invalid_request' }
    case 'un':
      return { status: 503, error: 'temporarily_unavailable' }
  }
}

/**
 * A dependency is away. Thrown, never returned: it meets the same `onError` as a bug, which tells the two apart
 * (503 with `Retry-After` against 500).
 */
export class Unavailable extends Error {
  readonly reason: Reason
  readonly retryAfterSeconds: number
  constructor(reason: Reason, message: string, options?: { cause?: unknown; retryAfterSeconds?: number }) {
    super(message, options?.cause === undefined ? undefined : { cause: options.cause })
    this.name = 'Unavailable'
    this.reason = reason
    this.retryAfterSeconds = options?.retryAfterSeconds ?? 1
  }
}
