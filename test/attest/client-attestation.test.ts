import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, checkPossession, spendEvidence } from '../../src/attest/attest.ts'
import { createDpop } from '../../src/attest/dpop.ts'
import type { HeldToken } from '../../src/attest/held-token.ts'
import type { Attester } from '../../src/attest/workload-issuer.ts'
import { answerTo, type Reason, type Result } from '../../src/oauth/refusal.ts'
import { type AttestHouse, agent, assertion, createAttestHouse, ISSUER, type SigningKey, signingKey } from './house.ts'
import { NOW } from './pki.ts'
import { attestation, attestationProof, publicOf, sign } from './vouched.ts'

const URL = `${ISSUER}/token`

let house: AttestHouse
let key: SigningKey
let holder: SigningKey
let attester: Attester
beforeEach(async () => {
  house = await createAttestHouse()
  key = signingKey('attester-1')
  holder = signingKey('instance')
  attester = {
    name: 'fleet',
    keys: async (kid) => (kid === 'attester-1' ? key.jwk : undefined),
    maxLifetimeSeconds: 86_400,
    tier: 'key',
  }
  house.attesters.set('fleet', attester)
  register('research')
})

const register = (name: string, subject = name, more: Partial<ReturnType<typeof agent>> = {}) =>
  house.agents.set(
    name,
    agent(name, { evidence: ['client_attestation'], attestedBy: [{ attester: 'fleet', subject }], ...more }),
  )
