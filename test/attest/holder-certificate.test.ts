import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, checkPossession, pinProofKey } from '../../src/attest/attest.ts'
import type { AttestationResult } from '../../src/attest/attestation-result.ts'
import type { Result } from '../../src/oauth/refusal.ts'
import { type AttestHouse, assertion, createAttestHouse, ISSUER } from './house.ts'
import { createTestTrustDomain, type Issued, issue, newKey, NOW } from './pki.ts'

let house: AttestHouse
let certificate: Issued
beforeEach(async () => {
  house = await createAttestHouse()
  certificate = await issue({ name: 'CN=anybody' })
})
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const present = (token: string, chain: readonly Uint8Array[], slot: Parameters<Attest>[0]['slot'] = 'api') =>
  house.attest({ slot, assertion: { token }, certificate: chain })
const proven = async (token: string, chain: readonly Uint8Array[]): Promise<AttestationResult> => {
  const result = await present(token, chain)
  if (!result.ok) throw new Error(result.refusal.reason)
  return result.value
}
const ask = (evidence: AttestationResult) => reasonOf(checkPossession(evidence, undefined, 'api'))
const pin = async (evidence: AttestationResult, key = evidence.certificateThumbprint) =>
  reasonOf(await pinProofKey(evidence, key ?? 'none', house.keyPins))

describe('standing evidence over mTLS, without a DPoP proof', () => {
  it('F1 belongs to the first certificate that comes with it, whoever signed that one', async () => {
    const svid = await house.domain.jwtSvid('/agents/research', ISSUER)
    const evidence = await proven(svid, [certificate.der])
    expect([ask(evidence), await pin(evidence)]).toEqual(['accepted', 'accepted'])
    const other = await proven(svid, [(await issue({ name: 'CN=other' })).der])
    expect([ask(other), await pin(other)]).toEqual(['accepted', 'key_switch'])
    // A DPoP key is another key, and the reverse.
    expect(await pin(evidence, 'a-dpop-key')).toBe('key_switch')
    expect(evidence.kind).toBe('jwt_svid')
  })

  it('E12 a certificate that is over, not yet valid or no certificate proves nothing', async () => {
    const svid = await house.domain.jwtSvid('/agents/research', ISSUER)
    for (const chain of [
      [],
      [new Uint8Array(0)],
      [new Uint8Array(20_000)],
      [(await issue({ notAfter: NOW - 1 })).der],
      [(await issue({ notBefore: NOW + 60 })).der],
      [(await issue({ keys: await newKey('rsa1024') })).der],
    ]) {
      const evidence = await proven(svid, chain)
      expect([evidence.certificateThumbprint, ask(evidence)]).toEqual([undefined, 'proof_required'])
    }
    const evidence = await proven(svid, [certificate.der])
    expect(ask(evidence)).toBe('accepted')
    house.now = NOW + 294
    expect((await proven(svid, [certificate.der])).certificateThumbprint).toBeDefined()
    const short = await issue({ notAfter: NOW + 290 })
    expect(ask(await proven(svid, [short.der]))).toBe('proof_required')
  })

  it('takes nothing from the certificate but the key: the evidence says who it is', async () => {
    const domain = await createTestTrustDomain('company.example')
    const svid = await domain.x509Svid('/agents/payments')
    const evidence = await proven(await house.domain.jwtSvid('/agents/research', ISSUER), svid.chain)
    expect([evidence.agent.clientId, evidence.kind]).toEqual(['research', 'jwt_svid'])
  })

  it('evidence that is used once is bound to none', async () => {
    const evidence = await proven(await assertion(house.key, 'research'), [certificate.der])
    expect(evidence.certificateThumbprint).toBeUndefined()
    expect(ask(evidence)).toBe('accepted')
  })
})
