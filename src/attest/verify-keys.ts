/** Imported verification keys, made once per JWK object: a reloaded configuration brings new objects. */
import { type JsonWebKey, randomBytes } from 'node:crypto'
import { importVerifyKey, type VerifyKey, verifySignature } from '@errand/verifier/signature.ts'
import type { ParsedJws } from '@errand/verifier/jws.ts'
import type { JWK } from 'jose'

export interface VerifyKeys {
  /**
   * Whether the signature holds under this key. Without a key, or with one of another algorithm, it is checked all
   * the same against a key that is nobody's: what strangers learn from the time it took is that they are refused.
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
    const read = importVerifyKey({ ...exampleKey(alg), alg }, { algs })
    if (!read.ok) throw new Error(`there is no key for ${alg}`)
    nobody.set(alg, read.value)
    return read.value
  }
  // Read in now, so that the first stranger does not wait longer than the second.
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

/**
 * Public keys that the standards print as examples, since making new ones held up the start. Their private halves are
 * printed there too, and that is nothing to anybody: `check` calls no signature good that holds under one of them.
 */
const EXAMPLES = {
  // RFC 7515 appendix A.3.1
  'P-256': {
    kty: 'EC',
    crv: 'P-256',
    x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
    y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
  },
  // RFC 6979 appendix A.2.6
  'P-384': {
    kty: 'EC',
    crv: 'P-384',
    x: '7DpOQVtOGaRWhhgCn0J_pdqai8SukuAuBqrlKGswDGTe-PDqkFWGYGSiVFFUgLwT',
    y: 'gBXZty19VyROqO-awMYhiWcIpZNn-d-59UyoSz8cnbEoiyMcOuDU_nNE_SUzJkcg',
  },
  // RFC 8037 appendix A.2
  Ed25519: { kty: 'OKP', crv: 'Ed25519', x: '11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo' },
} as const

function exampleKey(alg: string): JsonWebKey {
  switch (alg) {
    case 'EdDSA':
      return EXAMPLES.Ed25519
    case 'ES384':
      return EXAMPLES['P-384']
    case 'RS256':
    case 'PS256': {
      // A number whose factors nobody knows verifies at the same cost as one of two primes.
      const modulus = randomBytes(256)
      modulus[0]! |= 0x80
      modulus[255]! |= 1
      return { kty: 'RSA', n: modulus.toString('base64url'), e: 'AQAB' }
    }
    default:
      return EXAMPLES['P-256']
  }
}
