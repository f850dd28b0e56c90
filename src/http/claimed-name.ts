/** Whom a caller claims to be, for rate limits and nonces, before anything is verified. */
import { clientHint } from '../attest/client-hint.ts'
import type { HttpDeps } from './deps.ts'

/**
 * The client id of whoever an assertion or a parameter names; the empty text where nobody is named. A lie gains
 * nothing: the nonce is then bound to somebody the caller cannot authenticate as.
 */
export function claimedName(
  { snapshot }: Pick<HttpDeps, 'snapshot'>,
  claim: { readonly clientId?: string; readonly assertion?: string },
): string {
  const claimed = clientHint(claim)
  if (claimed === undefined || claimed.length > 256) return ''
  if (!claimed.startsWith('spiffe://')) return claimed
  return snapshot().agents.bySpiffeId(claimed)?.clientId ?? claimed
}
