/** Tries to spend one thing twice. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeReplayGuard(name: string, open: OpenWorld): void {
  describe(`replay guard, ${name}`, () => {
    const world = worlds(open)

    it('lets exactly one of a hundred simultaneous spenders through, on two replicas', async () => {
      const { stores, other, clock } = await world()
      for (const round of range(5)) {
        const id = `${fresh('jti')}-${round}`
        const answers = await Promise.all(
          range(100).map((n) => (n % 2 ? stores : other).replayGuard.spend(id, clock.now + 60)),
        )
        expect(answers.filter(Boolean)).toHaveLength(1)
      }
    })

    it('remembers across a restart', async () => {
      const before = await world()
      const id = fresh('jti')
      expect(await before.stores.replayGuard.spend(id, before.clock.now + 60)).toBe(true)
      const after = await before.reopen()
      expect(await after.stores.replayGuard.spend(id, after.clock.now + 60)).toBe(false)
    })

    it('keeps different ids apart, also long ones and ones with odd characters', async () => {
      const { stores, clock } = await world()
      const long = 'x'.repeat(5000)
      const ids = ['a', 'a ', 'A', 'a:b', 'a{b}', 'é', 'e\u0301', '', `${long}1`, `${long}2`, 'a\nb', '__proto__']
      const first = await Promise.all(ids.map((id) => stores.replayGuard.spend(id, clock.now + 60)))
      expect(first).toEqual(ids.map(() => true))
      const second = await Promise.all(ids.map((id) => stores.replayGuard.spend(id, clock.now + 60)))
      expect(second).toEqual(ids.map(() => false))
    })

    it('remembers until expiry, however many others were spent meanwhile', async () => {
      const { stores, clock } = await world()
      const id = fresh('jti')
      expect(await stores.replayGuard.spend(id, clock.now + 300)).toBe(true)
      for (const step of range(10)) {
        clock.now += 29
        await Promise.all(range(300).map((n) => stores.replayGuard.spend(`${id}/${step}/${n}`, clock.now + 1)))
        expect(await stores.replayGuard.spend(id, clock.now + 300)).toBe(false)
      }
    })
  })
}
