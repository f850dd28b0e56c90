/** Turns a refusal into the answer of the RFCs: status, code, and what this caller may learn. */
import { explained, type Explained } from '../oauth/explanation.ts'
import { answerTo, type Reason, type Refusal } from '../oauth/refusal.ts'
import { stepFor, WORDS } from '../oauth/refusals/all.ts'

/** What a stranger reads: true, and no more than the code says. */
const STRANGER: Readonly<Record<string, string>> = {
  invalid_client: 'client authentication failed',
  invalid_request: 'the request is malformed, or what it presents cannot be accepted',
  invalid_grant: 'the authorization grant cannot be accepted',
  invalid_scope: 'the scope cannot be granted',
  invalid_target: 'the target cannot be served',
  invalid_token: 'authentication is missing or cannot be accepted',
  invalid_dpop_proof: 'the DPoP proof is missing or cannot be accepted',
  use_dpop_nonce: 'use the nonce of the DPoP-Nonce header in the proof',
  invalid_client_attestation: 'the client attestation or its proof cannot be accepted',
  use_attestation_challenge: 'use the challenge of the OAuth-Client-Attestation-Challenge header in the proof',
  use_fresh_attestation: 'get a new client attestation',
  unsupported_grant_type: 'this grant type is not supported',
  unauthorized_client: 'the client may not use this grant',
  access_denied: 'not permitted',
  not_found: 'there is nothing here',
  temporarily_unavailable: 'not now; try again after the time in Retry-After',
}

/** Reasons whose name tells a stranger only of its own request's form, so that a first integration is not a riddle. */
const PLAIN: ReadonlySet<Reason> = new Set<Reason>([
  'param_missing',
  'param_duplicate',
  'param_in_query',
  'bad_param',
  'media_type',
  'not_acceptable',
  'bad_body',
  'body_too_large',
  'unsupported_grant_type',
  'token_type_unsupported',
  'self_actor',
  'client_auth_required',
  'actor_required',
  // Reached only after a good signature.
  'assertion_audience',
  'evidence_lifetime',
  'proof_required',
  'rate_limited',
  'overloaded',
])

export const REFUSAL_PAGES = '/docs/refusals'

/** RFC 6749 §5.2: where a person reads about it. Built on the issuer, so that it is right behind every proxy. */
export const pageOf = (issuer: string, reason: Reason): string => `${issuer}${REFUSAL_PAGES}/${reason}`

export interface RefusalBody extends Explained {
  readonly error: string
  readonly error_description: string
  readonly error_uri?: string
  readonly reason?: string
  readonly wait_seconds?: number
  readonly decision_id?: string
}

export function refusalBody(refusal: Refusal, issuer?: string): RefusalBody {
  const { reason, proven, detail, explanation = {} } = refusal
  const { status, error } = answerTo(refusal)
  const told = proven === true || PLAIN.has(reason)
  const step = stepFor(refusal)
  return {
    error,
    error_description: asciiDescription(told ? (detail ?? WORDS[reason].says) : (STRANGER[error] ?? error)),
    ...(told ? { reason } : {}),
    ...(proven
      ? {
          ...(issuer === undefined ? {} : { error_uri: pageOf(issuer, reason) }),
          ...explained({ nextAction: step.action, next: step.next, ...explanation }),
          ...(waits(status) ? { wait_seconds: secondsToWait(refusal) } : {}),
          ...(explanation.decisionId === undefined ? {} : { decision_id: explanation.decisionId }),
        }
      : {}),
  }
}

const waits = (status: number): boolean => status === 429 || status === 503
const secondsToWait = ({ retryAfterSeconds = 1 }: Refusal): number => retryAfterSeconds

export function refusalResponse(
  refusal: Refusal,
  more: { readonly dpopNonce?: string; readonly issuer?: string } = {},
): Response {
  const { status, error } = answerTo(refusal)
  const headers: Record<string, string> = { 'Cache-Control': 'no-store', Pragma: 'no-cache' }
  if (more.dpopNonce !== undefined) headers['DPoP-Nonce'] = more.dpopNonce
  if (waits(status)) headers['Retry-After'] = String(secondsToWait(refusal))
  if (status === 401) {
    // RFC 6750 §3, RFC 9449 §7.1: the challenge names the scheme the resource takes.
    headers['WWW-Authenticate'] =
      error === 'use_dpop_nonce' || error === 'invalid_dpop_proof'
        ? `DPoP error="${error}"`
        : `ClientAssertion error="${error}"`
  }
  return Response.json(refusalBody(refusal, more.issuer), { status, headers })
}

/** RFC 6749 §5.2: error_description is %x20-21 / %x23-5B / %x5D-7E. */
const asciiDescription = (text: string): string => text.replace(/[^\x20-\x21\x23-\x5b\x5d-\x7e]/g, "'").slice(0, 300)
