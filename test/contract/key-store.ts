/** Tries to have two active keys of one purpose, and to use a kid twice. */
import { describe, expect, it } from 'vitest'
import type { KeyPurpose, StoredKey } from '../../src/keys/key-store.ts'
import { fresh, type OpenWorld, range, START, worlds } from './world.ts'

const prepared = (purpose: KeyPurpose = 'token'): StoredKey => ({
  kid: fresh('kid'),
  purpose,
  alg: 'ES256',
  state: 'prepared',
  publicJwk: { kty: 'EC', crv: 'P-256', x: 'x', y: 'y' },
  sealed: 'sealed text',
  preparedAt: START,
})

export function describeKeyStore(name: string, open: OpenWorld): void {
  describe(`key store, ${name}`, () => {
    const world = worlds(open)

    it('gives back what was put in, also after a restart', async () => {
      const before = await world()
      const key = prepared()
      expect(await before.stores.keyStore.insert(key)).toBe(true)
      expect(await before.other.keyStore.list()).toEqual([key])
      const { stores } = await before.reopen()
      expect(await stores.keyStore.list()).toEqual([key])
    })

    it('gives back keys of every algorithm', async () => {
      const { stores, other } = await world()
      const keys: readonly StoredKey[] = [
        { ...prepared('checkpoint'), alg: 'EdDSA', publicJwk: { kty: 'OKP', crv: 'Ed25519', x: 'x' } },
        { ...prepared('security_event'), alg: 'RS256', publicJwk: { kty: 'RSA', n: 'n', e: 'AQAB' } },
        prepared('status'),
      ]
      for (const key of keys) expect(await stores.keyStore.insert(key)).toBe(true)
      const byKid = (a: StoredKey, b: StoredKey) => (a.kid < b.kid ? -1 : 1)
      expect([...(await other.keyStore.list())].sort(byKid)).toEqual([...keys].sort(byKid))
    })

    it('never takes a kid twice, whatever became of the first', async () => {
      const { stores, other } = await world()
      const key = prepared()
      const answers = await Promise.all(range(20).map((n) => (n % 2 ? stores : other).keyStore.insert(key)))
      expect(answers.filter(Boolean)).toHaveLength(1)
      await stores.keyStore.move(key.kid, ['prepared'], 'compromised', START + 1)
      expect(await stores.keyStore.insert(key)).toBe(false)
    })

    it('activates once: of many replicas one succeeds, and the old key begins to retire in the same step', async () => {
      const { stores, other } = await world()
      const [first, ...next] = range(6).map(() => prepared())
      for (const key of [first!, ...next]) await stores.keyStore.insert(key)
      expect(await stores.keyStore.activate(first!.kid, undefined, START + 1)).toBe(true)
      const answers = await Promise.all(
        next.map((key, n) => (n % 2 ? stores : other).keyStore.activate(key.kid, first!.kid, START + 2)),
      )
      expect(answers.filter(Boolean)).toHaveLength(1)
      const keys = await stores.keyStore.list()
      expect(keys.filter((key) => key.state === 'active')).toEqual([
        { ...next[answers.indexOf(true)]!, state: 'active', activatedAt: START + 2 },
      ])
      expect(keys.find((key) => key.kid === first!.kid)).toEqual({
        ...first!,
        state: 'retiring',
        activatedAt: START + 1,
        retiringAt: START + 2,
      })
    })

    it('activates nothing that is not prepared, and nothing over an active key nobody expected', async () => {
      const { stores } = await world()
      const [one, two] = [prepared(), prepared()]
      await stores.keyStore.insert(one)
      await stores.keyStore.insert(two)
      expect(await stores.keyStore.activate('nobody', undefined, START)).toBe(false)
      expect(await stores.keyStore.activate(one.kid, two.kid, START)).toBe(false)
      expect(await stores.keyStore.activate(one.kid, undefined, START)).toBe(true)
      expect(await stores.keyStore.activate(one.kid, one.kid, START)).toBe(false)
      expect(await stores.keyStore.activate(two.kid, undefined, START)).toBe(false)
      expect(await stores.keyStore.activate(two.kid, 'other', START)).toBe(false)
    })

    it('keeps the purposes apart', async () => {
      const { stores } = await world()
      const [token, feed] = [prepared('token'), prepared('feed')]
      await stores.keyStore.insert(token)
      await stores.keyStore.insert(feed)
      expect(await stores.keyStore.activate(token.kid, undefined, START)).toBe(true)
      expect(await stores.keyStore.activate(feed.kid, undefined, START)).toBe(true)
      expect((await stores.keyStore.list()).map((key) => key.state)).toEqual(['active', 'active'])
    })

    it('moves a key only from the states that were named', async () => {
      const { stores } = await world()
      const key = prepared()
      await stores.keyStore.insert(key)
      expect(await stores.keyStore.move(key.kid, ['retiring'], 'retired', START)).toBe(false)
      expect(await stores.keyStore.move('nobody', ['prepared'], 'retired', START)).toBe(false)
      await stores.keyStore.activate(key.kid, undefined, START)
      const next = prepared()
      await stores.keyStore.insert(next)
      await stores.keyStore.activate(next.kid, key.kid, START + 1)
      const both = await Promise.all([
        stores.keyStore.move(key.kid, ['retiring'], 'retired', START + 2),
        stores.keyStore.move(key.kid, ['retiring'], 'retired', START + 2),
      ])
      expect(both.filter(Boolean)).toHaveLength(1)
      expect(await stores.keyStore.move(key.kid, ['retired', 'active'], 'compromised', START + 3)).toBe(true)
      expect(await stores.keyStore.move(next.kid, ['active'], 'compromised', START + 3)).toBe(true)
      // With the active one compromised there is none, and a prepared one may follow without a predecessor.
      const third = prepared()
      await stores.keyStore.insert(third)
      expect(await stores.keyStore.activate(third.kid, undefined, START + 4)).toBe(true)
    })
  })
}
