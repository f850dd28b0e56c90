import { verify } from 'node:crypto'
import { importJWK, jwtVerify } from 'jose'
import { describe, expect, it } from 'vitest'
import { type KeyMove, type KeyRingDeps, openKeyRing } from '../../src/keys/key-ring.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { memoryKeyStore } from './memory-key-store.ts'

const sealer = createSealer(new Uint8Array(32).fill(3))

async function ringOn(
  store = memoryKeyStore(),
  more: Partial<Pick<KeyRingDeps, 'staleAfterSeconds' | 'purposes'>> = {},
) {
  const clock = { now: 1_800_000_000, monotonic: 0 }
  const moves: KeyMove[] = []
  const ring = await openKeyRing({
    store,
    sealer,
    now: () => clock.now,
    monotonic: () => clock.monotonic,
    purposes: ['token', 'feed'],
    announce: async (move) => void moves.push(move),
    ...more,
  })
  return { ring, store, clock, moves }
}

describe('the key ring', () => {
  it('makes a key per purpose at first start, writes both moves down, and finds them again at the second', async () => {
    const { ring, store, moves } = await ringOn()
    expect(ring.activeKid('token')).not.toBe(ring.activeKid('feed'))
    for (const own of ['token', 'feed']) {
      expect(moves.filter(({ purpose }) => purpose === own).map(({ to, cause }) => [to, cause])).toEqual([
        ['prepared', 'first_start'],
        ['active', 'first_start'],
      ])
    }
    const again = await ringOn(store)
    expect(again.moves).toEqual([])
    expect(again.ring.activeKid('token')).toBe(ring.activeKid('token'))
  })

  it('signs what jose verifies from the published set, with kid and alg set by the ring', async () => {
    const { ring } = await ringOn()
    const token = await ring.sign('token', { typ: 'at+jwt' }, { iss: 'us', sub: 'x' })
    const jwk = ring.jwks().keys.find((key) => key.kid === ring.activeKid('token'))!
    const { payload, protectedHeader } = await jwtVerify(token, await importJWK(jwk, 'ES256'), { typ: 'at+jwt' })
    expect(payload).toEqual({ iss: 'us', sub: 'x' })
    expect(protectedHeader).toEqual({ typ: 'at+jwt', alg: 'ES256', kid: jwk.kid })
  })

  it('signs each purpose by its one algorithm, published so that jose verifies it', async () => {
    const algorithms = { checkpoint: 'EdDSA', security_event: 'RS256', status: 'ES256' } as const
    const purposes = ['checkpoint', 'security_event', 'status'] as const
    const { ring, store } = await ringOn(memoryKeyStore(), { purposes })
    for (const purpose of purposes) {
      const alg = algorithms[purpose]
      const jwk = ring.jwks().keys.find((key) => key.errand_use === purpose)!
      expect(jwk).toMatchObject({ alg, use: 'sig', kid: ring.activeKid(purpose) })
      const jws = await ring.sign(purpose, { typ: 'x+jwt' }, { iss: 'us' })
      const { payload, protectedHeader } = await jwtVerify(jws, await importJWK(jwk, alg), { algorithms: [alg] })
      expect(payload).toEqual({ iss: 'us' })
      expect(protectedHeader).toEqual({ typ: 'x+jwt', alg, kid: jwk.kid })
    }
    const publicMembers = ring.jwks().keys.map((key) =>
      Object.keys(key)
        .filter((name) => name.length < 4)
        .sort(),
    )
    expect(publicMembers.map((names) => names.join()).sort()).toEqual([
      'alg,crv,kid,kty,use,x',
      'alg,crv,kid,kty,use,x,y',
      'alg,e,kid,kty,n,use',
    ])
    const again = await ringOn(store, { purposes })
    expect(again.ring.jwks().text).toBe(ring.jwks().text)
  })

  it('signs bytes as they are by the key of checkpoints', async () => {
    const { ring } = await ringOn(memoryKeyStore(), { purposes: ['checkpoint'] })
    const note = Buffer.from('example.com/log\n1\nroot\n')
    const signature = await ring.signBytes('checkpoint', note)
    const { publicKey } = ring.verifyKey(ring.activeKid('checkpoint'))!
    expect(signature).toHaveLength(64)
    expect(verify(null, note, publicKey!, signature)).toBe(true)
    await ring.compromise(ring.activeKid('checkpoint'))
    expect(() => ring.signBytes('checkpoint', note)).toThrow(expect.objectContaining({ reason: 'no_active_key' }))
  })

  it('signs with a key of before by the algorithm that key has, whatever the store or the purpose says', async () => {
    const { ring, store } = await ringOn()
    for (const key of await store.list()) {
      store.plant({ ...key, alg: 'RS256' })
    }
    await ring.refresh()
    expect(ring.jwks().keys.map(({ alg }) => alg)).toEqual(['ES256', 'ES256'])
    const jwk = ring.jwks().keys.find((key) => key.kid === ring.activeKid('token'))!
    await jwtVerify(await ring.sign('token', { typ: 'at+jwt' }, {}), await importJWK(jwk), { algorithms: ['ES256'] })
  })

  it('keeps no private key in the clear in its store', async () => {
    const { store } = await ringOn()
    for (const key of await store.list()) {
      expect(Object.keys(key.publicJwk)).not.toContain('d')
      expect(key.sealed).toMatch(/^s1\./)
    }
  })

  it('publishes kid, kty, crv, x, y, alg, use and the purpose, and a new ETag only when that changes', async () => {
    const { ring } = await ringOn()
    const { keys, etag, text } = ring.jwks()
    expect(JSON.parse(text)).toEqual({ keys })
    for (const key of keys)
      expect(Object.keys(key).sort()).toEqual(['alg', 'crv', 'errand_use', 'kid', 'kty', 'use', 'x', 'y'])
    expect(etag).toMatch(/^"[A-Za-z0-9_-]{22}"$/)
    await ring.refresh()
    expect(ring.jwks().etag).toBe(etag)
    await ring.prepare('token', 'asked')
    expect(ring.jwks().etag).not.toBe(etag)
    expect(ring.jwks().keys).toHaveLength(3)
  })

  it('two replicas that start at once on an empty store agree on one active key each', async () => {
    const store = memoryKeyStore()
    const [a, b] = await Promise.all([ringOn(store), ringOn(store)])
    await Promise.all([a.ring.refresh(), b.ring.refresh()])
    expect(a.ring.activeKid('token')).toBe(b.ring.activeKid('token'))
    expect(a.ring.activeKid('feed')).toBe(b.ring.activeKid('feed'))
    expect((await store.list()).filter((key) => key.state === 'active')).toHaveLength(2)
  })

  it('signs with the key that claims were drafted for while that is just retiring, and with no other', async () => {
    const { ring, clock } = await ringOn()
    const drafted = ring.activeKid('token')
    const next = await ring.prepare('token', 'asked')
    expect(() => ring.signWith(next, { typ: 'at+jwt' }, {})).toThrow(Unavailable)
    expect(await ring.activate(next, 'asked')).toBe(true)
    expect(ring.signWith(drafted, { typ: 'at+jwt' }, {})).toBeTypeOf('string')
    clock.now += 31
    expect(() => ring.signWith(drafted, { typ: 'at+jwt' }, {})).toThrow(Unavailable)
    expect(() => ring.signWith('unknown', { typ: 'at+jwt' }, {})).toThrow(Unavailable)
    expect(ring.sign('token', { typ: 'at+jwt' }, {})).toBeTypeOf('string')
  })

  it('answers no_active_key where nothing may sign, never with another key, and goes on publishing', async () => {
    const { ring } = await ringOn()
    const kid = ring.activeKid('token')
    await ring.prepare('token', 'asked')
    await ring.compromise(kid)
    for (const attempt of [() => ring.sign('token', { typ: 'at+jwt' }, {}), () => ring.activeKid('token')])
      expect(attempt).toThrow(expect.objectContaining({ reason: 'no_active_key' }))
    expect(() => ring.sign('checkpoint', { typ: 'x' }, {})).toThrow(
      expect.objectContaining({ reason: 'no_active_key' }),
    )
    expect(ring.healthy()).toBe(false)
    expect(ring.jwks().keys.map((key) => key.kid)).not.toContain(kid)
    expect(ring.jwks().keys).toHaveLength(2)
    expect(ring.sign('feed', { typ: 'errand-frame+jwt' }, {})).toBeTypeOf('string')
  })

  it('stops signing when it has not read the store for too long, and resumes when it has', async () => {
    const { ring, clock } = await ringOn()
    clock.monotonic += 30_000
    expect(ring.sign('token', { typ: 'at+jwt' }, {})).toBeTypeOf('string')
    clock.monotonic += 1
    expect(() => ring.sign('token', { typ: 'at+jwt' }, {})).toThrow(
      expect.objectContaining({ reason: 'no_active_key' }),
    )
    expect(ring.jwks().keys).toHaveLength(2)
    await ring.refresh()
    expect(ring.sign('token', { typ: 'at+jwt' }, {})).toBeTypeOf('string')
    const alone = await ringOn(memoryKeyStore(), { staleAfterSeconds: Number.POSITIVE_INFINITY })
    alone.clock.monotonic += 1e12
    expect(alone.ring.healthy()).toBe(true)
  })

  it('O5 a root key that is not the one of the store refuses to start as key_file_unsafe', async () => {
    const { store } = await ringOn()
    await expect(
      openKeyRing({
        store,
        sealer: createSealer(new Uint8Array(32).fill(4)),
        now: () => 0,
        monotonic: () => 0,
        purposes: ['token'],
        announce: async () => {},
      }),
    ).rejects.toMatchObject({ code: 'key_file_unsafe' })
  })

  it('publishes no key that somebody planted or swapped in the store', async () => {
    const { ring, store } = await ringOn()
    const before = ring.jwks()
    const [key] = await store.list()
    const other = await ringOn()
    const foreign = (await other.store.list())[0]!
    store.plant({ ...key!, publicJwk: foreign.publicJwk })
    await ring.refresh()
    expect(ring.jwks().text).toBe(before.text)
    const fresh = await ringOn(store)
    expect(fresh.ring.jwks().text).toBe(before.text)
    store.plant({ ...key!, kid: 'planted' })
    await expect(ring.refresh()).rejects.toMatchObject({ code: 'key_file_unsafe' })
    expect(ring.jwks().text).toBe(before.text)
  })

  it('does not move a key whose record could not be written, except to its death', async () => {
    const store = memoryKeyStore()
    await ringOn(store)
    let full = false
    const ring = await openKeyRing({
      store,
      sealer,
      now: () => 0,
      monotonic: () => 0,
      purposes: ['token'],
      announce: async () => {
        if (full) throw new Unavailable('audit_unavailable', 'disk full')
      },
    })
    full = true
    await expect(ring.prepare('token', 'asked')).rejects.toMatchObject({ reason: 'audit_unavailable' })
    expect(await store.list()).toHaveLength(2)
    const kid = ring.activeKid('token')
    await expect(ring.compromise(kid)).rejects.toMatchObject({ reason: 'audit_unavailable' })
    expect(ring.verifyKey(kid)?.state).toBe('compromised')
  })
})

