/** The ring where somebody else has the private keys: what is taken from them, and when. */
import { createPrivateKey, generateKeyPairSync, type KeyObject, sign } from 'node:crypto'
import type { JWK } from 'jose'
import { describe, expect, it } from 'vitest'
import { type KeyMove, openKeyRing } from '../../src/keys/key-ring.ts'
import type { KeyPurpose } from '../../src/keys/key-store.ts'
import type { RemoteSigner } from '../../src/keys/remote-signer.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { createRotation } from '../../src/rotate/rotate.ts'
import { memoryKeyStore } from './memory-key-store.ts'

/** As Vault: versions of one key for each purpose, none of them ever forgotten. */
function keeper(kind = 'elsewhere', purposes: readonly KeyPurpose[] = ['token']) {
  const versions: KeyObject[] = []
  const state = {
    away: false,
    instead: undefined as Uint8Array | undefined,
    hold: undefined as Promise<void> | undefined,
  }
  const asked = { make: 0, sign: 0 }
  const here = () => {
    if (state.away) throw new Unavailable('signer_unavailable', 'away')
  }
  const grow = () => {
    const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    versions.push(createPrivateKey(privateKey.export({ type: 'pkcs8', format: 'pem' })))
  }
  const last = () => {
    const { kty, crv, x, y } = versions.at(-1)!.export({ format: 'jwk' }) as JWK
    return { ref: { version: versions.length }, publicJwk: { kty, crv, x, y } as JWK }
  }
  grow()
  const signer: RemoteSigner = {
    kind,
    makes: (purpose) => purposes.includes(purpose),
    newest: async () => {
      here()
      return last()
    },
    make: async () => {
      here()
      asked.make += 1
      grow()
      return last()
    },
    sign: async ({ version }, _, bytes) => {
      here()
      asked.sign += 1
      await state.hold
      const key = versions[Number(version) - 1]!
      return state.instead ?? sign('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' })
    },
    ready: here,
    answers: () => !state.away,
  }
  return { signer, state, asked, versions, grow }
}

const sealer = createSealer(new Uint8Array(32).fill(3))

async function ringOn(
  signer: RemoteSigner | undefined,
  store = memoryKeyStore(),
  purposes: readonly KeyPurpose[] = ['token', 'feed'],
) {
  const clock = { now: 1_800_000_000 }
  const moves: KeyMove[] = []
  const ring = await openKeyRing({
    store,
    sealer,
    now: () => clock.now,
    monotonic: () => 0,
    purposes,
    announce: async (move) => void moves.push(move),
    ...(signer ? { signer } : {}),
  })
  return { ring, store, clock, moves }
}
const refused = (reason: string) => expect.objectContaining({ reason })

