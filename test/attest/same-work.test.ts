import type * as Signature from '@errand/verifier/signature.ts'
import { expect, it, vi } from 'vitest'
import { agent, assertion, createAttestHouse, ISSUER, signingKey } from './house.ts'
import { attestation, CLUSTER, serviceAccountToken, witSvid } from './vouched.ts'

let checked = 0
vi.mock('@errand/verifier/signature.ts', async (original) => {
  const signature = await original<typeof Signature>()
  const verifySignature: typeof signature.verifySignature = (...args) => {
    checked++
    return signature.verifySignature(...args)
  }
  return { ...signature, verifySignature }
})

it('D21 an unknown client, key or id costs the one signature check that a known one costs', async () => {
  const house = await createAttestHouse()
  const ed = signingKey('k1', 'Ed25519')
  house.agents.set('asleep', agent('asleep', { keys: [house.key.jwk], disabled: true }))
  const tokens = {
    known: await assertion(house.key, 'research'),
    disabled: await assertion(house.key, 'asleep'),
    unknownClient: await assertion(house.key, 'nobody'),
    unknownKey: await assertion(signingKey('k9'), 'research'),
    wrongKey: await assertion(signingKey('k1'), 'research'),
    otherAlgorithm: await assertion(ed, 'research'),
    knownSvid: await house.domain.jwtSvid('/agents/research', ISSUER),
    unknownSvid: await house.domain.jwtSvid('/agents/nobody', ISSUER),
  }
  for (const [name, token] of Object.entries(tokens)) {
    checked = 0
    await house.attest({ slot: 'actor_token', assertion: { token } })
    expect([name, checked]).toEqual([name, 1])
  }
})

it('D21 so do a workload, an attestation and a WIT-SVID of nobody, of an unknown key and of a wrong one', async () => {
  const house = await createAttestHouse()
  const key = signingKey('k1')
  const keys = async (kid: string) => (kid === 'k1' ? key.jwk : undefined)
  house.workloadIssuers.set(CLUSTER, {
    name: 'cluster',
    issuer: CLUSTER,
    keys,
    algorithms: ['ES256'],
    audiences: [ISSUER],
    maxLifetimeSeconds: 3600,
  })
  house.attesters.set('fleet', { name: 'fleet', keys, maxLifetimeSeconds: 3600, tier: 'key' })
  house.trustDomains.set('company.example', { ...house.domain.trustDomain, witKeys: [key.jwk] })
  house.agents.set('research', agent('research', { attestedBy: [{ attester: 'fleet', subject: 'research' }] }))
  const holder = signingKey('h')
  const unknown = signingKey('k9')
  const wrong = signingKey('k1')
  for (const by of [key, unknown, wrong]) {
    checked = 0
    await house.attest({ slot: 'client', assertion: { token: await serviceAccountToken(by) } })
    expect(['workload', by.jwk.kid, checked]).toEqual(['workload', by.jwk.kid, 1])
  }
  const held = async (token: string) => {
    checked = 0
    await house.attest({ slot: 'client', held: { field: 'attestation', token, url: `${ISSUER}/token` } })
    return checked
  }
  for (const make of [attestation, witSvid]) {
    for (const by of [key, unknown, wrong]) expect(await held(await make(by, holder))).toBe(1)
  }
  expect(await held(await attestation(key, holder, { sub: 'nobody' }))).toBe(1)
  const nobody = 'spiffe://company.example/agents/nobody'
  expect(await held(await witSvid(key, holder, { sub: nobody }))).toBe(1)
})

it('standing evidence that was verified is not verified again byte for byte', async () => {
  const house = await createAttestHouse()
  const token = await house.domain.jwtSvid('/agents/research', ISSUER)
  await house.attest({ slot: 'actor_token', assertion: { token } })
  checked = 0
  expect((await house.attest({ slot: 'actor_token', assertion: { token } })).ok).toBe(true)
  expect(checked).toBe(0)
})
