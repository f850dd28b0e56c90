/** Reads certificates out of PEM (RFC 7468 §5), strictly: a private key among them is a mistake that must be told. */
import { decodeBase64 } from '../base64.ts'
import { MAX_CERTIFICATE_BYTES } from './certificate.ts'

export type ReadPem =
  | { readonly ok: true; readonly certificates: readonly Uint8Array[] }
  | { readonly ok: false; readonly problem: string }

const MAX_CERTIFICATES = 64
/** Text between blocks is for people (§2). */
const BLOCK = /-----BEGIN ([A-Z0-9 ]{1,64})-----([A-Za-z0-9+/=\s]*)-----END ([A-Z0-9 ]{1,64})-----/g

export function readPemCertificates(text: string): ReadPem {
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
