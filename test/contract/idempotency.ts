/** Tries to do one request twice. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

const RESULT = { index: 7, logId: '0a1b2c3d', response: '{"task_id":"task_x"}' }

export function describeIdempotency(name: string, open: OpenWorld): void {
  describe(`idempotency, ${name}`, () => {
    const world = worlds(open)

    it('lets one of many simultaneous tries through and tells the others', async () => {
      const { stores, other, clock } = await world()
      const key = fresh('key')
      const claims = await Promise.all(
        range(50).map((n) => (n % 2 ? stores : other).idempotency.claim(key, 'digest', clock.now, clock.now + 600)),
      )
      expect(claims.filter((claim) => claim.outcome === 'claimed')).toHaveLength(1)
      expect(claims.filter((claim) => claim.outcome === 'in_progress')).toHaveLength(49)
    })

    it('D20 remembers what was answered across a restart, and with which digest', async () => {
      const before = await world()
      const key = fresh('key')
      const { now } = before.clock
      await before.stores.idempotency.claim(key, 'digest', now, now + 600)
      await before.stores.idempotency.complete(key, RESULT)
      const { stores } = await before.reopen()
      const remembered = { outcome: 'remembered', remembered: { digest: 'digest', result: RESULT } }
      expect(await stores.idempotency.claim(key, 'digest', now + 1, now + 600)).toEqual(remembered)
      expect(await stores.idempotency.claim(key, 'another', now + 2, now + 600)).toEqual(remembered)
    })

    it('keeps the first answer: a second completion and a late release change nothing', async () => {
      const { stores, clock } = await world()
      const key = fresh('key')
      await stores.idempotency.claim(key, 'digest', clock.now, clock.now + 600)
      await stores.idempotency.complete(key, RESULT)
      await stores.idempotency.complete(key, { ...RESULT, index: 8 })
      await stores.idempotency.release(key)
      expect(await stores.idempotency.claim(key, 'digest', clock.now, clock.now + 600)).toEqual({
        outcome: 'remembered',
        remembered: { digest: 'digest', result: RESULT },
      })
    })

    it('lets a claim lapse after 10 s, for the same request and for one of those who wait', async () => {
      const { stores, other, clock } = await world()
      const key = fresh('key')
      const expires = clock.now + 600
      const claim = (at: Pick<typeof stores, 'idempotency'>, digest = 'digest') =>
        at.idempotency.claim(key, digest, clock.now, expires)
      expect(await claim(stores)).toEqual({ outcome: 'claimed' })
      clock.now += 9
      expect(await claim(other)).toEqual({ outcome: 'in_progress', digest: 'digest' })
      clock.now += 2
      expect(await claim(stores, 'another')).toEqual({ outcome: 'in_progress', digest: 'digest' })
      const claims = await Promise.all(range(20).map((n) => claim(n % 2 ? stores : other)))
      expect(claims.filter(({ outcome }) => outcome === 'claimed')).toHaveLength(1)
    })

    it('gives a released key to the next, and forgets after expiry', async () => {
      const { stores, clock } = await world()
      const key = fresh('key')
      await stores.idempotency.claim(key, 'digest', clock.now, clock.now + 60)
      await stores.idempotency.release(key)
      expect(await stores.idempotency.claim(key, 'other', clock.now, clock.now + 60)).toEqual({ outcome: 'claimed' })
      await stores.idempotency.complete(key, RESULT)
      clock.now += 61
      expect(await stores.idempotency.claim(key, 'third', clock.now, clock.now + 60)).toEqual({ outcome: 'claimed' })
    })
  })
}
