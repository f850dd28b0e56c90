/**
 * Tokens of ours that others consume: the ID-JAG, which another authorization server exchanges for a token of its own
 * (draft-ietf-oauth-identity-assertion-authz-grant), and the transaction token, which carries one call's context
 * through a trust domain (draft-ietf-oauth-transaction-tokens). Each kind has a signing key of its own: nothing that
 * one of them signed can pass for the other, nor for an access token.
 */
import type { Actor, ToolAuthorization } from '@errand/verifier/claims.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { TYP } from '../oauth/words.ts'
import type { IdJagTarget, TxnTarget } from '../policy/tool.ts'
import { afterSigning, type Signed, type SigningKeys, type TokenFacts } from './issue.ts'

export interface IdJagClaims {
  readonly iss: string
  readonly sub: string
  /** The authorization server, by its issuer identifier. */
  readonly aud: string
  /** The agent, as that server knows it. */
  readonly client_id: string
  readonly jti: string
  readonly exp: number
  readonly iat: number
  readonly resource: string
  readonly scope: string
  readonly authorization_details?: readonly ToolAuthorization[]
  readonly act?: Actor
  readonly cnf?: { readonly jkt: string }
  readonly dev?: true
}

export interface TxnTokenClaims {
  readonly iss: string
  /** The trust domain. */
  readonly aud: string
  readonly sub: string
  readonly exp: number
  readonly iat: number
  /** Names the transaction; its record is found by it. */
  readonly txn: string
  readonly scope: string
  /** The workload that asked. */
  readonly req_wl: string
  readonly tctx?: JsonObject
  readonly rctx?: JsonObject
  readonly dev?: true
}

/** What it is for, as the other side spells it. */
export interface ForeignWords {
  readonly scope: string
}

export const draftIdJag = (
  iss: string,
  facts: TokenFacts,
  target: IdJagTarget,
  { scope, clientId }: ForeignWords & { readonly clientId: string },
): IdJagClaims => ({
  iss,
  sub: facts.subject,
  aud: target.authorizationServer,
  client_id: clientId,
  jti: facts.jti,
  exp: facts.expiresAt,
  iat: facts.issuedAt,
  resource: facts.audience,
  scope,
  ...(target.details ? { authorization_details: facts.details } : {}),
  ...(target.act && facts.actor ? { act: facts.actor } : {}),
  // *Proof-of-possession*: bound where a DPoP proof came with the request.
  ...(facts.confirmation && 'jkt' in facts.confirmation ? { cnf: facts.confirmation } : {}),
  ...(facts.development ? { dev: true as const } : {}),
})

export const draftTxnToken = (
  iss: string,
  facts: TokenFacts,
  target: TxnTarget,
  { scope, tctx, rctx, workload }: ForeignWords & Pick<TxnTokenClaims, 'tctx' | 'rctx'> & { readonly workload: string },
): TxnTokenClaims => ({
  iss,
  aud: target.trustDomain,
  sub: facts.subject,
  exp: facts.expiresAt,
  iat: facts.issuedAt,
  txn: facts.jti,
  scope,
  req_wl: workload,
  ...(tctx === undefined ? {} : { tctx }),
  ...(rctx === undefined ? {} : { rctx }),
  ...(facts.development ? { dev: true as const } : {}),
})

export type ForeignClaims = IdJagClaims | TxnTokenClaims
export const isTxnToken = (claims: object): claims is TxnTokenClaims => 'txn' in claims

/** Signs with `kid`; throws where what was signed does not read as what was meant. */
export function signForeign(keys: SigningKeys, claims: ForeignClaims, kid: string): Signed {
  return afterSigning(keys.signWith(kid, { typ: isTxnToken(claims) ? TYP.txnToken : TYP.idJag }, claims), (jws) => {
    const parsed = parseJws(jws)
    if (!parsed.ok || JSON.stringify(parsed.value.payload) !== JSON.stringify(claims))
      throw new Error('the token just signed does not hold what was drafted')
    return jws
  })
}
