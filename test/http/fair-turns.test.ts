/** Tries to have more begun in one turn than others may, to overtake, to be forgotten in the line, and to stay there. */
import { EventEmitter } from 'node:events'
import type { IncomingMessage } from 'node:http'
import { connect } from 'node:net'
import { Hono } from 'hono'
import { afterEach, describe, expect, it } from 'vitest'
import type { App } from '../../src/http/app.ts'
import { createFairTurns } from '../../src/http/fair-turns.ts'
import { createLimits } from '../../src/http/limits.ts'
import type { Env } from '../../src/http/route.ts'
import { type Listener, listen } from '../../src/http/server.ts'
import { createPlace, type Site } from '../../src/http/sites.ts'
import { range } from '../contract/world.ts'
import { ISSUER, openHouse } from '../house.ts'
import { freePort } from '../running.ts'

/** Turns that pass when they are told to. */
function openTurns() {
  const asked: (() => void)[] = []
  const turns = createFairTurns({ nextTurn: (run) => void asked.push(run) })
  const begun: string[] = []
  return {
    turns,
    asked,
    begun,
    come: (whose: string, name: string, first = false) => {
      const incoming = new EventEmitter()
      turns.begin(whose, incoming as unknown as IncomingMessage, () => void begun.push(name), first)
      return incoming
    },
    /** What is begun by the end of a turn, and since the last was asked. */
    pass: (): string[] => {
      for (const run of asked.splice(0)) run()
      return begun.splice(0)
    },
  }
}

describe('H6 the turns of a flood', () => {
  it('two of it are begun in each, in the order in which they came, and none is forgotten', () => {
    const { come, pass, turns, asked } = openTurns()
    for (const n of range(7)) come('noisy', `noisy ${n}`)
    expect(turns.waiting('noisy')).toBe(5)
    expect(pass()).toEqual(['noisy 0', 'noisy 1'])
    // What comes between two turns waits behind them.
    come('noisy', 'noisy 7')
    expect(pass()).toEqual(['noisy 2', 'noisy 3'])
    expect(pass()).toEqual(['noisy 4', 'noisy 5'])
    expect(pass()).toEqual(['noisy 6', 'noisy 7'])
    expect([turns.waiting('noisy'), asked]).toEqual([0, []])
    come('noisy', 'noisy 8')
    expect([pass(), asked]).toEqual([['noisy 8'], []])
  })

  it('another is begun when it comes; and where several wait, one of each before the second of any', () => {
    const { come, pass } = openTurns()
    for (const n of range(6)) come('noisy', `noisy ${n}`)
    come('quiet', 'quiet')
    expect(pass()).toEqual(['noisy 0', 'noisy 1', 'quiet'])
    for (const n of range(4)) come('loud', `loud ${n}`)
    expect(pass()).toEqual(['loud 0', 'loud 1', 'noisy 2', 'noisy 3'])
    expect(pass()).toEqual(['noisy 4', 'loud 2', 'noisy 5', 'loud 3'])
    expect(pass()).toEqual([])
  })

  it('what is kept free goes before everything else of its own issuer, and before nothing of another', () => {
    const { come, pass } = openTurns()
    for (const n of range(5)) come('noisy', `noisy ${n}`)
    for (const n of range(3)) come('noisy', `kept ${n}`, true)
    for (const n of range(3)) come('quiet', `quiet ${n}`)
    expect(pass()).toEqual(['noisy 0', 'noisy 1', 'quiet 0', 'quiet 1'])
    expect(pass()).toEqual(['kept 0', 'quiet 2', 'kept 1'])
    expect(pass()).toEqual(['kept 2', 'noisy 2'])
  })

  it('who goes away leaves the line, and who is begun leaves nothing behind on the connection', () => {
    const { come, pass, turns } = openTurns()
    const callers = range(6).map((n) => come('noisy', `noisy ${n}`))
    callers[3]!.emit('close')
    expect(turns.waiting('noisy')).toBe(3)
    expect(pass()).toEqual(['noisy 0', 'noisy 1'])
    expect(pass()).toEqual(['noisy 2', 'noisy 4'])
    expect(pass()).toEqual(['noisy 5'])
    expect(callers.map((caller) => caller.listenerCount('close'))).toEqual(range(6).map(() => 0))
  })

  it('what waits counts to whoever comes, and not to who has waited', () => {
    const line = { waiting: 0 }
    const limits = createLimits({
      maxConcurrent: () => 4,
      quota: () => 3,
      waiting: () => line.waiting,
      monotonic: () => 0,
    })
    expect([limits.enter(), limits.full()]).toEqual([true, false])
    line.waiting = 2
    expect([limits.full(), limits.enter(), limits.enter(), limits.enter()]).toEqual([true, true, true, false])
  })
})

