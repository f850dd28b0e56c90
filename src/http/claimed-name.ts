/** Whom a caller claims to be, for rate limits and nonces, before anything is verified. */
import { parseJws } from '@errand/verifier/jws.ts'
import { type ClaimedClient, clientHint } from '../attest/client-hint.ts'
import { platformClientId } from '../attest/platform.ts'
import type { HttpDeps } from './deps.ts'

/**
 * The client id of whoever an assertion or a parameter names; the empty text where nobody is named. A lie gains
 * nothing: the nonce is then bound to somebody the caller cannot authenticate as.
 */
export function claimedName(
  { snapshot }: Pick<HttpDeps, 'snapshot'>,
  claim: ClaimedClient & {
    /** An authorization grant that comes without evidence beside it: a platform's, for one of its agents. */
    readonly grant?: string
  },
): string {
  const { agents, platforms } = snapshot()
  const claimed = (claim.grant === undefined ? undefined : granted(claim.grant, platforms)) ?? clientHint(claim, agents)
  return claimed === undefined || claimed.length > 256 ? '' : claimed
}

function granted(grant: string, platforms: ReturnType<HttpDeps['snapshot']>['platforms']): string | undefined {
  const jws = parseJws(grant)
  if (!jws.ok) return undefined
  const platform = platforms.of(jws.value.payload)
  const { sub } = jws.value.payload
  return platform && typeof sub === 'string' ? platformClientId(platform, sub) : undefined
}
