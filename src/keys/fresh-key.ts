/**
 * New key pairs. In Node 20 a key that came straight out of `generateKeyPair` may wait for ever in
 * `export({ format: 'jwk' })`: should what made it be collected meanwhile, that waits for the lock which the export
 * holds. With a key that was read in there is nothing to wait for.
 */
import { createPrivateKey, type ED25519KeyPairOptions, generateKeyPairSync, type KeyObject } from 'node:crypto'

const ENCODED: ED25519KeyPairOptions<'der', 'der'> = {
  privateKeyEncoding: { type: 'pkcs8', format: 'der' },
  publicKeyEncoding: { type: 'spki', format: 'der' },
}

export function freshKey(kind: 'P-256' | 'P-384' | 'Ed25519' = 'P-256'): KeyObject {
  const { privateKey } =
    kind === 'Ed25519'
      ? generateKeyPairSync('ed25519', ENCODED)
      : generateKeyPairSync('ec', { namedCurve: kind, ...ENCODED })
  return createPrivateKey({ key: privateKey, type: 'pkcs8', format: 'der' })
}
