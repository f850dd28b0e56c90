import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, checkPossession, pinProofKey } from '../../src/attest/attest.ts'
import type { WorkloadIssuer } from '../../src/attest/workload-issuer.ts'
import type { WorkloadRule } from '../../src/attest/workload-rules.ts'
import { answerTo, type Reason, refuse, type Result, Unavailable } from '../../src/oauth/refusal.ts'
import { ASSERTION, type AttestHouse, agent, createAttestHouse, ISSUER, type SigningKey, signingKey } from './house.ts'
import { NOW } from './pki.ts'
import { CLUSTER, serviceAccountToken } from './vouched.ts'

const RULE: WorkloadRule = {
  issuer: CLUSTER,
  conditions: [
    { path: ['kubernetes.io', 'namespace'], oneOf: ['agents'] },
    { path: ['kubernetes.io', 'serviceaccount', 'name'], oneOf: ['research', 'research-canary'] },
  ],
}

let house: AttestHouse
let key: SigningKey
let issuer: WorkloadIssuer
beforeEach(async () => {
  house = await createAttestHouse()
  key = signingKey('cluster-1')
  issuer = {
    name: 'cluster',
    issuer: CLUSTER,
    keys: async (kid) => (kid === 'cluster-1' ? key.jwk : undefined),
    algorithms: ['ES256'],
    audiences: [ISSUER],
    maxLifetimeSeconds: 3600,
  }
  house.workloadIssuers.set(CLUSTER, issuer)
  house.agents.set('research', agent('research', { evidence: ['workload_oidc'], workload: [RULE] }))
})

const present = (token: string, more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({ slot: 'client', assertion: { type: ASSERTION.jwtBearer, token }, ...more })
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)

