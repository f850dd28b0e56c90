/**
 * Reads a SPIFFE bundle (SPIFFE Trust Domain and Bundle §4) into a trust domain, whole or not at all: the anchors of
 * identity are no place for skipping what looks odd. Only what the format says to ignore is ignored.
 */
import { decodeBase64 } from './base64.ts'
import { importVerifyKey, jwkThumbprint } from '@errand/verifier/signature.ts'
import { isJsonObject, type JsonObject, parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { JWK } from 'jose'
import { isTrustDomainName } from './spiffe-id.ts'
import type { TrustDomain } from './trust-domain.ts'
import { type Certificate, parseCertificate } from './x509/certificate.ts'
import { keyObject } from './x509/keys.ts'

const MAX_BUNDLE_BYTES = 262_144
const MAX_KEYS = 100

/** JWT-SVID §2.1, as far as we verify it. */
export const JWT_SVID_ALGS = ['ES256', 'ES384', 'RS256', 'PS256'] as const

export type ReadBundle =
  | {
      readonly ok: true
      readonly value: TrustDomain
      /** `spiffe_refresh_hint` (§4.1.2), seconds. */
      readonly refreshHint?: number
    }
  | { readonly ok: false; readonly problem: string }

export interface BundleSource {
  /** The trust domain it belongs to: a bundle does not say so itself (§3). */
  readonly name: string
  readonly file: string
  readonly pathRoot?: string
  readonly imageDigestClaim?: readonly string[]
}

export function readBundle(content: string | Uint8Array, source: BundleSource): ReadBundle {
  const { name } = source
  const no = (problem: string) => ({ ok: false, problem }) as const
  if (!isTrustDomainName(name)) return no(`${name} is no trust domain name: lower-case letters, digits, ".", "-", "_"`)
  const json = parseStrictJson(content, { maxBytes: MAX_BUNDLE_BYTES })
  if (!json.ok) return no(`not a JSON object that can be read one way only (${json.fault})`)
  const document = isJsonObject(json.value) ? json.value : {}
  const { keys, spiffe_sequence: sequence, spiffe_refresh_hint: refreshHint } = document
  for (const [member, value] of Object.entries({ spiffe_sequence: sequence, spiffe_refresh_hint: refreshHint })) {
    if (value !== undefined && !isWhole(value)) return no(`"${member}" must be a whole number`)
  }
  if (!Array.isArray(keys)) return no('"keys" must be an array of JWKs')
  if (keys.length > MAX_KEYS) return no(`more than ${MAX_KEYS} keys`)

  const jwtKeys: JWK[] = []
  const witKeys: JWK[] = []
  const x509Anchors: Uint8Array[] = []
  for (const [i, jwk] of keys.entries()) {
    if (!isJsonObject(jwk)) return no(`keys[${i}] is no JWK`)
    if (jwk['use'] === 'jwt-svid' || jwk['use'] === 'wit-svid') {
      const read = jwtKey(jwk)
      if (typeof read === 'string') return no(`keys[${i}]: ${read}`)
      // WIT-SVID §6.1: also across the two uses, so that a key never serves as the other kind's.
      if ([...jwtKeys, ...witKeys].some(({ kid }) => kid === read.kid)) return no(`keys[${i}]: kid ${read.kid} twice`)
      ;(jwk['use'] === 'jwt-svid' ? jwtKeys : witKeys).push(read)
    } else if (jwk['use'] === 'x509-svid') {
      const read = anchor(jwk, name)
      if (typeof read === 'string') return no(`keys[${i}]: ${read}`)
      x509Anchors.push(read.der)
    } // §4.2.2: unknown uses are ignored
  }
  if (jwtKeys.length + witKeys.length + x509Anchors.length === 0) {
    return no('no key with "use" jwt-svid, wit-svid or x509-svid')
  }
  return {
    ok: true,
    value: { ...source, jwtKeys, witKeys, x509Anchors, ...(isWhole(sequence) ? { sequence } : {}) },
    ...(isWhole(refreshHint) ? { refreshHint } : {}),
  }
}

const isWhole = (value: unknown): value is number =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0

function jwtKey(jwk: JsonObject): JWK | string {
  const { kid } = jwk
  if (typeof kid !== 'string' || kid === '') return 'a key of a token needs a kid'
  // Bundles name no algorithm; for RSA the usual one is pinned, so that no header ever chooses.
  const alg = jwk['alg'] ?? (jwk['kty'] === 'RSA' ? 'RS256' : undefined)
  const candidate: JsonObject = { ...jwk, use: 'sig', ...(alg === undefined ? {} : { alg }) }
  const key = importVerifyKey(candidate, { algs: JWT_SVID_ALGS })
  return key.ok ? { ...key.value.jwk, kid, alg: key.value.alg } : `not a usable public key (${key.detail ?? key.fault})`
}

function anchor(jwk: JsonObject, name: string): Certificate | string {
  const { x5c } = jwk
  // X509-SVID §6.2 ignores an entry without certificate, and all certificates but the first.
  const first = Array.isArray(x5c) ? x5c[0] : undefined
  if (typeof first !== 'string') return 'an x509-svid key needs its certificate in x5c'
  const der = decodeBase64(first) // RFC 7517 §4.7: base64, not base64url
  const certificate = der && parseCertificate(der)
  if (!certificate?.ok) return `x5c holds no certificate that can be read (${certificate?.fault ?? 'base64'})`
  if (!certificate.value.ca) return 'x5c holds a certificate that is no CA'
  if (certificate.value.key.family === undefined) return 'x5c holds a certificate whose key is too weak or unsupported'
  // X509-SVID §4.2: an authority may say whose it is, and then it is nobody else's.
  const own = `spiffe://${name}`
  for (const each of certificate.value.alternativeNames) {
    if (each.kind !== 'uri' || !/^spiffe:/i.test(each.value)) continue
    if (each.value === own || each.value.startsWith(`${own}/`)) continue
    return 'x5c holds an authority of another trust domain'
  }
  const key = keyObject(certificate.value.key)?.export({ format: 'jwk' })
  let same = false
  try {
    same = key !== undefined && jwkThumbprint({ ...key }) === jwkThumbprint(jwk)
  } catch {
    // members are missing: then they are not the certificate's
  }
  return same ? certificate.value : 'the key and the certificate in x5c differ' // RFC 7517 §4.7
}
