/**
 * Reads the assertion of a JWT authorization grant (RFC 7523 §3): an ID-JAG, in which a user's identity provider speaks
 * for a user, or a Workload Authorization Grant, in which an agent platform speaks for one of its agents. Both are
 * bearer tokens for us alone, of one use; the bound they put on the request is told, and judged by the caller.
 */
import { createHash } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS, type Confirmation } from '@errand/verifier/claims.ts'
import { readNumericDate, readSubjectText } from '@errand/verifier/claims-check.ts'
import { checkHeader, type HeaderRule, type ParsedJws } from '@errand/verifier/jws.ts'
import { importVerifyKey, verifySignature } from '@errand/verifier/signature.ts'
import type { AgentPlatform } from '../attest/platform.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { plainTyp, typFits } from './kinds.ts'
import { readUserFacts, signInOf, type SubjectToken } from './subject.ts'
import type { TrustedIssuer } from './trusted-issuer.ts'

/** What a grant says beside whose it is. */
export interface AssertionGrant {
  readonly iss: string
  readonly jti: string
  readonly issuedAt: number
  readonly expiresAt: number
  /** Target and authority beyond which nothing is given by it; absent where it says nothing of them. */
  readonly resources?: readonly string[]
  readonly scope?: string
  readonly details?: readonly unknown[]
}

export type UserGrant = Extract<SubjectToken, { kind: 'user' }> & {
  readonly grant: AssertionGrant
  /** The one client that may present it. */
  readonly clientId: string
  /** Key with which it must be presented, where it is bound to one. */
  readonly jkt?: string
}

export interface WorkloadGrant {
  readonly platform: AgentPlatform
  /** The agent's identifier at its platform. */
  readonly sub: string
  readonly groups: readonly string[]
  readonly claims: { readonly [name: string]: string | number | boolean | readonly string[] }
  readonly grant: AssertionGrant
  /** Key with which it must be presented, where it is bound to one. */
  readonly jkt?: string
}

const SLOT = 'assertion'
const JTI = /^[\x21-\x7e]{1,256}$/
const MAX_RESOURCES = 16

/** Kinds of assertion, told apart by `typ`: only an ID-JAG has one of its own. */
export function isIdJag(jws: ParsedJws): Result<boolean> {
  if (!typFits(jws.header['typ'], SLOT)) return refuse('wrong_typ', SLOT)
  return ok(plainTyp(jws.header['typ']) === TYP.idJag)
}

export async function readIdJag(
  jws: ParsedJws,
  deps: { readonly issuer: string; readonly now: number; readonly byIss: (iss: string) => TrustedIssuer | undefined },
): Promise<Result<UserGrant>> {
  const { payload } = jws
  const issuer = typeof payload['iss'] === 'string' ? deps.byIss(payload['iss']) : undefined
  if (!issuer?.idJag) return refuse('untrusted_issuer', SLOT)
  const read = await readCommon(jws, { ...deps, ...issuer.idJag, by: issuer, typ: { typ: [TYP.idJag] } })
  if (!read.ok) return read
  // An issuer of several tenants says whose user it is; `aud_tenant` would be one of ours, which has its own issuer.
  if (payload['tenant'] !== issuer.idJag.tenant)
    return refuse('untrusted_issuer', SLOT, { detail: 'of another tenant' })
  if (payload['aud_tenant'] !== undefined) return refuse('wrong_audience', SLOT)
  const { client_id: clientId, cnf } = payload
  if (typeof clientId !== 'string') return refuse('bad_claim', SLOT, { detail: 'client_id is required' })
  const jkt = readKeyBinding(cnf)
  if (jkt === 'bad') return refuse('bad_claim', SLOT, { detail: 'cnf must hold one jkt' })
  const user = readUserFacts(payload, read.value.sub, issuer, SLOT)
  if (!user.ok) return user
  return ok({
    kind: 'user',
    issuer,
    expiresAt: read.value.grant.expiresAt,
    signedInAt: signInOf(payload, read.value.grant.issuedAt),
    ...user.value,
    clientId,
    grant: read.value.grant,
    ...(jkt === undefined ? {} : { jkt }),
  })
}

export async function readWorkloadGrant({
  jws,
  ...deps
}: {
  readonly jws: ParsedJws
  readonly issuer: string
  readonly now: number
  readonly platformOf: PlatformOf
}): Promise<Result<WorkloadGrant>> {
  const platform = deps.platformOf(jws.payload)
  if (!platform) return refuse('untrusted_issuer', SLOT)
  const read = await readCommon(jws, {
    ...deps,
    maxLifetimeSeconds: platform.maxAssertionLifetimeSeconds,
    by: platform,
    typ: { typ: ['jwt'], typOptional: true },
  })
  if (!read.ok) return read
  const { sub, grant } = read.value
  // An agent for itself: who acts for another is said in an ID-JAG, by whoever may speak for that other.
  if (jws.payload['act'] !== undefined) return refuse('forged_actor', SLOT)
  const jkt = readKeyBinding(jws.payload['cnf'])
  if (jkt === 'bad') return refuse('bad_claim', SLOT, { detail: 'cnf must hold one jkt' })
  const facts = readUserFacts(jws.payload, sub, { ...platform, mayDelegate: false }, SLOT)
  if (!facts.ok) return facts
  const { groups, claims } = facts.value.facts
  return ok({ platform, sub, groups, claims, grant, ...(jkt === undefined ? {} : { jkt }) })
}

