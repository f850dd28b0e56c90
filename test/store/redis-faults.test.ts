/** What the Redis stores answer while Redis is stopped, killed, full, unsafe or not ours. */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import { openStores, type Stores } from '../../src/store/open.ts'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import { previewsWait } from '../contract/bulk-pins.ts'
import { someTask } from '../contract/task-store.ts'
import { fresh, range, START } from '../contract/world.ts'
import { killUnderLoad } from './kill-under-load.ts'
import { redisIsHere, startRedis, type TestRedis } from './redis-server.ts'

const entry = (jti: string): NewRevocation => ({
  id: fresh('rev'),
  match: { jti },
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: START,
  expiresAt: START + 3600,
})

describe.skipIf(!redisIsHere())('when Redis fails', () => {
  const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
  const opened: Stores[] = []
  const servers: TestRedis[] = []
  afterEach(async () => {
    for (const stores of opened.splice(0)) await stores.close()
    for (const server of servers.splice(0)) await server.remove()
  })
  afterAll(() => rmSync(base, { recursive: true, force: true }))

  async function serve(options: { [name: string]: string } = {}): Promise<TestRedis> {
    const server = await startRedis(options)
    servers.push(server)
    return server
  }
  async function open(url: string, prefix = 'errand'): Promise<Stores> {
    const stores = await openStores({
      store: { kind: 'redis', url, prefix },
      dataDir: join(base, fresh('data')),
      now: () => START,
      monotonic: () => performance.now(),
    })
    opened.push(stores)
    return stores
  }
  const isBack = (stores: Stores) => expect.poll(() => stores.healthy(), { timeout: 10_000 }).toBe(true)
  const admin = async <T>(server: TestRedis, use: (redis: Redis) => Promise<T>): Promise<T> => {
    const redis = new Redis(server.url)
    try {
      return await use(redis)
    } finally {
      redis.disconnect()
    }
  }

  it('M2 answers unavailable while Redis is stopped, runs none of it afterwards, and comes back by itself', async () => {
    const server = await serve()
    const stores = await open(server.url)
    const task = someTask({ budget: { maxCalls: 100 } })
    await stores.tasks.open(task, START)
    const before = await stores.revocations.epoch()
    server.signal('SIGSTOP')
    const attempts = async (round: number) => {
      const spends = await Promise.allSettled(
        range(20).map((n) => stores.replayGuard.spend(`${round}/${n}`, START + 60)),
      )
      for (const spend of spends) {
        expect(spend).toMatchObject({ status: 'rejected', reason: { reason: 'replay_guard_unavailable' } })
      }
      const calls = { calls: 1, exchanges: 0, cost: 0 }
      const others = await Promise.allSettled([
        stores.tasks.reserve(task.id, calls, START),
        stores.revocations.check({ hops: [] }),
        stores.revocations.add(entry('late')),
        stores.idempotency.claim('key', 'digest', START, START + 60),
      ])
      for (const other of others) {
        expect(other).toMatchObject({ status: 'rejected', reason: { reason: 'store_unavailable' } })
      }
      expect(await stores.healthy()).toBe(false)
    }
    for (const round of range(3)) await attempts(round)
    server.signal('SIGCONT')
    await isBack(stores)
    const spent = await Promise.all(
      range(3).flatMap((round) => range(20).map((n) => stores.replayGuard.spend(`${round}/${n}`, START + 60))),
    )
    expect(spent.every(Boolean)).toBe(true)
    expect((await stores.tasks.get(task.id))?.spent.calls).toBe(0)
    expect(await stores.revocations.epoch()).toEqual(before)
    expect(await stores.idempotency.claim('key', 'digest', START, START + 60)).toEqual({ outcome: 'claimed' })
  })

  it('M1 keeps what was acknowledged when Redis is killed under load, and resolves the rest to all or nothing', async () => {
    const server = await serve()
    await killUnderLoad(server, await open(server.url), 4)
  })

  it('hears after a reconnect what other replicas added meanwhile, in order', async () => {
    const server = await serve()
    const [stores, other] = [await open(server.url), await open(server.url)]
    const heard: number[] = []
    stores.revocations.onAdded(({ epoch }) => heard.push(epoch.sequence))
    await other.revocations.add(entry('a'))
    await expect.poll(() => heard).toEqual([1])
    await admin(server, async (redis) => {
      await redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub')
      await redis.call('CLIENT', 'KILL', 'TYPE', 'normal', 'SKIPME', 'yes')
    })
    await isBack(other)
    for (const jti of ['b', 'c', 'd']) await other.revocations.add(entry(jti))
    await isBack(stores)
    await expect.poll(() => heard, { timeout: 10_000 }).toEqual([1, 2, 3, 4])
  })

  it('M5 mints nothing at the memory limit, and still checks, revokes and ends', async () => {
    const server = await serve()
    const stores = await open(server.url)
    const task = someTask()
    await stores.tasks.open(task, START)
    await admin(server, (redis) => redis.config('SET', 'maxmemory', '1'))
    await expect(stores.replayGuard.spend('x', START + 60)).rejects.toMatchObject({
      reason: 'replay_guard_unavailable',
    })
    // An administrator who comes to end something.
    expect(await stores.replayGuard.spend('y', START + 60, true)).toBe(true)
    expect(await stores.replayGuard.spend('y', START + 60, true)).toBe(false)
    await expect(stores.tasks.open(someTask(), START)).rejects.toMatchObject({ reason: 'store_unavailable' })
    await expect(stores.tasks.reserve(task.id, { calls: 1, exchanges: 0, cost: 0 }, START)).rejects.toMatchObject({
      reason: 'store_unavailable',
    })
    const rev = await stores.revocations.epoch()
    const { entry: stored } = await stores.revocations.add(entry('stolen'))
    const hops = [{ facts: { jti: 'stolen' }, rev }]
    expect((await stores.revocations.check({ hops })).dead?.entry).toBe(stored.id)
    expect(await stores.tasks.end(task.id, 'revoked', 'stolen', START)).toEqual([task.id])
    await previewsWait(stores)
    await admin(server, (redis) => redis.config('SET', 'maxmemory', '0'))
    expect(await stores.replayGuard.spend('x', START + 60)).toBe(true)
  })

  it.each([
    ['without an append-only file', { appendonly: 'no' }, 'appendonly yes'],
    ['that never syncs its file', { appendfsync: 'no' }, 'appendfsync'],
    ['that evicts', { 'maxmemory-policy': 'allkeys-lru' }, 'noeviction'],
    ['that evicts what expires', { 'maxmemory-policy': 'volatile-ttl' }, 'noeviction'],
  ])('M1 M5 refuses a Redis %s as unsafe_store_config', async (_, options, says) => {
    const server = await serve(options)
    await expect(open(server.url)).rejects.toMatchObject({
      code: 'unsafe_store_config',
      message: expect.stringContaining(says),
    })
  })

  it('M5 looks elsewhere when the ACL forbids CONFIG, and finds the same', async () => {
    const url = async (options: { [name: string]: string }) => {
      const server = await serve(options)
      await admin(server, (redis) =>
        redis.acl('SETUSER', 'errand', 'on', '>secret', '~{errand}:*', '&{errand}:*', '+@all', '-@admin', '-config'),
      )
      return server.url.replace('redis://', 'redis://errand:secret@')
    }
    await expect(open(await url({ 'maxmemory-policy': 'allkeys-lru' }))).rejects.toMatchObject({
      code: 'unsafe_store_config',
    })
    await expect(open(await url({ appendonly: 'no' }))).rejects.toMatchObject({ code: 'unsafe_store_config' })
    // M10: the ACL user of the documentation may touch its own keys and channel alone, and that is enough.
    const stores = await open(await url({}))
    expect(await stores.replayGuard.spend('x', START + 60)).toBe(true)
    expect((await stores.revocations.add(entry('x'))).added).toBe(true)
  })

  it('M8 reads nothing from a replica: neither when opening nor after a primary became one', async () => {
    const [primary, replica] = [await serve(), await serve()]
    await admin(replica, (redis) => redis.replicaof('127.0.0.1', primary.port))
    await expect(open(replica.url)).rejects.toMatchObject({ code: 'unsafe_store_config' })
    const stores = await open(primary.url)
    await stores.revocations.add(entry('x'))
    await admin(primary, (redis) => redis.replicaof('127.0.0.1', 1))
    await expect(stores.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'store_unavailable' })
    await expect(stores.tasks.get('task_x')).rejects.toMatchObject({ reason: 'store_unavailable' })
    await admin(primary, (redis) => redis.replicaof('NO', 'ONE'))
    await isBack(stores)
    expect((await stores.revocations.epoch()).sequence).toBe(1)
  })

  it('keeps nothing of streams of security events that are no more', async () => {
    const server = await serve()
    const { signalStreams } = await open(server.url)
    const cursor = { generation: 1, sequence: 1 }
    for (const id of ['stream_1', 'stream_2']) {
      const settings = { delivery: 'poll', status: 'enabled', removed: [] } as const
      await signalStreams.create({ id, receiver: 'receiver:siem', cursor, ...settings })
      await signalStreams.append(id, { generation: 1, sequence: 2 }, [{ jti: 'j', claims: '{}' }], 10)
      await signalStreams.add(id, { jti: 'more', claims: '{}' })
      await signalStreams.remove(id)
      await signalStreams.add(id, { jti: 'late', claims: '{}' })
      await signalStreams.restart(id, cursor)
    }
    expect(await admin(server, (redis) => redis.keys('*signals*'))).toEqual([])
  })

  it('M10 keeps to its own prefix, and answers no nonsense where somebody else wrote there', async () => {
    const server = await serve()
    const [one, two] = [await open(server.url, 'one'), await open(server.url, 'two')]
    expect(await one.replayGuard.spend('x', START + 60)).toBe(true)
    expect(await two.replayGuard.spend('x', START + 60)).toBe(true)
    await one.revocations.add(entry('x'))
    expect((await two.revocations.epoch()).sequence).toBe(0)
    const keys = await admin(server, (redis) => redis.keys('*'))
    expect(keys.filter((key) => !key.startsWith('{one}:') && !key.startsWith('{two}:'))).toEqual([])
    await admin(server, (redis) => redis.set('{one}:idem:=key', 'not a hash').then(() => redis.set('{one}:pins', 'no')))
    const claim = one.idempotency.claim('key', 'digest', START, START + 60)
    await expect(claim).rejects.toMatchObject({ reason: 'store_unavailable' })
    const pin = one.keyPins.pin('evidence', 'key', START + 60)
    await expect(pin).rejects.toMatchObject({ reason: 'store_unavailable' })
    await expect(open(server.url, 'a}{b')).rejects.toMatchObject({ code: 'unsafe_store_config' })
  })

  it('is sealed where Redis came back empty or went back in time, and forgets no revocation that way', async () => {
    const server = await serve()
    const stores = await open(server.url)
    await stores.revocations.add(entry('x'))
    await stores.revocations.add(entry('y'))
    await admin(server, (redis) => redis.decr('{errand}:rev:sequence'))
    await expect(stores.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'sealed' })
    await admin(server, (redis) => redis.flushall())
    await expect(stores.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'sealed' })
    await expect(stores.replayGuard.spend('x', START + 60)).rejects.toMatchObject({ reason: 'sealed' })
    expect(await stores.healthy()).toBe(false)
  })

  it('begins anew on an empty Redis only where nothing has been recorded', async () => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    mkdirSync(join(dataDir, 'audit', '0a1b2c3d'), { recursive: true })
    writeFileSync(join(dataDir, 'audit', '0a1b2c3d', '0.log'), 'record')
    const settings = { kind: 'redis', url: server.url, prefix: 'errand' } as const
    const openHere = () =>
      openStores({ store: settings, dataDir, now: () => START, monotonic: () => performance.now() })
    await expect(openHere()).rejects.toMatchObject({ code: 'data_damaged' })
    await open(server.url)
    opened.push(await openHere())
  })

  it('M11 goes on when the clock it compares with jumps: nothing is decided by it', async () => {
    const server = await serve()
    let shift = 0
    const stores = await openStores({
      store: { kind: 'redis', url: server.url, prefix: 'errand' },
      dataDir: join(base, fresh('data')),
      now: () => START,
      monotonic: () => performance.now() + shift,
    })
    opened.push(stores)
    await stores.replayGuard.spend('x', START + 60)
    // Seen from here, the server's clock goes forward by an hour, then back by two.
    for (const jump of [-3_600_000, 7_200_000]) {
      shift += jump
      expect(await stores.replayGuard.spend('x', START + 60)).toBe(false)
      expect(await stores.replayGuard.spend(fresh('id'), START + 60)).toBe(true)
    }
  })

  it('says that Redis cannot be reached without repeating its password', async () => {
    const server = await serve()
    await server.kill()
    const opening = open(server.url.replace('redis://', 'redis://user:canary-password@'))
    await expect(opening).rejects.toMatchObject({ code: 'store_unreachable' })
    await expect(opening).rejects.not.toThrow('canary-password')
  })
})
