/**
 * What an identity provider authenticates with where it orders that everything of a user be ended
 * (draft-parecki-oauth-global-token-revocation): a JWT of a kind of its own, for that one endpoint, of one use, by the
 * keys that sign its users' tokens. So it can speak for its own users, and for nothing else.
 */
import { createHash } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { ok, type Result, refuse } from '../../oauth/refusal.ts'
import { TYP } from '../../oauth/words.ts'
import { typFits } from '../../tokens/kinds.ts'
import type { TrustedIssuer } from '../../tokens/trusted-issuer.ts'
import { signedBy } from './signed-by.ts'

const MAX_LIFETIME_SECONDS = 3600
const JTI = /^[\x21-\x7e]{1,256}$/
const SLOT = 'api'

export interface RevocationOrder {
  readonly issuer: TrustedIssuer
  /** By the issuer's own clock, which its users' tokens go by too. */
  readonly issuedAt: number
  readonly oneUse: { readonly id: string; readonly expiresAt: number }
}

export async function readRevocationOrder(
  token: string,
  deps: {
    readonly now: number
    /** The endpoint: the one audience. */
    readonly endpoint: string
    readonly byIss: (iss: string) => TrustedIssuer | undefined
  },
): Promise<Result<RevocationOrder>> {
  const { now, endpoint, byIss } = deps
  const jws = parseJws(token)
  if (!jws.ok) return refuse(jws.fault, SLOT)
  if (!typFits(jws.value.header['typ'], 'revocation_order')) return refuse('wrong_typ', SLOT)
  const { iss, aud, jti, exp, iat, nbf } = jws.value.payload
  const issuer = typeof iss === 'string' ? byIss(iss) : undefined
  if (!issuer?.mayEndUsers) return refuse('untrusted_issuer', SLOT)
  const signed = await signedBy(jws.value, TYP.globalTokenRevocation, issuer)
  if (!signed.ok) return signed
  if (!(aud === endpoint || (Array.isArray(aud) && aud.length === 1 && aud[0] === endpoint)))
    return refuse('wrong_audience', SLOT)
  const ends = readNumericDate(exp)
  const issued = readNumericDate(iat)
  const begins = readNumericDate(nbf ?? 0)
  if (!ends.ok || !issued.ok || !begins.ok) return refuse('bad_numeric_date', SLOT)
  if (now >= ends.value) return refuse('expired', SLOT)
  if (Math.max(issued.value, begins.value) > now + CLOCK_LEEWAY_SECONDS) return refuse('not_yet_valid', SLOT)
  if (ends.value - issued.value > MAX_LIFETIME_SECONDS) return refuse('evidence_lifetime', SLOT)
  if (typeof jti !== 'string' || !JTI.test(jti)) return refuse('bad_claim', SLOT)
  const id = createHash('sha256').update(issuer.issuer).update('\0').update(jti).digest('base64url')
  return ok({
    issuer,
    issuedAt: issued.value,
    oneUse: { id: `revocation-order:${id}`, expiresAt: ends.value + CLOCK_LEEWAY_SECONDS },
  })
}
