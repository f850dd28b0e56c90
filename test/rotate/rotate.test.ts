import { createPublicKey, type JsonWebKey, verify } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it, vi } from 'vitest'
import { type KeyMove, type KeyRing, openKeyRing, REPLICA_LAG_SECONDS } from '../../src/keys/key-ring.ts'
import type { KeyStore } from '../../src/keys/key-store.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { createRotation, scheduleOf } from '../../src/rotate/rotate.ts'
import type { Schedule } from '../../src/rotate/step.ts'
import { memoryKeyStore } from '../keys/memory-key-store.ts'

const sealer = createSealer(new Uint8Array(32).fill(3))
const TOKEN_LIFE = 300
const MAX_AGE = 60
const schedule = scheduleOf({
  lifetimeSeconds: 200,
  overlapSeconds: 90,
  replicas: true,
  jwksMaxAgeSeconds: MAX_AGE,
  maxTokenLifetimeSeconds: TOKEN_LIFE,
})

interface Clock {
  now: number
}

async function replicaOn(
  store: KeyStore,
  clock: Clock,
  more: { readonly schedule?: Schedule; readonly announce?: (move: KeyMove) => Promise<void> } = {},
) {
  const errors: unknown[] = []
  const now = () => clock.now
  const ring = await openKeyRing({
    store,
    sealer,
    now,
    monotonic: () => clock.now * 1000,
    purposes: ['token'],
    announce: more.announce ?? (async () => {}),
  })
  const rotation = createRotation({
    ring,
    schedule: more.schedule ?? schedule,
    purposes: ['token'],
    now,
    onError: (error) => errors.push(error),
  })
  return { ring, rotation, errors }
}

/** A tool's verifier that never fetches before its copy is as old as it may be. */
function laziestVerifier(clock: Clock) {
  let fetchedAt = Number.NEGATIVE_INFINITY
  let keys = new Map<string, JsonWebKey>()
  return (token: string, source: KeyRing): boolean => {
    if (clock.now - fetchedAt >= MAX_AGE) {
      keys = new Map(source.jwks().keys.map((key) => [key.kid!, key as JsonWebKey]))
      fetchedAt = clock.now
    }
    const [header, payload, signature] = token.split('.') as [string, string, string]
    const { kid } = JSON.parse(Buffer.from(header, 'base64url').toString()) as { kid: string }
    const jwk = keys.get(kid)
    if (!jwk) return false
    const key = createPublicKey({ key: jwk, format: 'jwk' })
    return verify(
      'sha256',
      Buffer.from(`${header}.${payload}`),
      { key, dsaEncoding: 'ieee-p1363' },
      Buffer.from(signature, 'base64url'),
    )
  }
}

const kidOf = (token: string) =>
  (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }).kid
const activeIn = async (store: KeyStore) =>
  (await store.list()).filter((key) => key.state === 'active').map((key) => key.kid)

