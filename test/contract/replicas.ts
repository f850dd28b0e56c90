/** Looks for a word that is lost between replicas, told twice without need, or kept of one that is gone. */
import { describe, expect, it } from 'vitest'
import type { OtherReplica } from '../../src/revoke/replicas.ts'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeReplicas(name: string, open: OpenWorld): void {
  describe(`what replicas tell one another, ${name}`, () => {
    const world = worlds(open)

    async function two() {
      const { stores, other } = await world()
      // State of one process alone has nobody to tell.
      if (!stores.replicas || !other.replicas) return undefined
      const ids = { here: fresh('here'), there: fresh('there') }
      const begin = (which: 'here' | 'there', run: string) => {
        const replicas = (which === 'here' ? stores : other).replicas!(ids[which])
        return (
          words: Record<string, string> = {},
          over: readonly string[] = [],
          sequence = 1,
          gone: readonly string[] = [],
        ) =>
          replicas.exchange({
            run,
            first: false,
            covers: { generation: 1, sequence },
            words: new Map(Object.entries(words)),
            over,
            gone,
          })
      }
      const heard = (others: readonly OtherReplica[], of: 'here' | 'there') => {
        const found = others.find(({ id }) => id === ids[of])
        return found && Object.fromEntries(found.words)
      }
      return { begin, heard, ids }
    }

    it('tells each what is new of the others, once, and all of it to one that begins', async () => {
      const both = await two()
      if (!both) return
      const { begin, heard, ids } = both
      const [here, there] = [begin('here', 'a'), begin('there', 'b')]
      expect(heard(await here({ one: '1', two: '2' }), 'there')).toBeUndefined()
      expect(heard(await there({}), 'here')).toEqual({ one: '1', two: '2' })
      expect(heard(await there({}), 'here')).toEqual({})
      await here({ two: '3' }, [], 9)
      const others = await there({ other: '4' })
      expect(others).toMatchObject([{ id: ids.here, run: 'a', first: false, covers: { generation: 1, sequence: 9 } }])
      expect(heard(others, 'here')).toEqual({ two: '3' })
      expect(heard(await here({ two: '3' }), 'there')).toEqual({ other: '4' })
      // Said again, it is told again: who waits can tell that it lives.
      expect(heard(await there({}), 'here')).toEqual({ two: '3' })
      await here({}, ['one'])
      expect(heard(await begin('there', 'c')({}), 'here')).toEqual({ two: '3' })
    })

    it('a restart begins anew: what was told before it is gone, and what comes after is whole', async () => {
      const both = await two()
      if (!both) return
      const { begin, heard } = both
      const there = begin('there', 'b')
      await begin('here', 'a')({ one: '1' })
      await there({})
      await begin('here', 'aa')({ two: '2' })
      const others = await there({})
      expect(others.map(({ run }) => run)).toEqual(['aa'])
      expect(heard(others, 'here')).toEqual({ two: '2' })
    })

    it('tells all of it again where the other side has lost it', async () => {
      const both = await two()
      if (!both) return
      const { begin, heard } = both
      const [here, there] = [begin('here', 'a'), begin('there', 'b')]
      await here({ one: '1' })
      // Another process under its name, and it again: as if what it had told had expired.
      await begin('here', 'aa')({})
      await here({ two: '2' })
      expect(heard(await there({}), 'here')).toEqual({ one: '1', two: '2' })
    })

    it('forgets one that is gone, unless it has come back', async () => {
      const both = await two()
      if (!both) return
      const { begin, heard, ids } = both
      const [here, there] = [begin('here', 'a'), begin('there', 'b')]
      await here({ one: '1' })
      await there({})
      await here({})
      expect(heard(await there({}, [], 1, [ids.here]), 'here')).toEqual({})
      expect(heard(await there({}, [], 1, [ids.here]), 'here')).toBeUndefined()
      expect(heard(await there({}), 'here')).toBeUndefined()
      await here({ two: '2' })
      expect(heard(await there({}), 'here')).toEqual({ one: '1', two: '2' })
    })

    it('answers what another asks, each for itself, and says who did not', async () => {
      const { stores, other } = await world()
      if (!stores.replicas || !other.replicas) return
      const [here, there] = [stores.replicas(fresh('here')), other.replicas(fresh('there'))]
      const silent = fresh('silent')
      const nothing = { run: 'r', first: true, covers: { generation: 1, sequence: 1 }, words: new Map(), over: [] }
      const faults: unknown[] = []
      await there.answer(
        async (question) => `there: ${question}`,
        (error) => faults.push(error),
      )
      await here.answer(
        async (question) => `here: ${question}`,
        (error) => faults.push(error),
      )
      expect(await here.ask('alone?', 'r')).toEqual(new Map())
      for (const each of [here, there]) await each.exchange(nothing)
      const [one, two] = await Promise.all([here.ask('one?', 'r'), here.ask('two?', 'r')])
      expect([[...one.values()], [...two.values()]]).toEqual([['there: one?'], ['there: two?']])
      expect([...(await there.ask('back?', 'r')).values()]).toEqual(['here: back?'])
      await other.replicas(silent).exchange(nothing)
      const answers = await here.ask('all?', 'r')
      expect([...answers.values()].sort()).toEqual(['there: all?', undefined])
      expect(answers.get(silent)).toBeUndefined()
      expect(faults).toEqual([])
    })

    it('carries thousands of words', async () => {
      const both = await two()
      if (!both) return
      const { begin, heard } = both
      const words = Object.fromEntries(range(6_000).map((n) => [`tool:crm ${n}`, JSON.stringify({ epoch: `1.${n}` })]))
      await begin('here', 'a')(words)
      expect(heard(await begin('there', 'b')({}), 'here')).toEqual(words)
    })
  })
}
