import { KeyObject } from 'node:crypto'
import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { createServer } from 'node:https'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { readBundle } from '../../src/attest/bundle.ts'
import type { BundleEndpoint, TrustDomain } from '../../src/attest/trust-domain.ts'
import { type BundleChange, createBundleEndpoints, type KeptBundle } from '../../src/config/bundle-endpoints.ts'
import { createFetchJwks, createRemoteKeys, type FetchTrust } from '../../src/config/fetch-jwks.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { createKeptBundles } from '../../src/store/files/kept-bundles.ts'
import { createTestTrustDomain, type Issued, issue, NOW, pemOf, type TestTrustDomain } from '../attest/pki.ts'

const URL_ = 'https://spire.company.example/bundle'
const NAME = 'company.example'

let first: TestTrustDomain
let second: TestTrustDomain
beforeAll(async () => {
  first = await createTestTrustDomain(NAME)
  second = await createTestTrustDomain(NAME)
})

const bundleOf = async (domain: TestTrustDomain, more: object = {}) =>
  JSON.stringify({ ...(await domain.bundle()), ...more })
const file = (endpoint?: BundleEndpoint, text?: string, name = NAME): TrustDomain => {
  const source = { name, file: 'config/issuers/x.yaml', ...(endpoint ? { bundleEndpoint: endpoint } : {}) }
  const read = text === undefined ? undefined : readBundle(text, source)
  if (read && !read.ok) throw new Error(read.problem)
  return read?.value ?? { ...source, jwtKeys: [], witKeys: [], x509Anchors: [] }
}

function world(domain: TrustDomain, others: readonly TrustDomain[] = []) {
  const state = {
    now: NOW,
    random: 1,
    serves: undefined as string | undefined,
    fetches: 0,
    trust: undefined as FetchTrust | undefined,
    auditDown: false,
    diskDown: false,
    domains: [domain, ...others],
    changes: [] as BundleChange[],
    problems: [] as (string | undefined)[],
    kept: new Map<string, KeptBundle>(),
  }
  const open = () =>
    createBundleEndpoints({
      fetch: async (_, trust) => {
        state.fetches++
        state.trust = trust
        if (state.serves === undefined) throw Object.assign(new Error('connect ECONNREFUSED'), { code: 'ECONNREFUSED' })
        return { text: state.serves }
      },
      now: () => state.now,
      random: () => state.random,
      domains: () => state.domains,
      kept: {
        read: async (name) => state.kept.get(name),
        write: async (name, bundle) => {
          if (state.diskDown) throw new Error('ENOSPC')
          state.kept.set(name, bundle)
        },
      },
      recorded: async (change) => {
        if (state.auditDown) throw new Error('audit away')
        state.changes.push(change)
      },
      onProblem: (_, problem) => void state.problems.push(problem),
    })
  return Object.assign(state, { open, endpoints: open() })
}
const x = (domain: TrustDomain) => domain.jwtKeys[0]?.x
const pass = async (w: ReturnType<typeof world>, seconds: number) => {
  w.now += seconds
  await w.endpoints.poll()
}

