import { KeyObject } from 'node:crypto'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { afterAll, describe, expect, it } from 'vitest'
import { createFetchJwks, createRemoteKeys, type FetchJwks } from '../../src/config/fetch-jwks.ts'
import { createTestTrustDomain, type Issued, issue, NOW, pemOf } from '../attest/pki.ts'
import { bundleOf, file, NAME, world, x } from './bundle-world.ts'

describe('a bundle endpoint that proves itself', () => {
  const open: { close(): void }[] = []
  afterAll(() => {
    for (const server of open) server.close()
  })
  const keyPem = ({ keys }: Issued) => String(KeyObject.from(keys.privateKey).export({ format: 'pem', type: 'pkcs8' }))
  /** Serves over TLS on this machine, under the name that certificates are made for. */
  async function serve(identity: Issued, chain: readonly Issued[], text: () => string) {
    let requests = 0
    const server = createServer(
      { cert: [identity, ...chain].map(pemOf).join(''), key: keyPem(identity) },
      (_, response) => {
        requests++
        response.end(text())
      },
    )
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
    open.push(server)
    const { port } = server.address() as AddressInfo
    return { url: `https://spire.company.example:${port}/bundle`, requests: () => requests }
  }
  const fetch = createFetchJwks({
    development: false,
    resolve: async () => [{ address: '127.0.0.1', family: 4 }],
    mayReach: () => true,
  })
  const TODAY = Math.floor(Date.now() / 1000)
  const DAY = { notBefore: TODAY - 60, notAfter: TODAY + 86_400 }
  const HOST = [{ type: 'dns', value: 'spire.company.example' }] as const

  it('F16 https_web with authorities of its own is believed by them alone: jwks_untrusted', async () => {
    const [ca, other] = [
      await issue({ name: 'CN=ca', ca: true, ...DAY }),
      await issue({ name: 'CN=ca', ca: true, ...DAY }),
    ]
    const good = await serve(
      await issue({ name: 'CN=spire', issuer: ca, names: HOST, ...DAY }),
      [],
      () => '{"keys":[]}',
    )
    const swapped = await serve(await issue({ name: 'CN=spire', issuer: other, names: HOST, ...DAY }), [], () => '{}')
    const elsewhere = await serve(
      await issue({ name: 'CN=x', issuer: ca, names: [{ type: 'dns', value: 'other.company.example' }], ...DAY }),
      [],
      () => '{}',
    )
    const trust = { authorities: [ca.der] }
    expect((await fetch(good.url, trust)).text).toBe('{"keys":[]}')
    for (const { url } of [swapped, elsewhere]) await expect(fetch(url, trust)).rejects.toThrow()
    await expect(fetch(good.url)).rejects.toThrow()
    expect([good.requests(), swapped.requests(), elsewhere.requests()]).toEqual([1, 0, 0])

    const w = world(file({ url: swapped.url, authorities: [ca.der] }), [], fetch)
    await w.endpoints.poll()
    expect(w.problems).toEqual([expect.stringMatching(/^jwks_untrusted: /)])

    // The same for the keys of an issuer.
    const remote = createRemoteKeys({ fetch, now: () => NOW })
    const keysOf = ({ url }: { url: string }, authorities?: readonly Uint8Array[]) =>
      remote.of(url, ['ES256'], authorities ? { authorities } : {})('a')
    for (const each of [swapped, elsewhere]) {
      await expect(keysOf(each, [ca.der])).rejects.toMatchObject({ reason: 'jwks_untrusted' })
    }
    await expect(keysOf(swapped)).rejects.toMatchObject({ reason: 'jwks_untrusted' })
    // Vouched for, and holding nothing.
    await expect(keysOf(good, [ca.der])).rejects.toMatchObject({ reason: 'jwks_rejected' })
  })

  it('F16 https_spiffe is believed for its SPIFFE id under the bundle that is held, and is asked nothing before', async () => {
    const domain = await createTestTrustDomain(NAME)
    const other = await createTestTrustDomain('other.example')
    const id = `spiffe://${NAME}/spire/server`
    const second = await createTestTrustDomain(NAME)
    const next = await bundleOf(second, { spiffe_sequence: 2 })
    const bootstrap = await bundleOf(domain)
    const svid = (path: string, of = domain, wish = {}) => of.x509Svid(path, wish)
    const rows: readonly [string, Issued, readonly Issued[], string | undefined][] = [
      ['itself', await svid('/spire/server'), [domain.intermediate], undefined],
      ['another workload', await svid('/agents/research'), [domain.intermediate], 'another workload'],
      ['another trust domain', await svid('/spire/server', other), [other.intermediate], 'origin_not_authorized'],
      [
        'for clients only',
        await svid('/spire/server', domain, { purposes: ['1.3.6.1.5.5.7.3.2'] }),
        [domain.intermediate],
        'x509_policy',
      ],
      ['self-signed', await issue({ name: 'CN=spire', names: [{ type: 'url', value: id }] }), [], 'x509_untrusted'],
      ['expired', await svid('/spire/server', domain, { notAfter: NOW - 1 }), [domain.intermediate], 'x509_validity'],
    ]
    for (const [what, identity, chain, problem] of rows) {
      const served = await serve(identity, chain, () => next)
      const trusted = file({ url: served.url, spiffeId: id }, bootstrap)
      // The root is for agents: the endpoint is no agent.
      const { endpoints, problems } = world({ ...trusted, pathRoot: '/agents' }, [], fetch)
      await endpoints.poll()
      if (problem === undefined) {
        expect([what, problems, served.requests()]).toEqual([what, [], 1])
        expect(x(endpoints.live(trusted))).toBe(second.trustDomain.jwtKeys[0]?.x)
      } else {
        expect([what, problems]).toEqual([what, [expect.stringContaining(problem)]])
        expect(problems[0]).toMatch(/^jwks_untrusted: /)
        expect([what, served.requests()]).toEqual([what, 0])
        expect(x(endpoints.live(trusted))).toBe(domain.trustDomain.jwtKeys[0]?.x)
      }
    }
  })

  it('F16 an endpoint of a trust domain that nothing can be said of is not spoken with, and ends nothing else', async () => {
    const other = await createTestTrustDomain('other.example')
    const identity = await other.x509Svid('/spire/server')
    const served = await serve(identity, [other.intermediate], () => '{}')
    const domain = file({ url: served.url, spiffeId: 'spiffe://other.example/spire/server' })
    const unfetched = file({ url: 'https://spire.other.example/bundle' }, undefined, 'other.example')
    const away: FetchJwks = () => Promise.reject(new Error('away'))
    const w = world(domain, [unfetched], (url, by) => (url === served.url ? fetch : away)(url, by))
    await w.endpoints.poll()
    expect(w.problems).toContainEqual(expect.stringMatching(/^jwks_untrusted: .*no bundle/))
    expect(served.requests()).toBe(0)
  })
})