describe('rotation', () => {
  it('O1 O3 rotating as fast as the schedule allows loses no verification at the laziest of caches, with two replicas', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const replicas = [await replicaOn(store, clock), await replicaOn(store, clock)]
    const verifiers = Array.from({ length: 7 }, () => laziestVerifier(clock))
    const published = new Map<string, number>()
    const signedBy = new Set<string>()
    let alive: { token: string; exp: number }[] = []
    const start = clock.now
    for (; clock.now < start + 2000; clock.now += 1) {
      // Polls lag behind one another by as much as is allowed.
      if (clock.now % 5 === 0) await replicas[0]!.rotation.tick()
      if (clock.now % (REPLICA_LAG_SECONDS - 1) === 0) await replicas[1]!.rotation.tick()
      for (const { ring } of replicas)
        for (const { kid } of ring.jwks().keys) if (!published.has(kid!)) published.set(kid!, clock.now)
      const { ring } = replicas[clock.now % 2]!
      if (clock.now % 3 === 0) {
        const token = await ring.sign('token', { typ: 'at+jwt' }, { n: clock.now })
        signedBy.add(kidOf(token))
        expect(published.get(kidOf(token))).toBeLessThanOrEqual(clock.now)
        alive.push({ token, exp: clock.now + TOKEN_LIFE })
      }
      alive = alive.filter(({ exp }) => exp > clock.now)
      // Verifiers start one after another, so their caches are of every age.
      const index = clock.now % verifiers.length
      if (clock.now - start > index * 8)
        for (const { token } of [alive[0], alive.at(-1)].filter((one) => one !== undefined))
          expect(verifiers[index]!(token, replicas[clock.now % 2]!.ring), `at ${clock.now - start}`).toBe(true)
      expect(await activeIn(store)).toHaveLength(1)
    }
    expect(signedBy.size).toBeGreaterThanOrEqual(8)
    expect((await store.list()).some((key) => key.state === 'retired')).toBe(true)
  })

  it('O1 every key that ever signed was published for the whole overlap before, but for the first', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const { rotation } = await replicaOn(store, clock)
    for (let second = 0; second < 3000; second += 7) {
      clock.now += 7
      await rotation.tick()
    }
    const [first, ...later] = (await store.list()).filter((key) => key.activatedAt !== undefined)
    expect(first!.activatedAt).toBe(1_800_000_000)
    expect(later.length).toBeGreaterThan(8)
    for (const key of later) expect(key.activatedAt! - key.preparedAt).toBeGreaterThanOrEqual(schedule.overlapSeconds)
  })

  it('O2 a crash before or after any write to the store is resumed at the next start, never with two active keys', async () => {
    for (let crashAt = 1; crashAt <= 24; crashAt++) {
      const clock = { now: 1_800_000_000 }
      const store = memoryKeyStore()
      let writes = 0
      const crashing =
        <A extends unknown[], R>(write: (...args: A) => Promise<R>) =>
        async (...args: A): Promise<R> => {
          if (++writes === crashAt) throw new Error('killed before the write')
          const answer = await write(...args)
          if (++writes === crashAt) throw new Error('killed after the write')
          return answer
        }
      const mortal: KeyStore = {
        list: store.list,
        insert: crashing(store.insert),
        activate: crashing(store.activate),
        move: crashing(store.move),
      }
      let running: Awaited<ReturnType<typeof replicaOn>> | undefined
      let crashes = 0
      for (let second = 0; second < 1500; second += 10) {
        clock.now += 10
        try {
          running ??= await replicaOn(mortal, clock)
          await running.rotation.tick()
        } catch {
          crashes++
          running = undefined
        }
        expect((await activeIn(store)).length).toBeLessThanOrEqual(1)
        if (running) expect(running.ring.activeKid('token')).toBe((await activeIn(store))[0])
      }
      expect(crashes, `crash at write ${crashAt}`).toBe(1)
      const states = (await store.list()).map((key) => key.state)
      expect(states.filter((state) => state === 'active')).toHaveLength(1)
      expect(states.filter((state) => state === 'retired').length).toBeGreaterThan(0)
    }
  })

  it('O2 two replicas whose steps interleave in any order never make two active keys, and agree in the end', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.scheduler(),
        fc.array(
          fc.record({
            wait: fc.integer({ min: 0, max: 130 }),
            act: fc.constantFrom('tick', 'rotate', 'now', 'compromise'),
          }),
          {
            minLength: 1,
            maxLength: 8,
          },
        ),
        async (s, turns) => {
          const clock = { now: 1_800_000_000 }
          const store = memoryKeyStore()
          const watched: KeyStore = {
            list: s.scheduleFunction(store.list),
            insert: s.scheduleFunction(store.insert),
            activate: s.scheduleFunction(async (...args) => {
              const done = await store.activate(...args)
              expect(await activeIn(store)).toHaveLength(1)
              return done
            }),
            move: s.scheduleFunction(store.move),
          }
          const opening = Promise.all([replicaOn(watched, clock), replicaOn(watched, clock)])
          await s.waitFor(opening)
          const replicas = await opening
          for (const { wait, act } of turns) {
            clock.now += wait
            await s.waitFor(
              Promise.all(
                replicas.map(({ rotation, ring }, index) => {
                  if (act === 'rotate') return rotation.rotateNow('token')
                  if (act === 'now') return rotation.rotateNow('token', { immediately: true })
                  if (act === 'compromise' && index === 0) return rotation.compromise(ring.keys()[0]!.kid)
                  return rotation.tick()
                }),
              ),
            )
          }
          await s.waitFor(Promise.all(replicas.map(({ rotation }) => rotation.tick())))
          await s.waitFor(Promise.all(replicas.map(({ ring }) => ring.refresh())))
          const active = await activeIn(store)
          expect(active).toHaveLength(1)
          for (const { ring, errors } of replicas) {
            expect(ring.activeKid('token')).toBe(active[0])
            expect(errors).toEqual([])
          }
        },
      ),
      { numRuns: 150 },
    )
  })

  it('writes nothing where nothing is due', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const moves: KeyMove[] = []
    const { rotation } = await replicaOn(store, clock, { announce: async (move) => void moves.push(move) })
    const before = moves.length
    for (let turn = 0; turn < 10; turn++) await rotation.tick()
    expect(moves).toHaveLength(before)
  })

  it('writes each move down, with its cause, before it happens', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const seen: string[] = []
    const { rotation } = await replicaOn(store, clock, {
      announce: async ({ kid, to, cause }) => {
        seen.push(`${to} ${cause}`)
        expect((await store.list()).find((key) => key.kid === kid)?.state).not.toBe(to)
      },
    })
    await rotation.rotateNow('token')
    clock.now += schedule.overlapSeconds + 1
    await rotation.tick()
    clock.now += schedule.retireAfterSeconds
    await rotation.tick()
    expect(seen.slice(0, 6)).toEqual([
      'prepared first_start',
      'active first_start',
      'prepared asked',
      'active schedule',
      'retiring schedule',
      'prepared schedule',
    ])
    expect(seen).toContain('retired schedule')
  })
})

