/** Signing keys as a process remembers them beside a store that forgets, or is written into. */
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { openKeyRing } from '../../src/keys/key-ring.ts'
import type { KeyStore } from '../../src/keys/key-store.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { createRotation } from '../../src/rotate/rotate.ts'
import { keepingKeys, type Ledger, openLedger } from '../../src/store/ledger.ts'
import { memoryKeyStore } from '../keys/memory-key-store.ts'

describe('a key that was given up', () => {
  let dir: string
  let ledger: Ledger
  beforeEach(async () => {
    dir = await mkdtemp(join(tmpdir(), 'errand-kept-'))
    ledger = openLedger(dir)
  })
  afterEach(async () => {
    await ledger.close()
    await rm(dir, { recursive: true })
  })

  const START = 1_800_000_000
  const opened = async (store: KeyStore) => {
    const ring = await openKeyRing({
      store: keepingKeys(store, ledger),
      sealer: createSealer(new Uint8Array(32).fill(6)),
      now: () => START,
      monotonic: () => 0,
      purposes: ['token'],
      announce: async () => {},
    })
    const rotation = createRotation({
      ring,
      schedule: { lifetimeSeconds: 1000, overlapSeconds: 10, lagSeconds: 0, retireAfterSeconds: 100 },
      purposes: ['token'],
      now: () => START,
      onError: (error) => {
        throw error
      },
    })
    return { ring, rotation }
  }

  it('O4 M9 stays so where the store went back in time or was written into, also after a restart', async () => {
    const store = memoryKeyStore()
    const { ring, rotation } = await opened(store)
    const before = await store.list()
    const kid = ring.activeKid('token')
    await rotation.compromise(kid)
    const next = ring.activeKid('token')
    for (const key of before) store.plant(key)
    await rotation.tick()
    expect([ring.verifyKey(kid)?.state, ring.activeKid('token')]).toEqual(['compromised', next])
    expect((await store.list()).find((key) => key.kid === kid)?.state).toBe('compromised')

    for (const key of before) store.plant(key)
    await ledger.close()
    ledger = openLedger(dir)
    const again = await opened(store)
    expect(again.ring.verifyKey(kid)?.state).toBe('compromised')
    expect(again.ring.activeKid('token')).toBe(next)
  })

  it('signs no more, though the store insists on it, and nothing turns for ever', async () => {
    const store = memoryKeyStore()
    const { ring, rotation } = await opened(store)
    const kid = ring.activeKid('token')
    const [key] = await store.list()
    await rotation.compromise(kid)
    const stubborn = ring.keys().filter((each) => each.kid !== kid)
    for (const each of stubborn) await store.move(each.kid, [each.state], 'retired', START)
    store.plant(key!)
    store.move = async () => false
    await rotation.tick()
    expect(ring.verifyKey(kid)?.state).toBe('compromised')
    expect(() => ring.activeKid('token')).toThrow(expect.objectContaining({ reason: 'no_active_key' }))
    expect(() => ring.signWith(kid, { typ: 'x' }, {})).toThrow(expect.objectContaining({ reason: 'no_active_key' }))
  })
})
