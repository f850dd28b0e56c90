import fc from 'fast-check'
import { SignJWT } from 'jose'
import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, pinProofKey } from '../../src/attest/attest.ts'
import { answerTo, type Result } from '../../src/oauth/refusal.ts'
import { ASSERTION, type AttestHouse, agent, assertion, createAttestHouse, ISSUER } from './house.ts'
import { createTestTrustDomain, issue, NOW } from './pki.ts'

let house: AttestHouse
beforeEach(async () => {
  house = await createAttestHouse()
})

const present = (token: string, more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({ slot: 'client', assertion: { type: ASSERTION.jwtSpiffe, token }, ...more })
const show = (chain: readonly Uint8Array[], more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({ slot: 'client', certificate: chain, clientId: 'research', ...more })
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)

describe('a JWT-SVID', () => {
  it('tells which agent it is, with tier platform, as standing evidence', async () => {
    const result = await present(await house.domain.jwtSvid('/agents/research', ISSUER))
    expect(result).toMatchObject({
      ok: true,
      value: { kind: 'jwt_svid', tier: 'platform', spiffeId: 'spiffe://company.example/agents/research' },
    })
    expect(result.ok && result.value.oneUse).toBeUndefined()
    expect(result.ok && result.value.standingId).toBeDefined()
  })

  it('is accepted as SPIRE writes it: the audience a list of one, no type, the agent called by its SPIFFE id', async () => {
    const token = await house.domain.jwtSvid('/agents/research', [ISSUER])
    expect(reasonOf(await present(token))).toBe('accepted')
    expect(reasonOf(await present(token, { clientId: 'spiffe://company.example/agents/research' }))).toBe('accepted')
    expect(reasonOf(await present(token, { clientId: 'research' }))).toBe('accepted')
    expect(reasonOf(await house.attest({ slot: 'api', assertion: { token } }))).toBe('accepted')
  })

  it('F1 E7 belongs to the first proof key that comes with it; a second is a switch', async () => {
    const token = await house.domain.jwtSvid('/agents/research', ISSUER)
    const first = await present(token)
    const again = await present(token)
    const other = await present(await house.domain.jwtSvid('/agents/research', ISSUER, { iat: NOW - 4 }))
    if (!first.ok || !again.ok || !other.ok) throw new Error('refused')
    expect((await pinProofKey(first.value, 'key-1', house.keyPins)).ok).toBe(true)
    expect((await pinProofKey(again.value, 'key-1', house.keyPins)).ok).toBe(true)
    const switched = await pinProofKey(again.value, 'key-2', house.keyPins)
    expect(reasonOf(switched)).toBe('key_switch')
    expect(!switched.ok && answerTo(switched.refusal)).toEqual({ status: 400, error: 'invalid_dpop_proof' })
    expect((await pinProofKey(other.value, 'key-2', house.keyPins)).ok).toBe(true)
  })

  it('F6 what is recorded as verified still ends when it expires', async () => {
    const token = await house.domain.jwtSvid('/agents/research', ISSUER, { exp: NOW + 10 })
    expect(reasonOf(await present(token))).toBe('accepted')
    house.now = NOW + 10
    const result = await present(token)
    expect(reasonOf(result)).toBe('attestation_expired')
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
  })

  it('what is recorded as verified is verified again when the trust domain’s keys change', async () => {
    const token = await house.domain.jwtSvid('/agents/research', ISSUER)
    expect(reasonOf(await present(token))).toBe('accepted')
    const other = await createTestTrustDomain('company.example')
    house.trustDomains.set('company.example', other.trustDomain)
    expect(reasonOf(await present(token))).toBe('bad_signature')
    house.trustDomains.delete('company.example')
    expect(reasonOf(await present(token))).toBe('origin_not_authorized')
  })

  it('F5 an SVID from before its id passed to another agent does not serve the new one', async () => {
    const old = await house.domain.jwtSvid('/agents/research', ISSUER)
    expect(reasonOf(await present(old))).toBe('accepted')
    house.agents.delete('research')
    house.agents.set('heir', agent('heir', { spiffeId: 'spiffe://company.example/agents/research' }))
    expect(reasonOf(await present(old))).toBe('instance_epoch')
    const fresh = await house.domain.jwtSvid('/agents/research', ISSUER, { iat: NOW })
    const result = await present(fresh)
    expect(result.ok && result.value.agent.clientId).toBe('heir')
    expect(reasonOf(await present(await house.domain.jwtSvid('/agents/research', ISSUER, { iat: undefined })))).toBe(
      'instance_epoch',
    )
  })

  it('F5 nor where the agent that had the id before attested by its own key alone', async () => {
    const token = await assertion(house.key, 'research')
    const before = await house.attest({ slot: 'client', assertion: { type: ASSERTION.jwtBearer, token } })
    expect(reasonOf(before)).toBe('accepted')
    house.agents.delete('research')
    house.agents.set('heir', agent('heir', { spiffeId: 'spiffe://company.example/agents/research' }))
    expect(reasonOf(await present(await house.domain.jwtSvid('/agents/research', ISSUER)))).toBe('instance_epoch')
    const fresh = await house.domain.jwtSvid('/agents/research', ISSUER, { iat: NOW })
    expect(reasonOf(await present(fresh))).toBe('accepted')
  })

  const claims: readonly [string, Record<string, unknown>, string][] = [
    ['C3 aud is the token endpoint', { aud: `${ISSUER}/token` }, 'assertion_audience'],
    ['C3 aud has a second value', { aud: [ISSUER, 'https://b.example'] }, 'assertion_audience'],
    ['C3 aud is an empty list', { aud: [] }, 'assertion_audience'],
    ['C3 aud is absent', { aud: undefined }, 'assertion_audience'],
    ['A8 exp is absent', { exp: undefined }, 'bad_numeric_date'],
    ['A8 exp is past', { exp: NOW - 1 }, 'expired'],
    ['A9 iat is ahead', { iat: NOW + 31 }, 'not_yet_valid'],
    ['F6 it would live a day', { exp: NOW + 86_400 }, 'evidence_lifetime'],
    ['F2 its domain is not configured', { sub: 'spiffe://evil.example/agents/research' }, 'origin_not_authorized'],
    ['F2 its origin is wimse', { sub: 'wimse://company.example/agents/research' }, 'origin_not_authorized'],
    ['F3 an escape', { sub: 'spiffe://company.example/agents/%72esearch' }, 'noncanonical_id'],
    ['F3 a dot segment', { sub: 'spiffe://company.example/x/../agents/research' }, 'noncanonical_id'],
    ['F3 an upper-case domain', { sub: 'spiffe://Company.example/agents/research' }, 'noncanonical_id'],
    ['F3 an upper-case scheme', { sub: 'SPIFFE://company.example/agents/research' }, 'noncanonical_id'],
    ['F3 a port', { sub: 'spiffe://company.example:443/agents/research' }, 'noncanonical_id'],
    ['F3 a query', { sub: 'spiffe://company.example/agents/research?x' }, 'noncanonical_id'],
    ['D21 an id of nobody', { sub: 'spiffe://company.example/agents/nobody' }, 'unknown_client'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const token = await house.domain.jwtSvid('/agents/research', ISSUER, change)
    const result = await present(token)
    expect(reasonOf(result)).toBe(reason)
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
    const actor = await house.attest({ slot: 'actor_token', assertion: { token } })
    expect(reasonOf(actor)).toBe(reason)
    // C3 is a client assertion wherever it stands.
    const status = reason === 'assertion_audience' ? 401 : 400
    expect(!actor.ok && answerTo(actor.refusal).status).toBe(status)
  })

  it('F4 below a root means whole segments of a canonical id', async () => {
    const { trustDomain } = house.domain
    house.trustDomains.set('company.example', { ...trustDomain, pathRoot: '/agents' })
    const ask = async (path: string) => reasonOf(await present(await house.domain.jwtSvid(path, ISSUER)))
    expect(await ask('/agents/research')).toBe('accepted')
    for (const path of [
      '/agentsroll',
      '/agents/../admin',
      '/agents%2fx',
      '/agents/%2e%2e/admin',
      '/agents',
      '/admin',
    ]) {
      expect([path, await ask(path)]).toEqual([path, 'not_descendant'])
    }
  })

  it('B6 a key of one trust domain says nothing about ids of another, also under the same kid', async () => {
    const other = await createTestTrustDomain('other.example')
    house.trustDomains.set('other.example', other.trustDomain)
    const sub = 'spiffe://company.example/agents/research'
    expect(reasonOf(await present(await other.jwtSvid('/x', ISSUER, { sub })))).toBe('bad_signature')
  })

  it('B1 without kid, or with one of nobody, no key is tried', async () => {
    const { privateKey } = house.key
    for (const kid of [undefined, 'other']) {
      const header = { alg: 'ES256', ...(kid === undefined ? {} : { kid }) }
      const sub = 'spiffe://company.example/agents/research'
      const token = await new SignJWT({ sub, aud: ISSUER, exp: NOW + 60 }).setProtectedHeader(header).sign(privateKey)
      expect(reasonOf(await present(token))).toBe('unknown_kid')
    }
  })

  it('no changed byte of a good JWT-SVID is accepted, also after the good one was', async () => {
    const token = await house.domain.jwtSvid('/agents/research', ISSUER)
    expect(reasonOf(await present(token))).toBe('accepted')
    await fc.assert(
      fc.asyncProperty(fc.nat(token.length - 1), fc.integer({ min: 1, max: 127 }), async (at, flip) => {
        const changed = Buffer.from(token)
        changed[at]! ^= flip
        expect((await present(changed.toString('latin1'))).ok).toBe(false)
      }),
      { numRuns: 1500 },
    )
  })
})

describe('an X.509-SVID over mTLS', () => {
  it('tells which agent it is, with tier platform and the thumbprints to bind to', async () => {
    const svid = await house.domain.x509Svid('/agents/research')
    const result = await show(svid.chain)
    expect(result).toMatchObject({
      ok: true,
      value: { kind: 'x509_svid', tier: 'platform', keyThumbprint: svid.thumbprint, expiresAt: NOW + 3601 },
    })
    const digest = Buffer.from(await crypto.subtle.digest('SHA-256', svid.der)).toString('base64url')
    expect(result.ok && result.value.certificateThumbprint).toBe(digest)
    expect(reasonOf(await show(svid.chain, { clientId: 'spiffe://company.example/agents/research' }))).toBe('accepted')
  })

  it('D13 needs client_id, and the right one', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research')
    expect(reasonOf(await house.attest({ slot: 'client', certificate: chain }))).toBe('param_missing')
    expect(reasonOf(await show(chain, { clientId: 'payments' }))).toBe('context_mismatch')
  })

  it('E12 a certificate that expires while its connection stays open ends there', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research', { notAfter: NOW + 10 })
    expect(reasonOf(await show(chain, { slot: 'api' }))).toBe('accepted')
    house.now = NOW + 10
    expect(reasonOf(await show(chain, { slot: 'api' }))).toBe('accepted')
    house.now = NOW + 11
    const result = await show(chain, { slot: 'api' })
    expect(reasonOf(result)).toBe('peer_invalid')
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_token' })
  })

  it('E12 one that is shown for the first time after it expired is refused for that', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research', { notBefore: NOW - 60, notAfter: NOW - 1 })
    expect(reasonOf(await show(chain))).toBe('x509_validity')
  })

  it('what is recorded as valid is validated again when the anchors change', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research')
    expect(reasonOf(await show(chain))).toBe('accepted')
    house.trustDomains.set('company.example', { ...house.domain.trustDomain, x509Anchors: [] })
    expect(reasonOf(await show(chain))).toBe('x509_untrusted')
  })

  it('F6 a certificate for longer than a day is no SVID', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research', { notBefore: NOW - 86_400, notAfter: NOW + 7200 })
    expect(reasonOf(await show(chain))).toBe('evidence_lifetime')
  })

  it('F5 an SVID from before its id passed to another agent does not serve the new one', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research')
    expect(reasonOf(await show(chain))).toBe('accepted')
    house.agents.delete('research')
    house.agents.set('heir', agent('heir', { spiffeId: 'spiffe://company.example/agents/research' }))
    expect(reasonOf(await show(chain, { clientId: 'heir' }))).toBe('instance_epoch')
  })

  it('F14 a chain of 50, one of 1 MB and none at all are refused where they stand', async () => {
    const { chain } = await house.domain.x509Svid('/agents/research')
    expect(reasonOf(await show(Array.from({ length: 50 }, () => chain[0]!)))).toBe('x509_policy')
    expect(reasonOf(await show([chain[0]!, new Uint8Array(1_048_576)]))).toBe('x509_policy')
    expect(reasonOf(await show([]))).toBe('client_auth_required')
  })

  it('D21 an id of nobody is refused as any stranger is', async () => {
    const { chain } = await house.domain.x509Svid('/agents/nobody')
    const self = await issue({
      name: 'CN=self',
      names: [{ type: 'url', value: 'spiffe://company.example/agents/research' }],
    })
    const answers = [await show(chain, { clientId: 'nobody' }), await show([self.der])]
    expect(answers.map(reasonOf)).toEqual(['unknown_client', 'x509_untrusted'])
    for (const answer of answers) {
      expect(!answer.ok && answerTo(answer.refusal)).toEqual({ status: 401, error: 'invalid_client' })
      expect(!answer.ok && answer.refusal.detail).toBeUndefined()
    }
  })
})