describe('rotating on request', () => {
  it('prepares now, says when the key will sign, and does not wait for the old key’s time', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const { ring, rotation } = await replicaOn(store, clock, { schedule: { ...schedule, lifetimeSeconds: 1e9 } })
    const old = ring.activeKid('token')
    const answer = await rotation.rotateNow('token')
    expect(answer).toMatchObject({
      purpose: 'token',
      state: 'prepared',
      activatesAt: clock.now + 1 + schedule.overlapSeconds,
    })
    expect(ring.activeKid('token')).toBe(old)
    expect(await rotation.rotateNow('token')).toEqual(answer)
    clock.now = answer.activatesAt - 1
    await rotation.tick()
    expect(ring.activeKid('token')).toBe(old)
    clock.now = answer.activatesAt
    await rotation.tick()
    expect(ring.activeKid('token')).toBe(answer.kid)
  })

  it('survives a restart between preparing and activating', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const before = await replicaOn(store, clock, { schedule: { ...schedule, lifetimeSeconds: 1e9 } })
    const { kid, activatesAt } = await before.rotation.rotateNow('token')
    clock.now = activatesAt
    const after = await replicaOn(store, clock, { schedule: { ...schedule, lifetimeSeconds: 1e9 } })
    await after.rotation.tick()
    expect(after.ring.activeKid('token')).toBe(kid)
  })

  it('can be told not to wait', async () => {
    const clock = { now: 1_800_000_000 }
    const { ring, rotation } = await replicaOn(memoryKeyStore(), clock)
    const old = ring.activeKid('token')
    const answer = await rotation.rotateNow('token', { immediately: true })
    expect(answer.state).toBe('active')
    expect(ring.activeKid('token')).toBe(answer.kid)
    expect(ring.verifyKey(old)?.state).toBe('retiring')
  })
})

describe('a compromised key', () => {
  it('O4 is replaced at once, leaves the key set, and the answer says what to revoke and until when', async () => {
    const clock = { now: 1_800_000_000 }
    const { ring, rotation } = await replicaOn(memoryKeyStore(), clock)
    const stolen = ring.activeKid('token')
    const answer = await rotation.compromise(stolen)
    expect(answer).toEqual({
      kid: stolen,
      purpose: 'token',
      successor: ring.activeKid('token'),
      revocation: {
        match: { kid: stolen },
        mode: 'ban',
        absolute: true,
        expiresAt: clock.now + schedule.retireAfterSeconds,
      },
    })
    expect(ring.activeKid('token')).not.toBe(stolen)
    expect(ring.jwks().keys.map((key) => key.kid)).not.toContain(stolen)
    expect(await rotation.compromise(stolen)).toMatchObject({ kid: stolen, successor: ring.activeKid('token') })
    expect(await rotation.compromise('no such kid')).toBeUndefined()
  })

  it('O4 is dead also while no record can be written, and then nothing signs until it can', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    let full = false
    const { ring, rotation, errors } = await replicaOn(store, clock, {
      announce: async () => {
        if (full) throw new Unavailable('audit_unavailable', 'disk full')
      },
    })
    const stolen = ring.activeKid('token')
    full = true
    const answer = await rotation.compromise(stolen)
    expect(answer?.successor).toBeUndefined()
    expect(answer?.revocation?.match).toEqual({ kid: stolen })
    expect(errors).toHaveLength(2)
    expect(() => ring.activeKid('token')).toThrow(expect.objectContaining({ reason: 'no_active_key' }))
    full = false
    await rotation.tick()
    expect(ring.activeKid('token')).not.toBe(stolen)
  })

  it('O4 a crash between its death and its replacement is mended at the next turn', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const { ring } = await replicaOn(store, clock)
    await store.move(ring.activeKid('token'), ['active'], 'compromised', clock.now)
    const after = await replicaOn(store, clock)
    expect(after.ring.activeKid('token')).toBeTypeOf('string')
  })
})

describe('the timer', () => {
  it('takes turns, reports a failed one, goes on, and ends when it is closed', async () => {
    const clock = { now: 1_800_000_000 }
    const store = memoryKeyStore()
    const { ring } = await replicaOn(store, clock)
    let away = false
    let reads = 0
    const errors: unknown[] = []
    const counted = {
      ...ring,
      refresh: async () => {
        reads++
        if (away) throw new Unavailable('store_unavailable', 'away')
        await ring.refresh()
      },
    }
    const rotation = createRotation({
      ring: counted,
      schedule,
      purposes: ['token'],
      now: () => clock.now,
      onError: (error) => errors.push(error),
    })
    vi.useFakeTimers()
    try {
      rotation.start()
      await vi.advanceTimersByTimeAsync(15_000)
      expect(reads).toBe(3)
      away = true
      await vi.advanceTimersByTimeAsync(10_000)
      expect(errors).toHaveLength(2)
      away = false
      await vi.advanceTimersByTimeAsync(5_000)
      expect([reads, errors.length]).toEqual([6, 2])
      await rotation.close()
      await vi.advanceTimersByTimeAsync(60_000)
      expect(reads).toBe(6)
    } finally {
      vi.useRealTimers()
    }
  })
})
