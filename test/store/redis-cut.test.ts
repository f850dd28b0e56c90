/**
 * Redis killed while it writes what a script did: it drops that part at its next start, and may run it after all at the
 * one after. Each script is cut after each of its commands, and nothing acknowledged in between may suffer.
 */
import { mkdtempSync, readFileSync, rmSync, statSync, truncateSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
    await server.start()
    const spent = fresh('spent')
    await session(server, async (stores) => {
      expect(await stores.replayGuard.spend(spent, START + 60)).toBe(true)
      await steps.meanwhile?.(stores)
    })
    await server.kill()
    await server.start()
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
      check: async ({ revocations }) => {
        const placed = (await revocations.after()).map(({ epoch }) => epoch.sequence)
        expect(placed).toEqual(range(placed.length).map((n) => n + 1))
        expect(await revocations.get(other.id)).toMatchObject({ id: other.id, epoch: { sequence: 1 } })
        expect((await revocations.check({ hops: [{ facts: other.match, rev: REV }] })).dead).toBeDefined()
        // What was never acknowledged bans nobody behind everybody's back.
        expect((await revocations.bans(START)).map(({ id }) => id)).toEqual([other.id])
        await revocations.prune(START + 11)
        expect((await revocations.bans(START + 11)).map(({ id }) => id)).toEqual([other.id])
        expect(await revocations.add(lost)).toMatchObject({ added: true, entry: { id: lost.id } })
        expect((await revocations.check({ hops: [{ facts: lost.match, rev: REV }] })).dead).toBeDefined()
        expect((await revocations.get(lost.id))?.id).toBe(lost.id)
      },
    })
  })

  it('M1 a revocation lost, with nothing in its place, is not called known before it holds', async () => {
    const lost = entry({ match: { jti: 'stolen' }, mode: 'cut' })
    await cutEverywhere({
      lost: (stores) => stores.revocations.add(lost),
      check: async (stores) => {
        await stores.revocations.add(lost)
        expect(await deadBy(stores, { jti: 'stolen' })).toBe(lost.id)
      },
    })
  })

  it('M1 a readmission lost is whole or may be asked for again', async () => {
    const ban = entry({})
    await cutEverywhere({
      before: (stores) => stores.revocations.add(ban),
      lost: (stores) => stores.revocations.readmit(ban.id, 'admin', 'test', START),
      check: async ({ revocations }) => {
        const banned = (await revocations.check({ hops: [], issuing: ban.match })).banned
        expect((await revocations.bans(START)).length).toBe(banned ? 1 : 0)
        expect(await revocations.readmit(ban.id, 'admin', 'test', START)).toBe(banned !== undefined)
        expect((await revocations.check({ hops: [], issuing: ban.match })).banned).toBeUndefined()
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

  it('M1 an activation lost leaves one active key at most, and may be asked for again', async () => {
    const [first, second] = [key('active'), key('prepared')]
    await cutEverywhere({
      before: async ({ keyStore }) => {
        await keyStore.insert(first)
        await keyStore.insert(second)
      },
      lost: (stores) => stores.keyStore.activate(second.kid, first.kid, START),
      check: async ({ keyStore }) => {
        const active = (await keyStore.list()).filter(({ state }) => state === 'active')
        expect(active.length).toBeLessThanOrEqual(1)
        if (active[0]?.kid !== second.kid) {
          expect(await keyStore.activate(second.kid, active[0]?.kid, START)).toBe(true)
        }
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
    await cutEverywhere({
      before: async ({ tasks }) => {
        await tasks.open(root, START)
        await tasks.open(child, START)
      },
      lost: (stores) => stores.tasks.open(grandchild, START),
      meanwhile: (stores) => stores.tasks.open(other, START),
      check,
    })
    await cutEverywhere({
      before: async ({ tasks }) => {
        for (const task of [root, child, grandchild]) await tasks.open(task, START)
      },
      lost: (stores) => stores.tasks.end(root.id, 'completed', 'test', START),
      check,
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
