import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { ServiceUnavailable } from '@errand/verifier/http.ts'
import { createJwks, type Jwks, keySetDigest, readKeySet } from '@errand/verifier/jwks.ts'
import { createReplayGuard } from '@errand/verifier/replay.ts'
import { keyPair } from './fake-service.ts'

const one = keyPair().jwk
const two = keyPair().jwk
const member = (jwk: object, kid: string, more: object = {}) => ({
  ...jwk,
  kid,
  alg: 'ES256',
  use: 'sig',
  errand_use: 'token',
  ...more,
})

let local: number
let set: unknown
let headers: Record<string, string>
let status: number
let fetches: number
let jwks: Jwks
let problems: string[]
let asked: (string | null)[]

beforeEach(() => {
  local = 0
  fetches = 0
  problems = []
  asked = []
  status = 200
  headers = { 'cache-control': 'public, max-age=100' }
  set = { keys: [member(one, 'a')] }
  jwks = createJwks({
    url: 'https://errand.example/.well-known/jwks.json',
    fetch: async (_, init) => {
      fetches += 1
      asked.push(new Headers(init?.headers).get('cache-control'))
      if (status === 0) throw new TypeError('fetch failed')
      return new Response(typeof set === 'string' ? set : JSON.stringify(set), { status, headers })
    },
    monotonic: () => local,
    random: () => 0.5,
    timeoutMs: 1000,
    onProblem: (problem) => problems.push(String(problem)),
  })
})

describe('a key set that was announced', () => {
  const digestOf = () => keySetDigest(JSON.stringify(set))
  const soon = async (fetched: Promise<void> | undefined) => {
    expect(fetched).toBeInstanceOf(Promise)
    await vi.advanceTimersByTimeAsync(500)
    await fetched
  }
  beforeEach(() => void vi.useFakeTimers())
  afterEach(() => void vi.useRealTimers())

  test('is fetched past caches, and then is known with its kids; the one that is held is not', async () => {
    await jwks.find('a', 'token')
    expect(jwks.kids()).toEqual(['a'])
    expect(jwks.announced(digestOf())).toBeUndefined()
    set = { keys: [member(one, 'a'), member(two, 'b')] }
    await soon(jwks.announced(digestOf()))
    expect([fetches, asked.at(-1)]).toEqual([2, 'no-cache'])
    expect(jwks.kids()).toEqual(['a', 'b'])
    expect(jwks.known('b', 'token')?.ok).toBe(true)
    expect(jwks.announced(digestOf())).toBeUndefined()
  })

  test('that a cache does not give yet is asked for again now and then, and another one at once', async () => {
    await jwks.find('a', 'token')
    await soon(jwks.announced('x'.repeat(22)))
    expect(jwks.announced('x'.repeat(22))).toBeUndefined()
    await soon(jwks.announced('y'.repeat(22)))
    local += 10_000
    await soon(jwks.announced('y'.repeat(22)))
    expect([fetches, jwks.kids()]).toEqual([4, ['a']])
  })

  test('costs nothing before there is any', () => {
    expect([jwks.announced('x'.repeat(22)), jwks.kids(), fetches]).toEqual([undefined, [], 0])
  })
})

describe('the cache of keys', () => {
  test('is fetched once for all who wait, and refreshed before it ends', async () => {
    await Promise.all([jwks.find('a', 'token'), jwks.find('a', 'token')])
    expect(fetches).toBe(1)
    local = 64_000
    await jwks.find('a', 'token')
    expect(fetches).toBe(1)
    local = 66_000 // max-age 100 s, refreshed from 65 s on with this chance
    await jwks.find('a', 'token')
    expect(fetches).toBe(2)
  })

  test('B5 ten thousand unknown kids cost one fetch per cooldown, and known ones are found meanwhile', async () => {
    await jwks.find('a', 'token')
    local = 10_001
    for (let index = 0; index < 10_000; index++)
      expect(await jwks.find(`random-${index}`, 'token')).toEqual({ ok: false, fault: 'unknown_kid' })
    expect(fetches).toBe(2)
    expect(await jwks.find('a', 'token')).toMatchObject({ ok: true })
  })

  test('O3 a new key is found at its first use, however young the set is', async () => {
    await jwks.find('a', 'token')
    set = { keys: [member(one, 'a'), member(two, 'b')] }
    expect(await jwks.find('b', 'token')).toMatchObject({ ok: true })
    expect(fetches).toBe(2)
    // The next unknown one waits for the cooldown.
    set = { keys: [member(one, 'a'), member(two, 'c')] }
    expect(await jwks.find('c', 'token')).toEqual({ ok: false, fault: 'unknown_kid' })
    local = 10_001
    expect(await jwks.find('c', 'token')).toMatchObject({ ok: true })
    expect(fetches).toBe(3)
  })

  test('B8 a bad set is refused whole, and the last good one serves until its own end', async () => {
    await jwks.find('a', 'token')
    const oct = { kty: 'oct', k: 'c2VjcmV0', kid: 'x', alg: 'HS256' }
    const bad: unknown[] = [
      { keys: [member(one, 'a'), oct] },
      { keys: [member(one, 'a'), member({ ...two, d: two.x }, 'b')] },
      { keys: [member(one, 'a'), member(two, 'a')] },
      { keys: Array.from({ length: 10_000 }, (_, index) => member(one, `k${index}`)) },
      { keys: [member(one, 'a')], padding: 'x'.repeat(10_000_000) },
      { keys: 'none' },
      '{"keys":[],"keys":[]}',
      'not JSON',
    ]
    for (const it of bad) {
      local += 10_001
      set = it
      expect(await jwks.find('b', 'token')).toEqual({ ok: false, fault: 'unknown_kid' })
      expect(await jwks.find('a', 'token')).toMatchObject({ ok: true })
    }
    expect(problems).toHaveLength(bad.length)
    expect(problems[0]).toContain('not public')
    local = 100_001
    await expect(jwks.find('a', 'token')).rejects.toThrow(ServiceUnavailable)
  })

  test('with nothing at all it throws, and asks again soon', async () => {
    status = 0
    await expect(jwks.find('a', 'token')).rejects.toThrow(ServiceUnavailable)
    await expect(jwks.find('a', 'token')).rejects.toThrow(ServiceUnavailable)
    expect(fetches).toBe(1)
    status = 200
    local = 1_001
    expect(await jwks.find('a', 'token')).toMatchObject({ ok: true })
  })

  test('a redirect is not followed', async () => {
    status = 302
    headers = { location: 'http://169.254.169.254/' }
    await expect(jwks.find('a', 'token')).rejects.toThrow(ServiceUnavailable)
  })

  test('the age that a shared cache adds counts', async () => {
    headers = { 'cache-control': 'max-age=100', age: '90' }
    await jwks.find('a', 'token')
    status = 0
    local = 10_001
    await expect(jwks.find('a', 'token')).rejects.toThrow(ServiceUnavailable)
  })
})

