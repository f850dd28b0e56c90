import { createServer, type Server } from 'node:http'
import { connect, type AddressInfo } from 'node:net'
import { getRequestListener } from '@hono/node-server'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { createJwks } from '@errand/verifier/jwks.ts'
import { createVerifier, type Verifier } from '@errand/verifier/verifier.ts'
import { createFanout, type StreamResponse } from '../../src/http/fanout.ts'
import { listenAsRelay, type RelayServer } from '../../src/http/relay.ts'
import { feedFrame } from '../../src/revoke/feed.ts'
import { createRelay, type Relay } from '../../src/revoke/relay.ts'
import { revocation } from './fake-log.ts'
import {
  AUDIENCE,
  type Clock,
  createClock,
  createFakeService,
  type FakeService,
  ISSUER,
  request,
  until,
} from './fake-service.ts'

let clock: Clock
let service: FakeService
let server: Server
let url: string
let relay: Relay
let door: RelayServer
const verifiers: Verifier[] = []
const problems: unknown[] = []
/** What verifiers sent to the relay. */
let toRelay: { readonly path: string; readonly authorization: string | null }[]

beforeEach(async () => {
  const started = performance.now()
  clock = createClock()
  const real: Clock = Object.create(clock, {
    service: { get: () => 5_000_000 + performance.now() - started, set: () => undefined },
  })
  service = createFakeService(real)
  server = createServer(getRequestListener((asked) => service.handle(asked)))
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
  problems.length = 0
  toRelay = []
  const upstream = (asked: string, init?: RequestInit) => fetch(asked.replace(ISSUER, url), init)
  const monotonic = () => performance.now()
  const jwks = createJwks({
    url: `${ISSUER}/.well-known/jwks.json`,
    fetch: upstream,
    monotonic,
    random: Math.random,
    timeoutMs: 5_000,
    onProblem: (problem) => problems.push(problem),
  })
  relay = createRelay({
    issuer: ISSUER,
    fetch: upstream,
    jwks,
    monotonic,
    random: Math.random,
    onProblem: (problem) => problems.push(problem),
  })
  door = await listenAsRelay({ relay, host: '127.0.0.1', port: 0, onError: (error) => problems.push(error) })
  await until(() => relay.status().connected)
})
afterEach(async () => {
  for (const made of verifiers.splice(0)) made.close()
  relay.close()
  await door.close()
  service.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
})