describe('keys that somebody else has', () => {
  it('are taken where they are there already, and made where the newest is one of ours', async () => {
    const { signer, asked } = keeper()
    const { ring, store } = await ringOn(signer)
    expect([asked.make, ring.signerOf(ring.activeKid('token'))]).toEqual([
      0,
      { kind: 'elsewhere', ref: { version: 1 } },
    ])
    await ring.prepare('token', 'asked')
    expect(asked.make).toBe(1)
    expect((await ringOn(signer, store)).ring.signerOf(ring.activeKid('token'))?.ref).toEqual({ version: 1 })
    for (const key of await store.list()) expect(JSON.stringify(key)).not.toContain('elsewhere')
  })

  it('are made anew after a compromise, though an unused one is there: it was in the same hands', async () => {
    const { signer, asked, grow } = keeper()
    const { ring, clock } = await ringOn(signer)
    const rotation = createRotation({
      ring,
      schedule: { lifetimeSeconds: 1000, overlapSeconds: 10, lagSeconds: 0, retireAfterSeconds: 100 },
      purposes: ['token', 'feed'],
      now: () => clock.now,
      onError: (error) => {
        throw error
      },
    })
    grow()
    const answer = await rotation.compromise(ring.activeKid('token'))
    expect([asked.make, ring.signerOf(answer!.successor!)?.ref]).toEqual([1, { version: 3 }])
  })

  it('are one key for two replicas that take the same version', async () => {
    const { signer } = keeper()
    const store = memoryKeyStore()
    const [a, b] = await Promise.all([ringOn(signer, store), ringOn(signer, store)])
    await Promise.all([a.ring.refresh(), b.ring.refresh()])
    expect(a.ring.activeKid('token')).toBe(b.ring.activeKid('token'))
    expect((await store.list()).filter(({ purpose }) => purpose === 'token')).toHaveLength(1)
  })

  it('O6 sign or refuse, never by another key, and hold up no key that is here', async () => {
    const { signer, state } = keeper()
    const { ring } = await ringOn(signer)
    state.away = true
    await expect(ring.sign('token', { typ: 'x' }, {})).rejects.toEqual(refused('signer_unavailable'))
    expect(() => ring.activeKid('token')).toThrow(refused('signer_unavailable'))
    expect(ring.sign('feed', { typ: 'x' }, {})).toBeTypeOf('string')
    expect([ring.healthy(), ring.signersAnswer()]).toEqual([true, false])
    expect(ring.keyFor(ring.keys().find(({ purpose }) => purpose === 'token')!.kid, 'token', 'client').ok).toBe(true)
    await expect(ring.prepare('token', 'asked')).rejects.toEqual(refused('signer_unavailable'))
    await expect(ringOn(signer)).rejects.toEqual(refused('signer_unavailable'))
  })

  it('are believed by the public half that was taken with them, whatever is answered or stored later', async () => {
    const { signer, state, grow, versions } = keeper()
    const { ring, store } = await ringOn(signer)
    grow()
    versions[0] = versions[1]!
    await expect(ring.sign('token', { typ: 'x' }, {})).rejects.toEqual(refused('signer_unavailable'))
    for (const instead of [new Uint8Array(64), new Uint8Array(0), new Uint8Array(63).fill(1)]) {
      state.instead = instead
      await expect(ring.sign('token', { typ: 'x' }, {})).rejects.toEqual(refused('signer_unavailable'))
    }
    const [key] = await store.list()
    store.plant({ ...key!, kid: 'planted' })
    await expect(ring.refresh()).rejects.toMatchObject({ code: 'key_file_unsafe' })
  })

  it('O4 sign nothing more once they are given up, not even what was asked for before', async () => {
    const { signer, state } = keeper()
    const { ring } = await ringOn(signer)
    let go = () => {}
    state.hold = new Promise((resolve) => (go = resolve))
    const kid = ring.activeKid('token')
    const late = Promise.resolve(ring.signWith(kid, { typ: 'x' }, {})).catch((error: unknown) => error)
    await ring.compromise(kid)
    go()
    expect(await late).toEqual(refused('no_active_key'))
  })

  it('never are one that we have for another purpose', async () => {
    const two = keeper('elsewhere', ['token', 'id_jag'])
    two.signer.make = two.signer.newest
    await expect(ringOn(two.signer, memoryKeyStore(), ['token', 'id_jag'])).rejects.toThrow(/was used before/)
  })

  it('turn with the others, though who has them is away', async () => {
    const { signer, state } = keeper()
    const { ring, clock } = await ringOn(signer)
    const faults: unknown[] = []
    const rotation = createRotation({
      ring,
      schedule: { lifetimeSeconds: 100, overlapSeconds: 10, lagSeconds: 0, retireAfterSeconds: 100 },
      purposes: ['token', 'feed'],
      now: () => clock.now,
      onError: (error) => void faults.push(error),
    })
    state.away = true
    const feed = ring.activeKid('feed')
    for (const after of [95, 20]) {
      clock.now += after
      await expect(rotation.tick()).rejects.toEqual(refused('signer_unavailable'))
    }
    expect(ring.activeKid('feed')).not.toBe(feed)
    state.away = false
    await rotation.tick()
    clock.now += 20
    await rotation.tick()
    expect(ring.signerOf(ring.activeKid('token'))?.ref).toEqual({ version: 2 })
  })
})

describe('a change of who makes the keys', () => {
  it('is not ready at a replica that knows nothing of who has the active key', async () => {
    const { signer } = keeper()
    const store = memoryKeyStore()
    const unaware = await ringOn(undefined, store)
    const { ring } = await ringOn(signer, store)
    const [next] = ring.keys().filter(({ purpose, state }) => purpose === 'token' && state === 'prepared')
    await ring.activate(next!.kid, 'asked')
    await unaware.ring.refresh()
    expect([ring.healthy(), unaware.ring.healthy()]).toEqual([true, false])
    expect(() => unaware.ring.activeKid('token')).toThrow(refused('no_active_key'))
    expect(unaware.ring.keyFor(next!.kid, 'token', 'client').ok).toBe(true)
  })

  it('is taken up by the next key, published before it signs; spares of before are given up', async () => {
    const local = await ringOn(undefined)
    const before = local.ring.activeKid('token')
    const spare = await local.ring.prepare('token', 'asked')
    const { signer } = keeper()
    const { ring, moves } = await ringOn(signer, local.store)
    expect(ring.activeKid('token')).toBe(before)
    expect(ring.verifyKey(spare)?.state).toBe('retired')
    const [next] = ring.keys().filter(({ purpose, state }) => purpose === 'token' && state === 'prepared')
    expect(ring.signerOf(next!.kid)?.ref).toEqual({ version: 1 })
    expect(moves.map(({ to }) => to)).toEqual(['retired', 'prepared'])
    // Another start changes nothing more.
    expect((await ringOn(signer, local.store)).moves).toEqual([])
  })

  it('takes effect at once where who has the active key is named no more', async () => {
    for (const next of [undefined, keeper('another').signer]) {
      const { ring: elsewhere, store } = await ringOn(keeper().signer)
      const before = elsewhere.activeKid('token')
      const { ring } = await ringOn(next, store)
      expect(ring.activeKid('token')).not.toBe(before)
      expect(ring.signerOf(ring.activeKid('token'))?.kind).toBe(next?.kind)
      expect(ring.verifyKey(before)?.state).toBe('retiring')
      await ring.sign('token', { typ: 'x' }, {})
    }
  })
})
