/** DPoP proofs (RFC 9449 §4.3): everything but replay and the nonce's freshness, which need a memory. */
import { type Checked, fail, pass } from './checked.ts'
import { CLOCK_LEEWAY_SECONDS } from './claims.ts'
import { readNumericDate } from './claims-check.ts'
import { sha256Base64url } from './crypto.ts'
import { checkHeader, type HeaderRule, headerText, type ParsedJws, parseJws } from './jws.ts'
import { createRecent } from './recent.ts'
import {
  checkSignature,
  checkSignatureAnywhere,
  holdsSecret,
  importVerifyKey,
  importVerifyKeySoon,
  jwkThumbprint,
  type PublicJwk,
  type VerifyKey,
} from './signature.ts'
import type { JsonObject } from './strict-json.ts'

export const DPOP_ALGS = ['ES256', 'EdDSA'] as const
const DPOP_HEADER: HeaderRule = { typ: ['dpop+jwt'], algs: DPOP_ALGS, kid: 'optional', jwk: true }

export interface DpopExpectation {
  readonly method: string
  /** The URL of the request as its client sees it. */
  readonly url: string
  /** Unix seconds. */
  readonly now: number
  readonly maxAgeSeconds: number
  /** The access token that came with it: then `ath` must be its hash (§4.3 step 12). */
  readonly accessToken?: string
  /** That hash, where it is known already. */
  readonly accessTokenHash?: string
}

export interface DpopProof {
  /** RFC 7638 thumbprint of the proof's key. */
  readonly jkt: string
  readonly jti: string
  readonly iat: number
  readonly nonce?: string
  readonly jwk: PublicJwk
}

interface ProofKey {
  readonly key: VerifyKey
  readonly jkt: string
}

/** Keys that proofs were good with: importing one again costs as much as checking a signature. */
export interface ProofKeys {
  /** By the header of a proof, as it is written: a client writes the same one each time. */
  find(headerText: string): ProofKey | undefined
  remember(headerText: string, key: ProofKey): void
}

/** One that is forgotten is imported again. */
export function createProofKeys(max = MAX_PROOF_KEYS): ProofKeys {
  const known = createRecent<ProofKey & { readonly text: string }>(max)
  return {
    find(text) {
      const found = known.get(placeOf(text))
      return found?.text === text ? found : undefined
    },
    remember(text, { key, jkt }) {
      if (text.length <= MAX_HEADER_TEXT) known.put(placeOf(text), { text, key, jkt })
    },
  }
}
const MAX_PROOF_KEYS = 10_000
/** A longer one is no client's habit, and would only take room. */
const MAX_HEADER_TEXT = 512
/** A part that is the key's wherever other members stand, and shorter than the whole, which is compared. */
const placeOf = (text: string): string => text.slice(-96, -64)

const PRINTABLE = /^[\x21-\x7e]{1,256}$/

/**
 * `headerValue` is the whole value of the DPoP header field. A replayed `jti` is for the caller to refuse. At once, by
 * node:crypto.
 */
export function readDpopProof(headerValue: string, expected: DpopExpectation, keys?: ProofKeys): Checked<DpopProof> {
  const opened = openProof(headerValue, keys)
  if (!opened.ok) return opened
  const { jws, known, jwk, algs } = opened.value
  const key = known ? pass(known.key) : importVerifyKey(jwk, { algs })
  if (!key.ok) return key
  const signed = checkSignature(jws, key.value)
  return signed.ok ? judgeProof(jws, key.value, known?.jkt, expected, keys) : signed
}

/** The same in any runtime; where the answer may be waited for, a new key takes less time. */
export function readDpopProofAnywhere(
  headerValue: string,
  expected: DpopExpectation,
  keys?: ProofKeys,
): Checked<DpopProof> | Promise<Checked<DpopProof>> {
  const opened = openProof(headerValue, keys)
  if (!opened.ok) return opened
  const { jws, known, jwk, algs } = opened.value
  const judge = (key: Checked<VerifyKey>): Checked<DpopProof> | Promise<Checked<DpopProof>> => {
    if (!key.ok) return key
    const judged = (signed: Checked<true>) =>
      signed.ok ? judgeProof(jws, key.value, known?.jkt, expected, keys) : signed
    const signed = checkSignatureAnywhere(jws, key.value)
    return 'ok' in signed ? judged(signed) : signed.then(judged)
  }
  const key = known ? pass(known.key) : importVerifyKeySoon(jwk, { algs })
  return 'ok' in key ? judge(key) : key.then(judge)
}

