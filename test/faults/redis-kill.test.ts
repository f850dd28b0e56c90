/** FI-2 and M1 at length: Redis killed, and stopped, many times under load. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as wait } from 'node:timers/promises'
import { describe, expect, it } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { range, START } from '../contract/world.ts'
import { killUnderLoad } from '../store/kill-under-load.ts'
import { redisIsHere, startRedis } from '../store/redis-server.ts'

describe.skipIf(!redisIsHere())('Redis under faults, at length', () => {
  async function running(
    use: (
      server: Awaited<ReturnType<typeof startRedis>>,
      stores: Awaited<ReturnType<typeof openStores>>,
    ) => Promise<void>,
  ) {
    const server = await startRedis()
    const dataDir = mkdtempSync(join(tmpdir(), 'errand-store-'))
    const stores = await openStores({
      store: { kind: 'redis', url: server.url, prefix: 'errand' },
      dataDir,
      now: () => START,
      monotonic: () => performance.now(),
    })
    try {
      await use(server, stores)
    } finally {
      await stores.close()
      await server.remove()
      rmSync(dataDir, { recursive: true, force: true })
    }
  }

  it('FI-2 M1 keeps every acknowledged write through 30 rounds of kill -9', { timeout: 300_000 }, () =>
    running((server, stores) => killUnderLoad(server, stores, 30)),
  )

  it('FI-2 M2 refuses for as long as Redis is stopped, and runs nothing of it afterwards', { timeout: 120_000 }, () =>
    running(async (server, stores) => {
      server.signal('SIGSTOP')
      const until = performance.now() + 30_000
      const ids: string[] = []
      while (performance.now() < until) {
        const id = `stopped/${ids.length}`
        ids.push(id)
        await expect(stores.replayGuard.spend(id, START + 60)).rejects.toMatchObject({
          reason: 'replay_guard_unavailable',
        })
        await wait(20)
      }
      server.signal('SIGCONT')
      await expect.poll(() => stores.healthy(), { timeout: 10_000 }).toBe(true)
      const spent = await Promise.all(ids.map((id) => stores.replayGuard.spend(id, START + 60)))
      expect(spent).toEqual(range(ids.length).map(() => true))
    }),
  )
})
