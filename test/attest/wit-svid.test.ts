import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, checkPossession, spendEvidence } from '../../src/attest/attest.ts'
import { readBundle } from '../../src/attest/bundle.ts'
import { answerTo, type Reason, type Result } from '../../src/oauth/refusal.ts'
import { type AttestHouse, agent, createAttestHouse, ISSUER, type SigningKey, signingKey } from './house.ts'
import { createTestTrustDomain, NOW } from './pki.ts'
import { attestationProof, publicOf, witSvid, workloadProof } from './vouched.ts'

const URL = `${ISSUER}/token`

let house: AttestHouse
let key: SigningKey
let holder: SigningKey
beforeEach(async () => {
  house = await createAttestHouse()
  key = signingKey('wit-1')
  holder = signingKey('workload')
  house.trustDomains.set('company.example', { ...house.domain.trustDomain, witKeys: [key.jwk] })
  house.agents.set('research', agent('research', { evidence: ['wit_svid'] }))
})

const present = (token: string, proof?: string, more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({
    slot: 'client',
    held: { field: 'workload', token, url: URL, ...(proof === undefined ? {} : { proof }) },
    ...more,
  })
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const answerOf = (result: Result<unknown>) => (result.ok ? undefined : answerTo(result.refusal))

describe('a WIT-SVID', () => {
  it('with a proof token for this endpoint tells which agent it is, with tier platform', async () => {
    const wit = await witSvid(key, holder)
    const proof = await workloadProof(holder, wit, URL)
    const result = await present(wit, proof, { clientId: 'spiffe://company.example/agents/research' })
    expect(result).toMatchObject({ ok: true, value: { kind: 'wit_svid', tier: 'platform' } })
    if (!result.ok) return
    expect(checkPossession(result.value, undefined, 'dpop').ok).toBe(true)
    expect((await spendEvidence(result.value, house.replayGuard)).ok).toBe(true)
    const replayed = await present(wit, proof)
    expect(replayed.ok && reasonOf(await spendEvidence(replayed.value, house.replayGuard))).toBe('evidence_replayed')
  })

  it('E7 without one takes a DPoP proof by its own key and by no other', async () => {
    const result = await present(await witSvid(key, holder))
    if (!result.ok) throw new Error('refused')
    expect(reasonOf(checkPossession(result.value, undefined, 'api'))).toBe('proof_required')
    expect(reasonOf(checkPossession(result.value, 'another-key', 'api'))).toBe('key_switch')
    expect(checkPossession(result.value, result.value.keyThumbprint, 'api').ok).toBe(true)
    expect(result.value.challengeAsNonce).toBe(false)
  })

  it('is taken as a client attestation too, with that proof', async () => {
    const token = await witSvid(key, holder)
    const held = { field: 'attestation', token, url: URL } as const
    const ask = (proof: string) => house.attest({ slot: 'client', held: { ...held, proof } })
    expect(reasonOf(await ask(await attestationProof(holder, house.challenges.fresh())))).toBe('accepted')
    expect(reasonOf(await ask(await workloadProof(holder, token, URL)))).toBe('wrong_typ')
    expect(reasonOf(await present(token, await attestationProof(holder, house.challenges.fresh())))).toBe('wrong_typ')
  })

  it('C1 is no JWT-SVID, and a JWT-SVID is none', async () => {
    const wit = await witSvid(key, holder)
    for (const slot of ['client', 'actor_token', 'api'] as const) {
      expect(reasonOf(await house.attest({ slot, assertion: { token: wit } }))).toBe('wrong_typ')
    }
    expect(reasonOf(await present(await house.domain.jwtSvid('/agents/research', ISSUER)))).toBe('wrong_typ')
    // Under the key of the other use, each is unknown (WIT-SVID §6.2).
    const { trustDomain } = house.domain
    house.trustDomains.set('company.example', { ...trustDomain, jwtKeys: [key.jwk], witKeys: trustDomain.jwtKeys })
    expect(reasonOf(await present(wit))).toBe('unknown_kid')
  })

  const claims: readonly [string, Record<string, unknown>, Reason][] = [
    ['an audience makes it another kind', { aud: ISSUER }, 'bad_claim'],
    ['A8 exp is absent', { exp: undefined }, 'bad_numeric_date'],
    ['A8 exp is past', { exp: NOW - 1 }, 'expired'],
    ['A9 nbf is ahead', { nbf: NOW + 31 }, 'not_yet_valid'],
    ['F6 it would live a week', { exp: NOW + 604_800 }, 'evidence_lifetime'],
    ['F2 its domain is not configured', { sub: 'spiffe://evil.example/agents/research' }, 'origin_not_authorized'],
    ['F2 its origin is wimse', { sub: 'wimse://company.example/agents/research' }, 'origin_not_authorized'],
    ['F3 an escape', { sub: 'spiffe://company.example/agents/%72esearch' }, 'noncanonical_id'],
    ['D21 an id of nobody', { sub: 'spiffe://company.example/agents/nobody' }, 'unknown_client'],
    ['its key is absent', { cnf: undefined }, 'bad_claim'],
    ['its key names no algorithm', { cnf: { jwk: { kty: 'EC' } } }, 'bad_key'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const wit = await witSvid(key, holder, change)
    const result = await present(wit, await workloadProof(holder, wit, URL))
    expect(reasonOf(result)).toBe(reason)
    expect(answerOf(result)).toEqual({ status: 401, error: 'invalid_client' })
  })

  it('A17 a key of another algorithm than it says, or of one that SPIFFE does not know, is none', async () => {
    const ed = signingKey('ed', 'Ed25519')
    expect(reasonOf(await present(await witSvid(key, ed)))).toBe('bad_key')
    const cnf = { jwk: { ...publicOf(holder), alg: 'RS256' } }
    expect(reasonOf(await present(await witSvid(key, holder, { cnf })))).toBe('bad_key')
    expect(reasonOf(await present(await witSvid(key, holder, { cnf: { jwk: { ...publicOf(holder), d: 'x' } } })))).toBe(
      'bad_key',
    )
  })

  it('B1 B6 C1 is of its trust domain’s keys, by kid, and of its own type', async () => {
    expect(reasonOf(await present(await witSvid(key, holder, {}, { kid: undefined })))).toBe('unknown_kid')
    expect(reasonOf(await present(await witSvid(key, holder, {}, { kid: 'x' })))).toBe('unknown_kid')
    expect(reasonOf(await present(await witSvid(signingKey('wit-1'), holder)))).toBe('bad_signature')
    for (const typ of [undefined, 'JWT', 'wpt+jwt', 'wit+jwt;x=1']) {
      expect(reasonOf(await present(await witSvid(key, holder, {}, { typ })))).toBe('wrong_typ')
    }
    const other = await createTestTrustDomain('other.example')
    house.trustDomains.set('other.example', { ...other.trustDomain, witKeys: [signingKey('wit-1').jwk] })
    const sub = 'spiffe://other.example/agents/research'
    expect(reasonOf(await present(await witSvid(key, holder, { sub })))).toBe('bad_signature')
  })

  it('F5 F6 ends with its time, and with its id passing to another agent', async () => {
    const wit = await witSvid(key, holder, { exp: NOW + 100 })
    expect(reasonOf(await present(wit))).toBe('accepted')
    house.agents.delete('research')
    house.agents.set(
      'heir',
      agent('heir', { evidence: ['wit_svid'], spiffeId: 'spiffe://company.example/agents/research' }),
    )
    expect(reasonOf(await present(wit))).toBe('instance_epoch')
    house.now = NOW + 100
    expect(reasonOf(await present(wit))).toBe('attestation_expired')
  })
})

describe('a workload proof token', () => {
  let wit: string
  beforeEach(async () => {
    wit = await witSvid(key, holder)
  })
  const claims: readonly [string, Record<string, unknown>, Reason][] = [
    ['E2 for another endpoint', { aud: `${ISSUER}/introspect` }, 'wrong_audience'],
    ['E2 for another path that looks alike', { aud: `${ISSUER}//token` }, 'wrong_audience'],
    ['C3 for our issuer alone', { aud: ISSUER }, 'wrong_audience'],
    ['C3 for several', { aud: [URL] }, 'wrong_audience'],
    ['for nobody', { aud: undefined }, 'wrong_audience'],
    ['for another token', { wth: 'x' }, 'context_mismatch'],
    ['for no token', { wth: undefined }, 'context_mismatch'],
    ['with an access token that is not there', { ath: 'x' }, 'context_mismatch'],
    ['with a transaction token that is not there', { tth: 'x' }, 'context_mismatch'],
    ['with tokens that nobody knows', { oth: { 'x-token': 'x' } }, 'context_mismatch'],
    ['without an id', { jti: undefined }, 'bad_claim'],
    ['A8 without an end', { exp: undefined }, 'bad_numeric_date'],
    ['past its end', { exp: NOW }, 'expired'],
    ['that lives an hour', { exp: NOW + 3600 }, 'evidence_lifetime'],
    ['A9 of the future', { iat: NOW + 31 }, 'not_yet_valid'],
  ]
  it.each(claims)('%s is refused', async (_title, change, reason) => {
    expect(reasonOf(await present(wit, await workloadProof(holder, wit, URL, change)))).toBe(reason)
    expect(reasonOf(await present(wit, await workloadProof(holder, wit, URL)))).toBe('accepted')
  })

  it('counts with another spelling of the same address, as DPoP proofs do', async () => {
    const aud = `${ISSUER.toUpperCase()}:443/token?x=1`
    expect(reasonOf(await present(wit, await workloadProof(holder, wit, URL, { aud })))).toBe('accepted')
  })

  it('is by the key of the token, of its own type, and brings no key', async () => {
    expect(reasonOf(await present(wit, await workloadProof(signingKey('x'), wit, URL)))).toBe('bad_signature')
    expect(reasonOf(await present(wit, await workloadProof(holder, wit, URL, {}, { typ: 'JWT' })))).toBe('wrong_typ')
    const jwk = publicOf(holder)
    expect(reasonOf(await present(wit, await workloadProof(holder, wit, URL, {}, { jwk })))).toBe('header_forbidden')
    expect(reasonOf(await present(wit, `${wit},${wit}`))).toBe('header_duplicate')
  })
})

describe('a SPIFFE bundle', () => {
  it('keeps the keys of the two kinds of token apart, and no kid serves both', () => {
    const jwk = publicOf(signingKey('a'))
    const read = (...keys: object[]) => readBundle(JSON.stringify({ keys }), { name: 'company.example', file: 'x' })
    const both = read({ ...jwk, kid: 'j', use: 'jwt-svid' }, { ...jwk, kid: 'w', use: 'wit-svid' })
    expect(both.ok && both.value.jwtKeys.map(({ kid }) => kid)).toEqual(['j'])
    expect(both.ok && both.value.witKeys.map(({ kid }) => kid)).toEqual(['w'])
    expect(read({ ...jwk, kid: 'w', use: 'jwt-svid' }, { ...jwk, kid: 'w', use: 'wit-svid' }).ok).toBe(false)
    expect(read({ ...jwk, use: 'wit-svid' }).ok).toBe(false)
  })
})
