/** Tries to lose a release that was noted, and to note one of the greatest size. */
import { describe, expect, it } from 'vitest'
import type { KnownRelease, KnownReleases } from '../../src/revoke/known-releases.ts'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeKnownReleases(name: string, open: OpenWorld): void {
  describe(`known releases, ${name}`, () => {
    const world = worlds(open)
    const release = (components: readonly string[] = ['pkg:pypi/litellm@1.82.8']): KnownRelease => ({
      id: fresh('release'),
      agent: 'research',
      components,
    })
    const found = async (of: KnownReleases, wanted: readonly KnownRelease[]) => {
      const all = new Map<string, KnownRelease>()
      for await (const each of of.all()) all.set(each.id, each)
      return wanted.map(({ id }) => all.get(id))
    }

    it('are there at once on every replica, and after a restart, each once', async () => {
      const { stores, other, reopen } = await world()
      const noted = range(70).map((n) => release([`pkg:npm/part-${n}@1.0.0`]))
      await stores.knownReleases.note([])
      await Promise.all([stores.knownReleases.note(noted.slice(0, 40)), other.knownReleases.note(noted.slice(30))])
      expect(await found(other.knownReleases, noted)).toEqual(noted)
      expect(await found((await reopen()).stores.knownReleases, noted)).toEqual(noted)
    })

    it('hold as many components as a manifest may', async () => {
      const { stores } = await world()
      const large = release(range(10_000).map((n) => `pkg:npm/${'long-name-of-a-part'.repeat(3)}-${n}@1.${n}.0`))
      await stores.knownReleases.note([large])
      expect(await found(stores.knownReleases, [large])).toEqual([large])
    })
  })
}
