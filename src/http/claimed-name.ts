/** Whom a caller claims to be, for rate limits and nonces, before anything is verified. */
import { type ClaimedClient, clientHint } from '../attest/client-hint.ts'
import type { HttpDeps } from './deps.ts'

/**
 * The client id of whoever an assertion or a parameter names; the empty text where nobody is named. A lie gains
 * nothing: the nonce is then bound to somebody the caller cannot authenticate as.
 */
export function claimedName({ snapshot }: Pick<HttpDeps, 'snapshot'>, claim: ClaimedClient): string {
  const claimed = clientHint(claim, snapshot().agents)
  return claimed === undefined || claimed.length > 256 ? '' : claimed
}
