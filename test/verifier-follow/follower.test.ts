import type { Server } from 'node:http'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import type { Verifier } from '@errand/verifier/verifier.ts'
import { revocation } from './fake-log.ts'
import { type Clock, type FakeService, request, until } from './fake-service.ts'
import { type ServedSite, serveSite } from './site.ts'

let site: ServedSite
let clock: Clock
let service: FakeService
let server: Server

beforeEach(async () => {
  site = await serveSite()
  ;({ clock, service, server } = site)
})
afterEach(() => site.close())

const verifier = (problems: unknown[] = []): Verifier =>
  site.verifier({ onProblem: (problem) => problems.push(problem) })
const read = { operation: 'ticket.read', arguments: {} }

describe('the stream', () => {
  test('brings a revocation to every verifier without being asked, and each acknowledges it', async () => {
    const [one, two] = [verifier(), verifier()]
    await Promise.all([one.ready(), two.ready()])
    await until(() => service.streaming === 2)
    const token = await service.token()
    await one.verify(request(token, { now: clock.now }), read)
    await service.log.add(revocation({ client_id: 'research' }))
    await until(() => one.status()?.epoch === '0.1' && two.status()?.epoch === '0.1')
    for (const it of [one, two])
      await expect(it.verify(request(token, { now: clock.now }), read)).rejects.toMatchObject({ code: 'revoked' })
    await until(() => service.acks.filter((epoch) => epoch === '0.1').length === 2)
  })

  test('says who it is wherever it asks for the feed, with an assertion for each request', async () => {
    const shown = new Map<string, string | null>()
    const assertions: string[] = []
    service.intercept = (path, asked) => {
      const authorization = asked.headers.get('authorization')
      if (path.startsWith('/revocations')) {
        shown.set(path, authorization && authorization.split(' ')[0]!)
        assertions.push(authorization ?? '')
      }
      return undefined
    }
    await verifier().ready()
    await until(() => service.streaming === 1)
    for (const path of ['/revocations', '/revocations/now', '/revocations/stream'])
      expect([path, shown.get(path)]).toEqual([path, 'ClientAssertion'])
    expect(new Set(assertions).size).toBe(assertions.length)
  })

  test('keeps the state fresh for the strictest bound by its heartbeats alone', async () => {
    const it = verifier()
    await it.ready()
    await until(() => service.streaming === 1)
    const asks = service.asked.filter((path) => path === '/revocations/now').length
    let last = it.status()!.ageSeconds
    let rejuvenated = 0
    await until(() => {
      const age = it.status()!.ageSeconds
      if (age < last) rejuvenated += 1
      last = age
      return rejuvenated >= 3
    })
    expect(service.asked.filter((path) => path === '/revocations/now')).toHaveLength(asks)
  })

  test('is taken up again where it broke off, by Last-Event-ID', async () => {
    const it = verifier()
    await it.ready()
    await until(() => service.streaming === 1)
    await service.log.add(revocation({ jti: 'one' }))
    await until(() => it.status()?.epoch === '0.1')
    const ids: (string | null)[] = []
    service.intercept = (path, asked) => {
      if (path === '/revocations/stream') ids.push(asked.headers.get('last-event-id'))
      return undefined
    }
    server.closeAllConnections()
    await service.log.add(revocation({ jti: 'two' }))
    await until(() => it.status()?.epoch === '0.2')
    await until(() => ids.length > 0)
    expect(ids[0]).toBe('0.1')
  })

  test('loses nothing where the service sends no delta at its beginning', async () => {
    let gate: (() => void) | undefined
    service.intercept = async (path, asked) => {
      if (path !== '/revocations/stream') return undefined
      await new Promise<void>((resolve) => {
        gate = resolve
      })
      const answer = await service.answer(asked)
      let first = true
      const filter = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          if (!first) controller.enqueue(chunk)
          first = false
        },
      })
      return new Response(answer.body!.pipeThrough(filter), { headers: answer.headers })
    }
    const problems: unknown[] = []
    const it = verifier(problems)
    await it.ready()
    await until(() => gate !== undefined)
    await service.log.add(revocation({ jti: 'one' }))
    gate!()
    await until(() => service.streaming === 1)
    await service.log.add(revocation({ jti: 'two' }))
    await until(() => it.status()?.epoch === '0.2')
    expect(it.status()?.entries).toBe(2)
    expect(problems).toEqual([])
  })

  test('L6 a frame that was taken out is noticed: the verifier re-syncs and misses nothing', async () => {
    let drop = 0
    service.intercept = async (path, asked) => {
      if (path !== '/revocations/stream') return undefined
      const answer = await service.answer(asked)
      const filter = new TransformStream<Uint8Array, Uint8Array>({
        transform(chunk, controller) {
          if (drop > 0) drop -= 1
          else controller.enqueue(chunk)
        },
      })
      return new Response(answer.body!.pipeThrough(filter), { headers: answer.headers })
    }
    const problems: unknown[] = []
    const it = verifier(problems)
    await it.ready()
    await until(() => service.streaming === 1)
    await service.log.add(revocation({ jti: 'zero' }))
    await until(() => it.status()?.epoch === '0.1')
    drop = 1
    await service.log.add(revocation({ jti: 'one' }))
    await until(() => drop === 0)
    await service.log.add(revocation({ jti: 'two' }))
    await until(() => it.status()?.epoch === '0.3')
    expect(String(problems[0])).toContain('gap')
    expect(it.status()?.entries).toBe(3)
  })

  test('forged frames are not taken: signed by a token key, of another issuer, or changed', async () => {
    const it = verifier()
    await it.ready()
    await until(() => service.streaming === 1)
    const forged = [
      await service.token({}, { typ: 'errand-frame+jwt' }),
      service.signFeed('errand-now+jwt', {}),
      service.signFeed('errand-frame+jwt', { iss: 'https://evil.example' }),
    ]
    let given = 0
    service.intercept = (path) => {
      if (path !== '/revocations/stream') return undefined
      const data = forged[given++ % forged.length]
      return new Response(`event: frame\ndata: ${data}\n\n`, { headers: { 'content-type': 'text/event-stream' } })
    }
    const entries = it.status()?.entries
    server.closeAllConnections()
    await until(() => given >= 3)
    expect(it.status()).toMatchObject({ epoch: '0.0', entries })
  })
})