describe('a key', () => {
  test('counts for its one purpose, and with its algorithm named', async () => {
    set = {
      keys: [
        member(one, 'token'),
        member(one, 'feed', { errand_use: 'feed' }),
        member(one, 'checkpoint', { errand_use: 'checkpoint' }),
        member(one, 'nobody', { errand_use: undefined }),
        member(one, 'encrypts', { use: 'enc' }),
        member(one, 'open', { alg: undefined }),
        member(one, 'other', { alg: 'ES384' }),
        member({ kty: 'EC', crv: 'P-256', x: one.x, y: two.y }, 'off the curve'),
      ],
    }
    const fault = async (kid: string) => {
      const found = await jwks.find(kid, 'token')
      return found.ok ? undefined : found.fault
    }
    expect(await fault('token')).toBeUndefined()
    for (const kid of ['feed', 'checkpoint', 'nobody', 'encrypts']) expect(await fault(kid)).toBe('key_scope')
    expect(await fault('open')).toBe('alg_not_allowed') // A2
    expect(await fault('other')).toBe('bad_key')
    expect(await fault('off the curve')).toBe('bad_key')
    expect(await jwks.find('feed', 'feed')).toMatchObject({ ok: true })
  })

  test('without kid spoils the set: it could never be found', () => {
    expect(readKeySet(JSON.stringify({ keys: [{ ...one, alg: 'ES256' }] }))).toEqual({ rejected: 'a key without kid' })
  })
})

describe('the guard against replayed proofs', () => {
  test('remembers for as long as a proof could be accepted', () => {
    let now = 1000
    const guard = createReplayGuard({ now: () => now })
    expect(guard.spend('h', 'a', 1090)).toBe('first')
    expect(guard.spend('h', 'a', 1090)).toBe('replayed')
    expect(guard.spend('other', 'a', 1090)).toBe('first')
    now = 1090
    expect(guard.spend('h', 'a', 1090)).toBe('replayed')
    now = 1101
    expect(guard.spend('h', 'a', 1200)).toBe('first')
  })

  test('E9 full is said, never forgotten over; one holder’s flood shuts out nobody else', () => {
    let now = 1000
    const guard = createReplayGuard({ now: () => now, max: 6, maxPerHolder: 4 })
    for (const id of ['1', '2', '3', '4']) expect(guard.spend('flood', id, 1090)).toBe('first')
    expect(guard.spend('flood', '5', 1090)).toBe('full')
    expect(guard.spend('honest', '1', 1090)).toBe('first')
    expect(guard.spend('honest', '2', 1090)).toBe('first')
    expect(guard.spend('honest', '3', 1090)).toBe('full')
    now = 1091
    expect(guard.spend('honest', '3', 1190)).toBe('first')
  })

  test('E9 a holder is counted also where some of its proofs are over and others are not', () => {
    let now = 1000
    const guard = createReplayGuard({ now: () => now, max: 8, maxPerHolder: 3 })
    for (const [id, until] of [
      ['1', 1010],
      ['2', 1200],
      ['3', 1200],
    ] as const)
      expect(guard.spend('flood', id, until)).toBe('first')
    expect(guard.spend('flood', '4', 1200)).toBe('full')
    expect(guard.spend('honest', '1', 1200)).toBe('first')
    now = 1020
    expect(guard.spend('flood', '4', 1200)).toBe('first')
    expect(guard.spend('flood', '5', 1200)).toBe('full')
    expect(guard.spend('flood', '2', 1200)).toBe('replayed')
    expect(guard.spend('honest', '2', 1200)).toBe('first')
  })
})
