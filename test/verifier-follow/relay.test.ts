import type { Server } from 'node:http'
import { connect } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { compareEpochs, parseEpoch } from '@errand/verifier/epoch.ts'
import { ServiceUnavailable } from '@errand/verifier/http.ts'
import { createJwks } from '@errand/verifier/jwks.ts'
import type { Verifier } from '@errand/verifier/verifier.ts'
import { createFanout, type StreamResponse } from '../../src/http/fanout.ts'
import { listenAsRelay, type RelayServer } from '../../src/http/relay.ts'
import { feedFrame } from '../../src/revoke/feed.ts'
import { createRelay, type Relay } from '../../src/revoke/relay.ts'
import { revocation } from './fake-log.ts'
import { type Clock, type FakeService, ISSUER, request, until } from './fake-service.ts'
import { type ServedSite, serveSite } from './site.ts'

let site: ServedSite
let clock: Clock
let service: FakeService
let server: Server
let relay: Relay
let door: RelayServer
const problems: unknown[] = []
/** What verifiers sent to the relay. */
let toRelay: { readonly path: string; readonly authorization: string | null }[]
const monotonic = () => performance.now()

beforeEach(async () => {
  site = await serveSite()
  ;({ clock, service, server } = site)
  problems.length = 0
  toRelay = []
  const upstream = (asked: string, init?: RequestInit) => fetch(asked.replace(ISSUER, site.url), init)
  const onProblem = (problem: unknown) => void problems.push(problem)
  const jwks = createJwks({
    url: `${ISSUER}/.well-known/jwks.json`,
    fetch: upstream,
    monotonic,
    random: Math.random,
    timeoutMs: 5_000,
    onProblem,
  })
  relay = createRelay({ issuer: ISSUER, fetch: upstream, jwks, monotonic, random: Math.random, onProblem })
  door = await listenAsRelay({ relay, host: '127.0.0.1', port: 0, monotonic, onError: onProblem })
  await until(() => relay.status().connected)
})
afterEach(async () => {
  relay.close()
  await door.close()
  await site.close()
})

const verifier = (): Verifier =>
  site.verifier({
    feed: door.url,
    fetch: (asked, init) => {
      if (asked.startsWith(door.url))
        toRelay.push({ path: new URL(asked).pathname, authorization: new Headers(init?.headers).get('authorization') })
      return fetch(asked, init)
    },
  })
const read = { operation: 'ticket.read', arguments: {} }
interface Payload {
  readonly kind: string
  readonly after?: string
  readonly entries: readonly unknown[]
  readonly [member: string]: unknown
}
const payloadOf = (jws: string) => JSON.parse(Buffer.from(jws.split('.')[1]!, 'base64url').toString()) as Payload
const get = async (path: string, headers: Record<string, string> = {}) => {
  const answer = await fetch(`${door.url}${path}`, { headers })
  return { status: answer.status, headers: answer.headers, text: await answer.text() }
}

