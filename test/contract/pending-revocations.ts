/** Tries to confirm a revocation alone, twice, too late, and to lose what was confirmed. */
import { describe, expect, it } from 'vitest'
import type { PendingRevocation } from '../../src/revoke/pending-revocations.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

export function describePendingRevocations(name: string, open: OpenWorld): void {
  describe(`pending revocations, ${name}`, () => {
    const world = worlds(open)
    const asked = (over: Partial<PendingRevocation> = {}): PendingRevocation => ({
      id: fresh('rev'),
      match: { domain: 'company.example', sub: 'dev|älice' },
      mode: 'ban',
      before: { generation: 1, sequence: 7 },
      reason: 'a breach',
      by: 'ann',
      at: START,
      expiresAt: START + 900,
      ...over,
    })

    it('are confirmed by one of fifty at once; all others are told by whom, also after a restart', async () => {
      const { stores, other, reopen } = await world()
      const pending = asked()
      expect(await stores.pendingRevocations.ask(pending)).toEqual({ pending })
      const answers = await Promise.all(
        range(50).map((n) => (n % 2 ? stores : other).pendingRevocations.confirm(pending.id, `admin-${n}`, START)),
      )
      expect(answers.filter(({ outcome }) => outcome === 'confirmed')).toEqual([{ outcome: 'confirmed', pending }])
      const by = `admin-${answers.findIndex(({ outcome }) => outcome === 'confirmed')}`
      expect(answers.filter((each) => each.outcome === 'used' && each.by === by)).toHaveLength(49)
      const again = (await reopen()).stores.pendingRevocations
      expect(await again.confirm(pending.id, 'late', START + 2000)).toEqual({ outcome: 'used', by })
      // Until it is carried out it is theirs to go on with, however late.
      expect(await again.confirm(pending.id, by, START + 2000)).toEqual({ outcome: 'confirmed', pending })
      const unfinished = async () => (await again.unfinished()).filter((each) => each.pending.id === pending.id)
      expect(await unfinished()).toEqual([{ pending, confirmedBy: by }])
      await again.done(pending.id)
      expect(await unfinished()).toEqual([])
      expect(await again.confirm(pending.id, by, START)).toEqual({ outcome: 'used', by })
      expect(await again.find(pending.id)).toEqual({ pending, confirmedBy: by })
    })

    it('are not confirmed by whoever asked, at their end, or where nobody asked', async () => {
      const { stores, other } = await world()
      const pending = asked()
      await stores.pendingRevocations.ask(pending)
      const confirm = (id: string, by: string, at: number) => other.pendingRevocations.confirm(id, by, at)
      expect(await confirm(pending.id, 'ann', START)).toEqual({ outcome: 'own' })
      expect(await confirm(pending.id, 'ben', START + 900)).toEqual({ outcome: 'expired' })
      expect(await confirm(fresh('rev'), 'ben', START)).toEqual({ outcome: 'unknown' })
      expect(await other.pendingRevocations.find(fresh('rev'))).toBeUndefined()
      expect((await confirm(pending.id, 'ben', START + 899)).outcome).toBe('confirmed')
    })

    it('are listed while they wait, and stay as they were asked for', async () => {
      const { stores, other } = await world()
      const [one, two] = [asked(), asked({ expiresAt: START + 100 })]
      for (const each of [one, two]) await stores.pendingRevocations.ask(each)
      expect(await other.pendingRevocations.ask({ ...one, match: {}, by: 'ben', expiresAt: START + 5000 })).toEqual({
        pending: one,
      })
      const listed = async (now: number) => {
        const ids = [one.id, two.id]
        return (await other.pendingRevocations.open(now)).filter(({ id }) => ids.includes(id))
      }
      expect(await listed(START)).toEqual([two, one])
      expect(await listed(START + 100)).toEqual([one])
      await stores.pendingRevocations.confirm(one.id, 'ben', START)
      expect(await listed(START)).toEqual([two])
    })
  })
}
