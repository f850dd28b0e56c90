/** Everything about an access token but its signature, its binding and its revocation: issuer and verifiers run this. */
import { type Checked, fail, pass } from './checked.ts'
import { type AccessTokenClaims, CLOCK_LEEWAY_SECONDS, MAX_UNFOLLOWED_LIFETIME_SECONDS } from './claims.ts'
import { checkTimes, readAccessTokenClaims } from './claims-check.ts'
import { checkHeader, type HeaderRule, type ParsedJws } from './jws.ts'

export const ACCESS_TOKEN_HEADER: HeaderRule = {
  typ: ['at+jwt'], // RFC 9068 §2.1
  algs: ['ES256'],
  kid: 'required',
}

export interface AccessTokenRule {
  readonly issuer: string
  /** Exact string; where it is absent any audience will do (introspection, subject tokens). */
  readonly audience?: string
  /** Unix seconds. */
  readonly now: number
  readonly maxLifetimeSeconds: number
  /** Whether tokens that development shortcuts issued count. */
  readonly dev: 'accept' | 'refuse'
}

export function checkAccessToken(
  jws: Pick<ParsedJws, 'header' | 'payload'>,
  rule: AccessTokenRule,
): Checked<AccessTokenClaims> {
  const header = checkHeader(jws.header, ACCESS_TOKEN_HEADER)
  if (!header.ok) return header
  const read = readAccessTokenClaims(jws.payload)
  return read.ok ? judgeClaims(read.value, rule) : read
}

/** Whether claims of the right form are for us and count now. */
export function judgeClaims(claims: AccessTokenClaims, rule: AccessTokenRule): Checked<AccessTokenClaims> {
  if (claims.iss !== rule.issuer) return fail('untrusted_issuer')
  if (rule.audience !== undefined && claims.aud !== rule.audience) return fail('wrong_audience')
  if (claims.dev && rule.dev === 'refuse') return fail('bad_claim', 'issued by a development shortcut')
  const times = checkTimes(claims, {
    now: rule.now,
    leeway: CLOCK_LEEWAY_SECONDS,
    // A token without a key is worth stealing, so it lives for less.
    maxLifetime: claims.cnf
      ? rule.maxLifetimeSeconds
      : Math.min(rule.maxLifetimeSeconds, MAX_UNFOLLOWED_LIFETIME_SECONDS),
  })
  return times.ok ? pass(claims) : times
}