describe('a bundle endpoint', () => {
  it('F16 rotates while the service runs: new keys count at once, old ones no longer, with nothing in between', async () => {
    const domain = file({ url: URL_ })
    const w = world(domain)
    expect(() => w.endpoints.live(domain)).toThrow(expect.objectContaining({ reason: 'jwks_rejected' }))
    w.serves = await bundleOf(first)
    await w.endpoints.poll()
    const before = w.endpoints.live(domain)
    expect(x(before)).toBe(first.trustDomain.jwtKeys[0]?.x)
    // The same object as long as nothing changes: what was verified under it need not be again.
    expect(w.endpoints.live(domain)).toBe(before)
    w.serves = await bundleOf(second, { spiffe_sequence: 2 })
    await pass(w, 299)
    expect(w.endpoints.live(domain)).toBe(before)
    await pass(w, 1)
    const next = w.endpoints.live(domain)
    expect([x(next), next.sequence]).toEqual([second.trustDomain.jwtKeys[0]?.x, 2])
    expect(next.x509Anchors.map((der) => Buffer.from(der))).toEqual([Buffer.from(second.root.der)])
    expect(w.changes.map(({ sequence }) => sequence)).toEqual([1, 2])
    expect(w.endpoints.states()).toEqual([{ trustDomain: NAME, url: URL_, sequence: 2, confirmedAt: NOW + 300 }])
  })

  it.each([
    [{ spiffe_refresh_hint: 60 }, 60],
    [{ spiffe_refresh_hint: 1 }, 5],
    [{ spiffe_refresh_hint: 0 }, 300],
    [{ spiffe_refresh_hint: 1_000_000 }, 3600],
    [{ spiffe_refresh_hint: undefined }, 300],
  ])('B5 asks as often as %j wants, within bounds, and never later', async (more, seconds) => {
    for (const random of [0, 1]) {
      const w = world(file({ url: URL_ }))
      w.random = random
      w.serves = await bundleOf(first, more)
      for (let n = 0; n < 5; n++) await w.endpoints.poll()
      expect(w.fetches).toBe(1)
      const due = Math.ceil(seconds * (random === 0 ? 0.9 : 1))
      await pass(w, due - 1)
      expect(w.fetches).toBe(1)
      await pass(w, 1)
      expect(w.fetches).toBe(2)
    }
  })

  it('B8 whatever it serves that cannot be taken changes nothing, is told once, and is over when it is over', async () => {
    const other = await createTestTrustDomain('other.example')
    const domain = file({ url: URL_ })
    const w = world(domain, [file(undefined, await bundleOf(other), 'other.example')])
    w.serves = await bundleOf(first, { spiffe_sequence: 5 })
    await w.endpoints.poll()
    const good = w.endpoints.live(domain)
    const bad: readonly [string, string | undefined, RegExp][] = [
      ['nothing', undefined, /ECONNREFUSED/],
      ['no JSON', '<html>', /jwks_rejected/],
      ['an empty set', '{"keys":[]}', /jwks_rejected/],
      ['an older bundle', await bundleOf(second, { spiffe_sequence: 4 }), /goes back from 5 to 4/],
      ['one without a sequence', await bundleOf(second, { spiffe_sequence: undefined }), /goes back from 5 to none/],
      ['another trust domain’s', await bundleOf(other, { spiffe_sequence: 6 }), /trust domain other\.example/],
    ]
    for (const [what, serves, problem] of bad) {
      w.serves = serves
      await pass(w, 300)
      expect([what, w.endpoints.live(domain) === good]).toEqual([what, true])
      expect(w.problems.at(-1)).toMatch(problem)
      expect(w.endpoints.states()[0]?.problem).toMatch(problem)
      const told = w.problems.length
      await pass(w, 300)
      expect(w.problems.length).toBe(told)
    }
    // A sequence that stands still with other contents is no step back: some servers never count.
    w.serves = await bundleOf(second, { spiffe_sequence: 5 })
    await pass(w, 300)
    expect([x(w.endpoints.live(domain)), w.problems.at(-1)]).toEqual([second.trustDomain.jwtKeys[0]?.x, undefined])
    expect(w.changes).toHaveLength(2)
  })

  it('F2 two endpoints that are new together and serve one bundle are not both believed', async () => {
    const other = file({ url: 'https://spire.other.example/bundle' }, undefined, 'other.example')
    const w = world(file({ url: URL_ }), [other])
    const { keys } = JSON.parse(await bundleOf(first)) as { keys: { use: string }[] }
    w.serves = JSON.stringify({ keys: keys.filter(({ use }) => use === 'jwt-svid') })
    await w.endpoints.poll()
    const served = w.domains.filter((domain) => {
      try {
        return w.endpoints.live(domain).jwtKeys.length > 0
      } catch {
        return false
      }
    })
    expect(served).toHaveLength(1)
    expect(w.problems).toEqual([expect.stringMatching(/holds a key of the trust domain/)])
  })

  it('F16 a trust domain that repeats the next key of another does not keep that one from changing its keys', async () => {
    const other = await createTestTrustDomain('other.example')
    const [domain, thief] = [
      file({ url: URL_ }),
      file({ url: 'https://spire.other.example/' }, undefined, 'other.example'),
    ]
    const w = world(domain)
    w.serves = await bundleOf(first)
    await w.endpoints.poll()
    w.domains = [thief]
    w.serves = await bundleOf(other)
    await w.endpoints.poll()
    const next = JSON.parse(await bundleOf(second, { spiffe_sequence: 2 })) as { keys: { use: string; kid?: string }[] }
    const copied = next.keys.filter(({ use }) => use === 'jwt-svid').map((key) => ({ ...key, kid: 'mine' }))
    w.serves = JSON.stringify({ ...JSON.parse(await bundleOf(other)), spiffe_sequence: 2, keys: copied })
    await pass(w, 300)
    // The old key is withdrawn all the same, though the other was asked first.
    w.domains = [domain, thief]
    w.serves = JSON.stringify(next)
    await pass(w, 1)
    expect([x(w.endpoints.live(domain)), w.problems.at(-1)]).toEqual([second.trustDomain.jwtKeys[0]?.x, undefined])
  })

  it('F16 the last good bundle serves a day while the endpoint is away, and nobody’s after that', async () => {
    const domain = file({ url: URL_ })
    const w = world(domain)
    w.serves = await bundleOf(first)
    await w.endpoints.poll()
    w.serves = undefined
    await pass(w, 86_400)
    expect(x(w.endpoints.live(domain))).toBe(first.trustDomain.jwtKeys[0]?.x)
    await pass(w, 1)
    expect(() => w.endpoints.live(domain)).toThrow(expect.objectContaining({ reason: 'jwks_rejected' }))
    w.serves = await bundleOf(first)
    await pass(w, 30)
    expect(x(w.endpoints.live(domain))).toBe(first.trustDomain.jwtKeys[0]?.x)
  })

  it('Inv2 a restart with the endpoint away goes on with what was held, and still takes nothing older', async () => {
    const domain = file({ url: URL_ }, await bundleOf(first, { spiffe_sequence: 1 }))
    const w = world(domain)
    w.serves = await bundleOf(second, { spiffe_sequence: 7 })
    await w.endpoints.poll()
    w.serves = undefined
    w.endpoints = w.open()
    await w.endpoints.poll()
    expect(x(w.endpoints.live(domain))).toBe(second.trustDomain.jwtKeys[0]?.x)
    w.serves = await bundleOf(first, { spiffe_sequence: 6 })
    await pass(w, 30)
    expect(x(w.endpoints.live(domain))).toBe(second.trustDomain.jwtKeys[0]?.x)
    // The day goes on across restarts.
    w.serves = undefined
    w.now += 86_400
    w.endpoints = w.open()
    await w.endpoints.poll()
    expect(() => w.endpoints.live(domain)).toThrow('confirmed no bundle for a day')
    // Another address has another history.
    const moved = file({ url: `${URL_}2` }, await bundleOf(first, { spiffe_sequence: 1 }))
    w.domains = [moved]
    await w.endpoints.poll()
    expect(x(w.endpoints.live(moved))).toBe(first.trustDomain.jwtKeys[0]?.x)
  })

  it('begins with its file, which an administrator may also put ahead of the endpoint', async () => {
    const domain = file({ url: URL_ }, await bundleOf(first, { spiffe_sequence: 3 }))
    const w = world(domain)
    await w.endpoints.poll()
    expect(w.endpoints.live(domain)).toBe(domain)
    w.serves = await bundleOf(second, { spiffe_sequence: 2 })
    await pass(w, 30)
    expect(w.problems.at(-1)).toMatch(/goes back from 3 to 2/)
    w.serves = await bundleOf(second, { spiffe_sequence: 4 })
    await pass(w, 30)
    expect(x(w.endpoints.live(domain))).toBe(second.trustDomain.jwtKeys[0]?.x)
    const ahead = file({ url: URL_ }, await bundleOf(first, { spiffe_sequence: 9 }))
    w.domains = [ahead]
    expect(w.endpoints.live(ahead)).toBe(ahead)
    expect(w.endpoints.live(file(undefined, await bundleOf(first))).bundleEndpoint).toBeUndefined()
  })

  it('a file with a sequence overrules a bundle that was kept before anybody counted', async () => {
    const w = world(file({ url: URL_ }))
    w.serves = await bundleOf(first, { spiffe_sequence: undefined })
    await w.endpoints.poll()
    const counted = file({ url: URL_ }, await bundleOf(second, { spiffe_sequence: 1 }))
    w.domains = [counted]
    expect(w.endpoints.live(counted)).toBe(counted)
    // Also after a restart, and while the endpoint goes on serving what was withdrawn.
    w.endpoints = w.open()
    await w.endpoints.poll()
    expect(w.endpoints.live(counted)).toBe(counted)
  })

  it('takes effect after it is recorded, and not where it cannot be; a full disk keeps no old key alive', async () => {
    const domain = file({ url: URL_ })
    const w = world(domain)
    w.serves = await bundleOf(first)
    await w.endpoints.poll()
    w.auditDown = true
    w.serves = await bundleOf(second, { spiffe_sequence: 2 })
    await pass(w, 300)
    expect(x(w.endpoints.live(domain))).toBe(first.trustDomain.jwtKeys[0]?.x)
    w.auditDown = false
    w.diskDown = true
    await pass(w, 30)
    expect(x(w.endpoints.live(domain))).toBe(second.trustDomain.jwtKeys[0]?.x)
    expect(w.problems.at(-1)).toMatch(/ENOSPC/)
  })

  it('FI-7 asks again when a clock that was ahead has come back, and shares one fetch', async () => {
    const w = world(file({ url: URL_ }))
    w.serves = await bundleOf(first)
    w.now += 1_000_000
    await w.endpoints.poll()
    w.now -= 1_000_000
    await Promise.all([w.endpoints.poll(), w.endpoints.poll(), w.endpoints.poll()])
    expect(w.fetches).toBe(2)
  })
})