describe('without a stream', () => {
  test('it falls back to long polls', async () => {
    service.intercept = (path) => (path === '/revocations/stream' ? new Response(null, { status: 502 }) : undefined)
    const it = verifier()
    await it.ready()
    await until(() => service.asked.filter((path) => path === '/revocations').length >= 3)
    await service.log.add(revocation({ jti: 'one' }))
    await until(() => it.status()?.epoch === '0.1')
    expect(it.status()!.ageSeconds).toBeLessThan(30)
  })

  test('a service that starts later than the tool is found', async () => {
    service.intercept = () => new Response(null, { status: 503 })
    const it = verifier()
    await it.ready()
    await expect(it.verify(request(await service.token(), { now: clock.now }), read)).rejects.toMatchObject({
      status: 503,
    })
    service.intercept = () => undefined
    // What it knows, and how old that is, come by two answers.
    await until(() => it.status()?.epoch === '0.0' && it.status()!.ageSeconds < 30)
    await it.verify(request(await service.token(), { now: clock.now }), read)
  })
})

test('close ends everything: nothing is asked afterwards', async () => {
  const it = verifier()
  await it.ready()
  await until(() => service.streaming === 1)
  it.close()
  await until(() => service.streaming === 0)
  await service.log.add(revocation({ jti: 'one' }))
  const other = verifier()
  await other.ready()
  expect(other.status()?.epoch).toBe('0.1')
  expect(it.status()?.epoch).toBe('0.0')
})
