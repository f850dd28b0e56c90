/** Tries to spend a pinned preview twice, too late, as somebody else, and to lose what was begun. */
import { describe, expect, it } from 'vitest'
import type { Pin } from '../../src/revoke/bulk-pins.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

export function describeBulkPins(name: string, open: OpenWorld): void {
  describe(`pinned previews, ${name}`, () => {
    const world = worlds(open)
    const pin = (over: Partial<Pin> = {}): Pin => ({
      match: { client_id: 'research', sub: 'dev|älice' },
      mode: 'ban',
      mark: { generation: 1, sequence: 7 },
      tasks: ['task_1', 'task_2'],
      by: 'admin',
      expiresAt: START + 900,
      revocation: fresh('rev'),
      ...over,
    })

    it('is spent by one of fifty at once; all others are told what it was used for once it is done, also after a restart', async () => {
      const { stores, other, reopen } = await world()
      const [digest, pinned] = [fresh('digest'), pin()]
      await stores.bulkPins.offer(digest, pinned)
      const answers = await Promise.all(
        range(50).map((n) => (n % 2 ? stores : other).bulkPins.spend(digest, 'admin', 'key leaked', START)),
      )
      expect(answers.filter(({ outcome }) => outcome === 'spent')).toEqual([{ outcome: 'spent', pin: pinned }])
      const begun = { outcome: 'begun', pin: { ...pinned, reason: 'key leaked' } }
      expect(answers.filter(({ outcome }) => outcome === 'begun')).toEqual(range(49).map(() => begun))
      const again = await reopen()
      // It may be gone on with after its end, by whoever began it.
      expect(await again.stores.bulkPins.spend(digest, 'admin', 'again', START + 2000)).toEqual(begun)
      expect(await again.stores.bulkPins.spend(digest, 'somebody', 'again', START)).toEqual({ outcome: 'unknown' })
      await again.other.bulkPins.done(digest)
      expect(await again.stores.bulkPins.spend(digest, 'admin', 'again', START + 2000)).toEqual({
        outcome: 'used',
        revocation: pinned.revocation,
      })
    })

    it('is spent by nobody else, not at its end, and not where nobody made it', async () => {
      const { stores, other } = await world()
      const digest = fresh('digest')
      await stores.bulkPins.offer(digest, pin())
      expect(await other.bulkPins.spend(digest, 'somebody', 'key leaked', START)).toEqual({ outcome: 'unknown' })
      expect(await other.bulkPins.spend(fresh('digest'), 'admin', 'key leaked', START)).toEqual({ outcome: 'unknown' })
      expect(await other.bulkPins.spend(digest, 'admin', 'key leaked', START + 900)).toEqual({ outcome: 'expired' })
      // Whoever only looks spends nothing.
      expect((await other.bulkPins.look(digest, 'admin', START)).outcome).toBe('spent')
      expect((await other.bulkPins.look(digest, 'somebody', START)).outcome).toBe('unknown')
      expect((await other.bulkPins.spend(digest, 'admin', 'key leaked', START + 899)).outcome).toBe('spent')
    })

    it('is unfinished from when it is spent until it is done', async () => {
      const { stores, reopen } = await world()
      const [digest, pinned] = [fresh('digest'), pin()]
      await stores.bulkPins.offer(digest, pinned)
      const open = async (pins = stores.bulkPins) => (await pins.unfinished()).filter((each) => each.digest === digest)
      expect(await open()).toEqual([])
      await stores.bulkPins.spend(digest, 'admin', 'key leaked', START)
      const again = await reopen()
      expect(await open(again.stores.bulkPins)).toEqual([{ digest, pin: { ...pinned, reason: 'key leaked' } }])
      await again.other.bulkPins.done(digest)
      expect(await open(again.stores.bulkPins)).toEqual([])
    })
  })
}
