/** Where the next key of a purpose is made: here, or by who signs elsewhere. */
import type { KeyMove } from './key-ring.ts'
import { ALGORITHM, type KeyPurpose } from './key-store.ts'
import type { RemoteSigner } from './remote-signer.ts'
import type { Sealer } from './seal.ts'
import { kidOf, type OpenedKey, type SealedKey, sealFresh, sealRemote } from './sealed-key.ts'

interface Makers {
  readonly sealer: Sealer
  readonly signer?: RemoteSigner
}

export async function newKey(
  { sealer, signer }: Makers,
  purpose: KeyPurpose,
  cause: KeyMove['cause'],
  isKnown: (kid: string) => boolean,
): Promise<SealedKey> {
  if (!signer?.makes(purpose)) return sealFresh(sealer, purpose, ALGORITHM[purpose])
  // The newest there may be none of ours yet: of a try that was cut short, or made by hand. Who has stolen a key may have had it too.
  const newest = cause === 'compromised' ? await signer.make(purpose) : await signer.newest(purpose)
  const made = isKnown(await kidOf(newest.publicJwk)) ? await signer.make(purpose) : newest
  const key = await sealRemote(sealer, purpose, signer.kind, made)
  if (key.alg !== ALGORITHM[purpose])
    throw new Error(`${purpose} needs a key for ${ALGORITHM[purpose]}, not ${key.alg}`)
  return key
}

/** Whether the next key of that purpose will be where this one is. */
export const isMadeAsNow = ({ signer }: Makers, purpose: KeyPurpose, { held }: OpenedKey): boolean =>
  signer?.makes(purpose) ? 'kind' in held && held.kind === signer.kind : 'privateKey' in held