describe('a workload token', () => {
  it('tells which agent it is by exact claims, with tier platform, as standing evidence', async () => {
    const token = await serviceAccountToken(key)
    const result = await present(token)
    expect(result).toMatchObject({
      ok: true,
      value: { kind: 'workload_oidc', tier: 'platform', spiffeId: 'spiffe://company.example/agents/research' },
    })
    if (!result.ok) return
    expect(result.value.oneUse).toBeUndefined()
    expect(result.value.standingId).toBeDefined()
    expect(result.value.expiresAt).toBe(NOW + 3500)
    expect(reasonOf(checkPossession(result.value, undefined, 'dpop'))).toBe('proof_required')
  })

  it('is accepted in each slot that takes evidence, with and without its type, also when the client is named', async () => {
    for (const header of [{}, { typ: 'JWT' }, { typ: 'application/jwt' }]) {
      const token = await serviceAccountToken(key, {}, header)
      expect(reasonOf(await present(token, { clientId: 'research' }))).toBe('accepted')
      expect(reasonOf(await house.attest({ slot: 'actor_token', assertion: { token } }))).toBe('accepted')
      expect(reasonOf(await house.attest({ slot: 'api', assertion: { token } }))).toBe('accepted')
    }
    const named = await present(await serviceAccountToken(key, { aud: ISSUER }), { clientId: 'payments' })
    expect(reasonOf(named)).toBe('context_mismatch')
  })

  it('F1 E7 belongs to the first proof key that comes with it, however its signature is encoded', async () => {
    const token = await serviceAccountToken(key)
    const first = await present(token)
    const other = await present(await serviceAccountToken(key))
    if (!first.ok || !other.ok) throw new Error('refused')
    expect((await pinProofKey(first.value, 'key-1', house.keyPins)).ok).toBe(true)
    const again = await present(token)
    if (!again.ok) throw new Error('refused')
    expect(reasonOf(await pinProofKey(again.value, 'key-2', house.keyPins))).toBe('key_switch')
    expect((await pinProofKey(other.value, 'key-2', house.keyPins)).ok).toBe(true)
  })

  it('F6 what is recorded as verified still ends when it expires', async () => {
    const token = await serviceAccountToken(key, { exp: NOW + 10 })
    expect(reasonOf(await present(token))).toBe('accepted')
    house.now = NOW + 10
    expect(reasonOf(await present(token))).toBe('attestation_expired')
  })

  it('is verified again when the key behind its kid, the issuer or the registration changes', async () => {
    const token = await serviceAccountToken(key)
    expect(reasonOf(await present(token))).toBe('accepted')
    key = signingKey('cluster-1')
    expect(reasonOf(await present(token))).toBe('bad_signature')
    house.workloadIssuers.delete(CLUSTER)
    expect(reasonOf(await present(token))).toBe('unknown_client')
  })

  it('F5 a workload that passes to another agent does not bring its old tokens with it', async () => {
    const old = await serviceAccountToken(key)
    expect(reasonOf(await present(old))).toBe('accepted')
    house.agents.delete('research')
    house.agents.set('heir', agent('heir', { evidence: ['workload_oidc'], workload: [RULE] }))
    expect(reasonOf(await present(old))).toBe('instance_epoch')
    const fresh = await present(await serviceAccountToken(key, { iat: NOW }))
    expect(fresh.ok && fresh.value.agent.clientId).toBe('heir')
  })

  const kubernetes = (more: object) => ({
    'kubernetes.io': { namespace: 'agents', serviceaccount: { name: 'research' }, ...more },
  })
  const claims: readonly [string, Record<string, unknown>, Reason][] = [
    ['B7 iss has a slash more', { iss: `${CLUSTER}/` }, 'unknown_client'],
    ['B7 iss has another case', { iss: CLUSTER.toUpperCase() }, 'unknown_client'],
    ['C3 aud is the token endpoint', { aud: `${ISSUER}/token` }, 'assertion_audience'],
    ['C3 aud has a second value', { aud: [ISSUER, 'https://b.example'] }, 'assertion_audience'],
    ['C3 aud is the API server', { aud: CLUSTER }, 'assertion_audience'],
    ['C3 aud is absent', { aud: undefined }, 'assertion_audience'],
    ['C3 aud is an empty list', { aud: [] }, 'assertion_audience'],
    ['A8 exp is absent', { exp: undefined }, 'bad_numeric_date'],
    ['A8 exp is text', { exp: '300' }, 'bad_numeric_date'],
    ['A8 exp is past', { exp: NOW - 1 }, 'expired'],
    ['A9 iat is ahead', { iat: NOW + 31 }, 'not_yet_valid'],
    ['A9 nbf is ahead', { nbf: NOW + 31 }, 'not_yet_valid'],
    ['F6 it would live a year', { exp: NOW + 31_536_000 }, 'evidence_lifetime'],
    ['A11 sub is absent', { sub: undefined }, 'bad_subject'],
    ['A11 sub is an object', { sub: { a: 1 } }, 'bad_subject'],
    ['A11 sub looks backwards', { sub: 'agents\u202eresearch' }, 'bad_subject'],
    ['D21 of another namespace', kubernetes({ namespace: 'default' }), 'unknown_client'],
    ['D21 of another account', kubernetes({ serviceaccount: { name: 'payments' } }), 'unknown_client'],
    ['D21 of an account with a longer name', kubernetes({ serviceaccount: { name: 'research2' } }), 'unknown_client'],
    ['D21 of an account in another case', kubernetes({ serviceaccount: { name: 'Research' } }), 'unknown_client'],
    ['D21 a list is no value', kubernetes({ namespace: ['agents'] }), 'unknown_client'],
    [
      'D21 the claim is not where it belongs',
      { 'kubernetes.io.namespace': 'agents', 'kubernetes.io': {} },
      'unknown_client',
    ],
    ['D21 an account is no object', kubernetes({ serviceaccount: 'research' }), 'unknown_client'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const token = await serviceAccountToken(key, change)
    const result = await present(token)
    expect(reasonOf(result)).toBe(reason)
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
    const actor = await house.attest({ slot: 'actor_token', assertion: { token } })
    expect(reasonOf(actor)).toBe(reason)
    expect((await present(await serviceAccountToken(key))).ok).toBe(true)
  })

  const headers: readonly [string, Record<string, unknown>, Reason][] = [
    ['B1 kid is a path', { kid: '../../x' }, 'unknown_kid'],
    ['B1 kid is absent', { kid: undefined }, 'unknown_kid'],
    ['B1 kid is __proto__', { kid: '__proto__' }, 'unknown_kid'],
    ['B2 jku', { jku: 'https://evil.example/jwks' }, 'header_forbidden'],
    ['B2 x5c', { x5c: ['AA=='] }, 'header_forbidden'],
    ['B2 jwk', { jwk: {} }, 'header_forbidden'],
    ['C1 typ is at+jwt', { typ: 'at+jwt' }, 'wrong_typ'],
    ['C1 typ is dpop+jwt', { typ: 'dpop+jwt' }, 'wrong_typ'],
    ['C1 typ is wit+jwt', { typ: 'wit+jwt' }, 'wrong_typ'],
    ['C2 typ has a parameter', { typ: 'JWT;x=1' }, 'wrong_typ'],
  ]
  it.each(headers)('%s', async (_title, change, reason) => {
    expect(reasonOf(await present(await serviceAccountToken(key, {}, change)))).toBe(reason)
  })

  it('A1 A2 B6 the algorithm is the key’s, and the key is found by issuer and kid', async () => {
    const ed = signingKey('cluster-1', 'Ed25519')
    expect(reasonOf(await present(await serviceAccountToken(ed)))).toBe('alg_not_allowed')
    house.workloadIssuers.set(CLUSTER, { ...issuer, algorithms: ['ES256', 'EdDSA'] })
    expect(reasonOf(await present(await serviceAccountToken(ed)))).toBe('alg_not_allowed')
    // Another issuer with the same kid.
    const other = signingKey('cluster-1')
    const elsewhere = 'https://token.actions.example'
    house.workloadIssuers.set(elsewhere, { ...issuer, issuer: elsewhere, keys: async () => other.jwk })
    expect(reasonOf(await present(await serviceAccountToken(other)))).toBe('bad_signature')
    expect(reasonOf(await present(await serviceAccountToken(key, { iss: elsewhere })))).toBe('bad_signature')
    // A good token of the other issuer fulfils the claims of our rule, and the rule is not about that issuer.
    expect(reasonOf(await present(await serviceAccountToken(other, { iss: elsewhere })))).toBe('unknown_client')
  })

  it('F2 a good token of an agent that is not registered for it, disabled or too low is refused', async () => {
    const token = await serviceAccountToken(key)
    house.agents.set('research', agent('research', { evidence: ['jwt_svid'], workload: [RULE] }))
    expect(reasonOf(await present(token))).toBe('evidence_not_registered')
    house.agents.set('research', agent('research', { evidence: ['workload_oidc'], workload: [RULE], disabled: true }))
    expect(reasonOf(await present(token))).toBe('agent_disabled')
    house.agents.set(
      'research',
      agent('research', { evidence: ['workload_oidc'], workload: [RULE], minimumTier: 'measured' }),
    )
    expect(reasonOf(await present(token))).toBe('evidence_not_registered')
  })

  it('a token of a SPIFFE subject is a JWT-SVID, whoever says to have issued it', async () => {
    const token = await serviceAccountToken(key, { sub: 'spiffe://company.example/agents/research' })
    expect(reasonOf(await present(token))).toBe('wrong_typ')
    expect(reasonOf(await house.attest({ slot: 'api', assertion: { token } }))).toBe('unknown_kid')
  })

  describe('with a review', () => {
    const reviewed: string[] = []
    let verdict: Result<true> | Unavailable
    beforeEach(() => {
      reviewed.length = 0
      verdict = { ok: true, value: true }
      house.workloadIssuers.set(CLUSTER, {
        ...issuer,
        review: async ({ audience, subject, slot }) => {
          reviewed.push(`${audience} ${subject}`)
          if (verdict instanceof Unavailable) throw verdict
          return verdict.ok ? verdict : refuse(verdict.refusal.reason, slot)
        },
      })
    })

    it('is confirmed each time, also when its signature is remembered', async () => {
      const token = await serviceAccountToken(key)
      expect(reasonOf(await present(token))).toBe('accepted')
      verdict = refuse('evidence_revoked', 'client')
      expect(reasonOf(await present(token))).toBe('evidence_revoked')
      expect(reviewed).toEqual(Array(2).fill(`${ISSUER} system:serviceaccount:agents:research`))
    })

    it('B5 nobody is asked about what is not signed, not for us, or of no agent', async () => {
      const stranger = signingKey('cluster-1')
      for (const token of [
        await serviceAccountToken(stranger),
        await serviceAccountToken(key, { aud: 'https://b.example' }),
        await serviceAccountToken(key, kubernetes({ namespace: 'default' })),
        await serviceAccountToken(key, { exp: NOW - 1 }),
      ]) {
        expect((await present(token)).ok).toBe(false)
      }
      expect(reviewed).toEqual([])
    })

    it('where nobody answers, it is not accepted', async () => {
      verdict = new Unavailable('attestation_unavailable', 'away')
      await expect(present(await serviceAccountToken(key))).rejects.toThrow(Unavailable)
    })
  })
})
