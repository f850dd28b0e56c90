/** What the Redis stores do to be asked less often, and that nothing is forgiven for it. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { openRedisClient, type RedisClient, type Reply, script } from '../../src/store/redis/client.ts'
import { createKeyPins } from '../../src/store/redis/key-pins.ts'
import { redisIsHere, startRedis, type TestRedis } from './redis-server.ts'

const FIRST = { text: '1:a.b:0:0', number: 1, openedAt: 0, base: 0 }

describe('pins that a replica has seen', () => {
  function world(answer: (values: readonly (string | number)[]) => Reply) {
    const asked: (readonly (string | number)[])[] = []
    const clock = { forgetBefore: 1000 }
    const redis: RedisClient = {
      generation: () => FIRST,
      onOpened: () => undefined,
      distrust: () => undefined,
      whole: async () => undefined,
      seal: () => undefined,
      run: async (_, values) => {
        asked.push(values)
        return answer(values)
      },
      listen: async () => undefined,
      close: () => undefined,
    }
    return { asked, clock, pins: createKeyPins({ redis, forgetBefore: () => clock.forgetBefore }) }
  }

  it('F1 are told again without asking: the key that was pinned, whichever is shown', async () => {
    const { asked, pins } = world(() => ['pinned', 'the first'])
    expect(await pins.pin('evidence', 'mine', 2000)).toBe('the first')
    expect(await pins.pin('evidence', 'mine', 2000)).toBe('the first')
    expect(await pins.pin('evidence', 'another', 9000)).toBe('the first')
    expect(asked).toHaveLength(1)
    await pins.pin('other evidence', 'mine', 2000)
    expect(asked).toHaveLength(2)
  })

  it('are asked for again when they are over, and when asking failed', async () => {
    const { asked, clock, pins } = world(() => {
      if (asked.length === 1) throw new Unavailable('store_unavailable', 'away')
      return ['pinned', `at ${asked.length}`]
    })
    await expect(pins.pin('evidence', 'mine', 2000)).rejects.toThrow('away')
    expect(await pins.pin('evidence', 'mine', 2000)).toBe('at 2')
    clock.forgetBefore = 2061
    expect(await pins.pin('evidence', 'mine', 4000)).toBe('at 3')
  })

  it('are ten thousand at most', async () => {
    const { asked, pins } = world((values) => ['pinned', String(values[1])])
    for (let n = 0; n <= 10_000; n++) await pins.pin(`evidence ${n}`, 'mine', 2000)
    await pins.pin('evidence 10000', 'mine', 2000)
    expect(asked).toHaveLength(10_001)
    await pins.pin('evidence 0', 'mine', 2000)
    expect(asked).toHaveLength(10_002)
  })
})

describe.skipIf(!redisIsHere())('questions of one turn', () => {
  let server: TestRedis
  beforeAll(async () => {
    server = await startRedis({ appendfsync: 'everysec' })
  })
  afterAll(() => server.remove())

  it('leave in one write, and each has its own answer and its own error', async () => {
    let writes = 0
    const proxy = createServer((from) => {
      const to = connect(server.port, '127.0.0.1')
      from.on('data', () => void writes++)
      from.pipe(to).pipe(from)
      for (const side of [from, to]) side.on('error', () => undefined)
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const { port } = proxy.address() as AddressInfo
    const client = await openRedisClient({
      url: `redis://127.0.0.1:${port}`,
      prefix: 'frugal',
      mayBegin: true,
      givingBack: {
        roster: () => ({ id: '00000000', name: 'test', known: [] }),
        leastGeneration: () => 0,
        giveBack: async () => undefined,
        endEverything: async () => undefined,
        told: () => undefined,
      },
      now: () => 0,
      monotonic: () => performance.now(),
    })
    try {
      const say = script("if arg(1) == '3' then error('three') end return {arg(1)}")
      await client.run(say, ['known'])
      const before = writes
      const answers = await Promise.allSettled(Array.from({ length: 50 }, (_, n) => client.run(say, [n])))
      expect(writes - before).toBe(1)
      expect(answers.map((answer) => (answer.status === 'fulfilled' ? answer.value[0] : 'failed'))).toEqual(
        Array.from({ length: 50 }, (_, n) => (n === 3 ? 'failed' : String(n))),
      )
    } finally {
      client.close()
      proxy.close()
    }
  })
})
