/** What a check of the core answers: the value, or the fault by its stable name. */

/** Everything the core can find wrong; each is a reason of the service's refusal table under the same name. */
export type TokenFault =
  | 'token_too_large'
  | 'not_a_token'
  | 'jws_not_compact'
  | 'jwe_not_accepted'
  | 'noncanonical_encoding'
  | 'bad_utf8'
  | 'bad_json'
  | 'duplicate_member'
  | 'json_limits'
  | 'alg_not_allowed'
  | 'bad_numeric_date'
  | 'not_yet_valid'
  | 'expired'
  | 'unknown_claim'
  | 'bad_claim'
  | 'bad_subject'
  | 'crit_unsupported'
  | 'bad_signature'
  | 'bad_key'
  | 'unknown_kid'
  | 'header_forbidden'
  | 'untrusted_issuer'
  | 'wrong_typ'
  | 'wrong_audience'
  | 'depth'
  | 'bad_scope'
  | 'bad_authorization_details'
  | 'htm'
  | 'htu'
  | 'ath'
  | 'proof_key'
  | 'proof_duplicate'
  | 'proof_invalid'

export interface Fault {
  readonly ok: false
  readonly fault: TokenFault
  /** A sentence about what was presented; holds no secret. */
  readonly detail?: string
}

export type Checked<T> = { readonly ok: true; readonly value: T } | Fault

export const pass = <T>(value: T): { readonly ok: true; readonly value: T } => ({ ok: true, value })
export const fail = (fault: TokenFault, detail?: string): Fault =>
  detail === undefined ? { ok: false, fault } : { ok: false, fault, detail }
