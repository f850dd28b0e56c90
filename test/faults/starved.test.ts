/** FI-8: few file descriptors, little memory and far too many connections: the service sheds, lives and comes back. */
import { execFileSync } from 'node:child_process'
import { connect, type Socket } from 'node:net'
import { setTimeout as pause } from 'node:timers/promises'
import { afterEach, describe, expect, it } from 'vitest'
import { newKeyPair } from '../house.ts'
import { createHistory, inv12 } from '../invariants.ts'
import { openSite, type Replica, type Site } from './site.ts'

function limitsCanBeSet(): boolean {
  try {
    execFileSync('prlimit', ['--version'], { stdio: 'ignore' })
    return true
  } catch {
    console.log('prlimit (util-linux) is not on the PATH: the test with few file descriptors is skipped')
    return false
  }
}

describe('a service that has too little of everything', () => {
  let site: Site
  afterEach(() => site.close())

  async function exchanges(service: Replica) {
    const research = await site.agent(service.base, 'research')
    const asAlice = await site.alice()
    const history = createHistory()
    const exchange = () =>
      history.call(
        'exchange',
        {},
        () => research.token({ ...asAlice(), audience: 'tickets' }, { proofKey: newKeyPair() }),
        ({ status }) => {
          expect([200, 429, 503]).toContain(status)
          return status === 200 ? 'ok' : 'fail'
        },
      )
    return { history, exchange }
  }
  async function recovers({ history, exchange }: Awaited<ReturnType<typeof exchanges>>): Promise<void> {
    const endedAt = performance.now()
    // By itself, and within ten seconds.
    await expect.poll(async () => (await exchange())?.status, { timeout: 10_000, interval: 100 }).toBe(200)
    for (let i = 0; i < 20; i += 1) await exchange()
    const since = performance.now() - endedAt
    expect(inv12(history.operations.slice(-20), endedAt, { withinMs: Math.min(since, 10_000) / 2 })).toEqual([])
  }

  it.skipIf(!limitsCanBeSet())(
    'FI-8 Inv12 with 64 descriptors and 400 connections that say nothing: it refuses some, and never ends',
    async () => {
      site = await openSite()
      const service = await site.start()
      const client = await exchanges(service)
      execFileSync('prlimit', ['--pid', String(service.pid), '--nofile=64'])
      expect((await client.exchange())?.status).toBe(200)
      const port = Number(new URL(service.base).port)
      const sockets: Socket[] = []
      for (let i = 0; i < 400; i += 1) {
        const socket = connect(port, '127.0.0.1')
        socket.on('error', () => undefined)
        sockets.push(socket)
      }
      const flood = Promise.all(Array.from({ length: 20 }, () => client.exchange()))
      await Promise.race([flood, pause(3_000)])
      expect(service.hasEnded()).toBe(false)
      for (const socket of sockets) socket.destroy()
      await recovers(client)
      await flood
      expect(service.descriptors()).toBeLessThan(64)
      expect(service.hasEnded()).toBe(false)
    },
  )

  it('FI-8 Inv12 with a heap of 128 MB, many callers and large bodies: it sheds, and never ends', async () => {
    site = await openSite({
      change: (file, text) =>
        file === 'errand.yaml' ? text.replace('bounds: {', 'bounds: { max_concurrent_requests: 64,') : text,
    })
    const service = await site.start({ nodeArgs: ['--max-old-space-size=128'] })
    const client = await exchanges(service)
    const until = performance.now() + 8_000
    const large = `grant_type=x&padding=${'x'.repeat(60_000)}`
    const shed = { statuses: new Map<number, number>() }
    const strangers = Array.from({ length: 150 }, async () => {
      while (performance.now() < until) {
        const answer = await fetch(`${service.base}/token`, {
          method: 'POST',
          headers: { 'content-type': 'application/x-www-form-urlencoded' },
          body: large,
        }).catch(() => undefined)
        await answer?.arrayBuffer().catch(() => undefined)
        if (answer) shed.statuses.set(answer.status, (shed.statuses.get(answer.status) ?? 0) + 1)
        else await pause(20)
      }
    })
    const callers = Array.from({ length: 10 }, async () => {
      while (performance.now() < until) if (!(await client.exchange())) await pause(20)
    })
    await Promise.all([...strangers, ...callers])
    expect(service.hasEnded()).toBe(false)
    expect([...shed.statuses.keys()].filter((status) => ![400, 401, 413, 429, 503].includes(status))).toEqual([])
    await recovers(client)
    expect(service.hasEnded()).toBe(false)
  })
})
