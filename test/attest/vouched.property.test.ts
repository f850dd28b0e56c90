/** Whatever stands where evidence is looked for: a refusal with a reason, never an accident, and never an agent. */
import fc from 'fast-check'
import { beforeAll, expect, it } from 'vitest'
import type { HeldToken } from '../../src/attest/held-token.ts'
import { type AttestHouse, agent, createAttestHouse, ISSUER, signingKey } from './house.ts'
import { attestation, attestationProof, CLUSTER, serviceAccountToken, witSvid, workloadProof } from './vouched.ts'

const URL = `${ISSUER}/token`
const key = signingKey('k1')
const holder = signingKey('h')
let house: AttestHouse
let good: {
  readonly workload: string
  readonly attestation: string
  readonly pop: string
  readonly wit: string
  readonly wpt: string
}

beforeAll(async () => {
  house = await createAttestHouse()
  const keys = async (kid: string) => (kid === 'k1' ? key.jwk : undefined)
  const rules = { algorithms: ['ES256'], audiences: [ISSUER], maxLifetimeSeconds: 3600 }
  house.workloadIssuers.set(CLUSTER, { name: 'cluster', issuer: CLUSTER, keys, ...rules })
  house.attesters.set('fleet', { name: 'fleet', keys, maxLifetimeSeconds: 7200, tier: 'key' })
  house.trustDomains.set('company.example', { ...house.domain.trustDomain, witKeys: [key.jwk] })
  house.agents.set(
    'research',
    agent('research', {
      evidence: ['workload_oidc', 'client_attestation', 'wit_svid'],
      workload: [{ issuer: CLUSTER, conditions: [{ path: ['kubernetes.io', 'namespace'], oneOf: ['agents'] }] }],
      attestedBy: [{ attester: 'fleet', subject: 'research' }],
    }),
  )
  const wit = await witSvid(key, holder)
  good = {
    workload: await serviceAccountToken(key),
    attestation: await attestation(key, holder),
    pop: await attestationProof(holder, house.challenges.fresh()),
    wit,
    wpt: await workloadProof(holder, wit, URL),
  }
})

const attest = (held: Omit<HeldToken, 'url'>) => house.attest({ slot: 'client', held: { ...held, url: URL } })

it('the good ones are good', async () => {
  const { workload, pop, wit, wpt } = good
  expect((await house.attest({ slot: 'api', assertion: { token: workload } })).ok).toBe(true)
  expect((await attest({ field: 'attestation', token: good.attestation, proof: pop })).ok).toBe(true)
  expect((await attest({ field: 'workload', token: wit, proof: wpt })).ok).toBe(true)
})

it('any text in any place is a refusal', async () => {
  const text = fc.oneof(
    fc.string(),
    fc.string({ unit: 'binary' }),
    fc.base64String().map((each) => `${each}.${each}.${each}`),
  )
  await fc.assert(
    fc.asyncProperty(text, fc.option(text, { nil: undefined }), async (token, proof) => {
      const more = proof === undefined ? {} : { proof }
      expect((await attest({ field: 'attestation', token, ...more })).ok).toBe(false)
      expect((await attest({ field: 'workload', token, ...more })).ok).toBe(false)
      expect((await house.attest({ slot: 'client', assertion: { token } })).ok).toBe(false)
      expect((await attest({ field: 'attestation', token: good.attestation, proof: token })).ok).toBe(false)
      expect((await attest({ field: 'workload', token: good.wit, proof: token })).ok).toBe(false)
    }),
    { numRuns: 300 },
  )
})

it('any one character changed, left out or doubled is a refusal', async () => {
  const edit = fc.record({
    at: fc.nat(),
    how: fc.constantFrom('change', 'drop', 'double'),
    by: fc.constantFrom('A', 'b', '9', '_', '=', '.', ' '),
  })
  const edited = (text: string, { at, how, by }: { at: number; how: string; by: string }): string => {
    const index = at % text.length
    const rest = text.slice(index + 1)
    if (how === 'drop') return text.slice(0, index) + rest
    return how === 'double' ? text.slice(0, index) + text[index] + text.slice(index) : text.slice(0, index) + by + rest
  }
  await fc.assert(
    fc.asyncProperty(edit, async (change) => {
      for (const [name, text] of Object.entries(good)) {
        const other = edited(text, change)
        if (other === text) continue
        const { attestation: token, pop, wit, wpt }: typeof good = { ...good, ...{ [name]: other } }
        const result =
          name === 'workload'
            ? await house.attest({ slot: 'actor_token', assertion: { token: other } })
            : name === 'attestation' || name === 'pop'
              ? await attest({ field: 'attestation', token, proof: pop })
              : await attest({ field: 'workload', token: wit, proof: wpt })
        expect([name, result.ok]).toEqual([name, false])
      }
    }),
    { numRuns: 300 },
  )
})
