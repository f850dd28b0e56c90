/** A Redis that lost some of what it acknowledged: sealed before its first answer, given back what it lost, opened anew. */
import { copyFileSync, cpSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import type { SealEvent } from '../../src/revoke/store-seal.ts'
import { LIFTS_KEPT_SECONDS, openLedger } from '../../src/store/ledger.ts'
import { openStores, type Stores } from '../../src/store/open.ts'
import { fresh, START } from '../contract/world.ts'
import { redisIsHere, startRedis, type TestRedis } from './redis-server.ts'

const FIRST = { generation: 1, sequence: 0 }
const entry = (over: Partial<NewRevocation> = {}): NewRevocation => ({
  id: fresh('rev'),
  match: { jti: fresh('jti') },
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: START,
  expiresAt: START + 3600,
  ...over,
})

describe.skipIf(!redisIsHere())('a Redis that lost what it acknowledged', () => {
  const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
  const cleanups: (() => Promise<unknown>)[] = []
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0).reverse()) await cleanup()
  })
  afterAll(() => rmSync(base, { recursive: true, force: true }))

  async function serve(): Promise<TestRedis> {
    const server = await startRedis()
    cleanups.push(() => server.remove())
    return server
  }
  async function open(server: TestRedis, dataDir = join(base, fresh('data'))) {
    const stores = await openStores({
      store: { kind: 'redis', url: server.url, prefix: 'errand' },
      dataDir,
      now: () => START,
      monotonic: () => performance.now(),
    })
    cleanups.push(() => stores.close())
    const events: SealEvent[] = []
    stores.sealing.listen((event) => events.push(event))
    return { ...stores, events, dataDir }
  }
  const admin = async <T>(server: TestRedis, use: (redis: Redis) => Promise<T>): Promise<T> => {
    const redis = new Redis(server.url)
    try {
      return await use(redis)
    } finally {
      redis.disconnect()
    }
  }
  /** What is written between `from` and `lose` is gone, as after a fail-over to a server that was behind. */
  async function losing(server: TestRedis, steps: () => Promise<void>): Promise<void> {
    const copy = join(base, fresh('aof'))
    copyFileSync(server.file, copy)
    await steps()
    await server.kill()
    copyFileSync(copy, server.file)
    await server.start()
  }
  const isBack = (stores: Stores) => expect.poll(() => stores.healthy(), { timeout: 10_000 }).toBe(true)
  const answerOf = async (stores: Stores, { match }: NewRevocation, rev = FIRST) =>
    stores.revocations.check({ hops: [{ facts: match, rev }], issuing: match })

  it('L7 M1 gives back cuts, bans and what was lifted, in a new generation, before it answers anything', async () => {
    const server = await serve()
    const stores = await open(server)
    const [kept, cut] = [entry(), entry()]
    const [ban, lifted] = [
      entry({ match: { sub: 'company|alice' }, mode: 'ban' }),
      entry({ match: { agent: 'research' }, mode: 'ban' }),
    ]
    await stores.revocations.add(kept)
    await losing(server, async () => {
      for (const one of [cut, ban, lifted]) await stores.revocations.add(one)
      await stores.revocations.readmit(lifted.id, 'admin', 'looked into', START)
      await stores.revocations.mark()
    })
    await isBack(stores)
    expect((await stores.revocations.epoch()).generation).toBe(2)
    for (const one of [kept, cut, ban, lifted])
      expect((await answerOf(stores, one)).dead).toMatchObject({ entry: one.id })
    expect((await answerOf(stores, ban)).banned?.entry).toBe(ban.id)
    expect((await answerOf(stores, lifted)).banned).toBeUndefined()
    // R2: whatever was checked in the generation before, at whatever place, dies of what is given back.
    const late = { generation: 1, sequence: 999 }
    expect((await answerOf(stores, cut, late)).dead?.entry).toBe(cut.id)
    // Precision: what is checked now is not killed.
    expect((await answerOf(stores, cut, await stores.revocations.epoch())).dead).toBeUndefined()
    expect(stores.events).toEqual([
      { event: 'sealed', why: 'replaced' },
      { event: 'unsealed', generation: 2, seconds: 0, without: [] },
    ])
    expect(stores.sealing.current()).toBeUndefined()
    // What was spent may be forgotten: so what is older is not taken, and anything made since is.
    for (const spend of [
      (at: number) => stores.replayGuard.spend(fresh('proof'), START + 60, false, at),
      (at: number) => stores.keyPins.pin(fresh('grant'), 'owner', START + 60, at),
    ]) {
      await expect(spend(START - 1)).rejects.toMatchObject({ reason: 'sealed' })
      expect(await spend(START)).toBeTruthy()
    }
  })

  it('L7 a process that never saw what was lost answers nothing before it is back, and tells of it', async () => {
    const server = await serve()
    const [stores, other] = [await open(server), await open(server)]
    const before = entry()
    const lost = entry()
    await stores.revocations.add(before)
    await expect.poll(async () => (await other.revocations.after()).length).toBe(1)
    const heard: string[] = []
    other.revocations.onAdded(({ id }) => heard.push(id))
    const answers: unknown[] = []
    await losing(server, async () => {
      await admin(server, (redis) => redis.call('CLIENT', 'KILL', 'TYPE', 'pubsub'))
      await stores.revocations.add(lost)
    })
    for (let n = 0; n < 400 && !answers.some(Boolean); n++) {
      answers.push((await answerOf(other, lost).catch(() => undefined))?.dead)
      await new Promise((resolve) => setTimeout(resolve, 5))
    }
    expect(answers.filter(Boolean)).toEqual([{ entry: lost.id, hop: 0 }])
    await isBack(stores)
    expect(await other.revocations.epoch()).toEqual(await stores.revocations.epoch())
    await expect.poll(() => heard).toContain(lost.id)
  })

  it('M waits for every process on the roster; without one that is lost, everything from before is dead', async () => {
    const server = await serve()
    const stores = await open(server)
    const ban = entry({ match: { agent: 'research' }, mode: 'ban' })
    await stores.revocations.add(ban)
    await admin(server, (redis) => redis.hset('{errand}:roster', 'deadbeef', 'pod-3'))
    await server.kill()
    await server.start()
    await expect.poll(() => stores.sealing.current()?.missing, { timeout: 10_000 }).toEqual(['deadbeef (pod-3)'])
    await expect(stores.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'sealed' })
    await expect(stores.replayGuard.spend('x', START + 60)).rejects.toMatchObject({ reason: 'sealed' })
    // Who starts meanwhile is told whom it would wait for.
    await admin(server, (redis) => redis.sadd('{errand}:seal:without', 'deadbeef'))
    await isBack(stores)
    const { dead } = await stores.revocations.check({
      hops: [{ facts: { jti: 'some token' }, rev: { generation: 1, sequence: 999 } }],
    })
    const everything = await stores.revocations.get(dead!.entry)
    expect(everything).toMatchObject({ match: {}, mode: 'cut', by: 'system', reason: 'declared lost: deadbeef' })
    expect((await answerOf(stores, ban)).banned?.entry).toBe(ban.id)
    expect(stores.events.at(-1)).toMatchObject({ event: 'unsealed', without: ['deadbeef'] })
    expect(await admin(server, (redis) => redis.hkeys('{errand}:roster'))).not.toContain('deadbeef')
  })

  it('L7 is given back revocations and signing keys where it comes back empty, and a start alone refuses it', async () => {
    const server = await serve()
    const stores = await open(server)
    const key = {
      kid: 'one',
      purpose: 'token',
      alg: 'ES256',
      state: 'active',
      publicJwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' },
      sealed: 'sealed text',
      preparedAt: START,
    } as const
    await stores.keyStore.insert(key)
    const cut = entry()
    await stores.revocations.add(cut)
    await admin(server, (redis) => redis.flushall())
    await expect(stores.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'sealed' })
    await isBack(stores)
    expect((await answerOf(stores, cut)).dead?.entry).toBe(cut.id)
    expect(await stores.keyStore.list()).toEqual([key])
    expect((await stores.revocations.epoch()).generation).toBe(2)
  })

  it('M9 seals where entries were taken out, gives them back, and says that somebody did it', async () => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    const first = await open(server, dataDir)
    const ban = entry({ match: { agent: 'research' }, mode: 'ban' })
    await first.revocations.add(ban)
    await admin(server, async (redis) => {
      await redis.decr('{errand}:rev:sequence')
    })
    await expect(first.revocations.check({ hops: [] })).rejects.toMatchObject({ reason: 'sealed' })
    await isBack(first)
    expect(first.events[0]).toEqual({ event: 'sealed', why: 'went_back' })
    await first.close()
    await admin(server, (redis) =>
      redis.del(
        '{errand}:rev:bans',
        '{errand}:rev:cuts',
        '{errand}:rev:ids',
        '{errand}:rev:order',
        '{errand}:rev:open',
        '{errand}:rev:entry:1',
        '{errand}:rev:entry:2',
      ),
    )
    const again = await open(server, dataDir)
    expect((await answerOf(again, ban)).banned?.entry).toBe(ban.id)
    expect(again.events.map((each) => each.event === 'sealed' && each.why)).toEqual(['tampered', false])
  })

  it.each<readonly [string, (redis: Redis) => Promise<unknown>]>([
    ['its place among the bans', (redis) => redis.del('{errand}:rev:bans')],
    ['its place among the cuts', (redis) => redis.del('{errand}:rev:cuts')],
    ['what is asked for', (redis) => redis.del('{errand}:rev:shapes')],
    [
      'what it says',
      async (redis) => {
        const body = String(await redis.hget('{errand}:rev:entry:1', 'body'))
        await redis.hset('{errand}:rev:entry:1', 'body', body.replace('"agent":"research"', '"agent":"nobody"'))
      },
    ],
  ])('M9 notices that a ban has lost %s, and puts it right', async (_, tamper) => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    const ban = entry({ match: { agent: 'research' }, mode: 'ban' })
    const first = await open(server, dataDir)
    await first.revocations.add(ban)
    await first.close()
    await admin(server, tamper)
    const again = await open(server, dataDir)
    expect(again.events[0]).toEqual({ event: 'sealed', why: 'tampered' })
    const answer = await answerOf(again, ban)
    expect([answer.dead?.entry, answer.banned?.entry]).toEqual([ban.id, ban.id])
    await again.close()
    const [once, twice] = [await open(server, dataDir), await open(server)]
    expect([once.events, twice.events]).toEqual([[], []])
  })

  const takeOut = (redis: Redis) =>
    redis.del(
      ...['bans', 'cuts', 'ids', 'order', 'open', 'expiry', 'until', 'entry:1'].map((key) => `{errand}:rev:${key}`),
    )

  it('M9 notices that a ban was taken out whose entry has expired, and bans again', async () => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    const ban = entry({ match: { agent: 'research' }, mode: 'ban', expiresAt: START - 10 })
    const [first, other] = [await open(server, dataDir), await open(server)]
    await first.revocations.add(ban)
    await expect.poll(async () => (await other.revocations.bans(START)).length).toBe(1)
    await first.close()
    await admin(server, takeOut)
    // Processes hear of a seal when they ask something.
    const asking = setInterval(() => void other.healthy(), 20)
    const again = await open(server, dataDir).finally(() => clearInterval(asking))
    await isBack(other)
    expect(again.events[0]).toEqual({ event: 'sealed', why: 'tampered' })
    for (const one of [again, other]) expect((await answerOf(one, ban)).banned?.entry).toBe(ban.id)
  })

  it('M9 notices what was taken out shortly before its end only where that end is that of a ban', async () => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    const first = await open(server, dataDir)
    // Clocks differ: another process may have forgotten it already.
    await first.revocations.add(entry({ mode: 'ban', expiresAt: START + 100, banUntil: START + 200 }))
    await first.close()
    await admin(server, takeOut)
    const second = await open(server, dataDir)
    expect(second.events).toEqual([])
    const lifted = entry({ mode: 'ban', match: { agent: 'a' } })
    await second.revocations.add(lifted)
    await second.revocations.readmit(lifted.id, 'admin', 'looked into', START)
    await second.close()
    await admin(server, async (redis) => {
      const sequence = await redis.hget('{errand}:rev:ids', lifted.id)
      await redis.del(`{errand}:rev:entry:${sequence}`, '{errand}:rev:order')
    })
    // Lifted, it still ends the tokens from before.
    const third = await open(server, dataDir)
    expect(third.events[0]).toEqual({ event: 'sealed', why: 'tampered' })
    const answer = await answerOf(third, lifted)
    expect([answer.dead?.entry, answer.banned]).toEqual([lifted.id, undefined])
  })

  it('M9 tells a process that was away of what was lifted and is forgotten, and nobody bans it again', async () => {
    const server = await serve()
    const dataDir = join(base, fresh('data'))
    const ban = entry({ match: { agent: 'research' }, mode: 'ban', expiresAt: START - 10 })
    const [away, stays] = [await open(server, dataDir), await open(server)]
    await away.revocations.add(ban)
    await expect.poll(async () => (await stays.revocations.bans(START)).length).toBe(1)
    const unaware = join(base, fresh('data'))
    await away.close()
    cpSync(dataDir, unaware, { recursive: true })
    expect(await stays.revocations.readmit(ban.id, 'admin', 'looked into', START)).toBe(true)
    await stays.revocations.prune(START)
    expect(await stays.revocations.get(ban.id)).toBeUndefined()
    const back = await open(server, dataDir)
    expect([back.events, stays.events]).toEqual([[], []])
    await back.close()
    const ledger = openLedger(dataDir)
    expect(ledger.lifts()).toMatchObject([{ id: ban.id, by: 'admin', reason: 'looked into', at: START }])
    await ledger.close()

    // Also where Redis has forgotten that: those that were there tell of it.
    await admin(server, (redis) => redis.flushall())
    expect(await stays.healthy()).toBe(false)
    const late = await open(server, unaware)
    await isBack(stays)
    for (const one of [stays, late]) expect((await answerOf(one, ban)).banned).toBeUndefined()
    await stays.revocations.prune(START + LIFTS_KEPT_SECONDS)
    expect(await admin(server, (redis) => redis.exists('{errand}:rev:lifts', '{errand}:rev:lifts:order'))).toBe(0)
  })
})
