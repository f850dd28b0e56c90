/** Reads public keys strictly: one bad key refuses the whole set, and each key is pinned to its one algorithm. */
import { importVerifyKey } from '@errand/verifier/signature.ts'
import type { JWK } from '../attest/registration.ts'

export type KeyAlgorithm = 'ES256' | 'EdDSA' | 'RS256' | 'PS256' | 'ES384'

export type KeyReading =
  | { readonly ok: true; readonly keys: readonly JWK[] }
  | { readonly ok: false; readonly why: string }

const MAX_KEYS = 64
const KID = /^[\u0021-\u007e]{1,128}$/

const CURVE_ALGORITHM: Readonly<Record<string, KeyAlgorithm>> = { 'P-256': 'ES256', 'P-384': 'ES384', Ed25519: 'EdDSA' }

/** `value`: a JWK, a JWKS, or a list of JWKs. */
export function readPublicKeys(value: unknown, algorithms: readonly KeyAlgorithm[]): KeyReading {
  const fail = (why: string): KeyReading => ({ ok: false, why })
  const list = Array.isArray(value) ? value : isRecord(value) && 'keys' in value ? value['keys'] : [value]
  if (!Array.isArray(list)) return fail('"keys" is not a list')
  if (list.length === 0) return fail('there is no key in it')
  if (list.length > MAX_KEYS) return fail(`more than ${MAX_KEYS} keys`)
  const keys: JWK[] = []
  const seen = new Set<string>()
  for (const entry of list) {
    if (!isRecord(entry)) return fail('a key is not an object')
    if (entry['kty'] === 'oct' || 'k' in entry) return fail('a symmetric key is no public key')
    for (const member of ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth'])
      if (member in entry) return fail('a private key is published')
    const { kid } = entry
    if (typeof kid !== 'string' || !KID.test(kid)) return fail('a key has no usable kid')
    if (seen.has(kid)) return fail(`the kid ${JSON.stringify(kid)} stands twice`)
    seen.add(kid)
    // Keys for other purposes are nobody's mistake; they are not taken.
    if (entry['use'] !== undefined && entry['use'] !== 'sig') continue
    const alg = algorithmOf(entry, algorithms)
    if (alg === 'skip') continue
    if (alg === 'bad') return fail(`the key ${JSON.stringify(kid)} does not fit its algorithm`)
    const sound = importVerifyKey({ ...entry, alg }, { algs: [alg] })
    if (!sound.ok) return fail(`the key ${JSON.stringify(kid)}: ${sound.detail ?? 'not a sound public key'}`)
    keys.push({ ...sound.value.jwk, kid, alg, use: 'sig' })
  }
  return keys.length === 0 ? fail(`it has no key for ${algorithms.join(', ')}`) : { ok: true, keys }
}

function algorithmOf(key: Record<string, unknown>, algorithms: readonly KeyAlgorithm[]): KeyAlgorithm | 'skip' | 'bad' {
  const { kty, crv, alg } = key
  if (kty === 'RSA') {
    const possible = algorithms.filter((name) => name === 'RS256' || name === 'PS256')
    // Without `alg` the configuration pins it, where it leaves no choice.
    if (alg === undefined) return possible.length === 1 ? possible[0]! : possible.length === 0 ? 'skip' : 'bad'
    if (typeof alg !== 'string' || !/^(?:RS|PS)(?:256|384|512)$/.test(alg))
      return alg === 'RSA-OAEP' || alg === 'RSA-OAEP-256' ? 'skip' : 'bad'
    return possible.find((name) => name === alg) ?? 'skip'
  }
  if ((kty !== 'EC' && kty !== 'OKP') || typeof crv !== 'string') return 'bad'
  const fitting = Object.hasOwn(CURVE_ALGORITHM, crv) ? CURVE_ALGORITHM[crv]! : undefined
  if (fitting === undefined) return algorithms.includes(alg as KeyAlgorithm) ? 'bad' : 'skip'
  // RFC 9864 gives Ed25519 a name of its own.
  if (alg !== undefined && alg !== fitting && !(fitting === 'EdDSA' && alg === 'Ed25519')) return 'bad'
  return algorithms.includes(fitting) ? fitting : 'skip'
}

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)
