import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE } from '../../src/oauth/words.ts'
import { createTestTrustDomain, NOW, type TestTrustDomain } from '../attest/pki.ts'
import { decode, type House, ISSUER, newKeyPair, openHouse, signJws } from '../house.ts'

const EVIDENCE = (text: string) => text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, jwt_svid]')
const WORKLOAD =
  'kind: workload\ntrust_domain: company.example\nbundle_file: trust/company.example.json\npath_root: /agents\n'
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

describe('a JWT-SVID', () => {
  let domain: TestTrustDomain
  let house: House
  beforeAll(async () => {
    domain = await createTestTrustDomain('company.example')
    house = await openHouse({
      startAt: NOW,
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': EVIDENCE,
        'agents/payments.yaml': EVIDENCE,
        'issuers/company.yaml': WORKLOAD,
        '../keys/trust/company.example.json': JSON.stringify(await domain.bundle()),
      },
    })
  })
  afterAll(() => house.close())

  const svid = (path = '/agents/research', claims = {}) => domain.jwtSvid(path, ISSUER, claims)
  const ask = async (
    client_assertion: string,
    options: Parameters<Awaited<ReturnType<House['agent']>>['post']>[1] = {},
    form = {},
  ) => {
    const research = await house.agent('research')
    await house.learnNonce('research')
    return research.exchange({
      ...options,
      form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion, ...form },
    })
  }

  it('F1 stands until it expires, with the proof key it was first seen with and no other', async () => {
    const mine = newKeyPair()
    const evidence = await svid()
    const first = await ask(evidence, { proofKey: mine })
    expect(first.status, first.text).toBe(200)
    const { payload } = decode(String(first.body['access_token']))
    expect(payload).toMatchObject({
      client_id: 'research',
      cnf: { jkt: house.thumbprint(mine) },
      att: { kind: 'jwt_svid', tier: 'platform' },
    })
    expect((await ask(evidence, { proofKey: mine })).status).toBe(200)
    const other = await ask(evidence, { proofKey: newKeyPair() })
    expect([other.status, other.body['error']]).toEqual([400, 'invalid_dpop_proof'])
    expect(house.lines.at(-1)).toContain('key_switch')
    // Under another encoding of the signature it is the same evidence.
    const none = await ask(evidence, { proofKey: null })
    expect([none.status, none.body['error'], none.body['reason']]).toEqual([
      400,
      'invalid_dpop_proof',
      'proof_required',
    ])
    expect((await ask(evidence, { proofKey: mine })).status).toBe(200)
    // A new one starts anew.
    expect((await ask(await svid('/agents/research', { jti: 'renewed' }), { proofKey: newKeyPair() })).status).toBe(200)
  })

  it('F1 works at the JSON endpoints with a proof for that endpoint', async () => {
    const evidence = await svid('/agents/research', { jti: 'json' })
    const key = newKeyPair()
    await house.learnNonce('research')
    const get = (dpop?: string) =>
      house.fetch('GET', '/agents/research', {
        headers: { authorization: `ClientAssertion ${evidence}`, ...(dpop === undefined ? {} : { dpop }) },
      })
    expect((await get(house.proof('research', '/agents/research', { key, method: 'GET' }))).status).toBe(200)
    for (const dpop of [
      undefined,
      house.proof('research', '/agents/payments', { key, method: 'GET' }),
      house.proof('research', '/agents/research', { key, method: 'POST' }),
      house.proof('research', '/agents/research', { key: newKeyPair(), method: 'GET' }),
    ]) {
      expect((await get(dpop)).status).toBe(401)
    }
  })

  it('F2 C3 of another trust domain, for another audience, of nobody, or under another name is refused', async () => {
    const other = await createTestTrustDomain('other.example')
    const intents = async () => (await house.records({ type: 'token.issuing' })).length
    const before = await intents()
    const jwtKey = domain.trustDomain.jwtKeys[0]!
    const refused: readonly [string, string, object?][] = [
      ['another trust domain', await other.jwtSvid('/agents/research', ISSUER)],
      [
        'another domain’s key for our name',
        await other.jwtSvid('/agents/research', ISSUER, { sub: 'spiffe://company.example/agents/research' }),
      ],
      ['wimse', await svid('/x', { sub: 'wimse://company.example/agents/research' })],
      ['outside the path root', await svid('/service/research')],
      ['a sibling of the path root', await svid('/agents-old/research')],
      ['an escaped id', await svid('/agents/%72esearch')],
      ['a dot segment', await svid('/agents/x/../research')],
      ['nobody registered', await svid('/agents/nobody')],
      ['another audience', await domain.jwtSvid('/agents/research', 'https://other.example')],
      ['two audiences', await domain.jwtSvid('/agents/research', [ISSUER, 'https://other.example'])],
      ['expired', await svid('/agents/research', { exp: NOW - 1 })],
      ['an agent that may not', await svid('/agents/triage')],
      ['the wrong assertion type', await svid(), { client_assertion_type: ASSERTION_TYPE.jwtBearer }],
      [
        'forged',
        signJws(
          { typ: 'JWT', kid: jwtKey.kid },
          { sub: 'spiffe://company.example/agents/research', aud: ISSUER, exp: NOW + 60 },
          newKeyPair().privateKey,
        ),
      ],
    ]
    for (const [what, evidence, form] of refused) {
      const answer = await ask(evidence, { proofKey: newKeyPair() }, form)
      expect([what, answer.status, answer.body['error']]).toEqual([what, 401, 'invalid_client'])
    }
    // Two agents in one request belong to nobody (D13).
    const two = await ask(await svid(), { proofKey: newKeyPair() }, { client_id: 'payments' })
    expect([two.status, two.body['reason']]).toEqual([400, 'context_mismatch'])
    expect(await intents()).toBe(before)
  })

  it('F5 an id given to a new principal does not bring the old one’s evidence with it, also after a restart', async () => {
    const old = await domain.jwtSvid('/agents/shared', ISSUER, { iat: NOW - 5, exp: NOW + 900 })
    const agentAt = (clientId: string) => (text: string) =>
      EVIDENCE(text).replace(`/agents/${clientId}`, clientId === 'research' ? '/agents/shared' : '/agents/retired')
    const common = {
      'issuers/company.yaml': WORKLOAD,
      '../keys/trust/company.example.json': JSON.stringify(await domain.bundle()),
    }
    const before = await openHouse({ startAt: NOW, config: { ...common, 'agents/research.yaml': agentAt('research') } })
    const key = newKeyPair()
    const as = async (at: House, clientId: string, client_assertion: string, proofKey = key) => {
      await at.learnNonce(clientId)
      return (await at.agent(clientId)).exchange({
        proofKey,
        form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtSpiffe, client_assertion },
      })
    }
    const good = await as(before, 'research', old)
    expect(good.status, good.text).toBe(200)
    await before.stop()

    // The id now belongs to the payments agent.
    const after = await openHouse({
      folder: before.folder,
      startAt: NOW + 100,
      config: {
        'agents/research.yaml': (text) => text.replace('/agents/shared', '/agents/retired'),
        'agents/payments.yaml': (text) => EVIDENCE(text).replace('/agents/payments', '/agents/shared'),
      },
    })
    const stale = await as(after, 'payments', old)
    expect([stale.status, stale.body['error']]).toEqual([401, 'invalid_client'])
    expect(after.lines.at(-1)).toContain('instance_epoch')
    after.advance(5)
    const fresh = await domain.jwtSvid('/agents/shared', ISSUER, { iat: NOW + 104, exp: NOW + 400 })
    const renewed = await as(after, 'payments', fresh, newKeyPair())
    expect(renewed.status, renewed.text).toBe(200)
    await after.close()
  })
})
