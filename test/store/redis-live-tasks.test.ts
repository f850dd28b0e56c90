import { expect, it } from 'vitest'
import type { RedisClient } from '../../src/store/redis/client.ts'
import { createLiveTasks } from '../../src/store/redis/live-tasks.ts'
import { range } from '../contract/world.ts'

it('live tasks are read in pages, each after the deadline of the last: Redis answers others meanwhile', async () => {
  const asked: string[] = []
  const deadlines = ['', '1060', '1120']
  const redis = {
    run: async (_: unknown, values: readonly (string | number)[]) => {
      if (values.length !== 2) {
        asked.push(`read ${values.length}`)
        return ['tasks', ...values.flatMap(() => ['', '', ''])]
      }
      asked.push(`ids after ${values[0]}`)
      return ['ids', deadlines.pop()!, range(300).join(' ')]
    },
  } as unknown as RedisClient
  expect(await createLiveTasks({ redis }).matching({}, 1000, 10)).toEqual([])
  const reads = ['read 200', 'read 100']
  expect(asked).toEqual(['1000', '1120', '1060'].flatMap((after) => [`ids after ${after}`, ...reads]))
})