interface OpenedProof {
  readonly jws: ParsedJws
  /** Its key where that is a remembered one; otherwise it is imported. */
  readonly known: ProofKey | undefined
  readonly jwk: JsonObject | undefined
  readonly algs: readonly string[]
}

/** Its form and its header: all that is looked at before its key. */
function openProof(headerValue: string, keys: ProofKeys | undefined): Checked<OpenedProof> {
  // Repeated fields arrive joined by a comma (RFC 9110 §5.3); §4.3 step 1 wants one.
  if (headerValue.includes(',')) return fail('proof_duplicate')
  const known = keys?.find(headerText(headerValue))
  // A header that was read before is not read again.
  const parsed = parseJws(headerValue, known && { header: { alg: known.key.alg } })
  if (!parsed.ok) return parsed
  if (known) return pass({ jws: parsed.value, known, jwk: undefined, algs: DPOP_ALGS })
  const checked = checkHeader(parsed.value.header, DPOP_HEADER)
  if (!checked.ok) return checked.fault === 'alg_not_allowed' ? fail('proof_key', checked.detail) : checked
  const { jwk, alg } = checked.value
  if (!jwk || holdsSecret(jwk)) return fail('proof_key', 'jwk must be a public key')
  return pass({ jws: parsed.value, known, jwk, algs: [alg] })
}

function judgeProof(
  jws: ParsedJws,
  key: VerifyKey,
  known: string | undefined,
  expected: DpopExpectation,
  keys: ProofKeys | undefined,
): Checked<DpopProof> {
  const { jti, htm, htu, iat, exp, nbf, nonce, ath } = jws.payload
  if (typeof jti !== 'string' || !PRINTABLE.test(jti)) return fail('proof_invalid', 'jti is missing or no identifier')
  if (htm !== expected.method) return fail('htm')
  if (typeof htu !== 'string' || !isTarget(htu, expected.url)) return fail('htu')
  const made = readNumericDate(iat)
  if (!made.ok) return made
  if (made.value > expected.now + CLOCK_LEEWAY_SECONDS) return fail('not_yet_valid')
  if (made.value < expected.now - expected.maxAgeSeconds) return fail('expired')
  if (exp !== undefined && !readNumericDate(exp).ok) return fail('bad_numeric_date')
  if (nbf !== undefined && !readNumericDate(nbf).ok) return fail('bad_numeric_date')
  if (typeof exp === 'number' && exp <= expected.now) return fail('expired')
  if (typeof nbf === 'number' && nbf > expected.now + CLOCK_LEEWAY_SECONDS) return fail('not_yet_valid')
  if (nonce !== undefined && (typeof nonce !== 'string' || !PRINTABLE.test(nonce)))
    return fail('proof_invalid', 'nonce is no text of ours')
  const hash =
    expected.accessTokenHash ?? (expected.accessToken === undefined ? undefined : accessTokenHash(expected.accessToken))
  if (hash !== undefined && ath !== hash) return fail('ath')
  const jkt = known ?? jwkThumbprint(key.jwk)
  if (known === undefined) keys?.remember(headerText(jws.text), { key, jkt })
  const { value } = made
  // Not a copy that grows: on Node 20 that costs microseconds.
  return pass(
    nonce === undefined ? { jkt, jti, iat: value, jwk: key.jwk } : { jkt, jti, iat: value, jwk: key.jwk, nonce },
  )
}

/** What is spelt the same is the same, where it is a target at all. */
function isTarget(htu: string, url: string): boolean {
  const target = targetOf(url)
  return target !== undefined && (htu === url || targetOf(htu) === target)
}

/** RFC 9449 §4.2: `ath`. */
export const accessTokenHash = (accessToken: string): string => sha256Base64url(accessToken)

const TARGET =
  /^(https?):\/\/([a-z0-9.-]+|\[[0-9a-f:.]+\])(?::([0-9]{1,5}))?(\/[a-z0-9._~!$&'()*+,;=:@%/-]*)?(?:[?#].*)?$/i
const DEFAULT_PORT: ReadonlyMap<string, string> = new Map([
  ['http', '80'],
  ['https', '443'],
])

/**
 * A target without query and fragment, scheme and host in lower case, without the default port. The path stays as it
 * is written: `%2F`, `//` and dot segments make other paths, since a server may well see them so.
 */
export function targetOf(url: string): string | undefined {
  const match = TARGET.exec(url)
  if (!match) return undefined
  const scheme = match[1]!.toLowerCase()
  const port = match[3]
  const authority =
    match[2]!.toLowerCase() + (port === undefined || port === DEFAULT_PORT.get(scheme) ? '' : `:${port}`)
  return `${scheme}://${authority}${match[4] ?? '/'}`
}
