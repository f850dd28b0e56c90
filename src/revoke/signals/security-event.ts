/**
 * Reads a security event token (RFC 8417) of an identity provider, in the profile of the Shared Signals Framework (§4.1):
 * `typ` is explicit, `sub` and `exp` are absent, so that it passes for no other kind of token. It has no end, so its age is
 * bounded here.
 */
import { createHash } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { readNumericDate } from '@errand/verifier/claims-check.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { ok, type Reason, type Result, refuse } from '../../oauth/refusal.ts'
import { TYP } from '../../oauth/words.ts'
import { typFits } from '../../tokens/kinds.ts'
import type { SignalSource, TrustedIssuer } from '../../tokens/trusted-issuer.ts'
import { SIGN_OUT_KNOWN_SECONDS } from '../sign-out.ts'
import { signedBy } from './signed-by.ts'
import type { SetError } from './words.ts'

const JTI = /^[\x21-\x7e]{1,256}$/
const SLOT = 'api'

export interface SecurityEvent {
  readonly jti: string
  /** By (iss, jti), whichever text it came in. */
  readonly id: string
  readonly issuedAt: number
  /** As it came: the reader of an event knows its form. */
  readonly subjectId: unknown
  readonly events: Readonly<Record<string, unknown>>
}

export type Source = TrustedIssuer & { readonly signals: SignalSource }

export const hasSignals = (issuer: TrustedIssuer): issuer is Source => issuer.signals !== undefined

export interface ReadSecurityEvent {
  readonly now: number
  /** What its `aud` must have in it, where the configuration names nothing else. */
  readonly audience: string
  /** Whose word counts, by `iss`. */
  readonly sourceOf: (iss: string) => Source | undefined
}

/** Told whose it is as soon as the signature holds: what is refused after that is refused to somebody known. */
export async function readSecurityEvent(
  token: string,
  { now, audience, sourceOf }: ReadSecurityEvent,
  known: (source: Source) => void,
): Promise<Result<SecurityEvent>> {
  const no = (reason: Reason) => refuse(reason, SLOT)
  const jws = parseJws(token)
  if (!jws.ok) return no(jws.fault)
  if (!typFits(jws.value.header['typ'], 'security_event')) return no('wrong_typ')
  const { payload } = jws.value
  const source = typeof payload['iss'] === 'string' ? sourceOf(payload['iss']) : undefined
  if (!source) return no('untrusted_issuer')
  const signed = await signedBy(jws.value, TYP.securityEvent, source.signals)
  if (!signed.ok) return signed
  known(source)
  const { aud, jti, iat, events } = payload
  const expected = source.signals.audience ?? audience
  if (!(Array.isArray(aud) ? aud : [aud]).includes(expected)) return no('wrong_audience')
  if (Object.hasOwn(payload, 'sub') || Object.hasOwn(payload, 'exp')) return no('unknown_claim')
  if (typeof jti !== 'string' || !JTI.test(jti)) return no('bad_claim')
  const issued = readNumericDate(iat)
  if (!issued.ok) return no('bad_numeric_date')
  if (issued.value > now + CLOCK_LEEWAY_SECONDS) return no('not_yet_valid')
  if (issued.value < now - SIGN_OUT_KNOWN_SECONDS) return no('expired')
  if (typeof events !== 'object' || events === null || Array.isArray(events)) return no('bad_claim')
  if (Object.keys(events).length === 0) return no('bad_claim')
  const id = createHash('sha256').update(source.signals.transmitter).update('\0').update(jti).digest('base64url')
  return ok({
    jti,
    id: `security-event:${id}`,
    issuedAt: issued.value,
    subjectId: payload['sub_id'],
    events: events as Readonly<Record<string, unknown>>,
  })
}

const CODES: Partial<Record<Reason, SetError>> = {
  untrusted_issuer: 'invalid_issuer',
  wrong_audience: 'invalid_audience',
  unknown_kid: 'invalid_key',
  bad_key: 'invalid_key',
  key_state: 'invalid_key',
  bad_signature: 'authentication_failed',
  alg_not_allowed: 'authentication_failed',
}

/** RFC 8935 §2.4: what its transmitter is told. */
export const setErrorOf = (reason: Reason): SetError => CODES[reason] ?? 'invalid_request'
