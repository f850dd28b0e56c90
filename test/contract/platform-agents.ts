/** Tries to bring more agents of a platform in than it may have, and to have one forgotten that still comes. */
import { describe, expect, it } from 'vitest'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describePlatformAgents(name: string, open: OpenWorld): void {
  describe(`agents of platforms, ${name}`, () => {
    const world = worlds(open)
    const agent = (platform: string, sub: string) => ({ clientId: `platform:${platform}:${sub}`, platform, sub })
    const bounds = { most: 3, since: 0 }

    it('admits no more than may be, of fifty that come at once, and knows them afterwards', async () => {
      const { stores, other } = await world()
      const platform = fresh('platform')
      const come = (sub: string, now: number) =>
        (now % 2 ? stores : other).platformAgents.admit(agent(platform, sub), now, bounds)
      const answers = await Promise.all(range(50).map((n) => come(`a${n}`, 1000 + n)))
      expect(answers.filter((each) => each === 'new')).toHaveLength(3)
      expect(answers.filter((each) => each === 'full')).toHaveLength(47)
      expect(await come(`a${answers.indexOf('new')}`, 1100)).toBe('known')
      expect(await stores.platformAgents.admit(agent(fresh('platform'), 'a'), 1100, bounds)).toBe('new')
    })

    it('forgets who has not come for so long, and keeps who has, across a restart', async () => {
      const before = await world()
      const platform = fresh('platform')
      const admit = (sub: string, now: number, since: number, { stores } = before) =>
        stores.platformAgents.admit(agent(platform, sub), now, { most: 2, since })
      expect(await admit('gone', 1000, 0)).toBe('new')
      expect(await admit('stays', 1000, 0)).toBe('new')
      expect(await admit('stays', 50_000, 0)).toBe('known')
      const after = await before.reopen()
      expect(await admit('third', 60_000, 900, after)).toBe('full')
      expect(await admit('third', 60_000, 20_000, after)).toBe('new')
      const own = (await after.stores.platformAgents.list(1000)).filter((each) => each.platform === platform)
      expect(own).toEqual([
        { ...agent(platform, 'stays'), firstSeen: 1000, lastSeen: 50_000 },
        { ...agent(platform, 'third'), firstSeen: 60_000, lastSeen: 60_000 },
      ])
      expect(await after.stores.platformAgents.find(own[0]!.clientId)).toEqual(own[0])
      expect(await after.stores.platformAgents.find(`platform:${platform}:gone`)).toBeUndefined()
      expect(await after.stores.platformAgents.list(1)).toHaveLength(1)
    })
  })
}
