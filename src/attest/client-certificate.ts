/**
 * The client certificate of a request: from its own TLS connection, or from the header fields of RFC 9440 where the
 * peer is a reverse proxy that the configuration names. A header that anybody else sends is as if it were not there.
 */
import type { X509Certificate } from 'node:crypto'
import { BlockList, isIP } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { ok, type Result, refuse, type Slot } from '../oauth/refusal.ts'
import { decodeBase64 } from './base64.ts'
import { createRemembered } from './remembered.ts'
import { MAX_CERTIFICATE_BYTES } from './x509/certificate.ts'
import { MAX_PATH_CERTIFICATES } from './x509/path.ts'

export type IsTrustedProxy = (address: string) => boolean

/** `blocks` are addresses or CIDR blocks. Throws where one is neither: that is for whoever reads the configuration. */
export function createTrustedProxies(blocks: readonly string[]): IsTrustedProxy {
  const list = new BlockList()
  for (const block of blocks) {
    const [address, bits, ...more] = block.split('/') as [string, string?, ...string[]]
    const version = isIP(address)
    const family = version === 6 ? 'ipv6' : 'ipv4'
    const width = version === 6 ? 128 : 32
    const prefix = bits === undefined ? width : /^\d{1,3}$/.test(bits) ? Number(bits) : Number.NaN
    if (version === 0 || more.length > 0 || !(prefix <= width)) {
      throw new TypeError(`${block} is neither an address nor a CIDR block`)
    }
    list.addSubnet(address, prefix, family)
  }
  // Most services have none, or a few proxies that all requests come from.
  if (blocks.length === 0) return () => false
  const known = createRemembered<boolean>(MAX_PEERS)
  const isListed = (peer: string): boolean => {
    // A dual-stack socket reports IPv4 peers as ::ffff:a.b.c.d, one with a zone as fe80::1%eth0.
    const address = peer.replace(/%.*$/, '').replace(/^::ffff:(?=\d+\.)/i, '')
    const version = isIP(address)
    return version !== 0 && list.check(address, version === 6 ? 'ipv6' : 'ipv4')
  }
  return (peer) => {
    const before = known.get(peer)
    if (before !== undefined) return before
    const listed = isListed(peer)
    known.put(peer, listed)
    return listed
  }
}

const MAX_PEERS = 1_000

export interface PeerRequest {
  readonly peerAddress: string
  /** DER, leaf first, from the TLS connection itself. */
  readonly chain?: readonly Uint8Array[]
  /** Whole value of `Client-Cert`, or of the field that the configuration names in its place. */
  readonly clientCert?: string
  /** Whole value of `Client-Cert-Chain`. */
  readonly clientCertChain?: string
}

export interface ClientCertificateDeps {
  readonly isTrustedProxy: IsTrustedProxy
  /** Whether the configuration names a header field in which proxies pass certificates. */
  readonly byHeader: boolean
}

/** DER, leaf first; undefined where the client showed none. Looked at on every request, never once per connection. */
export function clientCertificate(
  { peerAddress, chain, clientCert, clientCertChain }: PeerRequest,
  { isTrustedProxy, byHeader }: ClientCertificateDeps,
  slot: Slot = 'client',
): Result<readonly Uint8Array[] | undefined> {
  if (!byHeader || !isTrustedProxy(peerAddress)) return ok(chain)
  // From here on the connection's own certificate is the proxy's, which is nobody's evidence.
  if (clientCert === undefined) return clientCertChain === undefined ? ok(undefined) : refuse('x509_malformed', slot)
  // RFC 9440 §2.2, §2.3: an Item and a List of byte sequences (RFC 8941 §3.3.5), without parameters.
  const items = clientCertChain === undefined ? [] : clientCertChain.split(',', MAX_PATH_CERTIFICATES + 1)
  const values = [clientCert, ...items]
  if (values.length > MAX_PATH_CERTIFICATES) return refuse('x509_policy', slot)
  const certificates: Uint8Array[] = []
  for (const value of values) {
    if (value.length > (MAX_CERTIFICATE_BYTES * 4) / 3 + 8) return refuse('x509_policy', slot)
    const base64 = /^[ \t]*:([A-Za-z0-9+/]+={0,2}):[ \t]*$/.exec(value)?.[1]
    const der = base64 === undefined ? undefined : decodeBase64(base64)
    if (der === undefined) return refuse('x509_malformed', slot)
    certificates.push(der)
  }
  return ok(certificates)
}

/** What the peer showed in its handshake, leaf first; undefined where it showed nothing. */
export function chainOf(socket: Pick<TLSSocket, 'getPeerX509Certificate'>): readonly Uint8Array[] | undefined {
  const chain: Uint8Array[] = []
  let next: X509Certificate | undefined = socket.getPeerX509Certificate()
  // Node links a self-signed certificate to itself; the bound is one more than what is accepted, so that it is refused.
  while (next !== undefined && chain.length <= MAX_PATH_CERTIFICATES) {
    const { raw } = next
    if (chain.some((known) => raw.equals(known))) break
    chain.push(raw)
    next = next.issuerCertificate
  }
  return chain.length === 0 ? undefined : chain
}
