/**
 * New key pairs for tests, read in again: in Node 20 a key that came straight out of `generateKeyPair` may wait for ever
 * in `export({ format: 'jwk' })` (src/keys/fresh-key.ts).
 */
import {
  createPrivateKey,
  createPublicKey,
  type ED25519KeyPairOptions,
  generateKeyPairSync as generate,
  type KeyObject,
} from 'node:crypto'

const ENCODED: ED25519KeyPairOptions<'pem', 'pem'> = {
  privateKeyEncoding: { type: 'pkcs8', format: 'pem' },
  publicKeyEncoding: { type: 'spki', format: 'pem' },
}

type Options = { readonly namedCurve?: string; readonly modulusLength?: number; readonly publicExponent?: number }

export function generateKeyPairSync(
  kind: 'ec' | 'rsa' | 'ed25519',
  { namedCurve = 'P-256', modulusLength = 2048, publicExponent = 65_537 }: Options = {},
): { readonly privateKey: KeyObject; readonly publicKey: KeyObject } {
  const { privateKey } =
    kind === 'ec'
      ? generate('ec', { namedCurve, ...ENCODED })
      : kind === 'rsa'
        ? generate('rsa', { modulusLength, publicExponent, ...ENCODED })
        : generate('ed25519', ENCODED)
  return { privateKey: createPrivateKey(privateKey), publicKey: createPublicKey(privateKey) }
}
