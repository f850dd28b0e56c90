/** Tries to spend a pinned preview twice, too late, as somebody else, and to lose what was begun. */
import { describe, expect, it } from 'vitest'
import type { Pin } from '../../src/revoke/bulk-pins.ts'
import type { Stores } from '../../src/store/open.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

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

/** Where only what ends something is written: a preview is not pinned, what a second person confirmed is carried out. */
export async function previewsWait({ bulkPins }: Stores): Promise<void> {
  const digest = fresh('digest')
  await expect(bulkPins.offer(digest, pin())).rejects.toMatchObject({ reason: 'store_unavailable' })
  const confirmed = pin({ confirmedBy: 'ben' })
  await bulkPins.offer(digest, confirmed)
  expect(await bulkPins.spend(digest, 'admin', 'key leaked', START)).toEqual({ outcome: 'spent', pin: confirmed })
  await bulkPins.done(digest)
}

export function describeBulkPins(name: string, open: OpenWorld): void {
  describe(`pinned previews, ${name}`, () => {
    const world = worlds(open)
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

    it('is offered anew where nobody spent it in time, and changed by nothing once it is spent', async () => {
      const { stores, other } = await world()
      const [digest, pinned] = [fresh('digest'), pin()]
      await stores.bulkPins.offer(digest, pinned)
      expect((await other.bulkPins.look(digest, 'admin', START + 900)).outcome).toBe('expired')
      const anew = { ...pinned, confirmedBy: 'ben', expiresAt: START + 1800 }
      await other.bulkPins.offer(digest, anew)
      expect(await stores.bulkPins.spend(digest, 'admin', 'key leaked', START + 900)).toEqual({
        outcome: 'spent',
        pin: anew,
      })
      await other.bulkPins.offer(digest, pin({ tasks: [] }))
      const begun = { outcome: 'begun', pin: { ...anew, reason: 'key leaked' } }
      expect(await stores.bulkPins.look(digest, 'admin', START + 900)).toEqual(begun)
      await stores.bulkPins.done(digest)
      await other.bulkPins.offer(digest, pin())
      expect(await stores.bulkPins.look(digest, 'admin', START + 900)).toEqual({
        outcome: 'used',
        revocation: pinned.revocation,
      })
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
