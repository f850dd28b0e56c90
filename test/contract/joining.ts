/** Tries to spend a join token twice, for two keys, too late, for another agent, and to keep a key that was removed. */
import { describe, expect, it } from 'vitest'
import type { JoinedKey } from '../../src/attest/joining.ts'
import { fresh, type OpenWorld, range, worlds } from './world.ts'

export function describeJoining(name: string, open: OpenWorld): void {
  describe(`join tokens, ${name}`, () => {
    const world = worlds(open)
    const key = (clientId: string, kid: string, joinedAt = 100): JoinedKey => ({
      clientId,
      kid,
      jwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y', kid, alg: 'ES256' },
      joinedAt,
      by: 'admin',
    })
    const offered = async (
      clientId: string,
      expiresAt: number,
      stores: Awaited<ReturnType<typeof world>>['stores'],
    ) => {
      const digest = fresh('digest')
      await stores.joining.offer(digest, { clientId, expiresAt, by: 'admin' })
      return digest
    }

    it('F1 registers one of fifty keys that bring one token at once, and tells all others that it is spent', async () => {
      const { stores, other, clock } = await world()
      const agent = fresh('agent')
      const digest = await offered(agent, clock.now + 60, stores)
      const answers = await Promise.all(
        range(50).map((n) => (n % 2 ? stores : other).joining.redeem(digest, key(agent, `kid-${n}`), clock.now)),
      )
      expect(answers.filter((each) => each === 'joined')).toHaveLength(1)
      expect(answers.filter((each) => each === 'spent')).toHaveLength(49)
      const keys = await other.joining.keysOf(agent)
      expect(keys.map(({ kid }) => kid)).toEqual([`kid-${answers.indexOf('joined')}`])
      expect(await stores.joining.key(agent, keys[0]!.kid)).toEqual(keys[0])
    })

    it('F1 answers the same to the key that spent it, and nothing to that key once it is removed', async () => {
      const before = await world()
      const agent = fresh('agent')
      const digest = await offered(agent, before.clock.now + 60, before.stores)
      const { now } = before.clock
      expect(await before.stores.joining.redeem(digest, key(agent, 'mine'), now)).toBe('joined')
      const { stores, other } = await before.reopen()
      expect(await stores.joining.redeem(digest, key(agent, 'mine'), now)).toBe('again')
      expect(await other.joining.redeem(digest, key(agent, 'theirs'), now)).toBe('spent')
      expect(await other.joining.find(digest)).toMatchObject({ clientId: agent, usedBy: 'mine' })
      expect(await other.joining.remove(agent, 'mine')).toBe(true)
      expect(await stores.joining.remove(agent, 'mine')).toBe(false)
      expect(await stores.joining.key(agent, 'mine')).toBeUndefined()
      expect(await stores.joining.redeem(digest, key(agent, 'mine'), now)).toBe('spent')
      expect(await stores.joining.keysOf(agent)).toEqual([])
    })

    it('F1 takes no token that is unknown, another agent’s, or at its end', async () => {
      const { stores, clock } = await world()
      const agent = fresh('agent')
      const digest = await offered(agent, clock.now + 60, stores)
      expect(await stores.joining.redeem(fresh('digest'), key(agent, 'k'), clock.now)).toBe('unknown')
      expect(await stores.joining.redeem(digest, key(fresh('agent'), 'k'), clock.now)).toBe('unknown')
      expect(await stores.joining.redeem(digest, key(agent, 'k'), clock.now + 60)).toBe('expired')
      expect(await stores.joining.redeem(digest, key(agent, 'k'), clock.now + 59)).toBe('joined')
    })

    it('keeps offers and keys across a restart, and keys of other agents apart', async () => {
      const before = await world()
      const [one, two] = [fresh('agent'), fresh('agent')]
      const { now } = before.clock
      const first = await offered(one, now + 60, before.stores)
      const second = await offered(one, now + 60, before.stores)
      await before.stores.joining.redeem(first, key(one, 'b', 100), now)
      const { stores } = await before.reopen()
      expect(await stores.joining.find(second)).toEqual({ clientId: one, expiresAt: now + 60, by: 'admin' })
      expect(await stores.joining.find(fresh('digest'))).toBeUndefined()
      expect(await stores.joining.redeem(second, key(one, 'a', 200), now)).toBe('joined')
      expect(await stores.joining.keysOf(one)).toEqual([key(one, 'b', 100), key(one, 'a', 200)])
      expect(await stores.joining.keysOf(two)).toEqual([])
      expect(await stores.joining.key(two, 'b')).toBeUndefined()
      expect(await stores.joining.remove(two, 'b')).toBe(false)
    })
  })
}
