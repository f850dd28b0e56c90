/** What is turned away by its first line while too much is worked on. */
import { Agent, type IncomingMessage, request } from 'node:http'
import { setImmediate as turn } from 'node:timers/promises'
import { Hono } from 'hono'
import { describe, expect, it } from 'vitest'
import type { App } from '../../src/http/app.ts'
import type { Env } from '../../src/http/route.ts'
import { listen } from '../../src/http/server.ts'
import { ISSUER, openHouse } from '../house.ts'
import { freePort } from '../running.ts'

describe('a request for a token while too much is worked on', () => {
  it('H4 is turned away by its first line, and counted; nothing else is, and what is worked on goes on', async () => {
    const house = await openHouse({
      config: { 'errand.yaml': (text) => `${text}\nbounds: { max_concurrent_requests: 1 }\n` },
    })
    const { app } = house.service
    const sheds = (method: string, target: string) => app.sheds(method, target, () => '192.0.2.7')
    const research = await house.agent('research')
    await house.learnNonce('research')
    expect(sheds('POST', '/token')).toBe(false)
    const working = research.exchange({ form: { audience: 'tickets' } })
    let noes = 0
    for (let turns = 0; turns < 10_000 && noes === 0; turns++) {
      await turn()
      if (sheds('POST', '/token')) noes++
    }
    for (const [method, target] of [
      ['GET', '/token'],
      ['POST', '/revocations'],
      ['POST', '/introspect'],
      ['POST', '/tokens'],
      ['POST', '/token/'],
    ] as const)
      expect([method, target, sheds(method, target)]).toEqual([method, target, false])
    expect((await working).status).toBe(200)
    expect([noes, sheds('POST', '/token')]).toEqual([1, false])
    house.advance(1)
    await expect
      .poll(() => house.records({ type: 'strangers.refused' }))
      .toContainEqual(expect.objectContaining({ reason: 'overloaded', count: 1, source: '192.0.2.7' }))
    expect((await house.admin('GET', '/metrics')).text).toMatch(
      /errand_http_request_duration_seconds_count\{route="\/token",method="POST",status="503"\} 1\n/,
    )
    await house.close()
  })

  it('H4 costs its address nothing of its share: it is told to come again, and is heard when it does', async () => {
    const bounds = 'max_concurrent_requests: 4, strangers_per_second_per_source: 5'
    const house = await openHouse({ config: { 'errand.yaml': (text) => `${text}\nbounds: { ${bounds} }\n` } })
    const research = await house.agent('research')
    await house.learnNonce('research')
    const exchange = () => research.exchange({ form: { audience: 'tickets' } })
    for (let round = 0; round < 10; round++) {
      const answers = await Promise.all(Array.from({ length: 20 }, exchange))
      const statuses = [...new Set(answers.map(({ status }) => status))].sort()
      expect([round, statuses]).toEqual([round, [200, 503]])
    }
    expect((await exchange()).status).toBe(200)
    await house.close()
  })

  it('H4 has a short answer with Retry-After, whatever its body is, and the connection goes on', async () => {
    const asked: string[] = []
    const app: App = Object.assign(new Hono<Env>(), {
      door: { fits: () => false, enter: async () => undefined },
      sheds: (_: string | undefined, target: string, peer: () => string) => {
        asked.push(`${target} ${peer()}`)
        return target === '/token'
      },
      full: () => false,
    })
    app.get('/health', (c) => c.text('well'))
    const house = await openHouse()
    const { settings } = house.service.snapshot()
    const port = await freePort()
    const { url, close } = await listen({
      settings: { ...settings, listen: { ...settings.listen, port } },
      kind: 'main',
      place: (_, target) => ({ site: { name: '', issuer: ISSUER, app, base: ISSUER }, target }),
      turns: () => undefined,
      onError: () => undefined,
    })
    const agent = new Agent({ keepAlive: true, maxSockets: 1 })
    const send = (method: string, path: string, body = '') =>
      new Promise<{ answer: IncomingMessage; text: string; reused: boolean }>((resolve, reject) => {
        const sent = request(`${url}${path}`, { method, agent }, async (answer) => {
          let text = ''
          for await (const chunk of answer) text += String(chunk)
          resolve({ answer, text, reused: sent.reusedSocket })
        })
        sent.on('error', reject)
        sent.end(body)
      })
    const { answer, text } = await send('POST', '/token', 'x'.repeat(200_000))
    expect([answer.statusCode, answer.headers['retry-after'], answer.headers['cache-control']]).toEqual([
      503,
      '1',
      'no-store',
    ])
    expect(JSON.parse(text)).toMatchObject({ error: 'temporarily_unavailable', reason: 'overloaded' })
    expect(await send('GET', '/health')).toMatchObject({ text: 'well', reused: true })
    expect(asked).toEqual(['/token 127.0.0.1', '/health 127.0.0.1'])
    agent.destroy()
    await close()
    await house.close()
  })
})
