/** Tries to get two keys for one subject, and one back after erasure. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeSubjectKeys(name: string, open: OpenWorld): void {
  describe(`subject keys, ${name}`, () => {
    const world = worlds(open)

    it('lets one of many first values win, shows it to all, and keeps it', async () => {
      const before = await world()
      const ref = fresh('ref')
      const answers = await Promise.all(
        range(50).map((n) => (n % 2 ? before.stores : before.other).subjectKeys.obtain(ref, () => `sealed-${n}`)),
      )
      expect(new Set(answers).size).toBe(1)
      const { stores } = await before.reopen()
      expect(await stores.subjectKeys.find(ref)).toBe(answers[0])
      expect(await stores.subjectKeys.obtain(ref, () => 'late')).toBe(answers[0])
    })

    it('makes no new key for an erased ref, also after a restart', async () => {
      const before = await world()
      const ref = fresh('ref')
      await before.stores.subjectKeys.obtain(ref, () => 'sealed')
      expect(await before.other.subjectKeys.erase(ref)).toBe(true)
      expect(await before.stores.subjectKeys.erase(ref)).toBe(false)
      expect(await before.stores.subjectKeys.find(ref)).toBeUndefined()
      const { stores } = await before.reopen()
      expect(await stores.subjectKeys.obtain(ref, () => 'new')).toBeUndefined()
      expect(await stores.subjectKeys.find(ref)).toBeUndefined()
    })

    it('buries a ref that never had a key', async () => {
      const { stores } = await world()
      const ref = fresh('ref')
      expect(await stores.subjectKeys.find(ref)).toBeUndefined()
      expect(await stores.subjectKeys.erase(ref)).toBe(false)
      expect(await stores.subjectKeys.obtain(ref, () => 'new')).toBeUndefined()
    })
  })
}
