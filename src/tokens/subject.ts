/** Reads a subject token: whose it is, of which kind, and whether its words hold. Revocation is asked by the caller. */
import {
  type AccessTokenClaims,
  type Actor,
  CLOCK_LEEWAY_SECONDS,
  MAX_TOKEN_LIFETIME_SECONDS,
} from '@errand/verifier/claims.ts'
import { readNumericDate, readSubjectText } from '@errand/verifier/claims-check.ts'
import { checkHeader, type HeaderRule, type ParsedJws } from '@errand/verifier/jws.ts'
import { importVerifyKey, type VerifyKey, verifySignature } from '@errand/verifier/signature.ts'
import { ACCESS_TOKEN_HEADER, checkAccessToken } from '@errand/verifier/token-check.ts'
import type { JWK } from 'jose'
import { createParsedTokens } from '../attest/parsed.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TOKEN_TYPE, TYP } from '../oauth/words.ts'
import type { SubjectFacts } from '../tasks/task.ts'
import { readActors } from './actor.ts'
import { type HandOverClaims, readHandOverClaims } from './hand-over.ts'
import { plainTyp, typFits } from './kinds.ts'
import type { TrustedIssuer } from './trusted-issuer.ts'

export type SubjectToken =
  | {
      readonly kind: 'user'
      readonly facts: SubjectFacts
      readonly issuer: TrustedIssuer
      readonly expiresAt: number
      /** When the user signed in, as far as the token says; Unix seconds. */
      readonly signedInAt: number
      /** Who acted before, where the issuer may say so. */
      readonly actor?: Actor
      readonly mayAct?: { readonly iss?: string; readonly sub?: string }
    }
  | { readonly kind: 'hand_over'; readonly claims: HandOverClaims; readonly kid: string }
  | { readonly kind: 'own'; readonly claims: AccessTokenClaims; readonly kid: string }

/** Our own public keys, by kid, with what they may be used for now. */
export interface OwnKeys {
  verifyKey(kid: string): Result<JWK>
}

export interface SubjectReaderDeps {
  readonly issuer: string
  readonly now: () => number
  readonly ownKeys: OwnKeys
  readonly byIss: (iss: string) => TrustedIssuer | undefined
  /** How many tokens are remembered as verified, at most. */
  readonly remembered?: number
}

export type ReadSubjectToken = (token: string, type: string) => Promise<Result<SubjectToken>>

const SLOT = 'subject_token'
const HAND_OVER_HEADER: HeaderRule = { typ: [TYP.handOver], algs: ['ES256'], kid: 'required' }
const OUR_TYPES: readonly string[] = [TOKEN_TYPE.accessToken, TOKEN_TYPE.jwt]