function verifier(): Verifier {
  const made = createVerifier({
    issuer: ISSUER,
    serviceUrl: url,
    feed: door.url,
    audience: AUDIENCE,
    tool: 'tickets',
    key: service.toolKey,
    now: () => clock.now,
    fetch: (asked, init) => {
      if (asked.startsWith(door.url))
        toRelay.push({ path: new URL(asked).pathname, authorization: new Headers(init?.headers).get('authorization') })
      return fetch(asked, init)
    },
  })
  verifiers.push(made)
  return made
}
const read = { operation: 'ticket.read', arguments: {} }
const get = async (path: string, headers: Record<string, string> = {}) => {
  const answer = await fetch(`${door.url}${path}`, { headers })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

describe('a relay', () => {
  test('gives many verifiers all they need on one connection to the service, and learns of none who it is', async () => {
    const many = Array.from({ length: 12 }, verifier)
    await Promise.all(many.map((it) => it.ready()))
    await until(() => door.readers() === many.length)
    expect(service.streaming).toBe(1)
    const token = await service.token()
    for (const it of many) await it.verify(request(token, { now: clock.now }), read)
    await service.log.add(revocation({ client_id: 'research' }))
    await until(() => many.every((it) => it.status()?.epoch === '0.1'))
    for (const it of many)
      await expect(it.verify(request(token, { now: clock.now }), read)).rejects.toMatchObject({ code: 'revoked' })
    expect(new Set(toRelay.map(({ path }) => path))).toEqual(
      new Set(['/revocations', '/revocations/now', '/revocations/stream']),
    )
    expect(toRelay.filter(({ authorization }) => authorization !== null)).toEqual([])
    // Acknowledged at the service itself, by each.
    await until(() => service.acks.filter((epoch) => epoch === '0.1').length === many.length)
    // Questions that come together are one to the service.
    const asked = service.asked.filter((path) => path === '/revocations/now').length
    expect(asked).toBeLessThan(toRelay.filter(({ path }) => path === '/revocations/now').length)
  })

  test('L6 that loses the service ends its streams: everybody comes again, and nobody misses anything', async () => {
    const it = verifier()
    await it.ready()
    await until(() => door.readers() === 1)
    server.closeAllConnections()
    await service.log.add(revocation({ jti: 'meanwhile' }))
    await until(() => it.status()?.epoch === '0.1')
    expect(it.status()?.entries).toBe(1)
    await until(() => door.readers() === 1 && relay.status().connected)
  })

  test('L6 passes no garbage on: what the service did not sign ends in the relay', async () => {
    const it = verifier()
    await it.ready()
    await until(() => door.readers() === 1)
    const forged = service.signFeed('errand-frame+jwt', { iss: 'https://evil.example' })
    service.intercept = (path) =>
      path === '/revocations/stream'
        ? new Response(`event: frame\ndata: ${forged}\n\n`, { headers: { 'content-type': 'text/event-stream' } })
        : path === '/revocations' || path === '/revocations/now'
          ? Response.json({ frame: forged, statement: forged })
          : undefined
    server.closeAllConnections()
    await until(() => problems.some((problem) => String(problem).includes('not a frame')))
    expect((await get('/revocations')).status).toBe(503)
    expect((await get('/revocations/stream')).status).toBe(503)
    expect((await get(`/revocations/now?nonce=${'n'.repeat(24)}`)).status).toBe(503)
    expect((await get('/health')).status).toBe(503)
    expect(it.status()).toMatchObject({ epoch: '0.0', entries: 0 })
  })

  test('answers as the service does: snapshot with ETag, delta, long poll, and no to what makes no sense', async () => {
    const first = await get('/revocations')
    expect([first.status, first.headers.get('cache-control')]).toEqual([200, 'public, max-age=1'])
    const etag = first.headers.get('etag')!
    expect((await get('/revocations', { 'if-none-match': etag })).status).toBe(304)
    const waiting = get('/revocations?after=0.0&wait=30')
    await service.log.add(revocation({ jti: 'one' }))
    const { frame } = JSON.parse((await waiting).text) as { frame: string }
    const payload = JSON.parse(Buffer.from(frame.split('.')[1]!, 'base64url').toString()) as Record<string, unknown>
    expect(payload).toMatchObject({ kind: 'delta', after: '0.0', epoch: '0.1' })
    for (const path of ['/revocations?after=x', '/revocations?after=0.0&wait=x', '/revocations/now?nonce=short'])
      expect([path, (await get(path)).status]).toEqual([path, 400])
    for (const path of ['/', '/revocations/key', '/token', '/revocations/../token'])
      expect([path, (await get(path)).status]).toEqual([path, 404])
    expect((await fetch(`${door.url}/revocations`, { method: 'POST' })).status).toBe(405)
  })

  test('H4 a reader that takes nothing is cut off, and holds up nobody', async () => {
    const cut: string[] = []
    const written: Record<string, number> = {}
    const response = (name: string, writableLength: number): StreamResponse => ({
      write: () => {
        written[name] = (written[name] ?? 0) + 1
        return true
      },
      end: () => response(name, writableLength) as never,
      destroy: () => cut.push(name) as never,
      once: () => undefined as never,
      writableLength,
      destroyed: false,
    })
    const fanout = createFanout()
    fanout.add(response('slow', 9_000)).begin(new Uint8Array(1))
    fanout.add(response('quick', 0)).begin(new Uint8Array(1))
    fanout.add(response('never begins', 0))
    for (let frame = 0; frame < 100; frame++) fanout.send(feedFrame('x', '1.1'))
    expect(cut.sort()).toEqual(['never begins', 'slow'])
    expect(written).toEqual({ slow: 64, quick: 101 })
    expect(fanout.readers()).toBe(1)
  })

  test('forgets a reader that is gone', async () => {
    const socket = connect(Number(new URL(door.url).port), '127.0.0.1')
    socket.write('GET /revocations/stream HTTP/1.1\r\nHost: relay\r\n\r\n')
    await until(() => door.readers() === 1)
    socket.destroy()
    await until(() => door.readers() === 0)
  })
})
