/** Tries to have one index stand for two kinds of tokens, and to have it forgotten while one of them lives. */
import { describe, expect, it } from 'vitest'
import { openStatusIndexes } from '../../src/revoke/status-indexes.ts'
import type { StatusRecord } from '../../src/revoke/status-registry.ts'
import { createRevocationIndex } from '../../src/store/embedded/revocation-index.ts'
import type { Stores } from '../../src/store/open.ts'
import { fresh, type OpenWorld, range, START, type World, worlds } from './world.ts'

const record = (over: Partial<StatusRecord> = {}): StatusRecord => ({
  list: '1-1',
  idx: 7,
  group: fresh('group'),
  hops: [{ rev: { generation: 1, sequence: 4 }, facts: { task: 'task-1', aud: 'https://tickets.example.com/' } }],
  named: [],
  until: START + 300,
  ...over,
})

const indexesOver = ({ statusRegistry: registry, revocations: log }: Stores, { clock }: World) =>
  openStatusIndexes({
    now: () => clock.now,
    forgetBefore: () => clock.now,
    registry,
    log,
    verdicts: createRevocationIndex({ generation: 0, sequence: 0 }),
    decoys: { is: () => false },
    random: (most) => Math.floor(Math.random() * most),
    uriOf: (list) => `https://errand.example.com/status-lists/${list}`,
    inUse: () => true,
  })

