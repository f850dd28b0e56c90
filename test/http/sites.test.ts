import { Hono } from 'hono'
import { describe, expect, it } from 'vitest'
import { createGate } from '../../src/http/gate.ts'
import { createLimits } from '../../src/http/limits.ts'
import type { App } from '../../src/http/app.ts'
import type { Env } from '../../src/http/route.ts'
import { createPlace, type Site } from '../../src/http/sites.ts'

const closed = { fits: () => false, enter: async () => undefined }
const app: App = Object.assign(new Hono<Env>(), { door: closed, sheds: () => false, full: () => false })
const site = (name: string, issuer: string): Site => ({ name, issuer, app, base: issuer })
const own = site('', 'https://errand.example.com')
const tenants = [
  site('acme', 'https://errand.example.com/t/acme'),
  site('acme-labs', 'https://errand.example.com/t/acme/labs'),
  site('host', 'https://tenant.example.com'),
  site('elsewhere', 'https://other.example.com/t/acme'),
]
const place = createPlace(own, () => tenants)

describe('which issuer a request is for', () => {
  it.each([
    ['errand.example.com', '/token', '', '/token'],
    ['errand.example.com', '/t/acme/token', 'acme', '/token'],
    ['ERRAND.example.com', '/t/acme/token?x=1', 'acme', '/token?x=1'],
    ['errand.example.com', '/t/acme', 'acme', '/'],
    ['errand.example.com', '/t/acme?x', 'acme', '/?x'],
    ['errand.example.com', '/t/acme/labs/token', 'acme-labs', '/token'],
    ['errand.example.com', '/t/acmes/token', '', '/t/acmes/token'],
    ['errand.example.com', '/t/acme%2Ftoken', '', '/t/acme%2Ftoken'],
    ['errand.example.com', '/x/../t/acme/token', '', '/x/../t/acme/token'],
    // RFC 9112 §3.2.2: a whole URL is its path at its host, whatever the Host field says.
    ['errand.example.com', 'http://errand.example.com/t/acme/token?x', 'acme', '/token?x'],
    ['errand.example.com', 'HTTPS://TENANT.example.com/token', 'host', '/token'],
    ['tenant.example.com', 'https://errand.example.com/token', '', '/token'],
    ['tenant.example.com', 'https://errand.example.com', '', '/'],
    ['tenant.example.com', 'https://tenant.example.com@errand.example.com?x', '', '/?x'],
    // What is no URL of ours stays what it is, and is refused as that.
    ['errand.example.com', 'ftp://tenant.example.com/token', '', 'ftp://tenant.example.com/token'],
    ['errand.example.com', '//tenant.example.com/token', '', '//tenant.example.com/token'],
    ['tenant.example.com', '/token', 'host', '/token'],
    ['tenant.example.com:443', '/token', '', '/token'],
    ['other.example.com', '/t/acme/token', 'elsewhere', '/token'],
    ['other.example.com', '/token', '', '/token'],
    // A host that is a tenant's own is that tenant's whole, also where another has a path of that name elsewhere.
    ['tenant.example.com', '/t/acme/token', 'host', '/t/acme/token'],
    // A proxy that sets its own Host: the path still says which.
    ['10.0.0.7:4460', '/t/acme/labs/token', 'acme-labs', '/token'],
    [undefined, '/token', '', '/token'],
    // RFC 8414 §3.1 inserts the well-known part before the path of the issuer.
    [
      'errand.example.com',
      '/.well-known/oauth-authorization-server/t/acme',
      'acme',
      '/.well-known/oauth-authorization-server',
    ],
    [
      'errand.example.com',
      '/.well-known/oauth-authorization-server/t/acme/labs?x',
      'acme-labs',
      '/.well-known/oauth-authorization-server?x',
    ],
    [
      'errand.example.com',
      '/.well-known/oauth-authorization-server/t/acm',
      '',
      '/.well-known/oauth-authorization-server/t/acm',
    ],
    ['errand.example.com', '/t/acme/.well-known/openid-configuration', 'acme', '/.well-known/openid-configuration'],
  ])('%s %s → %s', (host, target, name, inside) => {
    const placed = place(host, target)
    expect([placed.site.name, placed.target]).toEqual([name, inside])
  })

  it("the service's own issuer may have a path, stripped by a proxy or not", () => {
    const below = createPlace(site('', 'https://example.com/errand'), () => [
      site('acme', 'https://example.com/errand/t/acme'),
    ])
    expect(below('example.com', '/errand/token').target).toBe('/token')
    expect(below('example.com', '/token').target).toBe('/token')
    expect(below('example.com', '/errand/t/acme/token').site.name).toBe('acme')
  })

  it('an issuer with a path keeps it beside a tenant that has the rest of the host', () => {
    const beside = createPlace(site('', 'https://example.com/errand'), () => [site('root', 'https://example.com')])
    expect(beside('example.com', '/errand/token')).toMatchObject({ site: { name: '' }, target: '/token' })
    expect(beside('example.com', '/token')).toMatchObject({ site: { name: 'root' }, target: '/token' })
  })

  it('a tenant by host is found at the port of the mTLS listener, and nobody where two would be', () => {
    const at = (name: string, issuer: string) => ({
      ...site(name, issuer),
      mtlsBase: `https://${new URL(issuer).hostname}:4461`,
    })
    const both = createPlace(at('', 'https://errand.example.com'), () => [
      at('host', 'https://tenant.example.com'),
      at('beside', 'https://errand.example.com:8443'),
      at('one', 'https://shared.example.com:8443'),
      at('two', 'https://shared.example.com:9443'),
      at('here', 'https://errand.example.com/t/acme'),
      at('elsewhere', 'https://other.example.com/t/acme'),
    ])
    expect(both('tenant.example.com:4461', '/token').site.name).toBe('host')
    expect(both('errand.example.com:4461', '/token').site.name).toBe('')
    expect(both('errand.example.com:8443', '/token').site.name).toBe('beside')
    expect(both('shared.example.com:9443', '/token').site.name).toBe('two')
    expect(both('shared.example.com:4461', '/token').site.name).toBe('')
    expect(both('errand.example.com:4461', '/t/acme/token').site.name).toBe('here')
    expect(both('other.example.com:4461', '/t/acme/token').site.name).toBe('elsewhere')
  })

  it('knows tenants that came later', () => {
    let now: readonly Site[] = []
    const later = createPlace(own, () => now)
    expect(later('errand.example.com', '/t/acme/token').site.name).toBe('')
    now = tenants
    expect(later('errand.example.com', '/t/acme/token').site.name).toBe('acme')
  })
})

