import { constants, X509Certificate } from 'node:crypto'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:tls'
import { describe, expect, it } from 'vitest'
import { chainOf, clientCertificate, createTrustedProxies } from '../../src/attest/client-certificate.ts'
import type { Result } from '../../src/oauth/refusal.ts'
import { validateX509Svid } from '../../src/attest/x509/validate.ts'
import { createTestTrustDomain, issue, NOW, pemOf } from './pki.ts'

const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const field = (der: Uint8Array) => `:${Buffer.from(der).toString('base64')}:`
const leaf = Buffer.from('leaf certificate')
const issuer = Buffer.from('issuer certificate')
const own = Buffer.from('what the peer itself showed')
const deps = { isTrustedProxy: createTrustedProxies(['10.0.0.0/8', '2001:db8::/32', '192.0.2.7']), byHeader: true }

describe('the client certificate of a request', () => {
  it('is what the connection shows where no proxy is in between', () => {
    expect(clientCertificate({ peerAddress: '203.0.113.9', chain: [own] }, deps)).toEqual({ ok: true, value: [own] })
    expect(clientCertificate({ peerAddress: '203.0.113.9' }, deps)).toEqual({ ok: true, value: undefined })
  })

  it('E11 a header that is sent straight to us is as if it were not there', () => {
    const spoofed = { peerAddress: '203.0.113.9', clientCert: field(leaf), clientCertChain: field(issuer) }
    expect(clientCertificate(spoofed, deps)).toEqual(clientCertificate({ peerAddress: '203.0.113.9' }, deps))
    const beside = clientCertificate({ ...spoofed, chain: [own] }, deps)
    expect(beside).toEqual({ ok: true, value: [own] })
    const broken = clientCertificate({ peerAddress: '203.0.113.9', clientCert: 'nonsense' }, deps)
    expect(broken).toEqual({ ok: true, value: undefined })
  })

  it('E11 from a proxy it is the header alone, never the proxy’s own certificate', () => {
    const proxied = { peerAddress: '10.1.2.3', chain: [own] }
    expect(clientCertificate(proxied, deps)).toEqual({ ok: true, value: undefined })
    const both = { ...proxied, clientCert: field(leaf), clientCertChain: `${field(issuer)}, ${field(own)}` }
    expect(clientCertificate(both, deps)).toEqual({
      ok: true,
      value: [leaf, issuer, own].map((der) => Buffer.from(der)),
    })
  })

  it('E11 where no header is configured, proxies pass none', () => {
    const request = { peerAddress: '10.1.2.3', chain: [own], clientCert: field(leaf) }
    expect(clientCertificate(request, { ...deps, byHeader: false })).toEqual({ ok: true, value: [own] })
  })

  const malformed: readonly [string, string | undefined, string | undefined, string][] = [
    ['two certificates in one field', `${field(leaf)}, ${field(issuer)}`, undefined, 'x509_malformed'],
    ['no colons', Buffer.from(leaf).toString('base64'), undefined, 'x509_malformed'],
    ['a parameter', `${field(leaf)};x=1`, undefined, 'x509_malformed'],
    ['an empty field', '', undefined, 'x509_malformed'],
    ['an empty value', '::', undefined, 'x509_malformed'],
    ['unused bits', ':QUJ=:', undefined, 'x509_malformed'],
    ['another alphabet', ':__8=:', undefined, 'x509_malformed'],
    ['an empty list', field(leaf), '', 'x509_malformed'],
    ['a list without its leaf', undefined, field(issuer), 'x509_malformed'],
    ['PEM in a header', encodeURIComponent('-----BEGIN CERTIFICATE-----'), undefined, 'x509_malformed'],
    ['ten issuers', field(leaf), Array.from({ length: 10 }, () => field(issuer)).join(), 'x509_policy'],
    ['a megabyte', field(Buffer.alloc(1_048_576)), undefined, 'x509_policy'],
  ]
  it.each(malformed)('E11 a trusted proxy that sends %s is refused', (_title, clientCert, clientCertChain, reason) => {
    const result = clientCertificate(
      {
        peerAddress: '10.1.2.3',
        ...(clientCert === undefined ? {} : { clientCert }),
        ...(clientCertChain === undefined ? {} : { clientCertChain }),
      },
      deps,
    )
    expect(reasonOf(result)).toBe(reason)
  })
})