const held = (token: string, proof?: string): HeldToken => ({
  field: 'attestation',
  token,
  url: URL,
  ...(proof === undefined ? {} : { proof }),
})
const present = (token: string, proof?: string, more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({ slot: 'client', held: held(token, proof), ...more })
const good = async () =>
  present(await attestation(key, holder), await attestationProof(holder, house.challenges.fresh()))
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const answerOf = (result: Result<unknown>) => (result.ok ? undefined : answerTo(result.refusal))

describe('a client attestation', () => {
  it('with a proof of its own is used once, and asks for no other proof of its key', async () => {
    const token = await attestation(key, holder)
    const proof = await attestationProof(holder, house.challenges.fresh())
    const result = await present(token, proof, { clientId: 'research' })
    expect(result).toMatchObject({ ok: true, value: { kind: 'client_attestation', tier: 'key' } })
    if (!result.ok) return
    expect(checkPossession(result.value, undefined, 'dpop').ok).toBe(true)
    // Its DPoP key may be another (§5.2), and is pinned.
    expect(checkPossession(result.value, 'another-key', 'dpop').ok).toBe(true)
    expect(result.value.standingId).toBeDefined()
    expect((await spendEvidence(result.value, house.replayGuard)).ok).toBe(true)
    const replayed = await present(token, proof)
    expect(replayed.ok && reasonOf(await spendEvidence(replayed.value, house.replayGuard))).toBe('evidence_replayed')
    const next = await good()
    expect(next.ok && (await spendEvidence(next.value, house.replayGuard)).ok).toBe(true)
  })

  it('E7 without one takes a DPoP proof by its own key and by no other', async () => {
    const result = await present(await attestation(key, holder))
    if (!result.ok) throw new Error('refused')
    const { keyThumbprint } = result.value
    expect(result.value.oneUse).toBeUndefined()
    expect(reasonOf(checkPossession(result.value, undefined, 'dpop'))).toBe('proof_required')
    expect(reasonOf(checkPossession(result.value, 'another-key', 'dpop'))).toBe('key_switch')
    expect(checkPossession(result.value, keyThumbprint, 'dpop').ok).toBe(true)
  })

  it('E5 takes its challenge as the nonce of that DPoP proof, and of no other', async () => {
    const dpop = createDpop({
      now: () => NOW,
      nonceKey: new Uint8Array(32),
      nonceLifetimeSeconds: 60,
      proofLifetimeSeconds: 60,
      requireNonce: true,
      challenges: house.challenges,
      replayGuard: house.replayGuard,
    })
    const header = await sign(
      holder,
      { jti: 'a', htm: 'POST', htu: URL, iat: NOW, nonce: house.challenges.fresh() },
      { typ: 'dpop+jwt', jwk: publicOf(holder) },
    )
    const check = (challengeAsNonce: boolean) =>
      dpop.check({ header, method: 'POST', url: URL, clientHint: 'research', challengeAsNonce })
    expect(reasonOf(check(true))).toBe('accepted')
    expect(reasonOf(check(false))).toBe('nonce_stale')
  })

  it('names its agent by the subject that is registered, which may be another name than ours', async () => {
    register('research', 'https://research.example.com')
    const token = await attestation(key, holder, { sub: 'https://research.example.com' })
    const proof = () => attestationProof(holder, house.challenges.fresh())
    expect(reasonOf(await present(token, await proof()))).toBe('accepted')
    expect(reasonOf(await present(token, await proof(), { clientId: 'research' }))).toBe('accepted')
    expect(reasonOf(await present(token, await proof(), { clientId: 'https://research.example.com' }))).toBe('accepted')
    const other = await present(token, await proof(), { clientId: 'payments' })
    expect([reasonOf(other), answerOf(other)?.status]).toEqual(['context_mismatch', 400])
    expect(reasonOf(await present(await attestation(key, holder), await proof()))).toBe('unknown_client')
  })

  it('is worth what its attester is worth', async () => {
    house.attesters.set('fleet', { ...attester, tier: 'platform' })
    register('research', 'research', { minimumTier: 'platform' })
    expect(await good()).toMatchObject({ ok: true, value: { tier: 'platform' } })
    house.attesters.set('fleet', attester)
    expect(reasonOf(await good())).toBe('evidence_not_registered')
  })

  const claims: readonly [string, Record<string, unknown>, Reason][] = [
    ['D21 of nobody', { sub: 'nobody' }, 'unknown_client'],
    ['A11 sub is absent', { sub: undefined }, 'bad_subject'],
    ['A8 exp is absent', { exp: undefined }, 'bad_numeric_date'],
    ['A9 iat is ahead', { iat: NOW + 31 }, 'not_yet_valid'],
    ['F6 it would live a month', { exp: NOW + 2_592_000 }, 'evidence_lifetime'],
    ['its key is absent', { cnf: undefined }, 'bad_claim'],
    ['its key is a thumbprint', { cnf: { jkt: 'x' } }, 'bad_claim'],
    ['A17 its key is symmetric', { cnf: { jwk: { kty: 'oct', k: 'AAAA' } } }, 'bad_key'],
    ['A17 its key is no point', { cnf: { jwk: { kty: 'EC', crv: 'P-256', x: 'AA', y: 'AA' } } }, 'bad_key'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const result = await present(
      await attestation(key, holder, change),
      await attestationProof(holder, house.challenges.fresh()),
    )
    expect(reasonOf(result)).toBe(reason)
    expect(answerOf(result)).toEqual({ status: 401, error: 'invalid_client_attestation' })
    expect(reasonOf(await good())).toBe('accepted')
  })

  it('E4 a private key in it is no key', async () => {
    const jwk = { ...publicOf(holder), d: 'AAAA' }
    const token = await attestation(key, holder, { cnf: { jwk } })
    expect(reasonOf(await present(token, await attestationProof(holder, house.challenges.fresh())))).toBe('bad_key')
  })

  it('F6 one that has expired, or is older than its attester’s word counts, must be renewed, also with a fresh proof', async () => {
    const proof = () => attestationProof(holder, house.challenges.fresh())
    const ask = async (change: Record<string, unknown>) =>
      present(await attestation(key, holder, change), await proof())
    const stale = await ask({ exp: NOW - 1 })
    expect([reasonOf(stale), answerOf(stale)]).toEqual([
      'attestation_stale',
      { status: 400, error: 'use_fresh_attestation' },
    ])
    const remembered = await attestation(key, holder, { exp: NOW + 10 })
    expect(reasonOf(await present(remembered, await proof()))).toBe('accepted')
    house.now = NOW + 10
    expect(reasonOf(await present(remembered, await proof()))).toBe('attestation_stale')
    house.now = NOW
    house.attesters.set('fleet', { ...attester, maxAgeSeconds: 60 })
    expect(reasonOf(await ask({ iat: NOW - 60 }))).toBe('accepted')
    expect(reasonOf(await ask({ iat: NOW - 61 }))).toBe('attestation_stale')
    expect(reasonOf(await ask({ iat: undefined }))).toBe('attestation_stale')
  })

  const headers: readonly [string, Record<string, unknown>, Reason][] = [
    ['B1 kid is unknown', { kid: '../../x' }, 'unknown_kid'],
    ['B1 kid is absent', { kid: undefined }, 'unknown_kid'],
    ['B2 x5c', { x5c: ['AA=='] }, 'header_forbidden'],
    ['B2 jku', { jku: 'https://evil.example' }, 'header_forbidden'],
    ['C1 typ is absent', { typ: undefined }, 'wrong_typ'],
    ['C1 typ is JWT', { typ: 'JWT' }, 'wrong_typ'],
    ['C1 typ is that of its proof', { typ: 'oauth-client-attestation-pop+jwt' }, 'wrong_typ'],
    ['A12 crit', { crit: ['exp'], exp: 1 }, 'crit_unsupported'],
  ]
  it.each(headers)('%s', async (_title, change, reason) => {
    const [input = '', payload = ''] = (await attestation(key, holder)).split('.')
    const header = { ...JSON.parse(Buffer.from(input, 'base64url').toString()), ...change }
    const text = Buffer.from(JSON.stringify(header)).toString('base64url')
    expect(reasonOf(await present(`${text}.${payload}.AAAA`))).toBe(reason)
  })

  it('B6 is of the attester that is registered, whoever else publishes that kid or signs that subject', async () => {
    const other = signingKey('attester-1')
    house.attesters.set('other', { ...attester, name: 'other', keys: async () => other.jwk })
    expect(reasonOf(await present(await attestation(other, holder)))).toBe('bad_signature')
    register('payments', 'payments', { attestedBy: [{ attester: 'other', subject: 'payments' }] })
    expect(reasonOf(await present(await attestation(key, holder, { sub: 'payments' })))).toBe('bad_signature')
    expect(reasonOf(await present(await attestation(other, holder, { sub: 'payments' })))).toBe('accepted')
    house.attesters.delete('fleet')
    expect(reasonOf(await present(await attestation(key, holder)))).toBe('unknown_client')
  })

  it('B7 an issuer that it names must be its attester, where that has a name', async () => {
    const named = await attestation(key, holder, { iss: 'https://attester.example' })
    expect(reasonOf(await present(named))).toBe('accepted')
    house.attesters.set('fleet', { ...attester, issuer: 'https://attester.example' })
    expect(reasonOf(await present(named))).toBe('accepted')
    expect(reasonOf(await present(await attestation(key, holder)))).toBe('accepted')
    for (const iss of ['https://attester.example/', 'https://other.example', 7]) {
      expect(reasonOf(await present(await attestation(key, holder, { iss })))).toBe('untrusted_issuer')
    }
  })

  it('is no assertion and no actor token, and an assertion is no attestation', async () => {
    const token = await attestation(key, holder)
    for (const slot of ['client', 'actor_token', 'api'] as const) {
      expect(reasonOf(await house.attest({ slot, assertion: { token } }))).toBe('wrong_typ')
    }
    expect(reasonOf(await present(await assertion(house.key, 'research')))).toBe('wrong_typ')
    const both = await house.attest({ slot: 'client', held: held(token), assertion: { token } })
    expect([reasonOf(both), answerOf(both)?.status]).toEqual(['context_mismatch', 400])
  })

  it('two of one header are refused, whichever would be good', async () => {
    const token = await attestation(key, holder)
    const proof = await attestationProof(holder, house.challenges.fresh())
    expect(reasonOf(await present(`${token}, ${token}`, proof))).toBe('header_duplicate')
    expect(reasonOf(await present(token, `${proof}, ${proof}`))).toBe('header_duplicate')
  })

  it('A4 A5 A6 A13 what is no compact JWS is refused as what it is', async () => {
    const token = await attestation(key, holder)
    for (const [text, reason] of [
      ['', 'not_a_token'],
      [`${token}=`, 'noncanonical_encoding'],
      [`{"payload":"${token}"}`, 'jws_not_compact'],
      ['a.b.c.d.e', 'jwe_not_accepted'],
      ['a'.repeat(16_385), 'token_too_large'],
    ] as const) {
      expect(reasonOf(await present(text))).toBe(reason)
      expect(reasonOf(await present(token, text))).toBe(reason)
    }
  })
})

describe('the proof of a client attestation', () => {
  const ask = async (proof: string, slot: 'client' | 'api' = 'client') =>
    present(await attestation(key, holder), proof, { slot })
  const fresh = () => house.challenges.fresh()

  const claims: readonly [string, Record<string, unknown>, Reason][] = [
    ['C3 aud is another server', { aud: 'https://other.example' }, 'wrong_audience'],
    ['C3 aud is the token endpoint', { aud: `${ISSUER}/token` }, 'wrong_audience'],
    ['C3 aud is a list', { aud: [ISSUER] }, 'wrong_audience'],
    ['C3 aud is absent', { aud: undefined }, 'wrong_audience'],
    ['jti is absent', { jti: undefined }, 'bad_claim'],
    ['jti is a number', { jti: 7 }, 'bad_claim'],
    ['A8 iat is absent', { iat: undefined }, 'bad_numeric_date'],
    ['A8 iat is text', { iat: '1' }, 'bad_numeric_date'],
    ['it is a minute old', { iat: NOW - 61 }, 'expired'],
    ['A9 it is of the future', { iat: NOW + 31 }, 'not_yet_valid'],
    ['it says that it has ended', { exp: NOW }, 'expired'],
    ['it says that it has not begun', { nbf: NOW + 31 }, 'not_yet_valid'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const result = await ask(await attestationProof(holder, fresh(), change))
    expect(reasonOf(result)).toBe(reason)
    expect(answerOf(result)).toEqual({ status: 401, error: 'invalid_client_attestation' })
  })

  it('E5 must hold a current challenge of ours; without one the answer says so', async () => {
    for (const challenge of [undefined, '', 'made-up', `${fresh()}x`]) {
      const result = await ask(await attestationProof(holder, challenge))
      expect(reasonOf(result)).toBe('attestation_challenge')
      expect(answerOf(result)).toEqual({ status: 400, error: 'use_attestation_challenge' })
      expect(answerOf(await ask(await attestationProof(holder, challenge), 'api'))?.status).toBe(401)
    }
    const early = fresh()
    house.now = NOW + 60
    expect(reasonOf(await ask(await attestationProof(holder, early, { iat: NOW + 60 })))).toBe('accepted')
    house.now = NOW + 120
    expect(reasonOf(await ask(await attestationProof(holder, early, { iat: NOW + 120 })))).toBe('attestation_challenge')
  })

  it('is by the key of the attestation, with its algorithm, and of its own kind', async () => {
    const other = signingKey('other')
    expect(reasonOf(await ask(await attestationProof(other, fresh())))).toBe('bad_signature')
    const ed = signingKey('instance', 'Ed25519')
    expect(reasonOf(await ask(await attestationProof(ed, fresh())))).toBe('alg_not_allowed')
    for (const typ of [undefined, 'JWT', 'dpop+jwt', 'oauth-client-attestation+jwt', 'wpt+jwt']) {
      expect(reasonOf(await ask(await attestationProof(holder, fresh(), {}, { typ })))).toBe('wrong_typ')
    }
    const brought = await attestationProof(holder, fresh(), {}, { jwk: publicOf(other) })
    expect(reasonOf(await ask(brought))).toBe('header_forbidden')
    const token = await attestation(key, ed)
    expect(reasonOf(await present(token, await attestationProof(ed, fresh())))).toBe('accepted')
  })

  it('of one instance is none of another', async () => {
    const mine = await attestation(key, holder)
    const theirs = await attestation(key, signingKey('their-instance'), { sub: 'payments' })
    register('payments')
    const proof = await attestationProof(holder, fresh())
    expect(reasonOf(await present(theirs, proof))).toBe('bad_signature')
    expect(reasonOf(await present(mine, proof))).toBe('accepted')
  })
})
