/** Tries to give a receiver two streams, to lose or double an event, to fill a queue beyond its bound. */
import { describe, expect, it } from 'vitest'
import type { SignalStream } from '../../src/revoke/signals/streams.ts'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeSignalStreams(name: string, open: OpenWorld): void {
  describe(`streams of security events, ${name}`, () => {
    const world = worlds(open)
    const stream = (receiver: string): SignalStream => ({
      id: fresh('stream'),
      receiver,
      delivery: 'poll',
      status: 'enabled',
      eventsRequested: ['https://x.example/a'],
      removed: [],
      cursor: { generation: 1, sequence: 5 },
    })
    const event = (n: number) => ({ jti: `jti-${n}`, claims: `{"n":${n},"text":"ü"}` })
    const at = (sequence: number, generation = 1) => ({ generation, sequence })

    it('gives a receiver one stream, of twenty that it asks for at once, and knows it after a restart', async () => {
      const { stores, other, reopen } = await world()
      const receiver = fresh('receiver')
      const asked = range(20).map(() => stream(receiver))
      const answers = await Promise.all(asked.map((one, n) => (n % 2 ? stores : other).signalStreams.create(one)))
      expect(answers.filter((created) => created)).toHaveLength(1)
      const mine = asked[answers.indexOf(true)]!
      const after = (await reopen()).stores.signalStreams
      expect(await after.ofReceiver(receiver)).toEqual(mine)
      expect(await after.get(mine.id)).toEqual(mine)
      expect((await after.list()).filter((one) => one.receiver === receiver)).toEqual([mine])
      const { id: _, receiver: __, cursor: ___, ...settings } = mine
      expect(await after.change(mine.id, { ...settings, status: 'paused', description: 'later' })).toBe(true)
      expect(await after.get(mine.id)).toEqual({ ...mine, status: 'paused', description: 'later' })
      expect([await after.remove(mine.id), await after.remove(mine.id)]).toEqual([true, false])
      expect(await after.change(mine.id, settings)).toBe(false)
      expect([await after.get(mine.id), await after.ofReceiver(receiver)]).toEqual([undefined, undefined])
      expect(await after.create({ ...mine, id: fresh('stream') })).toBe(true)
    })

    it('queues what an entry tells once, whoever brings it, in order, and keeps it until it is acknowledged', async () => {
      const { stores, other, reopen } = await world()
      const mine = stream(fresh('receiver'))
      await stores.signalStreams.create(mine)
      const bring = (sequence: number, ...events: number[]) =>
        Promise.all(
          range(6).map((n) =>
            (n % 2 ? stores : other).signalStreams.append(mine.id, at(sequence), events.map(event), 100),
          ),
        )
      const first = await bring(6, 1, 2)
      expect(first.filter((answer) => answer === 'added')).toHaveLength(1)
      expect(first.filter((answer) => answer === 'behind')).toHaveLength(5)
      expect(await stores.signalStreams.append(mine.id, at(5), [event(9)], 100)).toBe('behind')
      await bring(8)
      await bring(9, 3)
      expect(await stores.signalStreams.append(mine.id, at(1, 2), [event(4)], 100)).toBe('added') // a new generation
      expect(await stores.signalStreams.append(fresh('stream'), at(9), [event(1)], 100)).toBe('gone')
      const { signalStreams } = (await reopen()).stores
      expect(await signalStreams.pending(mine.id, 100)).toEqual([1, 2, 3, 4].map(event))
      expect(await signalStreams.pending(mine.id, 2)).toEqual([1, 2].map(event))
      expect((await signalStreams.get(mine.id))?.cursor).toEqual(at(1, 2))
      expect(await signalStreams.acknowledge(mine.id, ['jti-2', 'jti-9', 'jti-1'])).toBe(2)
      expect(await signalStreams.acknowledge(mine.id, ['jti-1'])).toBe(0)
      expect(await signalStreams.acknowledge(mine.id, [])).toBe(0)
      expect(await signalStreams.pending(mine.id, 100)).toEqual([3, 4].map(event))
      await signalStreams.add(mine.id, event(7))
      await signalStreams.add(fresh('stream'), event(7))
      expect(await signalStreams.pending(mine.id, 100)).toEqual([3, 4, 7].map(event))
    })

    it('H1 lets no more wait than may, changes nothing where that is reached, and begins anew when told', async () => {
      const { stores } = await world()
      const { signalStreams } = stores
      const mine = stream(fresh('receiver'))
      await signalStreams.create(mine)
      expect(await signalStreams.append(mine.id, at(6), [1, 2].map(event), 3)).toBe('added')
      expect(await signalStreams.append(mine.id, at(7), [3, 4].map(event), 3)).toBe('full')
      expect((await signalStreams.get(mine.id))?.cursor).toEqual(at(6))
      expect(await signalStreams.pending(mine.id, 10)).toEqual([1, 2].map(event))
      expect(await signalStreams.append(mine.id, at(7), [], 0)).toBe('added')
      await signalStreams.restart(mine.id, at(20))
      expect(await signalStreams.pending(mine.id, 10)).toEqual([])
      expect(await signalStreams.append(mine.id, at(20), [event(5)], 3)).toBe('behind')
      expect(await signalStreams.append(mine.id, at(21), [event(5)], 3)).toBe('added')
    })
  })
}