export function createSubjectReader(deps: SubjectReaderDeps): ReadSubjectToken {
  const keys = new WeakMap<JWK, VerifyKey>()
  const keyFrom = (jwk: JWK, algs: readonly string[]): VerifyKey | undefined => {
    const known = keys.get(jwk)
    if (known) return known
    const imported = importVerifyKey(jwk, { algs })
    if (!imported.ok) return undefined
    keys.set(jwk, imported.value)
    return imported.value
  }

  /** A user's token comes with each of the exchanges that are made for it. */
  const parsed = createParsedTokens(deps.remembered)
  // Under which key the signature held: where another took its place under its kid, it is verified anew. Expiry,
  // revocation and spending are looked at each time.
  const heldUnder = new WeakMap<ParsedJws, VerifyKey>()
  const signatureHolds = (jws: ParsedJws, key: VerifyKey): boolean =>
    heldUnder.get(jws) === key || verifySignature(key, jws.signingInput, jws.signature)
  const keep = (jws: ParsedJws, key: VerifyKey): boolean => {
    if (!parsed.keep(jws)) return false
    heldUnder.set(jws, key)
    return true
  }

  const readOwn = (jws: ParsedJws, type: string): Result<SubjectToken> => {
    const handOver = plainTyp(jws.header['typ']) === TYP.handOver
    const header = checkHeader(jws.header, handOver ? HAND_OVER_HEADER : ACCESS_TOKEN_HEADER)
    if (!header.ok) return refuse(header.fault, SLOT)
    if (handOver ? type !== TOKEN_TYPE.handOver && type !== TOKEN_TYPE.jwt : !OUR_TYPES.includes(type)) {
      return refuse('token_type_mismatch', SLOT)
    }
    const kid = header.value.kid!
    const jwk = deps.ownKeys.verifyKey(kid)
    if (!jwk.ok) return refuse(jwk.refusal.reason, SLOT)
    const key = keyFrom(jwk.value, ['ES256'])
    if (!key) return refuse('bad_key', SLOT)
    if (!signatureHolds(jws, key)) return refuse('bad_signature', SLOT)
    const now = deps.now()
    if (handOver) {
      const claims = readHandOverClaims(jws.payload)
      if (!claims.ok) return claims
      if (claims.value.aud !== deps.issuer || claims.value.iss !== deps.issuer) return refuse('wrong_audience', SLOT)
      if (now >= claims.value.exp) return refuse('expired', SLOT)
      return ok({ kind: 'hand_over', claims: claims.value, kid })
    }
    const claims = checkAccessToken(jws, {
      issuer: deps.issuer,
      now,
      maxLifetimeSeconds: MAX_TOKEN_LIFETIME_SECONDS,
      dev: 'accept',
    })
    if (!claims.ok) return refuse(claims.fault, SLOT)
    keep(jws, key)
    return ok({ kind: 'own', claims: claims.value, kid })
  }

  /** What was read of a token stays so while it lasts, its issuer is configured the same and its subject may. */
  const users = new WeakMap<ParsedJws, { readonly issuer: TrustedIssuer; readonly read: Result<SubjectToken> }>()
  const readUser = async (jws: ParsedJws, type: string, issuer: TrustedIssuer): Promise<Result<SubjectToken>> => {
    const kind = plainTyp(jws.header['typ']) === TYP.accessToken ? 'access_token' : 'id_token'
    const header = checkHeader(jws.header, {
      typ: kind === 'access_token' ? [TYP.accessToken] : ['jwt'],
      typOptional: kind === 'id_token',
      algs: issuer.algorithms,
      kid: 'required',
    })
    if (!header.ok) return refuse(header.fault, SLOT)
    if (!issuer.tokenTypes.includes(kind)) return refuse('wrong_typ', SLOT)
    if (type !== TOKEN_TYPE.jwt && type !== (kind === 'id_token' ? TOKEN_TYPE.idToken : TOKEN_TYPE.accessToken)) {
      return refuse('token_type_mismatch', SLOT)
    }
    const { alg, kid } = header.value as { alg: string; kid: string }
    const jwk = await issuer.keys(kid)
    if (!jwk) return refuse('unknown_kid', SLOT)
    const key = keyFrom(jwk, issuer.algorithms)
    if (!key) return refuse('bad_key', SLOT)
    // The algorithm is the key's; a header that names another is refused before any cryptography.
    if (key.alg !== alg) return refuse('alg_not_allowed', SLOT)
    if (!signatureHolds(jws, key)) return refuse('bad_signature', SLOT)
    const now = deps.now()
    const before = users.get(jws)
    const disabled = issuer.disabledSubjects.has(String(jws.payload['sub']))
    if (before?.issuer === issuer && !disabled && lasts(jws.payload, now)) return before.read
    const read = userClaims(jws.payload, issuer, now)
    if (read.ok && keep(jws, key)) users.set(jws, { issuer, read })
    return read
  }

  return async (token, type) => {
    if (type === TOKEN_TYPE.saml1 || type === TOKEN_TYPE.saml2) return refuse('token_type_mismatch', SLOT)
    if (type === TOKEN_TYPE.refreshToken) return refuse('token_type_unsupported', SLOT)
    if (
      !([TOKEN_TYPE.accessToken, TOKEN_TYPE.idToken, TOKEN_TYPE.jwt, TOKEN_TYPE.handOver] as string[]).includes(type)
    ) {
      return refuse('token_type_unsupported', SLOT)
    }
    const read = parsed.read(token)
    if (!read.ok) return refuse(read.fault, SLOT)
    const jws = read.value
    // The table of kinds before any issuer: what goes into no subject_token is that, whoever signed it.
    if (!typFits(jws.header['typ'], SLOT)) return refuse('wrong_typ', SLOT)
    const { iss } = jws.payload
    if (typeof iss !== 'string') return refuse('untrusted_issuer', SLOT)
    if (iss === deps.issuer) return readOwn(jws, type)
    const issuer = deps.byIss(iss)
    if (!issuer) return refuse('untrusted_issuer', SLOT)
    return readUser(jws, type, issuer)
  }
}

