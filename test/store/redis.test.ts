/** The Redis stores keep every promise, with two replicas on one Redis. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { describeStores } from '../contract/all.ts'
import { fresh, START, type World } from '../contract/world.ts'
import { redisIsHere, startRedis, type TestRedis } from './redis-server.ts'

describe.skipIf(!redisIsHere())('on a Redis of their own', () => {
  const base = mkdtempSync(join(tmpdir(), 'errand-store-'))
  let redis: TestRedis
  beforeAll(async () => {
    // How it is synced is a matter of the fault tests; here it would only be slow.
    redis = await startRedis({ appendfsync: 'everysec' })
  })
  afterAll(async () => {
    await redis.remove()
    rmSync(base, { recursive: true, force: true })
  })

  async function openWorld(prefix = fresh('test'), clock = { now: START }): Promise<World> {
    const open = () =>
      openStores({
        store: { kind: 'redis', url: redis.url, prefix },
        dataDir: join(base, fresh('data')),
        now: () => clock.now,
        monotonic: () => performance.now(),
      })
    const [stores, other] = await Promise.all([open(), open()])
    const close = async () => {
      await stores.close()
      await other.close()
    }
    return {
      stores,
      other,
      clock,
      close,
      reopen: async () => {
        await close()
        return openWorld(prefix, clock)
      },
    }
  }

  describeStores('redis', () => openWorld())
})