export function describeStatusRegistry(name: string, open: OpenWorld): void {
  describe(`status registry, ${name}`, () => {
    const world = worlds(open)

    it('gives an index once, whoever asks at once, and holds it across a restart', async () => {
      const first = await world()
      const asked = range(8).map((n) => record({ group: `group ${n}` }))
      const given = await Promise.all(
        asked.map((one, n) => (n % 2 ? first.stores : first.other).statusRegistry.take(one)),
      )
      expect(given.filter(Boolean)).toHaveLength(1)
      const taken = asked[given.indexOf(true)]!
      expect(await first.other.statusRegistry.take(record())).toBe(false)
      expect(await first.stores.statusRegistry.take(record({ idx: 8, list: '1-2' }))).toBe(true)
      const { stores } = await first.reopen()
      expect((await stores.statusRegistry.since(0)).records).toContainEqual(taken)
      expect(await stores.statusRegistry.take(record())).toBe(false)
    })

    it('tells since a place what was taken or changed after it, each as it is, also of another replica', async () => {
      const { stores, other } = await world()
      const { statusRegistry: registry } = stores
      const one = record({ idx: 1 })
      const two = record({ idx: 2 })
      expect(await registry.since(0)).toEqual({ records: [], place: 0 })
      await registry.take(one)
      const { records, place } = await other.statusRegistry.since(0)
      expect(records).toEqual([one])
      expect(await other.statusRegistry.since(place)).toEqual({ records: [], place })
      await registry.take(two)
      expect(await registry.keep(one, START + 900)).toBe(true)
      expect(await registry.keep(one, START + 100)).toBe(true)
      expect(await registry.keep({ ...one, group: 'another' }, START + 1200)).toBe(false)
      for (const jti of ['jti-1', 'jti-2']) await registry.enter(jti, '1-1', 1, START + 100)
      for (const jti of ['jti-1', 'jti-2', 'jti-1'])
        expect(await other.statusRegistry.name(jti)).toEqual({ list: '1-1', idx: 1 })
      expect(await other.statusRegistry.name('jti-3')).toBeUndefined()
      const changed = await other.statusRegistry.since(place)
      expect(changed.records).toEqual([two, { ...one, until: START + 900, named: ['jti-1', 'jti-2'] }])
      expect(await registry.since(changed.place)).toEqual({ records: [], place: changed.place })
      // Named already: nobody need be told again.
      await registry.name('jti-2')
      expect(await registry.since(changed.place)).toEqual({ records: [], place: changed.place })
    })

    it('knows the index of a token across a restart, until the token has ended', async () => {
      const first = await world()
      await first.stores.statusRegistry.take(record())
      await first.stores.statusRegistry.enter('jti-1', '1-1', 7, START + 60)
      await first.stores.statusRegistry.enter('jti-2', '1-1', 7, START + 61)
      const { stores, other } = await first.reopen()
      expect(await other.statusRegistry.name('jti-1')).toEqual({ list: '1-1', idx: 7 })
      await stores.statusRegistry.prune(START + 61)
      expect(await other.statusRegistry.name('jti-1')).toBeUndefined()
      expect(await other.statusRegistry.name('jti-2')).toEqual({ list: '1-1', idx: 7 })
    })

    it('forgets the tokens of many before it gives back their index', async () => {
      const { stores, other } = await world()
      const { statusRegistry: registry } = stores
      await registry.take(record({ until: START }))
      await Promise.all(range(600).map((n) => registry.enter(`jti-${n}`, '1-1', 7, START)))
      await registry.prune(START + 1)
      expect(await registry.take(record())).toBe(true)
      const named = await Promise.all(range(600).map((n) => other.statusRegistry.name(`jti-${n}`)))
      expect(named.filter(Boolean)).toEqual([])
    })

    it('tells all of many', async () => {
      const { stores } = await world()
      await Promise.all(range(1100).map((idx) => stores.statusRegistry.take(record({ idx }))))
      const { records } = await stores.statusRegistry.since(0)
      expect(new Set(records.map(({ idx }) => idx)).size).toBe(1100)
    })

    it('gives back what ended before a moment, and nothing else; what was given back is not kept or named', async () => {
      const { stores, other } = await world()
      const { statusRegistry: registry } = stores
      const ended = record({ idx: 1, until: START })
      await registry.take(ended)
      await registry.take(record({ idx: 2, until: START + 1 }))
      await registry.enter('jti-1', '1-1', 1, START)
      await registry.name('jti-1')
      await registry.prune(START)
      expect((await registry.since(0)).records).toHaveLength(2)
      await registry.prune(START + 1)
      expect((await other.statusRegistry.since(0)).records.map(({ idx }) => idx)).toEqual([2])
      expect(await registry.keep(ended, START + 900)).toBe(false)
      expect(await registry.name('jti-1')).toBeUndefined()
      const anew = record({ idx: 1 })
      expect(await other.statusRegistry.take(anew)).toBe(true)
      expect((await registry.since(0)).records).toContainEqual(anew)
    })

    it('L7 with the log beside it: what is revoked is marked at every replica at once, and after a restart', async () => {
      const first = await world()
      const [one, other] = [await indexesOver(first.stores, first), await indexesOver(first.other, first)]
      const tokens = await Promise.all(
        range(6).map(async (n) => {
          const facts = { task: `task-${n}`, root: `task-${n}`, aud: 'https://tickets.example.com/' }
          const rev = await first.stores.revocations.epoch()
          return (n % 2 ? one : other).take(`group ${n}`, [{ rev, facts }], first.clock.now + 60)
        }),
      )
      const entry = { mode: 'cut', reason: 'test', by: 'admin', at: START, expiresAt: START + 600 } as const
      await first.other.revocations.add({ id: fresh('rev'), match: { task: 'task-1' }, ...entry })
      await first.stores.revocations.add({ id: fresh('rev'), match: { task: 'task-4' }, ...entry })
      // By its id alone, of the replica that did not issue it.
      await one.enter('jti-2', tokens[2]!.status, START + 60)
      await first.other.revocations.add({ id: fresh('rev'), match: { jti: 'jti-2' }, ...entry })
      const markedAt = async (indexes: typeof one) => {
        await indexes.refresh()
        const [list = ''] = indexes.lists()
        const { marked = [] } = indexes.list(list) ?? {}
        return range(6).filter((n) => marked.includes(tokens[n]!.status.status_list.idx))
      }
      expect([await markedAt(other), await markedAt(one)]).toEqual([
        [1, 2, 4],
        [1, 2, 4],
      ])
      const again = await first.reopen()
      expect(await markedAt(await indexesOver(again.stores, again))).toEqual([1, 2, 4])
      for (const indexes of [one, other]) indexes.close()
    })
  })
}
