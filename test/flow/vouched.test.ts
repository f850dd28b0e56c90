/** Agents whom others vouch for, over HTTP: workload tokens, client attestations and WIT-SVIDs, each with its proofs. */
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type SigningKey, signingKey } from '../attest/house.ts'
import { createTestTrustDomain, NOW } from '../attest/pki.ts'
import {
  attestation,
  attestationProof,
  CLUSTER,
  serviceAccountToken,
  witSvid,
  workloadProof,
} from '../attest/vouched.ts'
import { type Answer, decode, type House, ISSUER, type KeyPair, newKeyPair, openHouse } from '../house.ts'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'

const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }
const TOKEN_URL = `${ISSUER}/token`

const cluster = signingKey('cluster-1')
const fleet = signingKey('fleet-1')
const wit = signingKey('wit-1')
const jwks = ({ jwk }: SigningKey) => JSON.stringify({ keys: [jwk] })
const asPair = (key: SigningKey): KeyPair => {
  const { kid: _, alg: __, ...publicJwk } = key.jwk
  return { privateKey: key.privateKey, publicJwk }
}

let house: House
beforeAll(async () => {
  const domain = await createTestTrustDomain('company.example')
  const bundle = await domain.bundle()
  const evidence = (account: string) => (text: string) =>
    text.replace(
      'evidence: [private_key_jwt]\n',
      `evidence: [private_key_jwt, workload_oidc, client_attestation, wit_svid]
workload:
  - issuer: cluster
    claims: { kubernetes.io: { namespace: agents, serviceaccount: { name: ${account} } } }
attested_by: [{ attester: fleet, subject: https://${account}.example.com }]
`,
    )
  house = await openHouse({
    startAt: NOW,
    config: {
      'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
      'agents/research.yaml': evidence('research'),
      'agents/payments.yaml': evidence('payments'),
      'issuers/company.yaml': 'kind: workload\ntrust_domain: company.example\nbundle_file: trust/company.json\n',
      'issuers/cluster.yaml': `kind: workload_oidc\nname: cluster\nissuer: ${CLUSTER}\njwks_file: trust/cluster.json\nalgorithms: [ES256]\n`,
      'issuers/fleet.yaml': 'kind: attester\nname: fleet\njwks_file: trust/fleet.json\nalgorithms: [ES256]\n',
      '../keys/trust/cluster.json': jwks(cluster),
      '../keys/trust/fleet.json': jwks(fleet),
      '../keys/trust/company.json': JSON.stringify({
        ...bundle,
        keys: [...bundle.keys, { ...wit.jwk, use: 'wit-svid' }],
      }),
    },
  })
})
afterAll(() => house.close())

/** What was refused before is in the log: what comes next is counted by itself. */
async function settled(): Promise<void> {
  const { size } = house.service.log
  house.advance(1)
  const counted = async () => (await house.service.log.from(size, 100)).some(({ type }) => type === 'strangers.refused')
  for (let round = 0; round < 100 && !(await counted()); round++) await sleep(20)
}

const NO_ASSERTION = { client_assertion: undefined, client_assertion_type: undefined }
const ours = { aud: ISSUER }
const projected = (claims = {}) => serviceAccountToken(cluster, { ...ours, ...claims })
const SUB = 'https://research.example.com'
const attested = (holder: SigningKey, claims = {}) => attestation(fleet, holder, { sub: SUB, ...claims })
const tokenIn = (answer: Answer): string => answer.body['access_token'] as unknown as string

