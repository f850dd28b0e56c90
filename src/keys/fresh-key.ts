/**
 * New key pairs. In Node 20 a key that came straight out of `generateKeyPair` may wait for ever in
 * `export({ format: 'jwk' })`: should what made it be collected meanwhile, that waits for the lock which the export
 * holds. With a key that was read in there is nothing to wait for.
 */
import { createPrivateKey, generateKeyPairSync, type KeyObject } from 'node:crypto'

/** Of P-256: all keys of ours are for ES256. */
export function freshKey(): KeyObject {
  const { privateKey } = generateKeyPairSync('ec', {
    namedCurve: 'P-256',
    privateKeyEncoding: { type: 'pkcs8', format: 'der' },
    publicKeyEncoding: { type: 'spki', format: 'der' },
  })
  return createPrivateKey({ key: privateKey, type: 'pkcs8', format: 'der' })
}
