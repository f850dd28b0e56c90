/** Reads a SPIFFE bundle (SPIFFE Trust Domain and Bundle §4): the anchors of one trust domain. */
import { X509Certificate } from 'node:crypto'
import type { JWK } from 'jose'
import { readPublicKeys } from './jwks.ts'

const MAX_ENTRIES = 64
const JWT_SVID_ALGORITHMS = ['ES256', 'ES384', 'RS256', 'PS256'] as const

export type BundleReading =
  | { readonly jwtKeys: readonly JWK[]; readonly x509Anchors: readonly Uint8Array[] }
  | { readonly why: string }

export function readBundle(value: unknown): BundleReading {
  if (!isRecord(value) || !Array.isArray(value['keys'])) return { why: 'it has no list "keys"' }
  const entries: readonly unknown[] = value['keys']
  if (entries.length > MAX_ENTRIES) return { why: `more than ${MAX_ENTRIES} keys` }
  const jwt: Record<string, unknown>[] = []
  const x509Anchors: Uint8Array[] = []
  for (const entry of entries) {
    if (!isRecord(entry)) return { why: 'a key is not an object' }
    // §4.2.2: an entry whose use is unknown is ignored.
    if (entry['use'] === 'jwt-svid') jwt.push({ ...entry, use: 'sig' })
    if (entry['use'] !== 'x509-svid') continue
    const chain = entry['x5c']
    // §4.2.4: exactly one certificate, base64 DER.
    if (!Array.isArray(chain) || chain.length !== 1 || typeof chain[0] !== 'string')
      return { why: 'an x509-svid entry needs one certificate in x5c' }
    const der = Buffer.from(chain[0], 'base64')
    try {
      if (!new X509Certificate(der).ca) return { why: 'a certificate in it is no CA certificate' }
    } catch {
      return { why: 'a certificate in it cannot be read' }
    }
    x509Anchors.push(new Uint8Array(der))
  }
  if (jwt.length === 0)
    return x509Anchors.length === 0
      ? { why: 'it has neither a jwt-svid nor an x509-svid key' }
      : { jwtKeys: [], x509Anchors }
  const read = readPublicKeys(jwt, JWT_SVID_ALGORITHMS)
  return read.ok ? { jwtKeys: read.keys, x509Anchors } : { why: read.why }
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