describe('an endpoint that proves itself', () => {
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

    const problems: (string | undefined)[] = []
    const endpoints = createBundleEndpoints({
      fetch,
      now: () => NOW,
      random: () => 0,
      domains: () => [file({ url: swapped.url, authorities: [ca.der] })],
      kept: { read: async () => undefined, write: async () => {} },
      recorded: async () => {},
      onProblem: (_, problem) => void problems.push(problem),
    })
    await endpoints.poll()
    expect(problems).toEqual([expect.stringMatching(/^jwks_untrusted: /)])

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
      const problems: (string | undefined)[] = []
      const endpoints = createBundleEndpoints({
        fetch,
        now: () => NOW,
        random: () => 0,
        // The root is for agents: the endpoint is no agent.
        domains: () => [{ ...trusted, pathRoot: '/agents' }],
        kept: { read: async () => undefined, write: async () => {} },
        recorded: async () => {},
        onProblem: (_, each) => void problems.push(each),
      })
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
    const problems: (string | undefined)[] = []
    const endpoints = createBundleEndpoints({
      fetch: (url, trust) => (url === served.url ? fetch(url, trust) : Promise.reject(new Error('away'))),
      now: () => NOW,
      random: () => 0,
      domains: () => [domain, unfetched],
      kept: { read: async () => undefined, write: async () => {} },
      recorded: async () => {},
      onProblem: (name, each) => void (name === NAME && problems.push(each)),
    })
    await endpoints.poll()
    expect([problems, served.requests()]).toEqual([[expect.stringMatching(/^jwks_untrusted: .*no bundle/)], 0])
  })
})