describe('a key that is given up', () => {
  it('O4 signs and verifies nothing more, though the store cannot be read again', async () => {
    const { ring, store } = await ringOn()
    const kid = ring.activeKid('token')
    store.list = async () => {
      throw new Unavailable('store_unavailable', 'away')
    }
    await expect(ring.compromise(kid)).rejects.toMatchObject({ reason: 'store_unavailable' })
    expect(() => ring.signWith(kid, { typ: 'at+jwt' }, {})).toThrow(Unavailable)
    expect(ring.keyFor(kid, 'token', 'subject_token')).toMatchObject({ ok: false, refusal: { reason: 'key_state' } })
    expect(ring.jwks().keys.map((key) => key.kid)).not.toContain(kid)
  })
})

describe('keys of the past', () => {
  it('are there for old evidence, with what became of them and when, and verify nothing that is live', async () => {
    const { ring, store, clock } = await ringOn()
    const [first, second] = [ring.activeKid('token'), await ring.prepare('token', 'asked')]
    const signed = await ring.sign('token', { typ: 'x+jwt' }, { iss: 'us' })
    clock.now += 10
    await ring.activate(second, 'asked')
    clock.now += 10
    await ring.retire(first, 'schedule')
    await ring.compromise(second)
    for (const seen of [ring, (await ringOn(store, { purposes: ['feed'] })).ring]) {
      const old = seen.publicKeyEver(first)!
      expect((await jwtVerify(signed, await importJWK(old))).payload).toEqual({ iss: 'us' })
      expect(old).toMatchObject({ errand_use: 'token', errand_state: 'retired', activated_at: 1_800_000_000 })
      expect([old.retiring_at, old.retired_at, old.compromised_at]).toEqual([1_800_000_010, 1_800_000_020, undefined])
      expect(seen.publicKeyEver(second)).toMatchObject({ errand_state: 'compromised', compromised_at: 1_800_000_020 })
      expect(seen.publicKeyEver('nobody')).toBeUndefined()
      expect(seen.publicKeysEver().map(({ kid }) => kid)).toEqual(expect.arrayContaining([first, second]))
      expect(seen.jwks().keys.map(({ kid }) => kid)).not.toContain(first)
      expect(seen.verifyKey(first)?.publicKey).toBeUndefined()
    }
  })

  it('are those that were ours: what somebody else put into the store is told, not shown', async () => {
    const { ring, store } = await ringOn()
    const kid = ring.activeKid('token')
    const foreign = (await (await ringOn()).store.list())[0]!
    await ring.activate(await ring.prepare('token', 'asked'), 'asked')
    await ring.retire(kid, 'schedule')
    const retired = (await store.list()).find((key) => key.kid === kid)!
    const before = ring.publicKeyEver(kid)
    store.plant({ ...retired, publicJwk: foreign.publicJwk })
    await ring.refresh()
    expect(ring.publicKeyEver(kid)).toEqual(before)
    store.plant({ ...foreign, state: 'retired' })
    store.plant({ ...retired, kid: 'planted' })
    await ring.refresh()
    expect(() => ring.publicKeyEver('planted')).toThrow(expect.objectContaining({ code: 'key_file_unsafe' }))
  })
})

