/** Opens what the configuration names as signer of keys that are not here. */
import type { Fetch } from '@errand/verifier/http.ts'
import type { SigningSource } from '../config/signing-source.ts'
import { createTransitSigner, type TransitSigner } from './vault/transit-signer.ts'

/** Nobody is waited for: a service whose keys are elsewhere starts, and revokes, also while they cannot be reached. */
export const openSigner = (
  source: SigningSource | undefined,
  deps: { readonly fetch: Fetch; readonly monotonic: () => number },
): TransitSigner | undefined => {
  const signer = source && createTransitSigner(source.vault_transit, deps)
  signer?.begin()
  return signer
}
