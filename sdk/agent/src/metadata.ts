/** Where the service's endpoints are: its metadata (RFC 8414), fetched once and believed only for its own issuer. */
import { ErrandError } from './errors.ts'

export interface Endpoints {
  readonly token: string
  /** What `/tasks` and the other JSON endpoints stand on. */
  readonly api: string
}

const LOOPBACK = new Set(['127.0.0.1', '[::1]', 'localhost'])

/** https, or http to this machine alone. */
export function secureUrl(text: unknown): URL | undefined {
  if (typeof text !== 'string' || !URL.canParse(text)) return undefined
  const url = new URL(text)
  if (url.username !== '' || url.password !== '' || url.hash !== '') return undefined
  return url.protocol === 'https:' || (url.protocol === 'http:' && LOOPBACK.has(url.hostname)) ? url : undefined
}

/** RFC 8414 §3.1: the well-known part goes between host and path. */
export function metadataUrl(issuer: string): string {
  const url = new URL(issuer)
  const path = url.pathname === '/' ? '' : url.pathname
  return `${url.origin}/.well-known/oauth-authorization-server${path}`
}

const bad = (description: string): ErrandError => new ErrandError({ status: 0, code: 'bad_response', description })

export function endpointsOf(metadata: unknown, issuer: string, overMtls: boolean): Endpoints {
  const document = (metadata ?? {}) as { [name: string]: unknown }
  // RFC 8414 §3.3: compared as it stands, or whoever serves the document chooses where evidence is sent.
  if (document['issuer'] !== issuer) throw bad('the metadata is of another issuer')
  const aliases = (document['mtls_endpoint_aliases'] ?? {}) as { [name: string]: unknown } // RFC 8705 §5
  const named = overMtls ? (aliases['token_endpoint'] ?? document['token_endpoint']) : document['token_endpoint']
  const token = secureUrl(named)
  if (!token) throw bad('the metadata names no token endpoint over https')
  if (overMtls && token.protocol !== 'https:') throw bad('the metadata names no token endpoint for mTLS')
  return { token: token.href, api: new URL('.', token).href.replace(/\/$/, '') }
}
