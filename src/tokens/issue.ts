/** Drafts, signs and checks an access token: the claims are known before the record, the signature comes after it. */
import {
  type AccessTokenClaims,
  type Actor,
  type Confirmation,
  MAX_TOKEN_LIFETIME_SECONDS,
  MAX_UNFOLLOWED_LIFETIME_SECONDS,
  type StatusClaim,
  type ToolAuthorization,
} from '@errand/verifier/claims.ts'
import { packHops, type WholeHop } from '@errand/verifier/hops.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey } from '@errand/verifier/signature.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { checkAccessToken } from '@errand/verifier/token-check.ts'
import type { JWK } from 'jose'
import { TYP } from '../oauth/words.ts'
import { type HandOverClaims, readHandOverClaims } from './hand-over.ts'

/** At once, but where the private key is with somebody who has to be asked. */
export type Signed = string | Promise<string>

/** `next` over what was signed, without a turn of the loop where it is there. */
export const afterSigning = (signed: Signed, next: (jws: string) => string): Signed =>
  typeof signed === 'string' ? next(signed) : signed.then(next)

/** The ring's side that issuing needs. */
export interface SigningKeys {
  /** The key that signs now. Throws `Unavailable('no_active_key')` where none may. */
  activeKid(purpose: 'token' | 'id_jag' | 'txn_token'): string
  /** Signs with exactly this key, which must still be allowed to sign or be just retiring; throws otherwise. */
  signWith(kid: string, header: { readonly typ: string }, payload: object | string): Signed
  publicJwk(kid: string): JWK | undefined
}

export interface TokenFacts {
  readonly jti: string
  readonly kid: string
  readonly audience: string
  /** Unix seconds, read before revocation was checked. */
  readonly issuedAt: number
  readonly expiresAt: number
  readonly clientId: string
  readonly subject: string
  readonly actor?: Actor
  readonly scope: string
  /** One list for each decision, never changed after: who it is for and who asks is the same wherever it stands. */
  readonly details: readonly ToolAuthorization[]
  readonly confirmation?: Confirmation
  readonly task: AccessTokenClaims['task']
  readonly attestation: AccessTokenClaims['att']
  readonly epoch: string
  readonly policyDigest: string
  readonly hops: readonly WholeHop[]
  /** For a tool that reads status lists. */
  readonly status?: StatusClaim
  readonly development: boolean
}

export interface Issuer {
  draft(facts: TokenFacts): AccessTokenClaims
  draftHandOver(facts: TokenFacts, mayAct: string): HandOverClaims
  /**
   * Signs with `kid` what a tool's verifier would take; throws where our own verifier refuses it. `text` is the claims
   * as JSON, where somebody has it already.
   */
  sign(claims: AccessTokenClaims, kid: string, text?: string): Signed
  signHandOver(claims: HandOverClaims, kid: string): Signed
}

type Mutable<T> = { -readonly [K in keyof T]: T[K] }

const packed = ({ kid, clientId, policyDigest, epoch, hops }: TokenFacts, aud: string) =>
  packHops({ aud, client_id: clientId, kid, pol: policyDigest, rev: epoch }, hops)

/** One in so many signatures is verified again after it was made; the first of each key always is. */
const SAMPLE = 64
/** So many tokens that are alike are checked one by one; after them one in a sample. */
const PROVED_BY = 4

