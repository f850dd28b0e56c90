/** Every refusal of the verifier as a typed error: what to answer, and a stable code for logs and tests. */
import type { TokenFault } from './checked.ts'

export type RefusalCode =
  | TokenFault
  | 'token_required'
  | 'bad_auth_scheme'
  | 'key_scope'
  | 'key_state'
  | 'binding_downgrade'
  | 'bearer_not_accepted'
  | 'cnf_mismatch'
  | 'peer_invalid'
  | 'proof_required'
  | 'proof_replayed'
  | 'replay_guard_unavailable'
  | 'feed_required'
  | 'revoked'
  | 'ancestor_revoked'
  | 'revocation_state_stale'
  | 'keys_unavailable'
  | 'service_unavailable'
  | 'task_not_active'
  | 'budget_exhausted'
  | 'insufficient_scope'
  | 'operation_unknown'
  | 'bad_arguments'
  | 'media_type'
  | 'body_too_large'

export interface RefusalAnswer {
  readonly status: number
  /** OAuth error code (RFC 6750 §3.1, RFC 9449 §7.1). */
  readonly error: string
  readonly code: RefusalCode
  /** A sentence about the caller's own request. */
  readonly description: string
  /** Value of `WWW-Authenticate`, on 401 and 403. */
  readonly wwwAuthenticate?: string
  readonly retryAfterSeconds?: number
  /** The token service, which has a page about each code. */
  readonly issuer?: string
}

/** What a program at the caller's side may do; the same words as the token service's `next_action`. */
export type NextAction = 'renew' | 'prove_again' | 'ask_parent' | 'open_task' | 'fix_request' | 'wait'

const BY_CODE: Partial<Record<RefusalCode, NextAction>> = {
  bad_auth_scheme: 'fix_request',
  binding_downgrade: 'prove_again',
  cnf_mismatch: 'prove_again',
  ancestor_revoked: 'ask_parent',
  task_not_active: 'open_task',
  budget_exhausted: 'open_task',
  operation_unknown: 'fix_request',
}

function nextActionOf(code: RefusalCode, error: string): NextAction {
  const action = BY_CODE[code]
  if (action !== undefined) return action
  switch (error) {
    case 'invalid_dpop_proof':
      return 'prove_again'
    case 'invalid_request':
      return 'fix_request'
    case 'temporarily_unavailable':
      return 'wait'
    default:
      return 'renew'
  }
}

/** What `verify` throws for a request that must not be served. `instanceof` its subclasses tells the kinds apart. */
export class VerificationError extends Error {
  readonly status: number
  readonly error: string
  readonly code: RefusalCode
  readonly wwwAuthenticate: string | undefined
  readonly retryAfterSeconds: number | undefined
  readonly nextAction: NextAction
  /** The page about the code, at the token service (RFC 6750 §3: `error_uri`). */
  readonly errorUri: string | undefined

  constructor({ status, error, code, description, wwwAuthenticate, retryAfterSeconds, issuer }: RefusalAnswer) {
    super(description)
    this.name = new.target.name
    this.status = status
    this.error = error
    this.code = code
    this.wwwAuthenticate = wwwAuthenticate
    this.retryAfterSeconds = retryAfterSeconds
    this.nextAction = nextActionOf(code, error)
    this.errorUri = issuer === undefined ? undefined : `${issuer}/docs/refusals/${code}`
  }
}

/** 401 `invalid_token`: the token is missing, broken, foreign, expired or revoked. */
export class InvalidTokenError extends VerificationError {}
/** 401 `invalid_dpop_proof`: the token may be good, its proof of possession is not. */
export class InvalidProofError extends VerificationError {}
/** 403 `insufficient_scope`: the token is good, but not for this operation, these arguments or this budget. */
export class InsufficientScopeError extends VerificationError {}
/** 400, 413 or 415 `invalid_request`: the arguments cannot be read in one way only. */
export class BadRequestError extends VerificationError {}
/** 503 with `Retry-After`: the token may be good, but that cannot be known now. */
export class UnavailableError extends VerificationError {}

/** Status, headers and JSON body that answer a refusal. */
export function refusalResponse(refusal: VerificationError): {
  readonly status: number
  readonly headers: Readonly<Record<string, string>>
  readonly body: string
} {
  const { status, error, code, message, wwwAuthenticate, retryAfterSeconds, nextAction, errorUri } = refusal
  return {
    status,
    headers: {
      'content-type': 'application/json',
      'cache-control': 'no-store',
      ...(wwwAuthenticate === undefined ? {} : { 'www-authenticate': wwwAuthenticate }),
      ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }),
    },
    body: JSON.stringify({
      error,
      error_description: message,
      ...(errorUri === undefined ? {} : { error_uri: errorUri }),
      code,
      next_action: nextAction,
    }),
  }
}
