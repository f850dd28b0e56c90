/** Tries to give evidence to two keys, and a SPIFFE id to two registrations. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeKeyPins(name: string, open: OpenWorld): void {
  describe(`key pins, ${name}`, () => {
    const world = worlds(open)

    it('pins evidence to one of fifty keys that arrive at once, and tells all the same one', async () => {
      const { stores, other, clock } = await world()
      const id = fresh('evidence')
      const answers = await Promise.all(
        range(50).map((n) => (n % 2 ? stores : other).keyPins.pin(id, `key-${n}`, clock.now + 60)),
      )
      expect(new Set(answers).size).toBe(1)
      expect(await stores.keyPins.pin(id, 'key-late', clock.now + 60)).toBe(answers[0])
    })

    it('says what is pinned, at every replica, and pins nothing by that', async () => {
      const { stores, other, clock } = await world()
      const id = fresh('evidence')
      expect(await stores.keyPins.pinned(id)).toBeUndefined()
      expect(await stores.keyPins.pin(id, 'first', clock.now + 60)).toBe('first')
      expect(await other.keyPins.pinned(id)).toBe('first')
      expect(await stores.keyPins.pinned(`${id}x`)).toBeUndefined()
    })

    it('keeps a pin across a restart, and pins of other evidence apart', async () => {
      const before = await world()
      const id = fresh('evidence')
      expect(await before.stores.keyPins.pin(id, 'first', before.clock.now + 60)).toBe('first')
      const { stores, clock } = await before.reopen()
      expect(await stores.keyPins.pin(id, 'second', clock.now + 60)).toBe('first')
      expect(await stores.keyPins.pin(`${id}x`, 'second', clock.now + 60)).toBe('second')
    })
  })

  describe(`principal bindings, ${name}`, () => {
    const world = worlds(open)

    it('answers 0 to the first registration, and the time of the move to the next', async () => {
      const { stores, other } = await world()
      const id = `spiffe://company.example/${fresh('agent')}`
      expect(await stores.principalBindings.since(id, 'first', 100)).toBe(0)
      expect(await other.principalBindings.since(id, 'first', 200)).toBe(0)
      expect(await other.principalBindings.since(id, 'second', 300)).toBe(300)
      expect(await stores.principalBindings.since(id, 'second', 400)).toBe(300)
    })

    it('gives the first registration no old life back when the id returns to it', async () => {
      const before = await world()
      const id = `spiffe://company.example/${fresh('agent')}`
      await before.stores.principalBindings.since(id, 'first', 100)
      await before.stores.principalBindings.since(id, 'second', 200)
      const { stores } = await before.reopen()
      expect(await stores.principalBindings.since(id, 'first', 300)).toBe(300)
    })

    it('moves once when many requests of the new registration arrive at once', async () => {
      const { stores, other } = await world()
      const id = `spiffe://company.example/${fresh('agent')}`
      await stores.principalBindings.since(id, 'first', 100)
      const answers = await Promise.all(
        range(20).map((n) => (n % 2 ? stores : other).principalBindings.since(id, 'second', 200 + n)),
      )
      expect(new Set(answers).size).toBe(1)
    })
  })
}
