/** Two replicas of one service over a Redis of their own, each with a data folder of its own. */
import { cp, mkdtemp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type House, type HouseOptions, openHouse } from './house.ts'
import { startRedis } from './store/redis-server.ts'

export interface Site {
  readonly houses: readonly [House, House]
  close(): Promise<void>
}

export async function openReplicas(more: HouseOptions['config'] = {}): Promise<Site> {
  const redis = await startRedis()
  const config = {
    ...more,
    'errand.yaml': (text: string) => text.replace('kind: embedded', `kind: redis\n  url: ${redis.url}`),
  }
  const first = await openHouse({ config })
  const folder = await mkdtemp(join(tmpdir(), 'errand-house-'))
  for (const each of ['config', 'keys']) await cp(join(first.folder, each), join(folder, each), { recursive: true })
  const houses = [first, await openHouse({ folder })] as const
  return {
    houses,
    close: async () => {
      for (const house of houses) await house.close()
      await redis.remove()
    },
  }
}
