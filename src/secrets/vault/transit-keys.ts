/** Keys of a transit engine: what Vault says of them, and the signatures that it makes. */
import { createHash, createPublicKey } from 'node:crypto'
import type { KeyAlgorithm } from '../../keys/key-store.ts'
import type { RemoteKey } from '../../keys/remote-signer.ts'
import { segments } from './vault-login.ts'
import { type Json, VaultFailure, type VaultPath, type VaultPort } from './vault-port.ts'

export interface TransitKey {
  readonly mount: string
  readonly key: string
}

export interface TransitFacts {
  readonly type: string
  readonly versions: number
  /** Of the newest version. */
  readonly version: number
  readonly publicJwk: RemoteKey['publicJwk']
  /** By which its private half, or all of it, could leave Vault or be lost. */
  readonly loose: readonly string[]
}

const TYPES: Readonly<Record<KeyAlgorithm, readonly string[]>> = {
  ES256: ['ecdsa-p256'],
  EdDSA: ['ed25519'],
  RS256: ['rsa-2048', 'rsa-3072', 'rsa-4096'],
}
const LOOSE = ['exportable', 'allow_plaintext_backup', 'deletion_allowed'] as const

export const pathOf = ({ mount, key }: TransitKey, ...[verb, after]: readonly string[]): VaultPath => [
  ...segments(mount),
  verb!,
  key,
  ...(after === undefined ? [] : [after]),
]

/** Throws `VaultFailure` where it is not there, or none that signs by `alg`. */
export async function readKey(vault: VaultPort, key: TransitKey, alg: KeyAlgorithm): Promise<TransitFacts> {
  const { type, derived, latest_version: version, keys, ...rest } = dataOf(await vault.read(pathOf(key, 'keys')))
  if (typeof type !== 'string' || !TYPES[alg].includes(type) || derived === true)
    throw new VaultFailure(`${key.mount}/${key.key} is no key of type ${TYPES[alg].join(' or ')}`)
  const versions = (typeof keys === 'object' && keys !== null ? keys : {}) as Json
  const newest = (versions[String(version)] ?? {}) as Json
  const publicJwk = publicHalf(alg, newest['public_key'])
  if (typeof version !== 'number' || !publicJwk)
    throw new VaultFailure(`Vault answered without the public half of ${key.mount}/${key.key}`)
  const loose = LOOSE.filter((name) => rest[name] === true)
  return { type, versions: Object.keys(versions).length, version, publicJwk, loose }
}

export const rotateKey = async (vault: VaultPort, key: TransitKey): Promise<void> =>
  void (await vault.write(pathOf(key, 'keys', 'rotate'), {}))

/** PEM, but for Ed25519 the bytes of the point. Its numbers alone, so that its thumbprint is what everybody computes. */
function publicHalf(alg: KeyAlgorithm, text: unknown): RemoteKey['publicJwk'] | undefined {
  if (typeof text !== 'string') return undefined
  try {
    if (alg !== 'EdDSA') {
      const key = createPublicKey(text)
      // RFC 7518 §3.3, whatever its type is said to be.
      if (alg === 'RS256' && (key.asymmetricKeyDetails?.modulusLength ?? 0) < 2048) return undefined
      return key.export({ format: 'jwk' }) as RemoteKey['publicJwk']
    }
    const raw = Buffer.from(text, 'base64')
    return raw.length === 32 ? { kty: 'OKP', crv: 'Ed25519', x: raw.toString('base64url') } : undefined
  } catch {
    return undefined
  }
}

const SIGNATURE = /^vault:v([0-9]{1,9}):([A-Za-z0-9+/_-]{86,1024}={0,2})$/

/** By that version and no other. What comes back is a signature by its form alone: whose it is, the caller looks. */
export async function signWithKey(
  vault: VaultPort,
  key: TransitKey & { readonly version: number },
  alg: KeyAlgorithm,
  bytes: Uint8Array,
  timeoutMs: number,
): Promise<Uint8Array> {
  const asked = { key_version: key.version, ...question(alg, bytes) }
  const answer = dataOf(await vault.write(pathOf(key, 'sign'), asked, timeoutMs))
  const [, version, text] = SIGNATURE.exec(typeof answer['signature'] === 'string' ? answer['signature'] : '') ?? []
  if (text === undefined) throw new VaultFailure('Vault answered without a signature of its transit engine')
  if (Number(version) !== key.version) throw new VaultFailure('Vault signed by another version of the key')
  return Buffer.from(text, 'base64url') // which reads either alphabet
}

function question(alg: KeyAlgorithm, bytes: Uint8Array): Json {
  // RFC 8032 §5.1: Ed25519 hashes by itself, and over the whole text.
  if (alg === 'EdDSA') return { input: Buffer.from(bytes).toString('base64') }
  // The digest alone: what a token says is not for Vault, nor for its audit.
  const input = createHash('sha256').update(bytes).digest('base64')
  const hashed = { input, prehashed: true, hash_algorithm: 'sha2-256' }
  return alg === 'ES256' ? { ...hashed, marshaling_algorithm: 'jws' } : { ...hashed, signature_algorithm: 'pkcs1v15' }
}

const dataOf = (answer: Json): Json =>
  typeof answer['data'] === 'object' && answer['data'] !== null ? (answer['data'] as Json) : {}