describe('bundles on disk', () => {
  it('open whole under the key they were sealed with, for their own trust domain, and else are not there', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'errand-bundles-'))
    const { seal, open } = createSealer(new Uint8Array(32).fill(1))
    const kept = createKeptBundles({ folder, seal, open })
    const bundle = { url: URL_, text: '{}', confirmedAt: NOW }
    expect(await kept.read(NAME)).toBeUndefined()
    await kept.write(NAME, { ...bundle, confirmedAt: 1 })
    await kept.write(NAME, bundle)
    expect(await kept.read(NAME)).toEqual(bundle)
    const path = join(folder, `${NAME}.sealed`)
    expect([(await readdir(folder)).length, (await stat(path)).mode & 0o777]).toEqual([1, 0o600])
    const text = await readFile(path, 'latin1')
    await writeFile(join(folder, 'other.example.sealed'), text)
    expect(await kept.read('other.example')).toBeUndefined()
    await writeFile(path, text.slice(0, -2))
    expect(await kept.read(NAME)).toBeUndefined()
    const stranger = createSealer(new Uint8Array(32).fill(2))
    await writeFile(path, text)
    expect(await createKeptBundles({ folder, seal: stranger.seal, open: stranger.open }).read(NAME)).toBeUndefined()
    await rm(folder, { recursive: true })
  })
})
