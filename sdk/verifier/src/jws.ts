/** Compact JWS (RFC 7515 §7.1) as text and structure: size, form, encoding, JSON, and the header's own rules. */
import { decodeBase64url, decodeBase64urlText } from './base64url.ts'
import { type Checked, fail, pass } from './checked.ts'
import { isJsonObject, type JsonObject, parseStrictObject } from './strict-json.ts'

const ASCII = /^[\x00-\x7f]*$/

export const MAX_TOKEN_BYTES = 16_384

export interface CompactJws {
  readonly header: JsonObject
  readonly payloadBytes: Uint8Array
  /** ASCII: the first two parts and their dot (RFC 7515 §5.2). */
  readonly signingInput: string
  readonly signature: Uint8Array
  readonly text: string
}

export interface ParsedJws {
  readonly header: JsonObject
  readonly payload: JsonObject
  readonly signingInput: string
  readonly signature: Uint8Array
  readonly text: string
}

/** Larger only for what comes from our own service, a feed snapshot for one. */
export interface JwsLimits {
  readonly maxBytes?: number
  readonly maxMembers?: number
  /** What the very text of its header was found to say before: it is not read again. */
  readonly header?: JsonObject
  /** The payload is frozen, all of it. */
  readonly frozen?: boolean
}

/** Splits and decodes; the payload stays bytes. */
export function readCompactJws(token: unknown, limits: JwsLimits = {}): Checked<CompactJws> {
  const split = splitJws(token, limits)
  if (!split.ok) return split
  const { text, first, second } = split.value
  const headerBytes = limits.header ? NONE : decodeBase64url(text.slice(0, first))
  const payloadBytes = decodeBase64url(text.slice(first + 1, second))
  const signature = decodeBase64url(text.slice(second + 1))
  if (!headerBytes || !payloadBytes || !signature) return fail('noncanonical_encoding')
  const header = limits.header ? pass(limits.header) : parseStrictObject(headerBytes)
  if (!header.ok) return header
  return pass({ header: header.value, payloadBytes, signingInput: text.slice(0, second), signature, text })
}
const NONE = new Uint8Array(0)

/** Where the dots are. */
function splitJws(
  token: unknown,
  limits: JwsLimits,
): Checked<{ readonly text: string; readonly first: number; readonly second: number }> {
  if (typeof token !== 'string') return fail('not_a_token')
  // What is not ASCII is longer in bytes, and refused by its encoding below.
  if (token.length > (limits.maxBytes ?? MAX_TOKEN_BYTES)) return fail('token_too_large')
  if (token.trimStart().startsWith('{')) return fail('jws_not_compact')
  const first = token.indexOf('.')
  const second = first < 0 ? -1 : token.indexOf('.', first + 1)
  if (second < 0) return fail('not_a_token')
  if (token.indexOf('.', second + 1) >= 0)
    return fail(token.split('.', 6).length === 5 ? 'jwe_not_accepted' : 'not_a_token')
  return pass({ text: token, first, second })
}

/** As text where it is nothing but ASCII: that is read from the place all parts are decoded to, in far less time. */
function decodeJson(part: string): string | Uint8Array | undefined {
  const text = decodeBase64urlText(part)
  return text !== undefined && ASCII.test(text) ? text : decodeBase64url(part)
}

/** The text of a header, as it is remembered. */
export const headerText = (token: string): string => token.slice(0, Math.max(token.indexOf('.'), 0))

/** A JWT: compact JWS whose payload is a JSON object. Says nothing yet of who signed it. */
export function parseJws(token: unknown, limits: JwsLimits = {}): Checked<ParsedJws> {
  const split = splitJws(token, limits)
  if (!split.ok) return split
  const { text, first, second } = split.value
  const headerText = limits.header ? NONE : decodeJson(text.slice(0, first))
  const payloadText = decodeJson(text.slice(first + 1, second))
  const signature = decodeBase64url(text.slice(second + 1))
  if (headerText === undefined || payloadText === undefined || !signature) return fail('noncanonical_encoding')
  const header = limits.header ? pass(limits.header) : parseStrictObject(headerText)
  if (!header.ok) return header
  const { maxMembers, frozen = false } = limits
  const payload = parseStrictObject(payloadText, maxMembers === undefined ? { frozen } : { frozen, maxMembers })
  if (!payload.ok) return payload
  return pass({
    header: header.value,
    payload: payload.value,
    signingInput: text.slice(0, second),
    signature,
    text,
  })
}

/** One row of the table of kinds: what the header of a token in this slot must look like. */
export interface HeaderRule {
  /** Accepted media types, lower case, without `application/`. */
  readonly typ: readonly string[]
  readonly typOptional?: boolean
  readonly algs: readonly string[]
  readonly kid: 'required' | 'optional' | 'forbidden'
  /** Only a DPoP proof carries its key (RFC 9449 §4.2). */
  readonly jwk?: boolean
}

export interface CheckedHeader {
  readonly alg: string
  readonly typ?: string
  readonly kid?: string
  readonly jwk?: JsonObject
}

const MEDIA_TYPE = /^(?:application\/)?([a-z0-9][a-z0-9!#$&^_.+-]{0,126})$/
const KID = /^[\x21-\x7e]{1,256}$/
// Other scripts have letters that fold into ASCII.
/** Undefined where it is no media type we could know: parameters, another top-level type, not text. */
function mediaType(typ: unknown): string | undefined {
  if (typeof typ !== 'string' || !ASCII.test(typ)) return undefined
  return MEDIA_TYPE.exec(typ.toLowerCase())?.[1]
}

/** `typ` first: a token of another kind is that, whatever else its header says. */
export function checkHeader(header: JsonObject, rule: HeaderRule): Checked<CheckedHeader> {
  let typ: string | undefined
  if (header['typ'] !== undefined || !rule.typOptional) {
    typ = mediaType(header['typ']) // RFC 7515 §4.1.9, RFC 8725 §3.11
    if (typ === undefined || !rule.typ.includes(typ)) return fail('wrong_typ')
  }
  // RFC 7515 §4.1.11, RFC 7797: no extension is understood, so none may be critical.
  if (header['crit'] !== undefined || header['b64'] !== undefined) return fail('crit_unsupported')
  if (header['enc'] !== undefined || header['zip'] !== undefined || header['p2c'] !== undefined)
    return fail('jwe_not_accepted')
  for (const name of ['jku', 'x5u', 'x5c'] as const)
    if (header[name] !== undefined) return fail('header_forbidden', `the header may not carry ${name}`)
  const jwk = header['jwk']
  if (jwk !== undefined && !rule.jwk) return fail('header_forbidden', 'the header may not carry jwk')
  const alg = header['alg']
  if (typeof alg !== 'string' || !rule.algs.includes(alg)) return fail('alg_not_allowed')
  const kid = header['kid']
  if (kid === undefined) {
    if (rule.kid === 'required') return fail('unknown_kid')
  } else {
    if (rule.kid === 'forbidden') return fail('header_forbidden', 'the header may not carry kid')
    if (typeof kid !== 'string' || !KID.test(kid)) return fail('unknown_kid')
  }
  const checked: { -readonly [member in keyof CheckedHeader]: CheckedHeader[member] } = { alg }
  if (typ !== undefined) checked.typ = typ
  if (typeof kid === 'string') checked.kid = kid
  if (isJsonObject(jwk)) checked.jwk = jwk
  return pass(checked)
}
