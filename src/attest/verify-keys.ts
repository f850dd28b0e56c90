/** Imported verification keys, made once per JWK object: a reloaded configuration brings new objects. */
import { createPublicKey, type JsonWebKey, randomBytes } from 'node:crypto'
import { importVerifyKey, type VerifyKey, verifySignature } from '@errand/verifier/signature.ts'
import type { ParsedJws } from '@errand/verifier/jws.ts'
import type { JWK } from 'jose'
import { freshKey } from '../keys/fresh-key.ts'

export interface VerifyKeys {
  /**
   * Whether the signature holds under this key. Without a key, or with one of another algorithm, it is checked all
   * the same against a key that nobody holds: what strangers learn from the time it took is that they are refused.
   */
  check(jws: ParsedJws, jwk: JWK | undefined): 'good' | 'alg_not_allowed' | 'bad_signature' | 'bad_key'
}

export function createVerifyKeys({ algs }: { readonly algs: readonly string[] }): VerifyKeys {
  const imported = new WeakMap<JWK, VerifyKey | 'bad_key'>()
  const nobody = new Map<string, VerifyKey>()

  const keyOf = (jwk: JWK): VerifyKey | 'bad_key' => {
    const known = imported.get(jwk)
    if (known !== undefined) return known
    const read = importVerifyKey(jwk, { algs })
    const key = read.ok ? read.value : 'bad_key'
    imported.set(jwk, key)
    return key
  }
  const nobodysKey = (alg: string): VerifyKey => {
    const known = nobody.get(alg)
    if (known !== undefined) return known
    const read = importVerifyKey({ ...throwaway(alg), alg }, { algs })
    if (!read.ok) throw new Error(`no key could be made for ${alg}`)
    nobody.set(alg, read.value)
    return read.value
  }
  // Made now, so that the first stranger does not wait longer than the second.
  for (const alg of algs) nobodysKey(alg)

  return {
    check: (jws, jwk) => {
      const alg = String(jws.header['alg'])
      const own = jwk === undefined ? undefined : keyOf(jwk)
      const usable = own !== undefined && own !== 'bad_key' && own.alg === alg ? own : undefined
      const holds = verifySignature(usable ?? nobodysKey(alg), jws.signingInput, jws.signature)
      if (own === 'bad_key') return 'bad_key'
      if (own !== undefined && usable === undefined) return 'alg_not_allowed'
      return usable !== undefined && holds ? 'good' : 'bad_signature'
    },
  }
}

const publicHalf = (kind: 'P-256' | 'P-384' | 'Ed25519'): JsonWebKey =>
  createPublicKey(freshKey(kind)).export({ format: 'jwk' })

function throwaway(alg: string): JsonWebKey {
  switch (alg) {
    case 'EdDSA':
      return publicHalf('Ed25519')
    case 'ES384':
      return publicHalf('P-384')
    case 'RS256':
    case 'PS256': {
      // Finding primes would hold up the start; a number whose factors nobody knows verifies at the same cost.
      const modulus = randomBytes(256)
      modulus[0]! |= 0x80
      modulus[255]! |= 1
      return { kty: 'RSA', n: modulus.toString('base64url'), e: 'AQAB' }
    }
    default:
      return publicHalf('P-256')
  }
}
