/** Tries to have a sign-out of everything lowered, lost, or taken for carried out before it was. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeSignOuts(name: string, open: OpenWorld): void {
  describe(`sign-outs, ${name}`, () => {
    const world = worlds(open)
    const user = () => `idp|${fresh('user')}`

    it('L7 keeps the latest mark of many that come at once, at every replica and across a restart', async () => {
      const first = await world()
      const subject = user()
      const { now } = first.clock
      expect(await first.stores.signOuts.before(subject)).toBeUndefined()
      await Promise.all(
        range(20).map((n) => (n % 2 ? first.stores : first.other).signOuts.mark(subject, now - n * 7, now + 600)),
      )
      expect(await first.other.signOuts.before(subject)).toBe(now)
      await first.stores.signOuts.mark(subject, now - 1000, now)
      expect(await first.stores.signOuts.before(subject)).toBe(now)
      const { stores } = await first.reopen()
      expect(await stores.signOuts.before(subject)).toBe(now)
      expect(await stores.signOuts.before(user())).toBeUndefined()
    })

    it('tells what was carried out from what was announced, and never less of it', async () => {
      const first = await world()
      const subject = user()
      const { now } = first.clock
      await first.stores.signOuts.settle(subject, now) // nothing was announced
      expect(await first.stores.signOuts.settled(subject)).toBeUndefined()
      await first.stores.signOuts.mark(subject, now, now + 600)
      expect(await first.other.signOuts.settled(subject)).toBeUndefined()
      await first.other.signOuts.settle(subject, now)
      await first.stores.signOuts.settle(subject, now - 60)
      await first.stores.signOuts.mark(subject, now + 5, now + 600)
      const { stores } = await first.reopen()
      expect(await stores.signOuts.settled(subject)).toBe(now)
      expect(await stores.signOuts.before(subject)).toBe(now + 5)
    })

    it('forgets what was to be kept for less long, and nothing else', async () => {
      const { stores, clock } = await world()
      const short = user()
      const long = user()
      await stores.signOuts.mark(short, clock.now, clock.now + 10)
      await stores.signOuts.mark(long, clock.now, clock.now + 1000)
      await stores.signOuts.settle(short, clock.now)
      await stores.signOuts.prune(clock.now + 10)
      expect(await stores.signOuts.before(short)).toBe(clock.now)
      await stores.signOuts.prune(clock.now + 11)
      expect(await stores.signOuts.before(short)).toBeUndefined()
      expect(await stores.signOuts.settled(short)).toBeUndefined()
      expect(await stores.signOuts.before(long)).toBe(clock.now)
    })
  })
}
