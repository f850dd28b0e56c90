import { expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import type { RedisClient } from '../../src/store/redis/client.ts'
import { createReplicas } from '../../src/store/redis/replicas.ts'

it('what was told in vain is told again, whole, without what was taken back', async () => {
  const sent: (readonly (string | number)[])[] = []
  let away = false
  const redis = {
    run: async (_: unknown, values: readonly (string | number)[]) => {
      if (away) throw new Unavailable('store_unavailable', 'away')
      sent.push(values)
      return ['others']
    },
  } as unknown as RedisClient
  const replicas = createReplicas({ redis }, 'here')
  const tell = (words: Record<string, string>, over: readonly string[] = []) =>
    replicas.exchange({
      run: 'a',
      first: false,
      covers: { generation: 1, sequence: 4 },
      words: new Map(Object.entries(words)),
      over,
    })
  await tell({ one: '1', two: '2' })
  await tell({ two: '3' })
  away = true
  await expect(tell({ three: '4' }, ['one'])).rejects.toThrow('away')
  away = false
  await tell({})
  await tell({}, ['two'])
  const head = ['here', 'a', '', '1.4']
  expect(sent).toEqual([
    [...head, '1', 2, 0, 0, 0, 'one', '1', 'two', '2'],
    [...head, '', 1, 0, 0, 0, 'two', '3'],
    [...head, '1', 2, 0, 0, 0, 'two', '3', 'three', '4'],
    [...head, '', 0, 1, 0, 0, 'two'],
  ])
})
