import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { type JWK, SignJWT } from 'jose'
import { beforeEach, describe, expect, it } from 'vitest'
import { clientHint } from '../../src/attest/client-hint.ts'
import { createDpop, type Dpop, type DpopDeps } from '../../src/attest/dpop.ts'
import { answerTo, type Result, Unavailable } from '../../src/oauth/refusal.ts'
import { agent, assertion, type SigningKey, signingKey } from './house.ts'
import { NOW } from './pki.ts'

const URL = 'https://errand.example/token'
let now = NOW
let spent: Set<string>
let key: SigningKey
let dpop: Dpop

const create = (more: Partial<DpopDeps> = {}) =>
  createDpop({
    now: () => now,
    nonceKey: Buffer.alloc(32, 7),
    nonceLifetimeSeconds: 60,
    proofLifetimeSeconds: 60,
    requireNonce: true,
    replayGuard: { spend: async (id) => !spent.has(id) && Boolean(spent.add(id)) },
    ...more,
  })

beforeEach(() => {
  now = NOW
  spent = new Set()
  key = signingKey('proof')
  dpop = create()
})

function proof(claims: Record<string, unknown> = {}, header: Record<string, unknown> = {}, by = key): Promise<string> {
  const { kty, crv, x, y } = by.jwk
  const jwk = (kty === 'EC' ? { kty, crv, x, y } : { kty, crv, x }) as JWK
  return new SignJWT({
    jti: crypto.randomUUID(),
    htm: 'POST',
    htu: URL,
    iat: now,
    nonce: dpop.freshNonce('research'),
    ...claims,
  })
    .setProtectedHeader({ typ: 'dpop+jwt', alg: String(by.jwk.alg), jwk, ...header })
    .sign(by.privateKey)
}
const check = (header: string, more: Partial<Parameters<Dpop['check']>[0]> = {}) =>
  dpop.check({ header, method: 'POST', url: URL, clientHint: 'research', ...more })
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)

describe('a DPoP proof', () => {
  it('is accepted with the thumbprint of its key, and spends nothing by being looked at', async () => {
    const header = await proof()
    const first = check(header)
    expect(first.ok && first.value.jkt).toMatch(/^[\w-]{43}$/)
    expect(check(header)).toEqual(first)
    expect(spent.size).toBe(0)
  })

  it('E1 is used once: of two spenders one succeeds', async () => {
    const checked = check(await proof())
    if (!checked.ok) throw new Error('refused')
    const both = await Promise.all([dpop.spend(checked.value), dpop.spend(checked.value)])
    expect(both.map(reasonOf).toSorted()).toEqual(['accepted', 'proof_replayed'])
    const refused = both.find((each) => !each.ok)!
    expect(!refused.ok && answerTo(refused.refusal)).toEqual({ status: 400, error: 'invalid_dpop_proof' })
    // Remembered for as long as it could be accepted.
    expect(checked.value.oneUse.expiresAt).toBeGreaterThan(NOW + 60)
  })

  it('E1 the same jti under another key is another proof', async () => {
    const one = check(await proof({ jti: 'same' }))
    const two = check(await proof({ jti: 'same' }, {}, signingKey('other')))
    expect(one.ok && two.ok && one.value.oneUse.id !== two.value.oneUse.id).toBe(true)
  })

  it('E9 where the replay guard is away nothing is accepted', async () => {
    const gone = new Unavailable('replay_guard_unavailable', 'away')
    dpop = create({ replayGuard: { spend: () => Promise.reject(gone) } })
    const checked = check(await proof())
    await expect(dpop.spend(checked.ok ? checked.value : (undefined as never))).rejects.toBe(gone)
  })

  it('no changed byte of a good proof is accepted', async () => {
    const good = await proof()
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.integer({ min: 1, max: 127 }), (at, flip) => {
        const changed = Buffer.from(good)
        changed[at]! ^= flip
        expect(check(changed.toString('latin1')).ok).toBe(false)
      }),
      { numRuns: 1500 },
    )
  })
})