describe('a workload token', () => {
  const ask = async (token: string, proofKey: KeyPair | null, form = {}) =>
    (await house.agent('research')).exchange({
      proofKey,
      form: { ...TICKETS, client_assertion_type: ASSERTION_TYPE.jwtBearer, client_assertion: token, ...form },
    })

  it('F1 stands as client assertion with the proof key it was first seen with, and with no other', async () => {
    const token = await projected()
    const mine = newKeyPair()
    const first = await ask(token, mine, { client_id: 'research' })
    expect(first.status, first.text).toBe(200)
    expect(decode(tokenIn(first)).payload).toMatchObject({
      client_id: 'research',
      cnf: { jkt: house.thumbprint(mine) },
      att: { kind: 'workload_oidc', tier: 'platform' },
      act: { sub: 'spiffe://company.example/agents/research' },
    })
    const honest = () => ask(token, mine)
    await refusedWithoutTrace(
      house,
      () => ask(token, newKeyPair()),
      { status: 400, error: 'invalid_dpop_proof', reason: 'key_switch', stranger: true },
      honest,
    )
    await refusedWithoutTrace(
      house,
      () => ask(token, null),
      { status: 400, error: 'invalid_dpop_proof', reason: 'proof_required', stranger: true },
      honest,
    )
    expect((await ask(await projected({ jti: 'renewed' }), newKeyPair())).status).toBe(200)
  })

  it('is an actor token too, and one agent with whoever authenticates beside it', async () => {
    const research = await house.agent('research')
    const actor = async (claims = {}) => ({ actor_token: await projected(claims), actor_token_type: TOKEN_TYPE.jwt })
    const alone = await research.exchange({ form: { ...TICKETS, ...NO_ASSERTION, ...(await actor()) } })
    expect(alone.status, alone.text).toBe(200)
    expect(decode(tokenIn(alone)).payload['att']).toEqual({ kind: 'workload_oidc', tier: 'platform' })
    const both = await research.exchange({ form: { ...TICKETS, ...(await actor()) } })
    expect(both.status, both.text).toBe(200)
    const payments = { 'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'payments' } } }
    const two = await research.exchange({ form: { ...TICKETS, ...(await actor(payments)) } })
    expect([two.status, two.body['error']]).toEqual([400, 'invalid_request'])
    expect(house.lines.at(-1)).toContain('context_mismatch')
  })

  it('works at the JSON endpoints and at introspection, with a proof for each', async () => {
    const token = await projected()
    const key = newKeyPair()
    const get = (dpop?: string) =>
      house.fetch('GET', '/agents/research', {
        headers: { authorization: `ClientAssertion ${token}`, ...(dpop === undefined ? {} : { dpop }) },
      })
    const proof = (path: string, using = key) => house.proof('research', path, { key: using, method: 'GET' })
    const own = await get(proof('/agents/research'))
    expect(own.status, own.text).toBe(200)
    for (const dpop of [undefined, proof('/agents/payments'), proof('/agents/research', newKeyPair())]) {
      expect((await get(dpop)).status).toBe(401)
    }
    const mine = await ask(token, key)
    const research = await house.agent('research')
    const seen = await research.post(
      { token: tokenIn(mine), client_assertion: token },
      { path: '/introspect', proofKey: key },
    )
    expect(seen.body).toMatchObject({ active: true, client_id: 'research' })
    expect(
      (await research.post({ token: tokenIn(mine), client_assertion: token }, { path: '/revoke', proofKey: key }))
        .status,
    ).toBe(200)
    const after = await research.post(
      { token: tokenIn(mine), client_assertion: token },
      { path: '/introspect', proofKey: key },
    )
    expect(after.body).toEqual({ active: false })
  })

  it('C1 B7 D21 a user’s token is no evidence, a workload’s is no user, and strangers learn neither', async () => {
    await settled()
    const key = newKeyPair()
    const honest = async () => ask(await projected({ jti: 'honest' }), newKeyPair())
    const research = await house.agent('research')
    const refused = (title: string, reason: string, send: () => Promise<Answer>) => ({
      title,
      status: 401,
      error: 'invalid_client',
      reason,
      send,
    })
    const forged = signingKey('cluster-1')
    const other = { 'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'nobody' } } }
    await strangersWithoutTrace(
      house,
      [
        refused('a user’s token', 'unknown_client', () => ask(house.userToken('alice'), key)),
        refused('an unknown workload', 'unknown_client', async () => ask(await projected(other), key)),
        refused('a forged one', 'bad_signature', async () => ask(await serviceAccountToken(forged, ours), key)),
        refused('for another audience', 'assertion_audience', async () => ask(await projected({ aud: CLUSTER }), key)),
        refused('of an unknown key', 'unknown_kid', async () =>
          ask(await serviceAccountToken(cluster, ours, { kid: 'x' }), key),
        ),
        refused('as a JWT-SVID', 'wrong_typ', async () =>
          ask(await projected(), key, { client_assertion_type: ASSERTION_TYPE.jwtSpiffe }),
        ),
      ],
      honest,
    )
    const answers = [
      await ask(await projected(other), key),
      await ask(await serviceAccountToken(forged, ours), key),
      await ask(house.userToken('alice'), key),
    ]
    expect(new Set(answers.map(({ text }) => text)).size).toBe(1)
    await settled()
    await refusedWithoutTrace(
      house,
      async () =>
        research.exchange({
          form: { ...TICKETS, subject_token: await projected(), subject_token_type: TOKEN_TYPE.jwt },
        }),
      { status: 400, error: 'invalid_request', reason: 'untrusted_issuer' },
      () => research.exchange({ form: TICKETS }),
    )
  })
})

describe('a client attestation', () => {
  const challenge = async (): Promise<string> => {
    const answer = await house.fetch('POST', '/challenge')
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([200, 'no-store'])
    return answer.body['attestation_challenge'] as unknown as string
  }
  const headersOf = (token: string, proof?: string) => ({
    'oauth-client-attestation': token,
    ...(proof === undefined ? {} : { 'oauth-client-attestation-pop': proof }),
  })
  const ask = async (headers: Record<string, string>, proofKey: KeyPair | null, form = {}, nonce?: string) =>
    (await house.agent('research')).exchange({
      headers,
      proofKey,
      ...(nonce === undefined ? {} : { proof: { nonce } }),
      form: { ...TICKETS, ...NO_ASSERTION, ...form },
    })

  it('is announced in the metadata', async () => {
    const { body } = await house.fetch('GET', '/.well-known/oauth-authorization-server')
    expect(body).toMatchObject({
      challenge_endpoint: `${ISSUER}/challenge`,
      client_attestation_signing_alg_values_supported: expect.arrayContaining(['ES256']),
      client_attestation_pop_signing_alg_values_supported: ['ES256', 'EdDSA'],
    })
    for (const member of ['token', 'introspection', 'revocation']) {
      expect(body[`${member}_endpoint_auth_methods_supported`]).toEqual(
        expect.arrayContaining(['attest_jwt_client_auth', 'attest_jwt_client_auth_dpop']),
      )
    }
  })

  it('with its proof gives a token bound to the DPoP key beside it, and each answer brings the next challenge', async () => {
    const holder = signingKey('instance')
    const mine = newKeyPair()
    const token = await attested(holder)
    const none = await ask(headersOf(token, await attestationProof(holder, undefined, ours)), mine)
    expect([none.status, none.body['error']]).toEqual([400, 'use_attestation_challenge'])
    const given = none.headers.get('oauth-client-attestation-challenge') ?? ''
    const proof = await attestationProof(holder, given, ours)
    const first = await ask(headersOf(token, proof), mine, { client_id: SUB })
    expect(first.status, first.text).toBe(200)
    expect(decode(tokenIn(first)).payload).toMatchObject({
      client_id: 'research',
      cnf: { jkt: house.thumbprint(mine) },
      att: { kind: 'client_attestation', tier: 'key' },
    })
    expect(first.headers.get('oauth-client-attestation-challenge')).toBeTruthy()

    await settled()
    const fresh = async () => attestationProof(holder, await challenge(), ours)
    const honest = async () => ask(headersOf(token, await fresh()), mine)
    await refusedWithoutTrace(
      house,
      () => ask(headersOf(token, proof), mine),
      { status: 401, error: 'invalid_client', reason: 'evidence_replayed', stranger: true },
      honest,
    )
    await refusedWithoutTrace(
      house,
      async () => ask(headersOf(token, await fresh()), newKeyPair()),
      { status: 400, error: 'invalid_dpop_proof', reason: 'key_switch', stranger: true },
      honest,
    )
  })

  it('combined with DPoP takes a proof by its own key, with a nonce or a challenge', async () => {
    const holder = signingKey('instance')
    const token = await attested(holder)
    const first = await ask(headersOf(token), asPair(holder))
    expect(first.status, first.text).toBe(200)
    expect(decode(tokenIn(first)).payload['cnf']).toEqual({ jkt: house.thumbprint(asPair(holder)) })
    const challenged = await ask(headersOf(token), asPair(holder), {}, await challenge())
    expect(challenged.status, challenged.text).toBe(200)
    for (const [proofKey, reason] of [
      [newKeyPair(), 'key_switch'],
      [null, 'proof_required'],
    ] as const) {
      await refusedWithoutTrace(
        house,
        () => ask(headersOf(token), proofKey),
        { status: 400, error: 'invalid_dpop_proof', reason, stranger: true },
        () => ask(headersOf(token), asPair(holder)),
      )
    }
    // A challenge is no nonce for anybody else.
    const research = await house.agent('research')
    const other = await research.exchange({ form: TICKETS, proof: { nonce: await challenge() } })
    expect([other.status, other.body['error']]).toEqual([400, 'use_dpop_nonce'])
  })

  it('authenticates at introspection, at revocation and at the JSON endpoints', async () => {
    const holder = signingKey('instance')
    const token = await attested(holder)
    const mine = await ask(headersOf(token), asPair(holder))
    const research = await house.agent('research')
    const form = { token: tokenIn(mine), ...NO_ASSERTION }
    const proven = async () => headersOf(token, await attestationProof(holder, await challenge(), ours))
    const seen = await research.post(form, { path: '/introspect', proofKey: null, headers: await proven() })
    expect(seen.body).toMatchObject({ active: true, client_id: 'research' })
    const get = (headers: Record<string, string>) => house.fetch('GET', '/agents/research', { headers })
    expect((await get(await proven())).status).toBe(200)
    const dpop = house.proof('research', '/agents/research', { key: asPair(holder), method: 'GET' })
    expect((await get({ ...headersOf(token), dpop })).status).toBe(200)
    const stolen = house.proof('research', '/agents/research', { key: newKeyPair(), method: 'GET' })
    const refused = await get({ ...headersOf(token), dpop: stolen })
    expect([refused.status, refused.headers.get('www-authenticate')]).toEqual([401, 'DPoP error="invalid_dpop_proof"'])
    const unchallenged = await get(headersOf(token, await attestationProof(holder, undefined, ours)))
    expect([unchallenged.status, unchallenged.body['error']]).toEqual([401, 'use_attestation_challenge'])
    expect(unchallenged.headers.get('oauth-client-attestation-challenge')).toBeTruthy()
    const revoked = await research.post(form, { path: '/revoke', proofKey: null, headers: await proven() })
    expect(revoked.status).toBe(200)
    const after = await research.post(form, { path: '/introspect', proofKey: null, headers: await proven() })
    expect(after.body).toEqual({ active: false })
  })

  it('B6 C1 D21 of nobody, of another attester, for another server or for another client is refused alike', async () => {
    const holder = signingKey('instance')
    const token = await attested(holder)
    const proof = async (more = {}) => attestationProof(holder, await challenge(), { ...ours, ...more })
    const key = newKeyPair()
    await settled()
    const honest = async () => ask(headersOf(await attested(holder, { jti: 'h' }), await proof()), newKeyPair())
    const stranger = (title: string, reason: string, send: () => Promise<Answer>) => ({
      title,
      status: 401,
      error: 'invalid_client_attestation',
      reason,
      send,
    })
    const forged = signingKey('fleet-1')
    await strangersWithoutTrace(
      house,
      [
        stranger('of nobody', 'unknown_client', async () =>
          ask(headersOf(await attested(holder, { sub: 'nobody' }), await proof()), key),
        ),
        stranger('forged', 'bad_signature', async () =>
          ask(headersOf(await attestation(forged, holder, { sub: SUB }), await proof()), key),
        ),
        stranger('a proof for another server', 'wrong_audience', async () =>
          ask(headersOf(token, await proof({ aud: 'https://other.example' })), key),
        ),
        stranger('a proof of another instance', 'bad_signature', async () =>
          ask(headersOf(token, await attestationProof(signingKey('other'), await challenge(), ours)), key),
        ),
        stranger('a workload token in its place', 'wrong_typ', async () => ask(headersOf(await projected()), key)),
        stranger('twice', 'header_duplicate', async () => ask(headersOf(`${token}, ${token}`, await proof()), key)),
        {
          title: 'too old',
          status: 400,
          error: 'use_fresh_attestation',
          reason: 'attestation_stale',
          send: async () => ask(headersOf(await attested(holder, { exp: NOW - 1 }), await proof()), key),
        },
      ],
      honest,
    )
    // Two of two agents, and two ways at once.
    const others = await ask(headersOf(token, await proof()), key, { client_id: 'payments' })
    expect([others.status, others.body['reason']]).toEqual([400, 'context_mismatch'])
    const research = await house.agent('research')
    const both = await research.exchange({ form: TICKETS, headers: headersOf(token, await proof()) })
    expect([both.status, both.body['error']]).toEqual([400, 'invalid_request'])
  })
})

describe('a WIT-SVID', () => {
  const sub = { sub: 'spiffe://company.example/agents/research' }
  const ask = async (headers: Record<string, string>, proofKey: KeyPair | null) =>
    (await house.agent('research')).exchange({ headers, proofKey, form: { ...TICKETS, ...NO_ASSERTION } })

  it('with a proof token for this request, or with a DPoP proof by its key, gives a token', async () => {
    const holder = signingKey('workload')
    const token = await witSvid(wit, holder, sub)
    const mine = newKeyPair()
    const proof = await workloadProof(holder, token, TOKEN_URL)
    const headers = { 'workload-identity-token': token, 'workload-proof-token': proof }
    const first = await ask(headers, mine)
    expect(first.status, first.text).toBe(200)
    expect(decode(tokenIn(first)).payload).toMatchObject({
      cnf: { jkt: house.thumbprint(mine) },
      att: { kind: 'wit_svid', tier: 'platform' },
    })
    const combined = await ask({ 'workload-identity-token': token }, asPair(holder))
    expect(combined.status, combined.text).toBe(200)
    expect(decode(tokenIn(combined)).payload['cnf']).toEqual({ jkt: house.thumbprint(asPair(holder)) })
    await settled()
    const honest = () => ask({ 'workload-identity-token': token }, asPair(holder))
    for (const [attempt, answer] of [
      [() => ask(headers, mine), { status: 401, error: 'invalid_client', reason: 'evidence_replayed' }],
      [
        () => ask({ 'workload-identity-token': token }, newKeyPair()),
        { status: 400, error: 'invalid_dpop_proof', reason: 'key_switch' },
      ],
      [
        () => ask({ 'workload-identity-token': token }, null),
        { status: 400, error: 'invalid_dpop_proof', reason: 'proof_required' },
      ],
      [
        async () =>
          ask(
            {
              'workload-identity-token': token,
              'workload-proof-token': await workloadProof(holder, token, `${ISSUER}/revoke`),
            },
            mine,
          ),
        { status: 401, error: 'invalid_client', reason: 'wrong_audience' },
      ],
    ] as const) {
      await refusedWithoutTrace(house, attempt, { ...answer, stranger: true }, honest)
    }
  })

  it('opens a task of its own at a JSON endpoint, and is never taken from the Authorization header', async () => {
    const holder = signingKey('workload')
    const token = await witSvid(wit, holder, sub)
    const get = (headers: Record<string, string>) => house.fetch('GET', '/agents/research', { headers })
    const proof = await workloadProof(holder, token, `${ISSUER}/agents/research`)
    expect((await get({ 'workload-identity-token': token, 'workload-proof-token': proof })).status).toBe(200)
    expect((await get({ authorization: `ClientAssertion ${token}` })).status).toBe(401)
    expect((await get({ 'workload-identity-token': token })).status).toBe(401)
  })

  it('is beside an actor token still held to its own key', async () => {
    const holder = signingKey('workload')
    const token = await witSvid(wit, holder, sub)
    const research = await house.agent('research')
    const beside = (proofKey: KeyPair) =>
      research.post(
        {
          grant_type: GRANT.exchange,
          subject_token: house.userToken('alice'),
          subject_token_type: TOKEN_TYPE.idToken,
          request_details: house.details(),
          actor_token: research.assertion(),
          actor_token_type: TOKEN_TYPE.jwt,
          ...TICKETS,
          ...NO_ASSERTION,
        },
        { headers: { 'workload-identity-token': token }, proofKey },
      )
    expect((await beside(asPair(holder))).status).toBe(200)
    const stolen = await beside(newKeyPair())
    expect([stolen.status, stolen.body['error']]).toEqual([400, 'invalid_dpop_proof'])
  })
})
