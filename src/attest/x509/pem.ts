/** Reads certificates out of PEM (RFC 7468 §5) or the `x5c` of a JWKS, strictly: a private key among them must be told. */
import { isJsonObject, parseStrictJson } from '@errand/verifier/strict-json.ts'
import { decodeBase64 } from '../base64.ts'
import { MAX_CERTIFICATE_BYTES } from './certificate.ts'

export type ReadCertificates =
  | { readonly ok: true; readonly certificates: readonly Uint8Array[] }
  | { readonly ok: false; readonly problem: string }

const MAX_CERTIFICATES = 64
/** Text between blocks is for people (§2). */
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,64})-----([A-Za-z0-9+/=\s]*)-----END ([A-Z0-9 ]{1,64})-----/g

/** RFC 8705 §2.2.2: a client's certificates may come as a JWKS; of each key the first certificate is the client's. */
export function readCertificates(text: string): ReadCertificates {
  return text.trimStart().startsWith('{') ? readJwksCertificates(text) : readPemCertificates(text)
}

function readJwksCertificates(text: string): ReadCertificates {
  const no = (problem: string) => ({ ok: false, problem }) as const
  const json = parseStrictJson(text)
  const keys = json.ok && isJsonObject(json.value) ? json.value['keys'] : undefined
  if (!Array.isArray(keys) || keys.length === 0) return no('it is no JWKS')
  if (keys.length > MAX_CERTIFICATES) return no(`more than ${MAX_CERTIFICATES} certificates`)
  const certificates: Uint8Array[] = []
  for (const key of keys) {
    if (!isJsonObject(key) || 'd' in key || 'k' in key) return no('it holds a private or symmetric key')
    const { x5c } = key
    const first = Array.isArray(x5c) ? x5c[0] : undefined
    const der = typeof first === 'string' ? decodeBase64(first) : undefined // RFC 7517 §4.7: base64, not base64url
    if (der === undefined || der.length === 0) return no('a key in it has no x5c')
    certificates.push(der)
  }
  return { ok: true, certificates }
}

function readPemCertificates(text: string): ReadCertificates {
  const no = (problem: string) => ({ ok: false, problem }) as const
  const certificates: Uint8Array[] = []
  let blocks = 0
  for (const [, begin, body = '', end] of text.matchAll(BLOCK)) {
    blocks++
    if (begin !== 'CERTIFICATE' || end !== begin) return no(`it holds a block that is no certificate (${begin})`)
    const der = decodeBase64(body.replace(/\s/g, ''))
    if (der === undefined || der.length === 0) return no('a certificate in it is not base64')
    if (der.length > MAX_CERTIFICATE_BYTES) return no(`a certificate in it is above ${MAX_CERTIFICATE_BYTES} bytes`)
    certificates.push(der)
    if (certificates.length > MAX_CERTIFICATES) return no(`more than ${MAX_CERTIFICATES} certificates`)
  }
  // A block that is not closed would otherwise vanish without a word.
  if (text.split('-----BEGIN ').length - 1 !== blocks) return no('a block in it is not whole')
  return blocks === 0 ? no('there is no certificate in it') : { ok: true, certificates }
}