describe('refusals of proofs', () => {
  const claims: readonly [string, Record<string, unknown>, string][] = [
    ['E2 htu of another path', { htu: 'https://errand.example/tasks' }, 'htu'],
    ['E2 htu with an escaped slash', { htu: 'https://errand.example/%2Ftoken' }, 'htu'],
    ['E2 htu with a double slash', { htu: 'https://errand.example//token' }, 'htu'],
    ['E2 htu of another host', { htu: 'https://evil.example/token' }, 'htu'],
    [
      'E2 htu with host in capitals, default port, query and fragment',
      { htu: 'https://ERRAND.example:443/token?x#y' },
      'accepted',
    ],
    ['E3 htm of another method', { htm: 'GET' }, 'htm'],
    ['E3 htm in another case', { htm: 'post' }, 'htm'],
    ['A8 iat is absent', { iat: undefined }, 'bad_numeric_date'],
    ['A8 iat is a minute and a second old', { iat: NOW - 61 }, 'expired'],
    ['A9 iat is 31 s ahead', { iat: NOW + 31 }, 'not_yet_valid'],
    ['E1 jti is absent', { jti: undefined }, 'proof_invalid'],
    ['E5 a nonce is required', { nonce: undefined }, 'nonce_missing'],
    ['E5 a nonce that nobody gave', { nonce: 'made-up' }, 'nonce_stale'],
    ['E5 a nonce that is no text', { nonce: 7 }, 'proof_invalid'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const result = check(await proof(change))
    expect(reasonOf(result)).toBe(reason)
    if (result.ok) return
    const error = reason.startsWith('nonce_') ? 'use_dpop_nonce' : 'invalid_dpop_proof'
    expect(answerTo(result.refusal)).toEqual({ status: 400, error })
  })

  it('E3 ath is missing, or of another token', async () => {
    const accessToken = 'a.b.c'
    const ath = createHash('sha256').update(accessToken).digest('base64url')
    expect(reasonOf(check(await proof(), { accessToken }))).toBe('ath')
    expect(reasonOf(check(await proof({ ath }), { accessToken: 'a.b.d' }))).toBe('ath')
    expect(reasonOf(check(await proof({ ath }), { accessToken }))).toBe('accepted')
  })

  it('E4 the key in it is private, symmetric or missing', async () => {
    const jwk = key.privateKey.export({ format: 'jwk' })
    expect(reasonOf(check(await proof({}, { jwk })))).toBe('proof_key')
    expect(reasonOf(check(await proof({}, { jwk: { kty: 'oct', k: 'AAAA' } })))).toBe('proof_key')
    expect(reasonOf(check(await proof({}, { jwk: undefined })))).toBe('proof_key')
    const none = [
      { typ: 'dpop+jwt', alg: 'none', jwk: key.jwk },
      { jti: 'x', htm: 'POST', htu: URL, iat: NOW },
    ]
    const parts = none.map((part) => Buffer.from(JSON.stringify(part)).toString('base64url'))
    expect(reasonOf(check(`${parts.join('.')}.`))).toBe('proof_key')
  })

  it('C1 another kind of token is no proof', async () => {
    expect(reasonOf(check(await proof({}, { typ: 'JWT' })))).toBe('wrong_typ')
    expect(reasonOf(check(await assertion(key, 'research')))).toBe('wrong_typ')
  })

  it('E8 two headers arrive joined by a comma', async () => {
    const [a, b] = [await proof(), await proof()]
    expect(reasonOf(check(`${a}, ${b}`))).toBe('proof_duplicate')
  })

  it('E5 a nonce is good in its own window and the next, for the client it was given to', async () => {
    const nonce = dpop.freshNonce('research')
    const ask = async (client = 'research') => check(await proof({ nonce }), { clientHint: client })
    expect(reasonOf(await ask())).toBe('accepted')
    const other = await ask('payments')
    expect(reasonOf(other)).toBe('nonce_stale')
    expect(!other.ok && answerTo(other.refusal)).toEqual({ status: 400, error: 'use_dpop_nonce' })
    now = NOW + 60
    expect(reasonOf(await ask())).toBe('accepted')
    now = NOW + 120
    const stale = check(await proof({ nonce }), { slot: 'api' })
    expect(reasonOf(stale)).toBe('nonce_stale')
    expect(!stale.ok && answerTo(stale.refusal)).toEqual({ status: 401, error: 'use_dpop_nonce' })
    expect(dpop.freshNonce('research')).not.toBe(nonce)
  })

  it('E5 replicas with one key agree on nonces, another key does not', async () => {
    const nonce = create().freshNonce('research')
    expect(reasonOf(check(await proof({ nonce })))).toBe('accepted')
    const foreign = create({ nonceKey: Buffer.alloc(32, 8) }).freshNonce('research')
    expect(reasonOf(check(await proof({ nonce: foreign })))).toBe('nonce_stale')
  })

  it('without a required nonce none is needed, but one that is sent must be ours', async () => {
    dpop = create({ requireNonce: false })
    expect(reasonOf(check(await proof({ nonce: undefined })))).toBe('accepted')
    expect(reasonOf(check(await proof({ nonce: 'made-up' })))).toBe('nonce_stale')
  })
})