describe('H6 a flood at the listener', () => {
  const close: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const each of close.splice(0)) await each()
  })

  /** Two issuers that write down what they begin. `come` waits until the listener has it. */
  async function openTown({ alone = false, most = 100 } = {}) {
    const house = await openHouse()
    const { turns, asked } = openTurns()
    const begun: string[] = []
    const arrived = { count: 0 }
    const site = (name: string): Site => {
      const app: App = Object.assign(new Hono<Env>(), {
        door: { fits: () => false, enter: async () => undefined },
        sheds: () => false,
        full: () => {
          arrived.count += 1
          return turns.waiting(name) >= most
        },
      })
      app.all('*', async (c) => {
        begun.push(`${name} ${c.req.path} ${await c.req.text()}`.trim())
        return c.text('done')
      })
      const issuer = name === '' ? ISSUER : `${ISSUER}/t/${name}`
      return { name, issuer, app, base: issuer }
    }
    const tenants = [site('noisy')]
    const { settings } = house.service.snapshot()
    const port = await freePort()
    const listener: Listener = await listen({
      settings: { ...settings, listen: { ...settings.listen, port } },
      kind: 'main',
      place: createPlace(site(''), () => tenants),
      turns: () => (alone ? undefined : turns),
      onError: () => undefined,
    })
    close.push(
      () => listener.close(),
      () => house.close(),
    )
    const come = async (path: string, body = '') => {
      const before = arrived.count
      let answer = ''
      const socket = connect(port, '127.0.0.1')
      socket.on('data', (chunk) => {
        answer += String(chunk)
      })
      const ended = new Promise<string>((resolve) => socket.once('close', () => resolve(answer)))
      socket.write(
        `POST ${path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
      )
      if (!alone) await expect.poll(() => arrived.count).toBe(before + 1)
      return { socket, ended }
    }
    const pass = () => {
      for (const run of asked.splice(0)) run()
    }
    const passAll = () => {
      while (asked.length > 0) pass()
    }
    return { come, pass, passAll, begun, turns, listener, port }
  }

  it('waits in its line, while others, its own kill switch among them, are begun before the rest of it', async () => {
    const { come, pass, passAll, begun, turns } = await openTown()
    const all = []
    for (const n of range(6)) all.push(await come(`/t/noisy/agents/${n}`, `body ${n}`))
    all.push(await come('/t/noisy/revocations'), await come('/tasks'))
    expect(turns.waiting('noisy')).toBe(5)
    await expect.poll(() => begun).toEqual(['noisy /agents/0 body 0', 'noisy /agents/1 body 1', '/tasks'])
    pass()
    pass()
    await expect.poll(() => begun.slice(3).sort()).toEqual(['noisy /agents/2 body 2', 'noisy /revocations'])
    passAll()
    const answers = await Promise.all(all.map(({ ended }) => ended))
    expect(answers.map((answer) => answer.slice(9, 12))).toEqual(range(8).map(() => '200'))
    // What waited has its body.
    expect(begun.slice(5).sort()).toEqual(range(3).map((n) => `noisy /agents/${n + 3} body ${n + 3}`))
  })

  it('who goes away meanwhile is not begun', async () => {
    const { come, passAll, begun, turns } = await openTown()
    const all = []
    for (const n of range(4)) all.push(await come(`/t/noisy/agents/${n}`))
    all[2]!.socket.destroy()
    await expect.poll(() => turns.waiting('noisy')).toBe(1)
    passAll()
    await all[3]!.ended
    expect(begun.sort()).toEqual(['noisy /agents/0', 'noisy /agents/1', 'noisy /agents/3'])
  })

  it('nor what it had sent ahead on the same connection', async () => {
    const { come, pass, passAll, begun, turns, port } = await openTown()
    const socket = connect(port, '127.0.0.1')
    socket.write('GET /t/noisy/ahead HTTP/1.1\r\nHost: x\r\n\r\n'.repeat(5))
    await expect.poll(() => turns.waiting('noisy')).toBe(3)
    pass()
    const other = await come('/t/noisy/agents')
    socket.destroy()
    await expect.poll(() => turns.waiting('noisy')).toBe(1)
    passAll()
    await other.ended
    expect(begun).toEqual(['noisy /ahead', 'noisy /ahead', 'noisy /agents'])
  })

  it('what waits when the listener closes is answered before it has closed', async () => {
    const { come, passAll, listener } = await openTown()
    const all = []
    for (const n of range(5)) all.push(await come(`/t/noisy/agents/${n}`))
    const closed = listener.close()
    passAll()
    const answers = await Promise.all(all.map(({ ended }) => ended))
    expect(answers.map((answer) => answer.slice(9, 12))).toEqual(range(5).map(() => '200'))
    await closed
  })

  it('what is beyond what may wait goes to its app at once, which says no', async () => {
    const { come, passAll, begun } = await openTown({ most: 2 })
    const all = []
    for (const n of range(5)) all.push(await come(`/t/noisy/agents/${n}`))
    await all[4]!.ended
    expect(begun.sort()).toEqual(['noisy /agents/0', 'noisy /agents/1', 'noisy /agents/4'])
    passAll()
    await all[3]!.ended
  })

  it('where there is one issuer alone nothing waits', async () => {
    const { come, begun } = await openTown({ alone: true })
    await Promise.all((await Promise.all(range(5).map((n) => come(`/agents/${n}`)))).map(({ ended }) => ended))
    expect(begun.sort()).toEqual(range(5).map((n) => `/agents/${n}`))
  })
})
