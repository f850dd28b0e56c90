/**
 * Signatures with the algorithm pinned by the key: what a header says never chooses it. By node:crypto at once, or by
 * jose where there is none.
 */
import type * as NodeCrypto from 'node:crypto'
import type { JsonWebKey, KeyObject } from 'node:crypto'
import { decodeBase64url, encodeBase64url } from './base64url.ts'
import { type Checked, fail, pass } from './checked.ts'
import { nodeCrypto, requireNodeCrypto, sha256Base64url } from './crypto.ts'
import { isOnCurve } from './curve-point.ts'
import type { ParsedJws } from './jws.ts'
import { isJsonObject } from './strict-json.ts'
import { isRocaModulus } from './weak-rsa.ts'
import { isUsableEd25519Point } from './ed25519.ts'

export const SIGNATURE_ALGS = ['ES256', 'ES384', 'EdDSA', 'RS256', 'PS256'] as const
export type SignatureAlg = (typeof SIGNATURE_ALGS)[number]

export interface PublicJwk {
  readonly kty: 'EC' | 'OKP' | 'RSA'
  readonly crv?: string
  readonly x?: string
  readonly y?: string
  readonly n?: string
  readonly e?: string
}

export interface VerifyKey {
  readonly alg: SignatureAlg
  /** Node's; undefined in a runtime without node:crypto, where jose makes its own from `jwk`. */
  readonly key: KeyObject | undefined
  readonly kid?: string
  /** The members that make the key, nothing else. */
  readonly jwk: PublicJwk
}

const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'k'] as const
/** RFC 7518 §6: a symmetric key, or one that holds its private half. */
export function holdsSecret(jwk: { readonly [name: string]: unknown }): boolean {
  if (jwk['kty'] === 'oct') return true
  for (const name of PRIVATE_MEMBERS) if (jwk[name] !== undefined) return true
  return false
}

/**
 * Reads a public key for verification. Where the key does not name its algorithm, its kind does; an RSA key without
 * `alg` serves the one RSA algorithm that is allowed, and none where two are.
 */
export function importVerifyKey(jwk: unknown, rule: ImportRule): Checked<VerifyKey> {
  const read = readKey(jwk, rule)
  if (!read.ok) return read
  try {
    const key = nodeCrypto?.createPublicKey({ key: read.value.jwk as JsonWebKey, format: 'jwk' })
    const { alg, jwk: members, kid } = read.value
    return pass(kid === undefined ? { alg, key, jwk: members } : { alg, key, jwk: members, kid })
  } catch {
    return OFF_CURVE
  }
}

/**
 * The same, where the answer may be waited for. Node multiplies the point of a JWK by the order of its group; of a
 * point on a curve whose cofactor is 1 that says nothing (NIST SP 800-56A §5.6.2.3.4), and takes as long as a
 * signature check. The point by itself is only looked for on its curve.
 */
export function importVerifyKeySoon(jwk: unknown, rule: ImportRule): Checked<VerifyKey> | Promise<Checked<VerifyKey>> {
  const read = readKey(jwk, rule)
  if (!read.ok) return read
  if (!nodeCrypto || read.value.alg !== 'ES256') return importVerifyKey(jwk, rule)
  return importPoint(nodeCrypto, read.value)
}

async function importPoint(node: typeof NodeCrypto, read: ReadKey): Promise<Checked<VerifyKey>> {
  const { alg, jwk, kid } = read
  const point = Buffer.allocUnsafe(1 + 2 * P256_BYTES)
  point[0] = UNCOMPRESSED
  point.write(jwk.x!, 1, 'base64url')
  point.write(jwk.y!, 1 + P256_BYTES, 'base64url')
  try {
    const key = node.KeyObject.from(await node.webcrypto.subtle.importKey('raw', point, P256, true, ['verify']))
    return pass(kid === undefined ? { alg, key, jwk } : { alg, key, jwk, kid })
  } catch {
    return OFF_CURVE
  }
}

const OFF_CURVE = fail('bad_key', 'not a point of its curve')
const P256 = { name: 'ECDSA', namedCurve: 'P-256' }
const P256_BYTES = 32
/** SEC 1 §2.3.3 */
const UNCOMPRESSED = 4

interface ImportRule {
  readonly algs: readonly string[]
}
type ReadKey = Omit<VerifyKey, 'key'>

