import { describe, expect, it } from 'vitest'
import { createStatusDecoys } from '../../src/revoke/status-decoys.ts'
import { LIST_SIZE } from '../../src/revoke/status-indexes.ts'
import { createStatusLists } from '../../src/revoke/status-lists.ts'

const NOW = 1_700_000_000
const URI = 'https://errand.example.com/status-lists/'

describe('decoys', () => {
  const decoys = createStatusDecoys({ key: new Uint8Array(32).fill(7), size: LIST_SIZE })

  it('are 256 of each list, about half of them marked, and another set in every list', () => {
    const of = (list: string) =>
      Array.from({ length: LIST_SIZE }, (_, idx) => idx).filter((idx) => decoys.is(list, idx))
    expect(of('1-1')).toHaveLength(256)
    expect(of('1-1')).not.toEqual(of('1-2'))
    for (const now of [NOW, NOW + 1234]) {
      const marked = decoys.marked('1-1', now)
      expect(marked.every((idx) => decoys.is('1-1', idx))).toBe(true)
      expect(marked.length).toBeGreaterThan(80)
      expect(marked.length).toBeLessThan(176)
    }
  })

  it('change one after the other, each once in five minutes at most', () => {
    const seen = new Map<number, number>()
    let before = new Set(decoys.marked('1-1', NOW))
    for (let now = NOW + 1; now <= NOW + 300; now++) {
      const marked = new Set(decoys.marked('1-1', now))
      const changed = [...marked, ...before].filter((idx) => marked.has(idx) !== before.has(idx))
      // Some seconds none, never many at once: a change says nothing.
      expect(changed.length).toBeLessThan(5)
      for (const idx of changed) seen.set(idx, (seen.get(idx) ?? 0) + 1)
      before = marked
    }
    expect([...seen.values()].every((times) => times === 1)).toBe(true)
    expect(seen.size).toBeGreaterThan(80)
  })
})

describe('signed lists', () => {
  function open() {
    const clock = { now: NOW }
    const state = { version: 0, marked: [] as number[], kid: 'kid-1', lists: ['1-1'] }
    const signed: object[] = []
    const lists = createStatusLists({
      now: () => clock.now,
      issuer: 'https://errand.example.com',
      aggregation: URI.slice(0, -1),
      uriOf: (list) => URI + list,
      indexes: {
        refresh: async () => undefined,
        lists: () => state.lists,
        list: (name) => (state.lists.includes(name) ? state : undefined),
        sweep: async () => undefined,
      },
      decoys: { marked: () => [] },
      activeKid: () => state.kid,
      sign: async (typ, payload) => {
        signed.push(payload)
        return `${typ} ${signed.length}`
      },
    })
    return { clock, state, signed, lists }
  }

  it('are signed once in five seconds, and anew when something changed, the key did, or the clock went back', async () => {
    const { clock, state, signed, lists } = open()
    const count = async () => {
      await lists.current('1-1')
      return signed.length
    }
    expect([await count(), await count()]).toEqual([1, 1])
    clock.now += 4
    expect(await count()).toBe(1)
    clock.now += 1
    expect(await count()).toBe(2)
    state.version = 1
    expect([await count(), await count()]).toEqual([3, 3])
    state.kid = 'kid-2'
    expect([await count(), await count()]).toEqual([4, 4])
    clock.now -= 10
    expect(await count()).toBe(5)
    expect(signed.at(-1)).toMatchObject({ sub: `${URI}1-1`, iat: clock.now, exp: clock.now + 30, ttl: 5 })
  })

  it('are there for every moment of the last hour, also where nobody asked', async () => {
    const { clock, signed, lists } = open()
    for (let second = 0; second < 4000; second++) {
      await lists.tick()
      clock.now += 1
    }
    expect(signed.length).toBeLessThan(4000 / 15 + 2)
    for (let time = clock.now - 3590; time < clock.now; time += 7) {
      const found = await lists.at('1-1', time)
      expect(found && found.iat <= time && time < found.exp && time - found.iat <= 15).toBe(true)
    }
    expect(await lists.at('1-1', clock.now - 3700)).toBeUndefined()
    expect(await lists.at('1-1', clock.now + 31)).toBeUndefined()
    expect(await lists.at('1-2', clock.now)).toBeUndefined()
  })
})
