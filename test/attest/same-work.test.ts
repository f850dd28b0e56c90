import type * as Signature from '@errand/verifier/signature.ts'
import { expect, it, vi } from 'vitest'
import { agent, assertion, createAttestHouse, ISSUER, signingKey } from './house.ts'

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

it('standing evidence that was verified is not verified again byte for byte', async () => {
  const house = await createAttestHouse()
  const token = await house.domain.jwtSvid('/agents/research', ISSUER)
  await house.attest({ slot: 'actor_token', assertion: { token } })
  checked = 0
  expect((await house.attest({ slot: 'actor_token', assertion: { token } })).ok).toBe(true)
  expect(checked).toBe(0)
})