/** The one registration that an assertion matches: its issuer, and where several platforms share it, their claim. */
export type PlatformOf = (payload: Readonly<Record<string, unknown>>) => AgentPlatform | undefined

interface Signer {
  readonly algorithms: readonly string[]
  readonly keys: TrustedIssuer['keys']
}

async function readCommon(
  jws: ParsedJws,
  {
    issuer,
    now,
    by,
    typ,
    maxLifetimeSeconds,
  }: {
    readonly issuer: string
    readonly now: number
    readonly by: Signer
    readonly typ: Pick<HeaderRule, 'typ' | 'typOptional'>
    readonly maxLifetimeSeconds: number
  },
): Promise<Result<{ readonly sub: string; readonly grant: AssertionGrant }>> {
  const header = checkHeader(jws.header, { ...typ, algs: by.algorithms, kid: 'required' })
  if (!header.ok) return refuse(header.fault, SLOT)
  const jwk = await by.keys(header.value.kid!)
  if (!jwk) return refuse('unknown_kid', SLOT)
  const key = importVerifyKey(jwk, { algs: by.algorithms })
  if (!key.ok) return refuse('bad_key', SLOT)
  if (key.value.alg !== header.value.alg) return refuse('alg_not_allowed', SLOT)
  if (!verifySignature(key.value, jws.signingInput, jws.signature)) return refuse('bad_signature', SLOT)

  const { payload } = jws
  // draft-ietf-oauth-identity-assertion-authz-grant, *Processing Rules*: one string, or a list of that one string.
  const aud = payload['aud']
  if (!(aud === issuer || (Array.isArray(aud) && aud.length === 1 && aud[0] === issuer))) {
    return refuse('wrong_audience', SLOT, {
      detail: 'aud must be the issuer identifier of this service, and nothing else',
    })
  }
  const sub = readSubjectText(payload['sub'])
  if (!sub.ok) return refuse(sub.fault, SLOT)
  const exp = readNumericDate(payload['exp'])
  const iat = readNumericDate(payload['iat'])
  const nbf = readNumericDate(payload['nbf'] ?? 0)
  if (!exp.ok || !iat.ok || !nbf.ok) return refuse('bad_numeric_date', SLOT)
  if (now >= exp.value) return refuse('expired', SLOT)
  if (Math.max(iat.value, nbf.value) > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', SLOT)
  if (exp.value <= iat.value || exp.value - iat.value > maxLifetimeSeconds) {
    return refuse('evidence_lifetime', SLOT, { detail: `an assertion may live ${maxLifetimeSeconds} s at most` })
  }
  const { iss, jti, scope } = payload
  if (typeof jti !== 'string' || !JTI.test(jti)) return refuse('bad_claim', SLOT, { detail: 'jti is required' })
  const resources = readResources(payload['resource'])
  if (resources === 'bad') return refuse('bad_claim', SLOT, { detail: 'resource must be a URI, or a list of them' })
  if (scope !== undefined && typeof scope !== 'string')
    return refuse('bad_claim', SLOT, { detail: 'scope must be text' })
  const details = payload['authorization_details']
  if (details !== undefined && !Array.isArray(details)) {
    return refuse('bad_claim', SLOT, { detail: 'authorization_details must be a list' })
  }
  return ok({
    sub: sub.value,
    grant: {
      iss: String(iss),
      jti,
      issuedAt: iat.value,
      expiresAt: exp.value,
      ...(resources === undefined ? {} : { resources }),
      ...(scope === undefined ? {} : { scope }),
      ...(details === undefined ? {} : { details }),
    },
  })
}

function readResources(value: unknown): readonly string[] | undefined | 'bad' {
  if (value === undefined) return undefined
  const all: readonly unknown[] = Array.isArray(value) ? value : [value]
  if (all.length === 0 || all.length > MAX_RESOURCES) return 'bad'
  return all.every((each): each is string => typeof each === 'string') ? all : 'bad'
}

/** Whether it comes with the key that it is bound to, where it is bound to one. */
export function checkKeyBinding(
  { jkt }: { readonly jkt?: string },
  confirmation: Confirmation | undefined,
): Result<void> {
  if (jkt === undefined) return ok(undefined)
  if (!confirmation || !('jkt' in confirmation)) return refuse('binding_downgrade', SLOT)
  return confirmation.jkt === jkt ? ok(undefined) : refuse('cnf_mismatch', SLOT)
}

/** RFC 9449 §6.1. */
function readKeyBinding(cnf: unknown): string | undefined | 'bad' {
  if (cnf === undefined) return undefined
  if (typeof cnf !== 'object' || cnf === null || Array.isArray(cnf)) return 'bad'
  const { jkt, ...more } = cnf as Readonly<Record<string, unknown>>
  return typeof jkt === 'string' && Object.keys(more).length === 0 ? jkt : 'bad'
}

/** Under which an assertion is remembered as spent: by (iss, jti), never by its text. */
export const assertionSpendId = ({ iss, jti }: Pick<AssertionGrant, 'iss' | 'jti'>): string =>
  `assertion-grant:${createHash('sha256').update(iss).update('\0').update(jti).digest('base64url')}`