export function createIssuer(deps: { readonly issuer: string; readonly keys: SigningKeys }): Issuer {
  const seen = new Map<string, number>()
  /** How often tokens with these details were found good. */
  const proved = new WeakMap<readonly ToolAuthorization[], number>()

  /** In the order of RFC 8785 §3.2.3, so that the record of it need not sort. */
  const claimsOf = (facts: TokenFacts, aud: string, mayAct: string | undefined) => {
    const { actor, confirmation, hops } = facts
    const claims: Partial<Mutable<AccessTokenClaims & HandOverClaims>> = {}
    if (actor) claims.act = actor
    claims.att = facts.attestation
    claims.aud = aud
    claims.authorization_details = facts.details
    claims.client_id = facts.clientId
    if (confirmation && mayAct === undefined) claims.cnf = confirmation
    if (facts.development) claims.dev = true
    claims.exp = facts.expiresAt
    if (hops.length > 0 || mayAct !== undefined) claims.hops = packed(facts, aud)
    claims.iat = facts.issuedAt
    claims.iss = deps.issuer
    claims.jti = facts.jti
    if (mayAct !== undefined) claims.may_act = { iss: deps.issuer, sub: mayAct }
    claims.pol = facts.policyDigest
    claims.rev = facts.epoch
    claims.scope = facts.scope
    if (facts.status) claims.status = facts.status
    claims.sub = facts.subject
    claims.task = facts.task
    return claims as AccessTokenClaims & HandOverClaims
  }

  /**
   * How often a token was found good from which this one differs in times, ids and the proof's key alone; undefined
   * where more may be new in it.
   */
  const timesProved = (claims: AccessTokenClaims): number | undefined => {
    if (claims.hops !== undefined || claims.act?.act !== undefined) return undefined
    const life = claims.exp - claims.iat
    const bound = claims.cnf ? MAX_TOKEN_LIFETIME_SECONDS : MAX_UNFOLLOWED_LIFETIME_SECONDS
    if (!(life > 0 && life <= bound)) return undefined
    return proved.get(claims.authorization_details) ?? 0
  }

  /** We are our own first customer: what a tool would refuse never leaves. */
  const check = (claims: AccessTokenClaims, kid: string): void => {
    // The claims as they are, not read back out of the token: that is done with each signature that is looked at.
    const payload = claims as unknown as JsonObject
    const checked = checkAccessToken(
      { header: { alg: 'ES256', typ: TYP.accessToken, kid }, payload },
      {
        issuer: deps.issuer,
        audience: claims.aud,
        now: claims.iat,
        maxLifetimeSeconds: MAX_TOKEN_LIFETIME_SECONDS,
        dev: 'accept',
      },
    )
    if (!checked.ok) throw new Error(`our own verifier refuses the token just drafted: ${checked.fault}`)
  }

  const signature = (typ: string, kid: string, claims: object | string): Signed =>
    afterSigning(deps.keys.signWith(kid, { typ }, claims), (jws) => sampled(jws, kid))

  const sampled = (jws: string, kid: string): string => {
    const count = seen.get(kid) ?? 0
    seen.set(kid, count + 1)
    if (count % SAMPLE === 0) {
      const parsed = parseJws(jws)
      const jwk = deps.keys.publicJwk(kid)
      const key = jwk && importVerifyKey(jwk, { algs: ['ES256'] })
      if (!parsed.ok || !key?.ok || !checkSignature(parsed.value, key.value).ok) {
        throw new Error(`the signature just made with key ${kid} does not verify`)
      }
    }
    return jws
  }

  return {
    draft: (facts) => claimsOf(facts, facts.audience, undefined),
    draftHandOver: (facts, mayAct) => claimsOf(facts, deps.issuer, mayAct),
    sign(claims, kid, text = JSON.stringify(claims)) {
      const times = timesProved(claims)
      if (times === undefined || times < PROVED_BY || times % SAMPLE === 0) check(claims, kid)
      // Not sooner: a refusal proves nothing, however often it comes.
      if (times !== undefined) proved.set(claims.authorization_details, times + 1)
      return signature(TYP.accessToken, kid, text)
    },
    signHandOver(claims, kid) {
      return afterSigning(signature(TYP.handOver, kid, claims), (jws) => {
        const parsed = parseJws(jws)
        if (!parsed.ok || !readHandOverClaims(parsed.value.payload).ok) {
          throw new Error('the hand-over token just drafted would be refused here')
        }
        return jws
      })
    },
  }
}

const base64urlLength = (bytes: number): number => Math.ceil((bytes * 4) / 3)

const HEADER_LENGTH = JSON.stringify({ alg: 'ES256', kid: '', typ: TYP.accessToken }).length

/** How long an access token will be, known before it is signed: two dots, and an ES256 signature of 86 characters. */
export const tokenLength = (claims: string, kid: string): number =>
  base64urlLength(HEADER_LENGTH + kid.length) + base64urlLength(Buffer.byteLength(claims)) + 88
