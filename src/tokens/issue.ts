/** Drafts, signs and checks an access token: the claims are known before the record, the signature comes after it. */
import {
  type AccessTokenClaims,
  type Actor,
  type Confirmation,
  type Grant,
  MAX_TOKEN_LIFETIME_SECONDS,
  type ToolAuthorization,
} from '@errand/verifier/claims.ts'
import { packHops, type WholeHop } from '@errand/verifier/hops.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { checkSignature, importVerifyKey } from '@errand/verifier/signature.ts'
import type { JsonObject } from '@errand/verifier/strict-json.ts'
import { scopeOf } from '@errand/verifier/grants.ts'
import { checkAccessToken } from '@errand/verifier/token-check.ts'
import type { JWK } from 'jose'
import { TYP } from '../oauth/words.ts'
import { type HandOverClaims, readHandOverClaims } from './hand-over.ts'

/** The ring's side that issuing needs. */
export interface SigningKeys {
  /** The key that signs now. Throws `Unavailable('no_active_key')` where none may. */
  activeKid(purpose: 'token' | 'id_jag' | 'txn_token'): string
  /** Signs with exactly this key, which must still be allowed to sign or be just retiring; throws otherwise. */
  signWith(kid: string, header: { readonly typ: string }, payload: object): string
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
  readonly grants: readonly Grant[]
  readonly details: readonly ToolAuthorization[]
  readonly confirmation?: Confirmation
  readonly task: AccessTokenClaims['task']
  readonly attestation: AccessTokenClaims['att']
  readonly epoch: string
  readonly policyDigest: string
  readonly hops: readonly WholeHop[]
  readonly development: boolean
}

export interface Issuer {
  draft(facts: TokenFacts): AccessTokenClaims
  draftHandOver(facts: TokenFacts, mayAct: string): HandOverClaims
  /** Signs with `kid`, and runs on the result what a tool's verifier would. Throws where our own verifier refuses it. */
  sign(claims: AccessTokenClaims, kid: string): string
  signHandOver(claims: HandOverClaims, kid: string): string
}

const packed = ({ kid, clientId, policyDigest, epoch, hops }: TokenFacts, aud: string) =>
  packHops({ aud, client_id: clientId, kid, pol: policyDigest, rev: epoch }, hops)

/** One in so many signatures is verified again after it was made; the first of each key always is. */
const SAMPLE = 64

export function createIssuer(deps: { readonly issuer: string; readonly keys: SigningKeys }): Issuer {
  const seen = new Map<string, number>()

  const common = (facts: TokenFacts) => ({
    iss: deps.issuer,
    exp: facts.expiresAt,
    iat: facts.issuedAt,
    jti: facts.jti,
    client_id: facts.clientId,
    sub: facts.subject,
    ...(facts.actor ? { act: facts.actor } : {}),
    scope: scopeOf(facts.grants),
    authorization_details: facts.details,
    task: facts.task,
    att: facts.attestation,
    rev: facts.epoch,
    pol: facts.policyDigest,
    ...(facts.development ? { dev: true as const } : {}),
  })

  const signature = (typ: string, kid: string, claims: object): string => {
    const jws = deps.keys.signWith(kid, { typ }, claims)
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
    draft: (facts) => ({
      ...common(facts),
      aud: facts.audience,
      ...(facts.confirmation ? { cnf: facts.confirmation } : {}),
      ...(facts.hops.length === 0 ? {} : { hops: packed(facts, facts.audience) }),
    }),
    draftHandOver: (facts, mayAct) => ({
      ...common(facts),
      aud: deps.issuer,
      may_act: { iss: deps.issuer, sub: mayAct },
      hops: packed(facts, deps.issuer),
    }),
    sign(claims, kid) {
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
      // We are our own first customer: what a tool would refuse never leaves.
      if (!checked.ok) throw new Error(`our own verifier refuses the token just drafted: ${checked.fault}`)
      return signature(TYP.accessToken, kid, claims)
    },
    signHandOver(claims, kid) {
      const jws = signature(TYP.handOver, kid, claims)
      const parsed = parseJws(jws)
      if (!parsed.ok || !readHandOverClaims(parsed.value.payload).ok) {
        throw new Error('the hand-over token just drafted would be refused here')
      }
      return jws
    },
  }
}

const base64urlLength = (bytes: number): number => Math.ceil((bytes * 4) / 3)

/** How long an access token will be, known before it is signed: two dots, and an ES256 signature of 86 characters. */
export function tokenLength(claims: AccessTokenClaims, kid: string): number {
  const header = JSON.stringify({ alg: 'ES256', kid, typ: TYP.accessToken })
  return base64urlLength(Buffer.byteLength(header)) + base64urlLength(Buffer.byteLength(JSON.stringify(claims))) + 88
}