function readKey(jwk: unknown, { algs }: ImportRule): Checked<ReadKey> {
  if (!isJsonObject(jwk)) return fail('bad_key', 'not a JWK')
  if (holdsSecret(jwk)) return fail('bad_key', 'not a public key')
  if (jwk['use'] !== undefined && jwk['use'] !== 'sig') return fail('bad_key', 'not a signature key') // RFC 7517 §4.2
  const operations = jwk['key_ops']
  if (operations !== undefined && !(Array.isArray(operations) && operations.includes('verify')))
    return fail('bad_key', 'not a key for verification') // RFC 7517 §4.3
  const members = publicMembers(jwk)
  if (!members) return fail('bad_key', 'malformed, weak or of an unsupported kind')
  const candidates = algsOf(members).filter((alg) => algs.includes(alg))
  const named = jwk['alg']
  const alg = named === undefined ? candidates[0] : candidates.find((candidate) => candidate === named)
  if (alg === undefined || (named === undefined && candidates.length > 1))
    return fail('bad_key', 'its kind and alg do not make an allowed algorithm')
  const kid = jwk['kid']
  return pass(typeof kid === 'string' ? { alg, jwk: members, kid } : { alg, jwk: members })
}

const algsOf = (jwk: PublicJwk): readonly SignatureAlg[] =>
  jwk.kty === 'RSA' ? ['RS256', 'PS256'] : jwk.kty === 'OKP' ? ['EdDSA'] : jwk.crv === 'P-256' ? ['ES256'] : ['ES384']

function publicMembers(jwk: { readonly [name: string]: unknown }): PublicJwk | undefined {
  const { kty, crv, x, y, n, e } = jwk
  if (kty === 'EC' && (crv === 'P-256' || crv === 'P-384')) {
    // RFC 7518 §6.2.1.2: a coordinate has the full length of its field.
    const form = crv === 'P-256' ? BYTES_32 : BYTES_48
    if (typeof x !== 'string' || typeof y !== 'string' || !form.test(x) || !form.test(y)) return undefined
    // Node's own import says that too, and in less time.
    if (!nodeCrypto && !isOnCurve(crv, bytesOf(x)!, bytesOf(y)!)) return undefined
    return { kty, crv, x, y }
  }
  if (kty === 'OKP' && crv === 'Ed25519') {
    const point = bytesOf(x)
    return point && isUsableEd25519Point(point) ? { kty, crv, x: x as string } : undefined
  }
  if (kty === 'RSA') {
    const modulus = bytesOf(n)
    const exponent = bytesOf(e)
    if (!modulus || !exponent) return undefined
    // RFC 7518 §3.3 wants 2048 bits at least; the upper bounds keep a check from becoming work.
    const bits = modulus.length * 8 - Math.clz32(modulus[0] ?? 0) + 24
    if (modulus[0] === 0 || bits < 2048 || bits > 8192 || modulus.at(-1)! % 2 === 0) return undefined
    // A public exponent below 2^16+1 makes padding mistakes exploitable.
    const power = exponent.length <= 4 ? exponent.reduce((sum, byte) => sum * 256 + byte, 0) : 0
    if (exponent[0] === 0 || power < 65_537 || power % 2 === 0) return undefined
    return isRocaModulus(modulus) ? undefined : { kty, n: n as string, e: e as string }
  }
  return undefined
}

// Canonical base64url: of 32 bytes the last character carries two unused bits, which are zero.
const BYTES_32 = /^[A-Za-z0-9_-]{42}[AEIMQUYcgkosw048]$/
const BYTES_48 = /^[A-Za-z0-9_-]{64}$/

const bytesOf = (member: unknown): Uint8Array | undefined => {
  if (typeof member !== 'string' || member === '') return undefined
  return decodeBase64url(member)
}

const SIGNATURE_BYTES: Partial<Record<SignatureAlg, number>> = { ES256: 64, ES384: 96, EdDSA: 64 }

/** Written anew and read within one call: a new one for each is rubbish that outlives many small ones. */
const scratch = nodeCrypto && Buffer.allocUnsafeSlow(16_384)
const bytesOfInput = (text: string): Uint8Array =>
  scratch && text.length <= scratch.length
    ? scratch.subarray(0, scratch.write(text, 'latin1'))
    : Buffer.from(text, 'latin1')