/** The times of claims that were read before, by the clock of now. */
const lasts = ({ exp, iat, nbf }: ParsedJws['payload'], now: number): boolean =>
  now < (exp as number) &&
  (iat as number) <= now + CLOCK_LEEWAY_SECONDS &&
  (nbf === undefined || (nbf as number) <= now + CLOCK_LEEWAY_SECONDS)

function userClaims(
  payload: Readonly<Record<string, unknown>>,
  issuer: TrustedIssuer,
  now: number,
): Result<SubjectToken> {
  const sub = readSubjectText(payload['sub'])
  if (!sub.ok) return refuse(sub.fault, SLOT)
  const audience = payload['aud']
  const audiences = Array.isArray(audience) ? audience : [audience]
  if (!audiences.every((each) => typeof each === 'string')) return refuse('wrong_audience', SLOT)
  if (!audiences.some((each) => issuer.audiences.includes(each))) return refuse('wrong_audience', SLOT)
  const exp = readNumericDate(payload['exp'])
  if (!exp.ok) return refuse(exp.fault, SLOT)
  const iat = readNumericDate(payload['iat'])
  if (!iat.ok) return refuse(iat.fault, SLOT)
  if (now >= exp.value) return refuse('expired', SLOT)
  if (iat.value > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', SLOT)
  if (Object.hasOwn(payload, 'nbf')) {
    const nbf = readNumericDate(payload['nbf'])
    if (!nbf.ok) return refuse(nbf.fault, SLOT)
    if (nbf.value > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', SLOT)
  }
  if (exp.value - iat.value > issuer.maxTokenLifetimeSeconds) return refuse('bad_numeric_date', SLOT)
  const facts = readUserFacts(payload, sub.value, issuer, SLOT)
  return facts.ok
    ? ok({ kind: 'user', issuer, expiresAt: exp.value, signedInAt: signInOf(payload, iat.value), ...facts.value })
    : facts
}

/** OpenID Connect Core §2: a token that was renewed names an older sign-in than its own time. */
export function signInOf({ auth_time: at }: Readonly<Record<string, unknown>>, issuedAt: number): number {
  const signedIn = readNumericDate(at)
  return signedIn.ok ? Math.min(signedIn.value, issuedAt) : issuedAt
}

/** What a trusted issuer says of a subject, whichever kind of token it says it in. */
export function readUserFacts(
  payload: Readonly<Record<string, unknown>>,
  sub: string,
  issuer: Pick<TrustedIssuer, 'name' | 'mayDelegate' | 'groupsClaim' | 'claims' | 'disabledSubjects'>,
  slot: 'subject_token' | 'assertion',
): Result<Pick<Extract<SubjectToken, { kind: 'user' }>, 'facts' | 'actor' | 'mayAct'>> {
  // A chain that its issuer has no right to assert: believed, it would put words into other agents' mouths.
  const actor = payload['act']
  if (actor !== undefined && !issuer.mayDelegate) return refuse('forged_actor', slot)
  const actors = actor === undefined ? undefined : readActors(actor, slot)
  if (actors && !actors.ok) return actors
  const groups = readGroups(payload[issuer.groupsClaim])
  if (!groups) return refuse('bad_claim', slot)
  if (issuer.disabledSubjects.has(sub)) return refuse('subject_disabled', slot)
  const mayAct = payload['may_act']
  if (mayAct !== undefined && (typeof mayAct !== 'object' || mayAct === null || Array.isArray(mayAct))) {
    return refuse('may_act', slot)
  }
  const claims: Record<string, string | number | boolean | readonly string[]> = Object.create(null)
  for (const name of issuer.claims) {
    const value = payload[name]
    if (typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean') claims[name] = value
    else if (Array.isArray(value) && value.every((each) => typeof each === 'string')) claims[name] = value
  }
  return ok({
    facts: { id: `${issuer.name}|${sub}`, issuer: issuer.name, groups, claims: { ...claims }, autonomous: false },
    ...(actors ? { actor: actors.value } : {}),
    ...(mayAct === undefined ? {} : { mayAct: mayAct as { iss?: string; sub?: string } }),
  })
}

function readGroups(value: unknown): readonly string[] | undefined {
  if (value === undefined) return []
  if (!Array.isArray(value) || value.length > 500) return undefined
  return value.every((each) => typeof each === 'string' && each.length <= 256) ? value : undefined
}
