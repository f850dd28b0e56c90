/** FI-3: the primary of Redis is lost with what its replicas did not have yet, and Sentinels put another in its place. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setImmediate as turn } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import { openStores } from '../../src/store/open.ts'
import { fresh, range, START } from '../contract/world.ts'
import { redisIsHere } from '../store/redis-server.ts'
import { commanding, startSentinels } from '../store/redis-sentinels.ts'

const entry = (): NewRevocation => ({
  id: fresh('rev'),
  match: { jti: fresh('jti') },
  mode: 'cut',
  reason: 'test',
  by: 'admin',
  at: START,
  expiresAt: START + 3600,
})

describe.skipIf(!redisIsHere())('a fail-over by Sentinels', () => {
  it('FI-3 Inv1 Inv2 Inv6 keeps every acknowledged revocation under load, and goes on by itself', {
    timeout: 60_000,
  }, async () => {
    const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
    const { urls, servers, remove } = await startSentinels('company')
    const open = (name: string) =>
      openStores({
        store: { kind: 'redis', url: 'redis://company', prefix: 'errand', sentinels: urls },
        dataDir: join(base, name),
        now: () => START,
        monotonic: () => performance.now(),
      })
    const replicas = [await open('one'), await open('two')]
    try {
      const acknowledged: NewRevocation[] = []
      const add = async (one: NewRevocation) => {
        await replicas[acknowledged.length % 2]!.revocations.add(one)
        acknowledged.push(one)
      }
      for (const _ of range(10)) await add(entry())
      const [primary, ...others] = servers
      // What comes now is nowhere else; Sentinels put that right after some seconds.
      for (const { url } of others) await commanding(url, (redis) => redis.replicaof('127.0.0.1', 1))
      for (const _ of range(10)) await add(entry())
      const lost = acknowledged.slice(10)

      let over = false
      const wrong: string[] = []
      const generations = new Set<number>()
      const load = replicas.map(async ({ revocations }) => {
        for (let n = 0; !over; n++) {
          const { id, match } = lost[n % lost.length]!
          const hops = [{ facts: match, rev: { generation: 1, sequence: 10 } }]
          const answer = await revocations.check({ hops, issuing: { agent: 'a' } }).catch(() => undefined)
          if (answer) generations.add(answer.epoch.generation)
          // R2: refused as revoked once, refused for ever, whoever is asked.
          if (answer && answer.dead?.entry !== id) wrong.push(id)
          await turn()
        }
      })
      await expect.poll(() => generations.size).toBe(1)
      await primary.kill()
      for (const { revocations } of replicas)
        await expect
          .poll(
            () =>
              revocations.epoch().then(
                (epoch) => epoch.generation,
                () => 0,
              ),
            { timeout: 30_000, interval: 50 },
          )
          .toBe(2)
      over = true
      await Promise.all(load)
      expect(wrong).toEqual([])
      expect([...generations]).toEqual([1, 2])
      for (const { revocations } of replicas)
        expect((await revocations.after()).map(({ id }) => id).sort()).toEqual(acknowledged.map(({ id }) => id).sort())

      // The old primary comes back as a replica, and is not read from.
      await primary.start()
      await add(entry())
      expect(await replicas[0]!.healthy()).toBe(true)
    } finally {
      for (const stores of replicas) await stores.close()
      await remove()
      rmSync(base, { recursive: true, force: true })
    }
  })
})
