/** What a request says about its caller: one Authorization header, perhaps one proof, perhaps a client certificate. */
import type { X509Certificate } from 'node:crypto'
import { sha256Base64url } from './crypto.ts'

export type HeadersLike = Headers | { readonly [name: string]: string | readonly string[] | undefined }

/**
 * A request as the caller sent it. A Fetch `Request` is one. Give Node's `headersDistinct` rather than `headers`,
 * which hides a second Authorization header.
 */
export interface VerifyRequest {
  readonly method: string
  /** Absolute, as the client sees it: a proof names it. */
  readonly url: string
  readonly headers: HeadersLike
  /** Of the TLS connection that the request came over, verified by whoever terminated it. */
  readonly clientCertificate?: X509Certificate
}

export interface Presented {
  readonly scheme: 'DPoP' | 'Bearer'
  readonly token: string
}

/** All values of a field, joined by a comma where there are several (RFC 9110 §5.3). */
export function headerValue(headers: HeadersLike, name: string): string | undefined {
  if (typeof (headers as Headers).get === 'function') return (headers as Headers).get(name) ?? undefined
  const found: string[] = []
  const fields = headers as Exclude<HeadersLike, Headers>
  for (const key of Object.keys(fields)) {
    if (key.length !== name.length || key.toLowerCase() !== name) continue
    const value = fields[key]
    if (typeof value === 'string') found.push(value)
    else if (value !== undefined) found.push(...value)
  }
  return found.length === 0 ? undefined : found.join(', ')
}

const NO_TOKEN = /[\s,]/

export function readAuthorization(request: VerifyRequest): Presented | 'token_required' | 'bad_auth_scheme' {
  const query = request.url.indexOf('?')
  // RFC 6750 §2.3: a token in a URL ends up in logs.
  if (query >= 0 && new URLSearchParams(request.url.slice(query + 1)).has('access_token')) return 'bad_auth_scheme'
  const value = headerValue(request.headers, 'authorization')
  if (value === undefined) return 'token_required'
  // RFC 9110 §11.4: scheme, one space, token. A comma would be a second header; a tab is no space.
  const space = value.indexOf(' ')
  const scheme = value.slice(0, Math.max(space, 0)).toLowerCase()
  const token = value.slice(space + 1)
  if ((scheme !== 'dpop' && scheme !== 'bearer') || token === '' || NO_TOKEN.test(token)) return 'bad_auth_scheme'
  return { scheme: scheme === 'dpop' ? 'DPoP' : 'Bearer', token }
}

/** RFC 8705 §3.1: `x5t#S256`. */
export const certificateThumbprint = (certificate: X509Certificate): string => sha256Base64url(certificate.raw)

export const isCurrent = (certificate: X509Certificate, now: number): boolean =>
  Date.parse(certificate.validFrom) <= now * 1000 && now * 1000 < Date.parse(certificate.validTo)
