/** Tries to have something issued under an administrator's seal, or the seal forgotten. */
import { describe, expect, it } from 'vitest'
import type { NewRevocation } from '../../src/revoke/revocation-log.ts'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeSeals(name: string, open: OpenWorld): void {
  describe(`seals, ${name}`, () => {
    const world = worlds(open)
    const issuing = { agent: 'research' }

    it('L7 lets nothing be issued at any replica, nor after a restart, until it is lifted', async () => {
      const { stores, other, clock, reopen } = await world()
      const sealed = { by: 'admin', reason: 'looking into it', at: clock.now }
      expect(await stores.seals.current()).toBeUndefined()
      const firsts = await Promise.all(range(4).map((n) => (n % 2 ? stores : other).seals.seal(sealed)))
      expect(firsts.filter(Boolean)).toHaveLength(1)
      for (const each of [stores, other])
        await expect(each.revocations.check({ hops: [], issuing })).rejects.toMatchObject({ reason: 'sealed' })
      const again = await reopen()
      expect(await again.other.seals.current()).toEqual(sealed)
      await expect(again.stores.revocations.check({ hops: [], issuing })).rejects.toMatchObject({ reason: 'sealed' })
      expect(await again.other.seals.unseal()).toBe(true)
      expect(await again.stores.seals.unseal()).toBe(false)
      expect((await again.stores.revocations.check({ hops: [], issuing })).banned).toBeUndefined()
      expect(await again.stores.seals.current()).toBeUndefined()
    })

    it('still tells what is dead, and takes revocations', async () => {
      const { stores, clock } = await world()
      await stores.seals.seal({ by: 'admin', reason: 'looking into it', at: clock.now })
      const rev = await stores.revocations.epoch()
      const entry: NewRevocation = {
        id: fresh('rev'),
        match: { agent: 'research' },
        mode: 'ban',
        reason: 'test',
        by: 'admin',
        at: clock.now,
        expiresAt: clock.now + 600,
      }
      await stores.revocations.add(entry)
      const { dead } = await stores.revocations.check({ hops: [{ facts: { agent: 'research' }, rev }] })
      expect(dead?.entry).toBe(entry.id)
    })
  })
}
