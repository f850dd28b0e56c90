import { Hono } from 'hono'
import { describe, expect, it } from 'vitest'
import { createGate } from '../../src/http/gate.ts'
import type { Env } from '../../src/http/route.ts'
import { createPlace, type Site } from '../../src/http/sites.ts'

const site = (name: string, issuer: string): Site => ({ name, issuer, app: new Hono<Env>(), base: issuer })
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
    ['errand.example.com', 'http://errand.example.com/t/acme/token', '', 'http://errand.example.com/t/acme/token'],
    ['tenant.example.com', '/token', 'host', '/token'],
    ['tenant.example.com:443', '/token', '', '/token'],
    ['other.example.com', '/t/acme/token', 'elsewhere', '/token'],
    ['other.example.com', '/token', '', '/token'],
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
  const gate = (quota: { requestsPerSecond: number; maxConcurrentRequests: number }, full = false) =>
    createGate({ quota: () => ({ ...quota, maxDataMib: 1 }), full: () => full, monotonic: () => clock.ms })

  it('lets in so many a second, and keeps a share for revocations beside them', () => {
    const one = gate({ requestsPerSecond: 4, maxConcurrentRequests: 100 })
    const enter = (target: string, method = 'POST') => one.enter(method, target).ok
    expect(Array.from({ length: 10 }, () => enter('/token')).filter(Boolean).length).toBe(8)
    expect(enter('/token')).toBe(false)
    expect(enter('/revocations')).toBe(true)
    expect(enter('/revocations/now?nonce=x', 'GET')).toBe(true)
    expect(enter('/revocations')).toBe(false)
    clock.ms += 1000
    expect(enter('/token')).toBe(true)
  })

  it('lets in so many at once, and what waits for news is not counted among them', () => {
    const one = gate({ requestsPerSecond: 1000, maxConcurrentRequests: 2 })
    const first = one.enter('POST', '/token')
    expect([first.ok, one.enter('GET', '/tasks').ok, one.enter('GET', '/tasks')]).toMatchObject([
      true,
      true,
      { ok: false, reason: 'overloaded', retryAfterSeconds: 1 },
    ])
    expect(one.enter('GET', '/revocations/stream').ok).toBe(true)
    if (first.ok) first.leave()
    expect(one.enter('GET', '/tasks').ok).toBe(true)
  })

  it('with its data full makes nothing new, and lets everything else in', () => {
    const one = gate({ requestsPerSecond: 1000, maxConcurrentRequests: 100 }, true)
    expect(one.enter('POST', '/token')).toEqual({ ok: false, reason: 'quota_exceeded', retryAfterSeconds: 60 })
    expect(one.enter('POST', '/tasks')).toMatchObject({ ok: false, reason: 'quota_exceeded' })
    expect(one.enter('POST', '/tasks/task_x/cancel').ok).toBe(true)
    expect(one.enter('POST', '/revocations').ok).toBe(true)
    expect(one.enter('POST', '/introspect').ok).toBe(true)
  })
})