describe('which keys verify at our own endpoints', () => {
  it('B4 prepared, retired and compromised keys are key_state; active and retiring ones verify', async () => {
    const { ring } = await ringOn()
    const first = ring.activeKid('token')
    const second = await ring.prepare('token', 'asked')
    expect(ring.keyFor(second, 'token', 'subject_token')).toMatchObject({ ok: false, refusal: { reason: 'key_state' } })
    expect(ring.keyFor(first, 'token', 'subject_token')).toMatchObject({ ok: true, value: { state: 'active' } })
    await ring.activate(second, 'asked')
    expect(ring.keyFor(first, 'token', 'subject_token')).toMatchObject({ ok: true, value: { state: 'retiring' } })
    await ring.retire(first, 'schedule')
    expect(ring.keyFor(first, 'token', 'client')).toMatchObject({
      ok: false,
      refusal: { reason: 'key_state', slot: 'client' },
    })
    expect(ring.publicJwk(first)).toBeUndefined()
    await ring.compromise(second)
    expect(ring.keyFor(second, 'token', 'client')).toMatchObject({ ok: false, refusal: { reason: 'key_state' } })
    expect(await ring.compromise(second)).toBe(false)
  })

  it('B1 a kid that is no key of ours is unknown_kid, whatever it spells', async () => {
    const { ring } = await ringOn()
    for (const kid of ['../../x', "' OR 1", '\0', '__proto__', 'constructor', '', 'x'.repeat(10_000)])
      expect(ring.keyFor(kid, 'token', 'client'), kid.slice(0, 20)).toMatchObject({
        ok: false,
        refusal: { reason: 'unknown_kid' },
      })
  })

  it('a key counts for its own purpose only: key_scope', async () => {
    const { ring } = await ringOn()
    expect(ring.keyFor(ring.activeKid('feed'), 'token', 'client')).toMatchObject({
      ok: false,
      refusal: { reason: 'key_scope' },
    })
  })
})
