/** Which keys and signature algorithms count in a certificate: a short list, and everything else is refused. */
import { createPublicKey, type KeyObject, verify } from 'node:crypto'
import { cursor, DerError, only, readBytesOfBits, readInteger, readOid, TAG } from './der.ts'

/** What a public key is, as far as the algorithms that may be used with it go. */
export type KeyFamily = 'rsa' | 'p256' | 'p384' | 'ed25519'

export interface SubjectKey {
  /** SubjectPublicKeyInfo in DER. */
  readonly spki: Uint8Array
  /** Absent where the policy admits no such key. */
  readonly family?: KeyFamily
}

const RSA = '1.2.840.113549.1.1.1'
const EC = '1.2.840.10045.2.1'
const ED25519 = '1.3.101.112'
const CURVES: Readonly<Record<string, KeyFamily>> = { '1.2.840.10045.3.1.7': 'p256', '1.3.132.0.34': 'p384' }

const MIN_RSA_BITS = 2048
/** Above this a verification costs more than what it protects. */
const MAX_RSA_BITS = 8192

/** Reads SubjectPublicKeyInfo (RFC 5280 §4.1.2.7, RFC 3279 §2.3, RFC 5480 §2.1, RFC 8410 §4). */
export function readSubjectKey(spki: Uint8Array): SubjectKey {
  const at = cursor(only(spki, TAG.sequence).body)
  const algorithm = cursor(at.take(TAG.sequence).body)
  const key = readBytesOfBits(at.take(TAG.bitString))
  at.end()
  const oid = readOid(algorithm.take(TAG.oid))
  if (oid === ED25519) {
    algorithm.end()
    return { spki, family: 'ed25519' }
  }
  if (oid === EC) {
    const curve = algorithm.any()
    algorithm.end()
    // Explicit parameters describe a curve of the signer's own choosing (CVE-2020-0601).
    const family = curve.tag === TAG.oid ? CURVES[readOid(curve)] : undefined
    return family === undefined || key[0] !== 0x04 ? { spki } : { spki, family }
  }
  if (oid === RSA) {
    if (algorithm.take(TAG.null).body.length !== 0) throw new DerError('NULL with content')
    algorithm.end()
    const numbers = cursor(only(key, TAG.sequence).body)
    const modulus = readInteger(numbers.take(TAG.integer))
    const exponent = readInteger(numbers.take(TAG.integer))
    numbers.end()
    const bits = modulus[0] === 0 ? (modulus.length - 1) * 8 : 0
    const usual = exponent.length <= 4 && (exponent[exponent.length - 1]! & 1) === 1 && exponent.length >= 3
    // A first byte of 00 followed by a high bit: a positive number whose length is a multiple of 8 bits.
    return bits >= MIN_RSA_BITS && bits <= MAX_RSA_BITS && usual ? { spki, family: 'rsa' } : { spki }
  }
  return { spki }
}

interface Signing {
  readonly hash: 'sha256' | 'sha384' | 'sha512' | null
  readonly families: readonly KeyFamily[]
}

/** Signature algorithms by their whole AlgorithmIdentifier in hex, so that parameters cannot differ. No SHA-1, no MD5. */
const ALGORITHMS: Readonly<Record<string, Signing>> = {
  '300d06092a864886f70d01010b0500': { hash: 'sha256', families: ['rsa'] }, // RFC 4055 §5
  '300d06092a864886f70d01010c0500': { hash: 'sha384', families: ['rsa'] },
  '300d06092a864886f70d01010d0500': { hash: 'sha512', families: ['rsa'] },
  '300a06082a8648ce3d040302': { hash: 'sha256', families: ['p256', 'p384'] }, // RFC 5758 §3.2
  '300a06082a8648ce3d040303': { hash: 'sha384', families: ['p256', 'p384'] },
  '300a06082a8648ce3d040304': { hash: 'sha512', families: ['p256', 'p384'] },
  '300506032b6570': { hash: null, families: ['ed25519'] }, // RFC 8410 §3
}

export const signingOf = (algorithm: Uint8Array): Signing | undefined => {
  const hex = Buffer.from(algorithm).toString('hex')
  return Object.hasOwn(ALGORITHMS, hex) ? ALGORITHMS[hex] : undefined
}

export function keyObject({ spki }: SubjectKey): KeyObject | undefined {
  try {
    return createPublicKey({ key: Buffer.from(spki), format: 'der', type: 'spki' })
  } catch {
    return undefined // a point off the curve, among others
  }
}

/** Whether `signature` over `data` was made by `key`; false where key and algorithm do not go together. */
export function signedBy(key: SubjectKey, algorithm: Uint8Array, data: Uint8Array, signature: Uint8Array): boolean {
  const signing = signingOf(algorithm)
  if (signing === undefined || key.family === undefined || !signing.families.includes(key.family)) return false
  const object = keyObject(key)
  if (object === undefined) return false
  try {
    return verify(signing.hash, data, object, signature)
  } catch {
    return false
  }
}
