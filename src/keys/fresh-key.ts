/**
 * New key pairs. In Node 20 a key that came straight out of `generateKeyPair` may wait for ever in
 * `export({ format: 'jwk' })`: should what made it be collected meanwhile, that waits for the lock which the export
 * holds. With a key that was read in there is nothing to wait for.
 */
import { createPrivateKey, generateKeyPair, generateKeyPairSync, type KeyObject } from 'node:crypto'
import type { KeyAlgorithm } from './key-store.ts'

const PRIVATE = { type: 'pkcs8', format: 'der' } as const
const PUBLIC = { type: 'spki', format: 'der' } as const
const RSA_BITS = 2048 // RFC 7518 §3.3: at least; each verifier checks it, and what it signs lives for minutes

const readIn = (key: Buffer): KeyObject => createPrivateKey({ key, ...PRIVATE })

/** Of P-256, for ES256. */
export function freshKey(): KeyObject {
  return readIn(
    generateKeyPairSync('ec', { namedCurve: 'P-256', privateKeyEncoding: PRIVATE, publicKeyEncoding: PUBLIC })
      .privateKey,
  )
}

export async function freshKeyFor(alg: KeyAlgorithm): Promise<KeyObject> {
  switch (alg) {
    case 'ES256':
      return freshKey()
    case 'EdDSA':
      return readIn(
        generateKeyPairSync('ed25519', { privateKeyEncoding: PRIVATE, publicKeyEncoding: PUBLIC }).privateKey,
      )
    case 'RS256':
      return freshRsaKey()
  }
}

/** Its two primes may take a second to find: requests are served meanwhile. */
const freshRsaKey = (): Promise<KeyObject> =>
  new Promise((resolve, reject) => {
    generateKeyPair(
      'rsa',
      { modulusLength: RSA_BITS, privateKeyEncoding: PRIVATE, publicKeyEncoding: PUBLIC },
      (error, _publicKey, privateKey) => (error ? reject(error) : resolve(readIn(privateKey))),
    )
  })