describe('a relay', () => {
  test('gives many verifiers all they need on one connection to the service, and is shown no credentials', async () => {
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
    const paths = ['/revocations', '/revocations/acks', '/revocations/now', '/revocations/stream']
    const seen = () => [...new Set(toRelay.map(({ path }) => path))].sort()
    // They acknowledge when they come to it.
    await until(() => seen().length >= paths.length)
    expect(seen()).toEqual(paths)
    expect(toRelay.filter(({ authorization }) => authorization !== null)).toEqual([])
    // Acknowledged by each, signed: the relay brought it, and could have said nothing in its place.
    await until(() => service.acks.filter((epoch) => epoch === '0.1').length === many.length)
    expect(service.relayed).toBe(service.acks.length)
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

  test('H4 acknowledgements that it cannot bring go to the service itself, and no more than so many wait in it', async () => {
    let answer: (() => void) | undefined
    const held = new Promise<void>((resolve) => {
      answer = resolve
    })
    service.intercept = async (path) => {
      if (path !== '/revocations/acks/relayed') return undefined
      await held
      return new Response(null, { status: 429 })
    }
    const bringing = Array.from({ length: 70 }, () => relay.acknowledge('a.b.c').catch(() => 'too many'))
    const refused = await Promise.race([Promise.all(bringing.slice(64)), pause(1_000)])
    expect(refused).toEqual(Array(6).fill('too many'))
    answer!()
    expect(new Set(await Promise.all(bringing.slice(0, 64)))).toEqual(new Set([429]))
    const it = verifier()
    await it.ready()
    await until(() => service.acks.length === 1)
    expect(service.relayed).toBe(0)
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
    expect(payloadOf(frame)).toMatchObject({ kind: 'delta', after: '0.0', epoch: '0.1' })
    for (const path of ['/revocations?after=x', '/revocations?after=0.0&wait=x', '/revocations/now?nonce=short'])
      expect([path, (await get(path)).status]).toEqual([path, 400])
    for (const path of ['/', '/revocations/key', '/token', '/revocations/../token'])
      expect([path, (await get(path)).status]).toEqual([path, 404])
    expect((await fetch(`${door.url}/revocations`, { method: 'POST' })).status).toBe(405)
    for (const body of ['', '{}', '{"ack":"a b"}', `{"ack":"${'a'.repeat(30_000)}"}`, '{"ack":"a.b.c"}']) {
      const answer = await fetch(`${door.url}/revocations/acks`, { method: 'POST', body })
      expect([body.slice(0, 16), answer.status]).toEqual([body.slice(0, 16), 400])
    }
    expect(service.relayed).toBe(0)
  })

  test('H4 asked from places without number, it asks the service a few times and keeps little', async () => {
    for (let entry = 1; entry <= 300; entry++) await service.log.add(revocation({ jti: `revoked ${entry}` }))
    await service.log.add(revocation({ jti: 'last' }))
    await until(() => relay.status().epoch === '0.301')
    const asked = () => service.asked.filter((path) => path === '/revocations').length
    const before = asked()
    const places = [
      ...Array.from({ length: 302 }, (_, at) => `0.${at}`),
      '0.302',
      '0.999999',
      '1.0',
      '7.5',
      '999999999.1',
    ]
    const answers = await Promise.all(places.map((place) => relay.delta(parseEpoch(place)!)))
    expect(asked() - before).toBeLessThanOrEqual(12)
    for (const [index, { frame, epoch }] of answers.entries()) {
      const { kind, after, entries } = payloadOf(frame)
      expect([places[index], epoch]).toEqual([places[index], '0.301'])
      // Everything after that place is in it.
      const missing = Math.max(0, 301 - index)
      expect(entries.length).toBeGreaterThanOrEqual(missing)
      expect(kind).toBe(index <= 301 ? 'delta' : 'snapshot')
      if (index <= 301) expect(compareEpochs(parseEpoch(after)!, parseEpoch(places[index])!)).toBeLessThanOrEqual(0)
    }
  })

  test('H4 whoever is far behind has the snapshot, of which there is one', async () => {
    for (let entry = 1; entry <= 5_000; entry++) await service.log.add(revocation({ jti: `revoked ${entry}` }))
    await service.log.add(revocation({ jti: 'last' }))
    await until(() => relay.status().epoch === '0.5001')
    const [far, further] = await Promise.all(['0.900', '0.1'].map((place) => relay.delta(parseEpoch(place)!)))
    expect(payloadOf(far!.frame).kind).toBe('snapshot')
    expect(further).toBe(far)
  })

  test('H4 a flood of other questions keeps no verifier from being answered', async () => {
    let held: (() => void)[] = []
    service.intercept = async (path) => {
      if (path === '/revocations') await new Promise<void>((resolve) => held.push(resolve))
      return undefined
    }
    // Each in another place of the log, none of them answered.
    const flood: Promise<unknown>[] = []
    for (let at = 0; at < 40; at++) {
      await service.log.add(revocation({ jti: `flood ${at}` }))
      await until(() => relay.status().epoch === `0.${at + 1}`)
      flood.push(relay.delta({ generation: 0, sequence: at }).catch((error: unknown) => error))
    }
    const refused = (await Promise.all(flood.slice(16))).filter((answer) => answer instanceof ServiceUnavailable)
    expect(refused).toHaveLength(24)
    expect((await get(`/revocations/now?nonce=${'n'.repeat(24)}`)).status).toBe(200)
    for (const answer of held) answer()
    held = []
    await Promise.all(flood)
  })

  test('asks one question of now at a time, of all who gathered meanwhile, and no longer than the service reads', async () => {
    const lines: number[] = []
    let [at, most] = [0, 0]
    service.intercept = async (path, asked) => {
      if (path !== '/revocations/now') return undefined
      lines.push(asked.url.length)
      most = Math.max(most, ++at)
      await new Promise((resolve) => setTimeout(resolve, 20))
      at -= 1
      return undefined
    }
    const nonces = Array.from({ length: 600 }, (_, index) => `${'x'.repeat(60)}${1000 + index}`)
    const answers = await Promise.all(nonces.map((nonce) => relay.statement(nonce)))
    for (const [index, answer] of answers.entries()) expect(payloadOf(answer!)['nonces']).toContain(nonces[index])
    expect([most, lines.length]).toEqual([1, 5])
    expect(Math.max(...lines)).toBeLessThan(8_500)
    const tooMany = await Promise.allSettled(
      Array.from({ length: 4_000 }, (_, index) => relay.statement(`${'y'.repeat(60)}${1000 + index}`)),
    )
    expect(tooMany.filter(({ status }) => status === 'rejected').length).toBeGreaterThan(0)
    expect(tooMany.filter(({ status }) => status === 'fulfilled').length).toBeGreaterThan(1_000)
  })

  test('H4 one address has its ration, and waits count as streams do', async () => {
    const tight = await listenAsRelay({
      relay,
      host: '127.0.0.1',
      port: 0,
      perSource: 5,
      maxOpen: 16,
      monotonic: () => 0,
      onError: (problem) => problems.push(problem),
    })
    const ask = (path: string, signal?: AbortSignal) => fetch(`${tight.url}${path}`, signal ? { signal } : {})
    const left = new AbortController()
    const waits = [1, 2].map(() => ask('/revocations?after=0.0&wait=30', left.signal).catch(() => undefined))
    await pause(50)
    const third = await ask('/revocations?after=0.0&wait=30')
    expect([third.status, third.headers.get('retry-after')]).toEqual([503, '1'])
    expect((await ask('/revocations/stream')).status).toBe(503)
    left.abort()
    await Promise.all(waits)
    await pause(50)
    const stream = await ask('/revocations/stream')
    expect(stream.status).toBe(200)
    await stream.body!.cancel()
    for (let more = 0; more < 5; more++) expect((await ask('/health')).status).toBe(200)
    const over = await ask('/health')
    expect([over.status, over.headers.get('retry-after')]).toEqual([429, '1'])
    await tight.close()
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