describe('trusted proxies', () => {
  it.each([
    ['10.255.0.1', true],
    ['::ffff:10.255.0.1', true],
    ['11.0.0.1', false],
    ['::ffff:11.0.0.1', false],
    ['192.0.2.7', true],
    ['192.0.2.8', false],
    ['2001:db8:1::1', true],
    ['2001:db9::1', false],
    ['', false],
    ['10.0.0.1, 1.2.3.4', false],
    ['proxy.example', false],
  ])('%s is one: %s', (address, trusted) => {
    expect(deps.isTrustedProxy(address)).toBe(trusted)
  })

  it('nobody is one by default', () => {
    expect(createTrustedProxies([])('127.0.0.1')).toBe(false)
  })

  it.each(['10.0.0.0/33', '10.0.0.0/8/8', '10.0.0/8', 'proxy.example', '10.0.0.0/', '10.0.0.0/-1', '::/129'])(
    'configuration that names %s is refused',
    (block) => {
      expect(() => createTrustedProxies([block])).toThrow(block)
    },
  )
})

describe('what a handshake showed', () => {
  it('is read leaf first and ends at a certificate that is linked to itself', async () => {
    const domain = await createTestTrustDomain('company.example')
    const svid = await domain.x509Svid('/agents/research')
    const chain = [svid, domain.intermediate, domain.root].map((each) => new X509Certificate(pemOf(each)))
    const linked = chain.map((certificate, i) => ({ raw: certificate.raw, issuerCertificate: chain[i + 1] }))
    for (const [i, each] of linked.entries()) {
      Object.assign(each, { issuerCertificate: linked[i + 1] ?? each })
    }
    const socket = { getPeerX509Certificate: () => linked[0] as unknown as X509Certificate }
    expect(chainOf(socket)?.map((der) => Buffer.from(der))).toEqual(chain.map(({ raw }) => raw))
    expect(chainOf({ getPeerX509Certificate: () => undefined })).toBeUndefined()
  })

  it('carries an X.509-SVID through a real handshake, and through the next one, where sessions are not resumed', async () => {
    const domain = await createTestTrustDomain('company.example')
    const svid = await domain.x509Svid('/agents/research')
    const pkcs8 = Buffer.from(await crypto.subtle.exportKey('pkcs8', svid.keys.privateKey)).toString('base64')
    const key = `-----BEGIN PRIVATE KEY-----\n${pkcs8}\n-----END PRIVATE KEY-----`
    const cert = pemOf(svid) + pemOf(domain.intermediate)
    const shown: (string | undefined)[] = []
    // A resumed session remembers the leaf alone, and a path cannot be built from that.
    const secureOptions = constants.SSL_OP_NO_TICKET
    const server = createServer(
      { cert, key, requestCert: true, rejectUnauthorized: false, secureOptions },
      (socket) => {
        const [first, ...rest] = chainOf(socket) ?? []
        const trustDomains = () => domain.trustDomain
        const verdict = first && validateX509Svid({ leaf: first, intermediates: rest, trustDomains, now: NOW })
        shown.push(verdict?.ok ? verdict.value.spiffeId : verdict?.fault)
        socket.end('.')
      },
    )
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    const { port } = server.address() as AddressInfo
    let session: Buffer | undefined
    for (let i = 0; i < 2; i++) {
      await new Promise<void>((done, failed) => {
        const resumed = session === undefined ? {} : { session }
        const socket = connect({ host: '127.0.0.1', port, cert, key, rejectUnauthorized: false, ...resumed })
        socket.on('session', (fresh) => {
          session = fresh
        })
        socket.on('error', failed).on('close', () => done())
        socket.resume()
      })
    }
    server.close()
    expect(shown).toEqual(Array(2).fill('spiffe://company.example/agents/research'))
  })

  it('F14 is cut where it is longer than any chain that is accepted', async () => {
    const { der } = await issue({})
    let made = 0
    const endless = (): X509Certificate =>
      ({
        raw: Buffer.concat([der, Buffer.from([++made & 0xff])]),
        get issuerCertificate() {
          return endless()
        },
      }) as unknown as X509Certificate
    expect(chainOf({ getPeerX509Certificate: endless })).toHaveLength(11)
  })
})
