import { KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import { beforeAll, describe, expect, it } from 'vitest'
import { readBundle } from '../../src/attest/bundle.ts'
import { isTrustDomainName, isWorkloadId, readSpiffeId } from '../../src/attest/spiffe-id.ts'
import { signingKey } from './house.ts'
import { createTestTrustDomain, issue, newKey, type TestTrustDomain } from './pki.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const SOURCE = { name: 'company.example', file: 'config/issuers/workloads.yaml' }
let domain: TestTrustDomain
let keys: JWK[]
beforeAll(async () => {
  domain = await createTestTrustDomain('company.example')
  keys = (await domain.bundle()).keys
})

const read = (document: unknown) =>
  readBundle(typeof document === 'string' ? document : JSON.stringify(document), SOURCE)
const problemOf = (document: unknown) => {
  const result = read(document)
  return result.ok ? 'accepted' : result.problem
}
const x5c = ({ der }: { der: Uint8Array }) => [Buffer.from(der).toString('base64')]

describe('a SPIFFE bundle', () => {
  it('becomes a trust domain: keys for JWT-SVIDs with their algorithm pinned, anchors for X.509-SVIDs', async () => {
    const result = read(await domain.bundle())
    expect(result).toEqual({
      ok: true,
      value: {
        ...domain.trustDomain,
        sequence: 1,
        file: SOURCE.file,
        x509Anchors: [Buffer.from(domain.root.der)],
      },
      refreshHint: 300,
    })
  })

  it('pins RS256 on an RSA key, since bundles name no algorithm', () => {
    const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 }).publicKey.export({ format: 'jwk' })
    const result = read({ keys: [{ ...rsa, kid: 'r', use: 'jwt-svid' }] })
    expect(result.ok && result.value.jwtKeys[0]?.alg).toBe('RS256')
  })

  it('may hold keys of uses that nobody here knows, which are ignored', () => {
    const result = read({ keys: [...keys, { kty: 'EC', use: 'cbor-svid' }, { kty: 'XX' }] })
    expect(result.ok && result.value.jwtKeys.length + result.value.x509Anchors.length).toBe(2)
  })

  it('B8 is refused whole for one bad key', async () => {
    const [jwt, anchor] = keys as [JWK, JWK]
    const privateKey = signingKey('p').privateKey.export({ format: 'jwk' })
    const leaf = await issue({ keys: domain.root.keys })
    const weak = await issue({ ca: true, keys: await newKey('rsa1024') })
    const bad: [unknown, RegExp][] = [
      [{ keys: [anchor, { ...jwt, kid: undefined }] }, /needs a kid/],
      [{ keys: [jwt, jwt] }, /twice/],
      [{ keys: [{ ...privateKey, kid: 'p', use: 'jwt-svid' }] }, /not a usable public key/],
      [{ keys: [{ kty: 'oct', k: 'AAAA', kid: 'o', use: 'jwt-svid' }] }, /not a usable public key/],
      [{ keys: [{ ...anchor, x5c: [] }] }, /x5c/],
      [{ keys: [{ ...anchor, x5c: undefined }] }, /x5c/],
      [{ keys: [{ ...anchor, x5c: ['AAAA'] }] }, /no certificate/],
      [{ keys: [{ ...anchor, x5c: [`${x5c(domain.root)[0]}\n`] }] }, /no certificate/],
      [{ keys: [{ ...anchor, x5c: x5c(leaf) }] }, /no CA/],
      [{ keys: [{ ...anchor, x5c: x5c(weak) }] }, /too weak/],
      [{ keys: [{ ...anchor, x5c: x5c(domain.intermediate) }] }, /differ/],
      [{ keys: [{ kty: 'EC', use: 'x509-svid', x5c: x5c(domain.root) }] }, /differ/],
      [{ keys: [] }, /no key/],
      [{ keys: {} }, /array/],
      [{ keys: ['x'] }, /no JWK/],
      [[], /array/],
      [{ keys: Array.from({ length: 101 }, () => anchor) }, /more than 100/],
      ['{"keys":[],"keys":[]}', /duplicate_member/],
      [`{"keys":[${' '.repeat(300_000)}]}`, /json_limits/],
      ['{', /bad_json/],
    ]
    for (const [document, problem] of bad) expect(problemOf(document)).toMatch(problem)
  })

  it('B8 F2 is refused with an authority that says it is of another trust domain, or a sequence that is none', async () => {
    const ca = async (uri: string) => {
      const made = await issue({ name: 'CN=CA', ca: true, names: [{ type: 'url', value: uri }] })
      const jwk = KeyObject.from(made.keys.publicKey).export({ format: 'jwk' })
      return { keys: [{ ...jwk, use: 'x509-svid', x5c: x5c(made) }] }
    }
    expect(problemOf(await ca('spiffe://company.example'))).toBe('accepted')
    for (const uri of ['spiffe://other.example', 'spiffe://company.example.other.example', 'SPIFFE://other.example/x'])
      expect(problemOf(await ca(uri))).toMatch(/another trust domain/)
    for (const value of [-1, 1.5, '1', null, 2 ** 60])
      expect(problemOf({ keys, spiffe_sequence: value })).toMatch(/spiffe_sequence|bad_json|json_limits|number/)
    expect(problemOf({ keys, spiffe_refresh_hint: 'soon' })).toMatch(/spiffe_refresh_hint/)
  })

  it('belongs to a trust domain that the configuration names', () => {
    for (const name of ['Company.example', 'spiffe://company.example', 'company.example:443', '']) {
      expect(readBundle('{}', { ...SOURCE, name })).toMatchObject({ ok: false })
    }
  })
})

describe('SPIFFE ids', () => {
  it.each([
    ['spiffe://company.example/agents/research', true],
    ['spiffe://company.example/a.b_c-D9', true],
    ['spiffe://company.example', false],
    ['spiffe://company.example/', false],
    ['spiffe://company.example/agents/', false],
    ['spiffe://company.example//agents', false],
    ['spiffe://company.example/./agents', false],
    ['spiffe://company.example/agents/..', false],
    ['spiffe://company.example/agents%2Fx', false],
    ['spiffe://Company.example/agents', false],
    ['spiffe://user@company.example/agents', false],
    ['spiffe://company.example:1/agents', false],
    ['spiffe:///agents', false],
    ['spiffe://company.example/agents?x=1', false],
    ['spiffe://company.example/agents#x', false],
    ['spiffe://company.example/agents/ä', false],
    ['spiffe://company.example/agents/research\n', false],
    [`spiffe://company.example/${'a'.repeat(2048)}`, false],
    ['https://company.example/agents', false],
  ])('F3 %s is canonical: %s', (id, canonical) => {
    expect(isWorkloadId(id)).toBe(canonical)
  })

  it('F3 what is no id at all is no subject', () => {
    for (const text of ['', 'research', 'https://company.example/x', 7, undefined, 'x'.repeat(2049)]) {
      expect(readSpiffeId(text, () => domain.trustDomain)).toEqual({ ok: false, fault: 'bad_subject' })
    }
    expect(isTrustDomainName('a'.repeat(256))).toBe(false)
  })

  it('F4 a root of one slash, or one that ends in it, means the same', () => {
    const ask = (pathRoot: string) =>
      readSpiffeId('spiffe://company.example/pay/x', () => ({ ...domain.trustDomain, pathRoot })).ok
    expect([ask('/pay'), ask('/pay/'), ask('/'), ask('/pa'), ask('/pay/x')]).toEqual([true, true, true, false, false])
  })
})