/** By node:crypto. Whatever is not a signature of this key over this input is false, never an error. */
export function verifySignature({ alg, key }: VerifyKey, signingInput: string, signature: Uint8Array): boolean {
  const { constants, verify } = requireNodeCrypto()
  if (!key) return false
  const length = SIGNATURE_BYTES[alg]
  if (length !== undefined && signature.length !== length) return false
  const data = bytesOfInput(signingInput)
  try {
    switch (alg) {
      case 'ES256':
        return verify('sha256', data, { key, dsaEncoding: 'ieee-p1363' }, signature) // RFC 7518 §3.4
      case 'ES384':
        return verify('sha384', data, { key, dsaEncoding: 'ieee-p1363' }, signature)
      case 'EdDSA':
        return verify(null, data, key, signature) // RFC 8037 §3.1
      case 'RS256':
        return verify('sha256', data, { key, padding: constants.RSA_PKCS1_PADDING }, signature)
      case 'PS256': // RFC 7518 §3.5: the salt is as long as the hash
        return verify('sha256', data, { key, padding: constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }, signature)
    }
  } catch {
    return false
  }
}

/** The header's `alg` must be the key's own, and the signature must hold. */
export function checkSignature(
  jws: Pick<ParsedJws, 'header' | 'signingInput' | 'signature'>,
  key: VerifyKey,
): Checked<true> {
  if (jws.header['alg'] !== key.alg) return fail('alg_not_allowed')
  return verifySignature(key, jws.signingInput, jws.signature) ? pass(true) : fail('bad_signature')
}

/** The same in any runtime: at once where there is node:crypto, by jose elsewhere. */
export function checkSignatureAnywhere(
  jws: Pick<ParsedJws, 'header' | 'signingInput' | 'signature' | 'text'>,
  key: VerifyKey,
): Checked<true> | Promise<Checked<true>> {
  return nodeCrypto ? checkSignature(jws, key) : checkByJose(jws, key)
}

async function checkByJose(
  { header, text }: Pick<ParsedJws, 'header' | 'text'>,
  { alg, jwk }: VerifyKey,
): Promise<Checked<true>> {
  if (header['alg'] !== alg) return fail('alg_not_allowed')
  // Only where it is needed: on Node nobody waits for jose to load.
  const { compactVerify } = await import('jose')
  try {
    await compactVerify(text, jwk, { algorithms: [alg] })
    return pass(true)
  } catch {
    return fail('bad_signature')
  }
}

/** Signs with a private P-256 JWK, in any runtime. Throws a TypeError for any other key. */
export function es256Signer(jwk: JsonWebKey): (header: object, payload: object) => string | Promise<string> {
  const { kty, crv, x, y, d } = jwk
  if (kty !== 'EC' || crv !== 'P-256' || typeof x !== 'string' || typeof y !== 'string' || typeof d !== 'string')
    throw new TypeError('key must be a private P-256 JWK')
  if (nodeCrypto) {
    const privateKey = nodeCrypto.createPrivateKey({ key: jwk, format: 'jwk' })
    return (header, payload) => signEs256(privateKey, header, payload)
  }
  const key = { kty, crv, x, y, d }
  return async (header, payload) => {
    const { CompactSign } = await import('jose')
    const text = new TextEncoder().encode(JSON.stringify(payload))
    return new CompactSign(text).setProtectedHeader({ ...header, alg: 'ES256' }).sign(key)
  }
}

/** Signs a JWT with a P-256 key, by node:crypto; `alg` comes from here and cannot be given. */
export function signEs256(privateKey: KeyObject, header: object, payload: object | string): string {
  const { sign } = requireNodeCrypto()
  const input = `${encodeBase64url(JSON.stringify({ ...header, alg: 'ES256' }))}.${encodeBase64url(typeof payload === 'string' ? payload : JSON.stringify(payload))}`
  const signature = sign('sha256', Buffer.from(input, 'latin1'), { key: privateKey, dsaEncoding: 'ieee-p1363' })
  return `${input}.${signature.toString('base64url')}`
}

const PLAIN = /^[A-Za-z0-9_-]+$/
/** Text that JSON writes as it is. */
const isPlain = (member: unknown): member is string => typeof member === 'string' && PLAIN.test(member)

/** RFC 7638 §3: SHA-256 over the required members in order, base64url. Throws for a key of another kind. */
export function jwkThumbprint(jwk: { readonly [name: string]: unknown } | PublicJwk): string {
  const { kty, crv, x, y, n, e } = jwk as { readonly [name: string]: unknown }
  if (kty === 'EC' && isPlain(crv) && isPlain(x) && isPlain(y))
    return sha256Base64url(`{"crv":"${crv}","kty":"EC","x":"${x}","y":"${y}"}`)
  const required =
    kty === 'EC' ? { crv, kty, x, y } : kty === 'OKP' ? { crv, kty, x } : kty === 'RSA' ? { e, kty, n } : undefined
  if (!required || Object.values(required).some((member) => typeof member !== 'string'))
    throw new TypeError('a thumbprint is made of a public EC, OKP or RSA key')
  return sha256Base64url(JSON.stringify(required))
}
