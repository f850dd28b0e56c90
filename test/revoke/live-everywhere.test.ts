import { expect, it } from 'vitest'
import { openLiveEverywhere } from '../../src/revoke/live-everywhere.ts'
import type { LiveMatch } from '../../src/revoke/live-tokens.ts'
import type { Replicas } from '../../src/revoke/replicas.ts'

const found = (
  count: number,
  names: Partial<Record<'tasks' | 'subjects' | 'agents', readonly string[]>> = {},
): LiveMatch => ({
  count,
  exact: true,
  ...(count === 0 ? {} : { latestExpiry: 1_000 + count }),
  tasks: new Set(names.tasks),
  subjects: new Set(names.subjects),
  agents: new Set(names.agents),
  audiences: new Set(),
})

/** As the replica at the other side of a question answers it; undefined where it does not. */
async function asked(own: LiveMatch, others: readonly (LiveMatch | undefined)[]) {
  const answers = await Promise.all(
    others.map(async (live) => {
      if (!live) return undefined
      let by: (question: string) => Promise<string> = async () => ''
      const answer: Replicas['answer'] = async (answering) => {
        by = answering
      }
      const replicas = { answer } as Replicas
      await openLiveEverywhere({ live: { matching: async () => live }, replicas, run: 'r', onError: () => undefined })
      return by('{"match":{},"withTasks":true}')
    }),
  )
  const replicas = {
    answer: async () => undefined,
    ask: async () => new Map(answers.map((answer, at) => [String(at), answer])),
  } as unknown as Replicas
  const live = { matching: async () => own }
  const everywhere = await openLiveEverywhere({ live, replicas, run: 'r', onError: () => undefined })
  return everywhere.matching({}, { withTasks: true })
}

it('live tokens of all replicas are one sum, and what they are for is named once', async () => {
  const own = found(3, { tasks: ['a', 'b'], subjects: ['alice'] })
  expect(await asked(own, [found(4, { tasks: ['b', 'c'], subjects: ['bob'] }), found(0)])).toEqual({
    ...found(7, { tasks: ['a', 'b', 'c'], subjects: ['alice', 'bob'] }),
    latestExpiry: 1_004,
  })
  expect((await asked(own, [{ ...found(4), exact: false }])).exact).toBe(false)
})

it('live tokens of a replica that does not answer are not counted, and that is said', async () => {
  expect(await asked(found(3), [found(4), undefined])).toMatchObject({ count: 7, exact: false, incomplete: true })
  expect(await asked(found(3), [])).toEqual(found(3))
})

it('of more names than one replica tells another the number is told, and that it is not all', async () => {
  const many = found(30_000, { subjects: Array.from({ length: 30_000 }, (_, at) => `user-${at}`) })
  const all = await asked(found(1), [many])
  expect([all.count, all.exact, all.subjects.size]).toEqual([30_001, false, 20_000])
  expect((await asked(many, [])).subjects.size).toBe(30_000)
})
