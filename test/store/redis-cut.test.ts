/**
 * Redis killed while it writes what a script did: it drops that part at its next start, and may run it after all at the
 * one after. Each script is cut after each of its commands, and nothing acknowledged in between may suffer.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, afterEach, describe, expect, it } from 'vitest'
import type { StoredKey } from '../../src/keys/key-store.ts'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import { openStores, type Stores } from '../../src/store/open.ts'
import { someTask } from '../contract/task-store.ts'
import { fresh, range, START } from '../contract/world.ts'
import { redisIsHere, startRedis, type TestRedis } from './redis-server.ts'

const REV = { generation: 1, sequence: 0 }

describe.skipIf(!redisIsHere())('what Redis wrote by half', () => {
  const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
  const cleanups: (() => Promise<void>)[] = []
  afterEach(async () => {
    for (const cleanup of cleanups.splice(0)) await cleanup()
  })
  afterAll(() => rmSync(base, { recursive: true, force: true }))

  async function session<T>(server: TestRedis, use: (stores: Stores) => Promise<T>): Promise<T> {
    const stores = await openStores({
      store: { kind: 'redis', url: server.url, prefix: 'errand' },
      dataDir: join(base, fresh('data')),
      now: () => START,
      monotonic: () => performance.now(),
    })
    try {
      return await use(stores)
    } finally {
      await stores.close()
    }
  }

  /** Each session is another process, which holds nothing of what those before it did: nobody waits for them. */
  async function startAlone(server: TestRedis): Promise<void> {
    await server.start()
    const redis = new Redis(server.url)
    await redis.del('{errand}:roster')
    redis.disconnect()
  }

  /** The last transaction of the file: where each of its commands ends. */
  function commandEnds(file: string, from: number): readonly number[] {
    const text = readFileSync(file, 'latin1')
    const ends: number[] = []
    let at = from
    const line = () => {
      const end = text.indexOf('\r\n', at)
      const read = text.slice(at, end)
      at = end + 2
      return read
    }
    while (at < text.length) {
      const parts = Number(line().slice(1))
      for (let n = 0; n < parts; n++) {
        const length = Number(line().slice(1))
        at += length + 2
      }
      ends.push(at)
    }
    return ends
  }

  /** `done` is cut after `cut` of its commands; then comes what is acknowledged, another kill, and the question. */
  async function cutAfter(
    cut: number,
    steps: {
      before?: (stores: Stores) => Promise<unknown>
      lost: (stores: Stores) => Promise<unknown>
      meanwhile?: (stores: Stores) => Promise<unknown>
      check: (stores: Stores) => Promise<void>
    },
  ): Promise<number> {
    const server = await startRedis()
    cleanups.push(() => server.remove())
    const ends = await session(server, async (stores) => {
      await steps.before?.(stores)
      const from = statSync(server.file).size
      await steps.lost(stores)
      return commandEnds(server.file, from)
    })
    await server.kill()
    // In the middle of the next one: between two commands Redis itself cuts the whole transaction off.
    truncateSync(server.file, ends[cut]! + 3)
    await startAlone(server)
    const spent = fresh('spent')
    await session(server, async (stores) => {
      expect(await stores.replayGuard.spend(spent, START + 60)).toBe(true)
      await steps.meanwhile?.(stores)
    })
    await server.kill()
    await startAlone(server)
    await session(server, async (stores) => {
      // M1: acknowledged is kept.
      expect(await stores.replayGuard.spend(spent, START + 60)).toBe(false)
      await steps.check(stores)
    })
    return ends.length
  }

  async function cutEverywhere(steps: Parameters<typeof cutAfter>[1]): Promise<void> {
    const commands = await cutAfter(0, steps)
    // MULTI, at least two writes, EXEC.
    expect(commands).toBeGreaterThanOrEqual(4)
    for (const cut of range(commands - 1).slice(1)) await cutAfter(cut, steps)
  }

  const entry = (over: Partial<NewRevocation>): NewRevocation => ({
    id: fresh('rev'),
    match: { sub: 'company|alice' },
    mode: 'ban',
    reason: 'test',
    by: 'admin',
    at: START,
    expiresAt: START + 3600,
    ...over,
  })
  const key = (state: StoredKey['state']): StoredKey => ({
    kid: fresh('kid'),
    purpose: 'token',
    alg: 'ES256',
    state,
    publicJwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' },
    sealed: 'sealed text',
    preparedAt: START,
  })
  const isDead = async ({ revocations }: Stores, facts: { [dimension: string]: string }) =>
    (await revocations.check({ hops: [{ facts, rev: REV }] })).dead !== undefined
  /** One more of each kind comes and expires: what lives of that kind is still asked for. */
  async function comeAndGo(stores: Stores): Promise<void> {
    await stores.revocations.add(entry({ match: { jti: fresh('jti') }, mode: 'cut', expiresAt: START + 100 }))
    await stores.revocations.add(entry({ match: { sub: fresh('sub') }, mode: 'cut', expiresAt: START + 100 }))
    await stores.revocations.prune(START + 101)
  }
  const deadBy = async (stores: Stores, facts: { [dimension: string]: string }) =>
    (await stores.revocations.check({ hops: [{ facts, rev: REV }] })).dead?.entry

  it.each([
    ['another kind of thing', { jti: 'stolen' }],
    ['the same', { sub: 'company|alice' }],
  ])('M1 a revocation lost is asked for again and holds; one of %s in its place holds as well', async (_, match) => {
    const lost = entry({ banUntil: START + 10 })
    const other = entry({ match, mode: 'ban' })
    await cutEverywhere({
      lost: (stores) => stores.revocations.add(lost),
      meanwhile: (stores) => stores.revocations.add(other),
      check: async (stores) => {
        const { revocations } = stores
        const placed = (await revocations.after()).map(({ epoch }) => epoch.sequence)
        expect(placed).toEqual(range(placed.length).map((n) => n + 1))
        expect(await revocations.get(other.id)).toMatchObject({ id: other.id, epoch: { sequence: 1 } })
        expect(await isDead(stores, match)).toBe(true)
        // What was never acknowledged bans nobody behind everybody's back, and is not taken for another.
        expect(await revocations.get(lost.id)).toBeUndefined()
        expect(await revocations.readmit(lost.id, 'admin', 'test', START)).toBe(false)
        expect((await revocations.bans(START)).map(({ id }) => id)).toEqual([other.id])
        await revocations.prune(START + 11)
        expect((await revocations.bans(START + 11)).map(({ id }) => id)).toEqual([other.id])
        expect(await revocations.add(lost)).toMatchObject({ added: true, entry: { id: lost.id } })
        await comeAndGo(stores)
        expect([await isDead(stores, match), await isDead(stores, lost.match)]).toEqual([true, true])
        expect((await revocations.get(lost.id))?.id).toBe(lost.id)
      },
    })
  })

  it.each(['cut', 'ban'] as const)(
    'M1 a %s lost, with nothing in its place, is not called known before it holds, and can be lifted',
    async (mode) => {
      const lost = entry({ mode })
      await cutEverywhere({
        lost: (stores) => stores.revocations.add(lost),
        check: async (stores) => {
          const { revocations } = stores
          const banned = async () => (await revocations.check({ hops: [], issuing: lost.match })).banned !== undefined
          const before = await revocations.get(lost.id)
          expect(await banned()).toBe(before !== undefined && mode === 'ban')
          expect(await isDead(stores, lost.match)).toBe(before !== undefined)
          await revocations.add(lost)
          expect(await deadBy(stores, lost.match)).toBe(lost.id)
          await comeAndGo(stores)
          expect(await deadBy(stores, lost.match)).toBe(lost.id)
          expect(await banned()).toBe(mode === 'ban')
          expect((await revocations.bans(START)).length).toBe(mode === 'ban' ? 1 : 0)
          expect(await revocations.readmit(lost.id, 'admin', 'test', START)).toBe(mode === 'ban')
          expect(await banned()).toBe(false)
          expect(await revocations.bans(START)).toEqual([])
          await revocations.prune(START + 4000)
          expect(await revocations.after()).toEqual([])
          expect(await isDead(stores, lost.match)).toBe(false)
        },
      })
    },
  )

  it('M1 a readmission lost is whole or may be asked for again, and the tokens stay dead', async () => {
    const ban = entry({})
    for (const again of [false, true]) {
      await cutEverywhere({
        before: (stores) => stores.revocations.add(ban),
        lost: (stores) => stores.revocations.readmit(ban.id, 'admin', 'test', START),
        ...(again ? { meanwhile: (stores: Stores) => stores.revocations.readmit(ban.id, 'admin', 'test', START) } : {}),
        check: async (stores) => {
          const { revocations } = stores
          const banned = (await revocations.check({ hops: [], issuing: ban.match })).banned
          expect((await revocations.bans(START)).length).toBe(banned ? 1 : 0)
          expect(await revocations.readmit(ban.id, 'admin', 'test', START)).toBe(banned !== undefined)
          expect((await revocations.check({ hops: [], issuing: ban.match })).banned).toBeUndefined()
          await comeAndGo(stores)
          expect(await isDead(stores, ban.match)).toBe(true)
        },
      })
    }
  })

  it('M1 a clearing away lost, and done again, leaves what lives', { timeout: 60_000 }, async () => {
    const lives = [entry({ match: { jti: 'lives' } }), entry({ match: { sub: 'company|bob' }, mode: 'cut' })]
    const over = { mode: 'ban', banUntil: START + 5, expiresAt: START + 10 } as const
    for (const again of [false, true]) {
      await cutEverywhere({
        before: async ({ revocations }) => {
          for (const n of range(2)) await revocations.add(entry({ match: { jti: `over ${n}` }, ...over }))
          await revocations.add(entry({ match: { sub: 'company|carol' }, ...over, banUntil: START + 5000 }))
          for (const one of lives) await revocations.add(one)
        },
        lost: (stores) => stores.revocations.prune(START + 11),
        ...(again ? { meanwhile: (stores: Stores) => stores.revocations.prune(START + 11) } : {}),
        check: async (stores) => {
          const { revocations } = stores
          await comeAndGo(stores)
          for (const { match } of lives) expect(await isDead(stores, match)).toBe(true)
          expect(await isDead(stores, { jti: 'over 0' })).toBe(false)
          expect((await revocations.bans(START + 20)).map(({ match }) => match)).toEqual(
            expect.arrayContaining([{ sub: 'company|carol' }]),
          )
          expect((await revocations.after()).map(({ match }) => match)).toEqual(lives.map(({ match }) => match))
        },
      })
    }
  })

  it('M1 a suspension lost, or its end, is whole when it is asked for again', { timeout: 60_000 }, async () => {
    const beating = { heartbeatSeconds: 30, heartbeatBy: START + 30 }
    const root = someTask(beating)
    const child = someTask(beating, root)
    const open = async ({ tasks }: Stores) => {
      await tasks.open(root, START)
      await tasks.open(child, START)
    }
    const both = async ({ tasks }: Stores) => [(await tasks.get(root.id))!, (await tasks.get(child.id))!]
    await cutEverywhere({
      before: open,
      lost: ({ tasks }) => tasks.suspend(root.id, 'rev_one', START),
      check: async (stores) => {
        for (const { state, suspendedBy } of await both(stores))
          expect([state, suspendedBy]).toEqual(suspendedBy ? ['suspended', ['rev_one']] : ['active', undefined])
        expect(await stores.tasks.suspend(root.id, 'rev_one', START)).toEqual([root.id, child.id])
        expect(await stores.tasks.due(START + 1000, 9)).toEqual([])
        expect(await stores.tasks.holders()).toEqual(['rev_one'])
        expect([...(await stores.tasks.wake('rev_one', START))].sort()).toEqual([root.id, child.id].sort())
        expect(await both(stores)).toEqual([root, child])
      },
    })
    await cutEverywhere({
      before: async (stores) => {
        await open(stores)
        await stores.tasks.suspend(root.id, 'rev_one', START)
      },
      lost: ({ tasks }) => tasks.wake('rev_one', START),
      check: async (stores) => {
        await stores.tasks.wake('rev_one', START)
        expect(await both(stores)).toEqual([root, child])
        expect(await stores.tasks.holders()).toEqual([])
      },
    })
  })

  it('M1 a signing key lost stands in nobody’s way, and the next is activated', async () => {
    const [first, second, third] = [key('active'), key('active'), key('prepared')]
    await cutEverywhere({
      lost: (stores) => stores.keyStore.insert(first),
      meanwhile: (stores) => stores.keyStore.insert(second),
      check: async ({ keyStore }) => {
        expect((await keyStore.list()).map(({ kid }) => kid)).toContain(second.kid)
        expect(await keyStore.insert(third)).toBe(true)
        expect(await keyStore.activate(third.kid, second.kid, START)).toBe(true)
        // Were the first back after all, it would retire with the other.
        expect((await keyStore.list()).filter(({ state }) => state === 'active')).toMatchObject([{ kid: third.kid }])
      },
    })
  })

  it('M1 an activation lost leaves a key to sign with, and does not stand in the way of the next', async () => {
    const [first, second, third] = [key('active'), key('prepared'), key('prepared')]
    await cutEverywhere({
      before: async ({ keyStore }) => {
        await keyStore.insert(first)
        await keyStore.insert(second)
      },
      lost: (stores) => stores.keyStore.activate(second.kid, first.kid, START),
      check: async ({ keyStore }) => {
        const active = (await keyStore.list()).filter(({ state }) => state === 'active')
        // Never none to sign with; where there are two, the next activation retires both.
        expect(active.length).toBeGreaterThanOrEqual(1)
        if (active.every(({ kid }) => kid !== second.kid)) {
          expect(await keyStore.activate(second.kid, first.kid, START)).toBe(true)
        }
        expect(await keyStore.insert(third)).toBe(true)
        expect(await keyStore.activate(third.kid, second.kid, START)).toBe(true)
        expect((await keyStore.list()).filter(({ state }) => state === 'active')).toMatchObject([{ kid: third.kid }])
      },
    })
  })

  it('M1 a task lost, and the end of a tree lost: what is left can be ended, all of it', async () => {
    const root = someTask()
    const [child, other] = [someTask({}, root), someTask({}, root)]
    const grandchild = someTask({}, child)
    const check = async ({ tasks }: Stores) => {
      const tree = await tasks.tree(root.id)
      expect(tree.map(({ id }) => id)).toEqual(expect.arrayContaining([root.id, child.id]))
      await tasks.end(root.id, 'revoked', 'test', START)
      for (const { state } of await tasks.tree(root.id)) expect(state).not.toBe('active')
      for (const { state } of await tasks.list({ limit: 10 })) expect(state).not.toBe('active')
    }
    for (const meanwhile of [other, grandchild]) {
      await cutEverywhere({
        before: async ({ tasks }) => {
          await tasks.open(root, START)
          await tasks.open(child, START)
        },
        lost: (stores) => stores.tasks.open(grandchild, START),
        meanwhile: (stores) => stores.tasks.open(meanwhile, START),
        check: async (stores) => {
          const { tasks } = stores
          // A task's id is the same for the same request: it is opened now, or was.
          await tasks.open(grandchild, START)
          const ids = (await tasks.tree(root.id)).map(({ id }) => id)
          expect(ids).toEqual([...new Set(ids)])
          expect(ids).toContain(grandchild.id)
          expect((await tasks.list({ limit: 10 })).map(({ id }) => id)).toContain(grandchild.id)
          const due = await tasks.due(START + 10_000, 10)
          expect(due).toContain(grandchild.id)
          await check(stores)
          await tasks.prune(START + 100_000)
          expect(await tasks.tree(root.id)).toEqual([])
          expect(await tasks.due(START + 10_000, 10)).toEqual([])
        },
      })
    }
    await cutEverywhere({
      before: async ({ tasks }) => {
        for (const task of [root, child, grandchild]) await tasks.open(task, START)
      },
      lost: (stores) => stores.tasks.end(root.id, 'completed', 'test', START),
      check,
    })
  })

  it('M1 a key that joined is among its agent’s keys, however its joining was cut, and so is its removal', async () => {
    const offer = { clientId: 'research', expiresAt: START + 600, by: 'admin' }
    const joined = {
      clientId: 'research',
      kid: 'k'.repeat(43),
      joinedAt: START,
      by: 'admin',
      jwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' },
    }
    const same = async ({ joining }: Stores) => {
      const known = await joining.key('research', joined.kid)
      expect((await joining.keysOf('research')).length).toBe(known ? 1 : 0)
    }
    await cutEverywhere({
      before: (stores) => stores.joining.offer('digest', offer),
      lost: (stores) => stores.joining.redeem('digest', joined, START),
      check: same,
    })
    await cutEverywhere({
      before: async ({ joining }) => {
        await joining.offer('digest', offer)
        await joining.redeem('digest', joined, START)
      },
      lost: (stores) => stores.joining.remove('research', joined.kid),
      check: same,
    })
  })

  it('M1 a charge lost counts once at most, and an agent of a platform or a pin lost is whole or absent', async () => {
    const root = someTask({ budget: { maxCalls: 3 } })
    const child = someTask({ budget: { maxCalls: 3 } }, root)
    const one = (operationId: string) => ({ calls: 1, exchanges: 0, cost: 0, operationId })
    await cutEverywhere({
      before: async ({ tasks }) => {
        await tasks.open(root, START)
        await tasks.open(child, START)
      },
      lost: (stores) => stores.tasks.reserve(child.id, one('lost'), START),
      meanwhile: (stores) => stores.tasks.reserve(child.id, one('kept'), START),
      check: async ({ tasks }) => {
        for (const task of await tasks.tree(root.id)) {
          expect(task.spent.calls).toBeGreaterThanOrEqual(1)
          expect(task.spent.calls).toBeLessThanOrEqual(2)
        }
        expect(await tasks.reserve(child.id, one('kept'), START)).toMatchObject({ outcome: 'reserved' })
      },
    })
    const [agent, bounds] = [
      { clientId: 'platform:p:a', platform: 'p', sub: 'a' },
      { most: 3, since: 0 },
    ]
    await cutEverywhere({
      lost: (stores) => stores.platformAgents.admit(agent, START, bounds),
      check: async ({ platformAgents }) => {
        await platformAgents.admit(agent, START, bounds)
        expect(await platformAgents.find(agent.clientId)).toMatchObject(agent)
        expect(await platformAgents.list(10)).toHaveLength(1)
      },
    })
    await cutEverywhere({
      lost: (stores) => stores.keyPins.pin('evidence', 'lost', START + 60),
      meanwhile: async (stores) => expect(await stores.keyPins.pin('evidence', 'kept', START + 60)).toBe('kept'),
      check: async (stores) => expect(await stores.keyPins.pinned('evidence')).toBe('kept'),
    })
  })
})
