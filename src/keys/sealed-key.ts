/**
 * A signing key as it rests in the store: its private half, or where that is, sealed under the root key. The public
 * half is taken out of the sealed text: who can write the store cannot make us publish a key of theirs.
 */
import { createPrivateKey, createPublicKey, type KeyObject } from 'node:crypto'
import type { JWK } from 'jose'
import { calculateJwkThumbprint } from 'jose/jwk/thumbprint'
import { freshKeyFor } from './fresh-key.ts'
import type { KeyAlgorithm, KeyPurpose, StoredKey } from './key-store.ts'
import type { RemoteKey, RemoteRef } from './remote-signer.ts'
import type { Sealer } from './seal.ts'
import { algorithmOf } from './sign.ts'

export interface OpenedKey {
  /** Of the key itself: a purpose that is given another algorithm gets it with its next key. */
  readonly alg: KeyAlgorithm
  readonly publicKey: KeyObject
  readonly publicJwk: JWK
  /** Where it is: here, or with the signer of that kind. */
  readonly held: { readonly privateKey: KeyObject } | { readonly kind: string; readonly ref: RemoteRef }
}

export type SealedKey = Pick<StoredKey, 'kid' | 'purpose' | 'alg' | 'publicJwk' | 'sealed'>

const SEAL_LABEL = 'signing-key'
const sealContext = (kid: string, purpose: KeyPurpose) => JSON.stringify([kid, purpose])

/** A prefix of RFC 7638's thumbprint: tokens of a chain name up to four kids and have 2 KB. */
export const kidOf = async (publicJwk: JWK): Promise<string> => (await calculateJwkThumbprint(publicJwk)).slice(0, 16)

async function sealed(sealer: Sealer, purpose: KeyPurpose, publicKey: KeyObject, secret: object): Promise<SealedKey> {
  const publicJwk = publicKey.export({ format: 'jwk' }) as JWK
  const kid = await kidOf(publicJwk)
  const text = sealer.seal(SEAL_LABEL, sealContext(kid, purpose), Buffer.from(JSON.stringify(secret)))
  return { kid, purpose, alg: algorithmOf(publicKey), publicJwk, sealed: text }
}

/** One made here. */
export async function sealFresh(sealer: Sealer, purpose: KeyPurpose, alg: KeyAlgorithm): Promise<SealedKey> {
  const privateKey = await freshKeyFor(alg)
  return sealed(sealer, purpose, createPublicKey(privateKey), privateKey.export({ format: 'jwk' }))
}

/** One that a signer of that kind has. */
export const sealRemote = (
  sealer: Sealer,
  purpose: KeyPurpose,
  kind: string,
  { ref, publicJwk }: RemoteKey,
): Promise<SealedKey> =>
  sealed(sealer, purpose, createPublicKey({ key: publicJwk, format: 'jwk' }), { remote: kind, ref, public: publicJwk })

/** Throws `SealBroken` where it was changed or moved. */
export function unsealKey(sealer: Sealer, { kid, purpose, sealed: text }: StoredKey): OpenedKey {
  const bytes = sealer.open(SEAL_LABEL, sealContext(kid, purpose), text)
  const secret = JSON.parse(Buffer.from(bytes).toString('utf8')) as JWK & {
    readonly remote?: string
    readonly ref?: RemoteRef
    readonly public?: JWK
  }
  const { remote: kind, ref, public: publicHalf } = secret
  if (kind !== undefined && ref !== undefined && publicHalf !== undefined)
    return opened(createPublicKey({ key: publicHalf, format: 'jwk' }), { kind, ref })
  const privateKey = createPrivateKey({ key: secret, format: 'jwk' })
  return opened(createPublicKey(privateKey), { privateKey })
}

const opened = (publicKey: KeyObject, held: OpenedKey['held']): OpenedKey => ({
  alg: algorithmOf(publicKey),
  publicKey,
  publicJwk: publicKey.export({ format: 'jwk' }) as JWK,
  held,
})