describe('the gate of a tenant', () => {
  const clock = { ms: 0 }
  const gate = (requestsPerSecond: number, full = false) =>
    createGate({
      quota: () => ({ requestsPerSecond, maxConcurrentRequests: 1, maxDataMib: 1 }),
      full: () => full,
      monotonic: () => clock.ms,
    })

  it('lets in so many a second, and keeps a share for revocations beside them', () => {
    const one = gate(4)
    const enter = (target: string, method = 'POST') => one.enter(method, target).ok
    expect(Array.from({ length: 10 }, () => enter('/token')).filter(Boolean).length).toBe(8)
    expect(enter('/token')).toBe(false)
    expect(enter('/revocations')).toBe(true)
    expect(enter('/revocations/now?nonce=x', 'GET')).toBe(true)
    expect(enter('/revocations')).toBe(false)
    clock.ms += 1000
    expect(enter('/token')).toBe(true)
  })

  it.each(['/revocations', '/global-token-revocation', '/ssf/events', '/ssf/events?x', '/.well-known/jwks.json'])(
    'keeps a share for %s',
    (target) => {
      const one = gate(4)
      while (one.enter('POST', '/token').ok);
      expect(one.enter('POST', target).ok).toBe(true)
    },
  )

  it.each(['/ssf/streams', '/ssf/eventsx', '/ssf/events/x', '/x/revocations', '/revocationsx', '/tasks'])(
    'keeps none for %s',
    (target) => {
      const one = gate(4)
      while (one.enter('POST', '/token').ok);
      expect(one.enter('POST', target).ok).toBe(false)
    },
  )

  it('so many are worked on at once, and what is kept free goes beyond the quota and not beyond all bounds', () => {
    const limits = createLimits({ maxConcurrent: () => 3, quota: () => 2, monotonic: () => clock.ms })
    expect([limits.enter(), limits.enter(), limits.enter(), limits.enter(true), limits.enter(true)]).toEqual([
      true,
      true,
      false,
      true,
      false,
    ])
    limits.leave()
    limits.leave()
    expect([limits.enter(), limits.running()]).toEqual([true, 2])
  })

  it('with its data full makes nothing new, and lets everything else in', () => {
    const one = gate(1000, true)
    expect(one.enter('POST', '/token')).toEqual({ ok: false, reason: 'quota_exceeded', retryAfterSeconds: 60 })
    expect(one.enter('POST', '/tasks')).toMatchObject({ ok: false, reason: 'quota_exceeded' })
    expect(one.enter('POST', '/tasks/task_x/cancel').ok).toBe(true)
    expect(one.enter('POST', '/revocations').ok).toBe(true)
    expect(one.enter('POST', '/introspect').ok).toBe(true)
  })
})
