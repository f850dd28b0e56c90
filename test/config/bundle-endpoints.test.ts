import { beforeAll, describe, expect, it } from 'vitest'
import { createTestTrustDomain, NOW, type TestTrustDomain } from '../attest/pki.ts'
import { BUNDLE_URL, bundleOf, file, NAME, pass, world, x } from './bundle-world.ts'

let first: TestTrustDomain
let second: TestTrustDomain
beforeAll(async () => {
  first = await createTestTrustDomain(NAME)
  second = await createTestTrustDomain(NAME)
})

describe('a bundle endpoint', () => {
  it('F16 rotates while the service runs: new keys count at once, old ones no longer, with nothing in between', async () => {
    const domain = file({ url: BUNDLE_URL })
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
    expect(w.endpoints.states()).toEqual([{ trustDomain: NAME, url: BUNDLE_URL, sequence: 2, confirmedAt: NOW + 300 }])
  })

  it.each([
    [{ spiffe_refresh_hint: 60 }, 60],
    [{ spiffe_refresh_hint: 1 }, 5],
    [{ spiffe_refresh_hint: 0 }, 300],
    [{ spiffe_refresh_hint: 1_000_000 }, 3600],
    [{ spiffe_refresh_hint: undefined }, 300],
  ])('B5 asks as often as %j wants, within bounds, and never later', async (more, seconds) => {
    for (const random of [0, 1]) {
      const w = world(file({ url: BUNDLE_URL }))
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
    const domain = file({ url: BUNDLE_URL })
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
    const w = world(file({ url: BUNDLE_URL }), [other])
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
      file({ url: BUNDLE_URL }),
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
    const domain = file({ url: BUNDLE_URL })
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
    const domain = file({ url: BUNDLE_URL }, await bundleOf(first, { spiffe_sequence: 1 }))
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
    const moved = file({ url: `${BUNDLE_URL}2` }, await bundleOf(first, { spiffe_sequence: 1 }))
    w.domains = [moved]
    await w.endpoints.poll()
    expect(x(w.endpoints.live(moved))).toBe(first.trustDomain.jwtKeys[0]?.x)
  })

  it('begins with its file, which an administrator may also put ahead of the endpoint', async () => {
    const domain = file({ url: BUNDLE_URL }, await bundleOf(first, { spiffe_sequence: 3 }))
    const w = world(domain)
    await w.endpoints.poll()
    expect(w.endpoints.live(domain)).toBe(domain)
    w.serves = await bundleOf(second, { spiffe_sequence: 2 })
    await pass(w, 30)
    expect(w.problems.at(-1)).toMatch(/goes back from 3 to 2/)
    w.serves = await bundleOf(second, { spiffe_sequence: 4 })
    await pass(w, 30)
    expect(x(w.endpoints.live(domain))).toBe(second.trustDomain.jwtKeys[0]?.x)
    const ahead = file({ url: BUNDLE_URL }, await bundleOf(first, { spiffe_sequence: 9 }))
    w.domains = [ahead]
    expect(w.endpoints.live(ahead)).toBe(ahead)
    expect(w.endpoints.live(file(undefined, await bundleOf(first))).bundleEndpoint).toBeUndefined()
  })

  it('a file with a sequence overrules a bundle that was kept before anybody counted', async () => {
    const w = world(file({ url: BUNDLE_URL }))
    w.serves = await bundleOf(first, { spiffe_sequence: undefined })
    await w.endpoints.poll()
    const counted = file({ url: BUNDLE_URL }, await bundleOf(second, { spiffe_sequence: 1 }))
    w.domains = [counted]
    expect(w.endpoints.live(counted)).toBe(counted)
    // Also after a restart, and while the endpoint goes on serving what was withdrawn.
    w.endpoints = w.open()
    await w.endpoints.poll()
    expect(w.endpoints.live(counted)).toBe(counted)
  })

  it('takes effect after it is recorded, and not where it cannot be; a full disk keeps no old key alive', async () => {
    const domain = file({ url: BUNDLE_URL })
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
    const w = world(file({ url: BUNDLE_URL }))
    w.serves = await bundleOf(first)
    w.now += 1_000_000
    await w.endpoints.poll()
    w.now -= 1_000_000
    await Promise.all([w.endpoints.poll(), w.endpoints.poll(), w.endpoints.poll()])
    expect(w.fetches).toBe(2)
  })
})
