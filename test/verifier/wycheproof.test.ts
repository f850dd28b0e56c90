/** Wycheproof's own verdicts on JWS, JWK, ECDSA P-256 (P1363) and Ed25519, and where we are stricter, why. */
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import { createPublicKey } from 'node:crypto'
import { readCompactJws } from '@errand/verifier/jws.ts'
import {
  checkSignature,
  importVerifyKey,
  SIGNATURE_ALGS,
  verifySignature,
  type VerifyKey,
} from '@errand/verifier/signature.ts'
import { describe, expect, it } from 'vitest'

const folder = new URL('../../../shared/vectors/wycheproof/', import.meta.url)
const present = existsSync(folder)

interface Vector {
  readonly tcId: number
  readonly comment: string
  readonly result: 'valid' | 'invalid' | 'acceptable'
  readonly jws?: string
  readonly msg?: string
  readonly sig?: string
}
interface Group {
  readonly comment?: string
  readonly public?: { readonly [name: string]: unknown }
  readonly private?: { readonly [name: string]: unknown }
  readonly publicKeyJwk?: object
  readonly publicKeyDer?: string
  readonly publicKey?: { readonly pk: string }
  readonly tests: readonly Vector[]
}
const groupsOf = (file: string): readonly Group[] =>
  (JSON.parse(readFileSync(new URL(file, folder), 'utf8')) as { testGroups: Group[] }).testGroups

const accepts = (jws: string, jwks: readonly object[]): boolean => {
  const read = readCompactJws(jws)
  if (!read.ok) return false
  const kid = read.value.header['kid']
  const candidates = jwks.filter((jwk) => (jwk as { kid?: unknown }).kid === kid)
  // B8: two keys of one name are no key.
  if (candidates.length !== 1) return false
  const key = importVerifyKey(candidates[0], { algs: SIGNATURE_ALGS })
  return key.ok && checkSignature(read.value, key.value).ok
}

/** Valid there, refused here: what the reader of the list should be able to judge without the code. */
const STRICTER: readonly { readonly where: (group: Group, vector: Vector) => boolean; readonly why: string }[] = [
  {
    where: (group) => keysOf(group).every((key) => key['kty'] === 'oct'),
    why: 'a shared secret is never a key here: HS256, HS384 and HS512 do not exist',
  },
  {
    where: (group) => keysOf(group).some((key) => /^(RS|PS)(384|512)$/.test(String(key['alg']))),
    why: 'of the RSA algorithms only RS256 and PS256 are implemented',
  },
  {
    where: (group) => keysOf(group).some((key) => key['crv'] === 'P-521'),
    why: 'P-521 is not implemented (and the vector names the algorithm ES521, which does not exist)',
  },
  {
    where: (_, vector) => vector.comment === 'Figure20',
    why: 'RFC 7520 §4.2 signs with PS384 while the vector pins the key to PS256: the key decides',
  },
]
const keysOf = (group: Group): readonly { readonly [name: string]: unknown }[] => {
  const set = (group.public ?? group.private)!
  return Array.isArray(set['keys']) ? (set['keys'] as { [name: string]: unknown }[]) : [set]
}

it('each place where we are stricter than Wycheproof is on the page about attestation, with its reason', () => {
  const page = readFileSync(new URL('../../docs/attestation.md', import.meta.url), 'utf8')
  for (const { why } of STRICTER) expect(page).toContain(why)
})

describe.skipIf(!present)('Wycheproof (skipped where ../shared/vectors is absent)', () => {
  it('runs every file of vectors that there is', () => {
    expect(
      readdirSync(folder)
        .filter((name) => name.endsWith('.json'))
        .sort(),
    ).toEqual([
      'ecdsa_secp256r1_sha256_p1363_test.json',
      'ed25519_test.json',
      'json_web_key_test.json',
      'json_web_signature_test.json',
    ])
  })

  it.each(['json_web_signature_test.json', 'json_web_key_test.json'])('A1 A2 A4 A5 A17 %s', (file) => {
    let stricter = 0
    for (const group of groupsOf(file))
      for (const vector of group.tests) {
        const accepted = accepts(vector.jws!, keysOf(group))
        const label = `${file} ${vector.tcId} ${group.comment} ${vector.comment}`
        if (vector.result === 'valid' && !accepted) {
          expect(STRICTER.filter((rule) => rule.where(group, vector)).length, label).toBeGreaterThan(0)
          stricter++
        } else expect(accepted, label).toBe(vector.result === 'valid')
      }
    expect(stricter).toBe(file.startsWith('json_web_key') ? 4 : 30)
  })

  it('A16 ecdsa_secp256r1_sha256_p1363_test.json', () => {
    let count = 0
    for (const group of groupsOf('ecdsa_secp256r1_sha256_p1363_test.json')) {
      const der = createPublicKey({ key: Buffer.from(group.publicKeyDer!, 'hex'), format: 'der', type: 'spki' })
      const key = importVerifyKey(group.publicKeyJwk ?? der.export({ format: 'jwk' }), { algs: ['ES256'] })
      if (!key.ok) throw new Error(key.fault)
      for (const vector of group.tests) {
        // The signing input of a JWS is ASCII; a message that is not goes in as the same bytes.
        const input = Buffer.from(vector.msg!, 'hex').toString('latin1')
        const accepted = verifySignature(key.value, input, Buffer.from(vector.sig!, 'hex'))
        expect(accepted, `${vector.tcId} ${vector.comment}`).toBe(vector.result === 'valid')
        count++
      }
    }
    expect(count).toBe(262)
  })

  it('A16 ed25519_test.json', () => {
    let count = 0
    for (const group of groupsOf('ed25519_test.json')) {
      const x = Buffer.from(group.publicKey!.pk, 'hex').toString('base64url')
      const key = importVerifyKey({ kty: 'OKP', crv: 'Ed25519', x }, { algs: ['EdDSA'] })
      for (const vector of group.tests) {
        const input = Buffer.from(vector.msg!, 'hex').toString('latin1')
        const accepted = key.ok && verifySignature(key.value as VerifyKey, input, Buffer.from(vector.sig!, 'hex'))
        expect(accepted, `${vector.tcId} ${vector.comment}`).toBe(vector.result === 'valid')
        count++
      }
    }
    expect(count).toBeGreaterThan(100)
  })
})