it('E5 the client is known by what its request says before anybody believes it', async () => {
  const token = await assertion(key, 'research')
  const id = 'spiffe://company.example/agents/research'
  const svid = await assertion(key, id)
  const agents = {
    bySpiffeId: (spiffeId: string) => (spiffeId === id ? agent('research') : undefined),
    byWorkload: () => undefined,
    byAttestedSubject: () => undefined,
  }
  const hint = (claimed: Parameters<typeof clientHint>[0]) => clientHint(claimed, agents)
  expect(hint({ assertion: token })).toBe('research')
  expect(hint({ assertion: token, clientId: 'payments' })).toBe('research')
  expect(hint({ assertion: svid })).toBe('research')
  expect(hint({ clientId: id })).toBe('research')
  expect(hint({ clientId: 'payments' })).toBe('payments')
  expect(hint({ assertion: 'no token', clientId: 'payments' })).toBe('payments')
  expect(hint({})).toBeUndefined()
})

describe('where one process alone hears proofs', () => {
  const of = (id: string, clock = { at: 1_000 }) => create({ run: { id, now: () => clock.at } })

  it('E1 E5 a proof of one run is used once in it, without the store, and is stale in the next', async () => {
    dpop = of('first')
    const header = await proof()
    const checked = check(header)
    if (!checked.ok) throw new Error('not accepted')
    expect(await dpop.spend(checked.value)).toEqual({ ok: true, value: true })
    expect(reasonOf(await dpop.spend(checked.value))).toBe('proof_replayed')
    expect(spent.size).toBe(0)
    dpop = of('second')
    expect(reasonOf(check(header))).toBe('nonce_stale')
  })

  it('E1 a proof that was kept waiting until its window was over is not used, and no wall clock brings it back', async () => {
    const clock = { at: 1_000 }
    dpop = of('first', clock)
    const header = await proof()
    const checked = check(header)
    if (!checked.ok) throw new Error('not accepted')
    clock.at += 121
    expect(reasonOf(await dpop.spend(checked.value))).toBe('nonce_stale')
    now -= 30
    expect(reasonOf(check(header))).toBe('nonce_stale')
  })

  it('E1 is not used again in the moment in which what was remembered of it is forgotten', async () => {
    const clock = { at: 1_000, steps: [] as number[] }
    dpop = create({ run: { id: 'first', now: () => (clock.at += clock.steps.shift() ?? 0) } })
    const checked = check(await proof())
    if (!checked.ok) throw new Error('not accepted')
    expect(await dpop.spend(checked.value)).toEqual({ ok: true, value: true })
    // Its nonce is good to the end of the next window; the window after that begins between two looks at the clock.
    const lifetime = 60
    clock.at = (Math.floor(clock.at / lifetime) + 2) * lifetime - 1
    clock.steps = [0, 1]
    expect(reasonOf(await dpop.spend(checked.value))).not.toBe('accepted')
  })

  it('E1 a proof without a nonce is spent in the store, where nonces are not asked for', async () => {
    dpop = create({ requireNonce: false, run: { id: 'first', now: () => 1_000 } })
    const checked = check(await proof({ nonce: undefined }))
    if (!checked.ok) throw new Error('not accepted')
    await dpop.spend(checked.value)
    expect(spent.size).toBe(1)
    expect(reasonOf(await dpop.spend(checked.value))).toBe('proof_replayed')
  })
})
