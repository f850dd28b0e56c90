/** What a verifier refuses with: status, code, and the challenge that says where a token is to be had. */
import type { Fault } from './checked.ts'
import { DPOP_ALGS } from './dpop.ts'
import {
  InsufficientScopeError,
  InvalidProofError,
  InvalidTokenError,
  type RefusalCode,
  UnavailableError,
} from './errors.ts'

export interface Refusals {
  badToken(code: RefusalCode, description: string): InvalidTokenError
  badProof(code: RefusalCode, description: string): InvalidProofError
  /** `scope` is what would have been needed. */
  forbidden(code: RefusalCode, description: string, scope?: string): InsufficientScopeError
  unavailable(code: RefusalCode, description: string): UnavailableError
  tokenFault(fault: Pick<Fault, 'fault' | 'detail'>): InvalidTokenError
}

export function createRefusals({
  issuer,
  resourceMetadataUrl,
  otherwiseThanDpop,
}: {
  readonly issuer: string
  readonly resourceMetadataUrl: string
  /** Whether tokens are taken by another scheme too: bound by mTLS, or to nothing. */
  readonly otherwiseThanDpop: boolean
}): Refusals {
  const quoted = (text: string): string => text.replace(/[^\x20-\x7e]|["\\]/g, '_')
  function challenge(error: string | undefined, description: string, scope?: string): string {
    const details = [
      ...(error === undefined ? [] : [`error="${error}"`, `error_description="${quoted(description)}"`]),
      ...(scope === undefined ? [] : [`scope="${quoted(scope)}"`]),
      `resource_metadata="${resourceMetadataUrl}"`, // RFC 9728 §5.1
    ]
    const dpop = `DPoP ${[...details, `algs="${DPOP_ALGS.join(' ')}"`].join(', ')}` // RFC 9449 §7.1
    return otherwiseThanDpop ? `${dpop}, Bearer ${details.join(', ')}` : dpop
  }
  const badToken = (code: RefusalCode, description: string) =>
    new InvalidTokenError({
      status: code === 'token_too_large' ? 413 : 401,
      error: code === 'token_too_large' ? 'invalid_request' : 'invalid_token',
      code,
      description,
      issuer,
      // RFC 6750 §3.1: who sent no token is told where to get one, not that it did wrong.
      wwwAuthenticate: challenge(code === 'token_required' ? undefined : 'invalid_token', description),
    })
  const badProof = (code: RefusalCode, description: string) =>
    new InvalidProofError({
      status: 401,
      error: 'invalid_dpop_proof',
      code,
      description,
      issuer,
      wwwAuthenticate: challenge('invalid_dpop_proof', description),
    })
  const forbidden = (code: RefusalCode, description: string, scope?: string) =>
    new InsufficientScopeError({
      status: 403,
      error: 'insufficient_scope',
      code,
      description,
      issuer,
      wwwAuthenticate: challenge('insufficient_scope', description, scope),
    })
  const unavailable = (code: RefusalCode, description: string) =>
    new UnavailableError({
      status: 503,
      error: 'temporarily_unavailable',
      code,
      description,
      issuer,
      retryAfterSeconds: 1,
    })
  const tokenFault = ({ fault, detail }: Pick<Fault, 'fault' | 'detail'>) =>
    badToken(fault, detail ?? `the access token is refused: ${fault}`)

  return { badToken, badProof, forbidden, unavailable, tokenFault }
}
