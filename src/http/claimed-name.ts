/** Whom a caller claims to be, for rate limits and nonces, before anything is verified. */
import { parseJws } from '@errand/verifier/jws.ts'
import { type ClaimedClient, clientHint } from '../attest/client-hint.ts'
import { platformClientId } from '../attest/platform.ts'
import { createRemembered, createSecondSight, ownText } from '../attest/remembered.ts'
import type { HttpDeps } from './deps.ts'

export type Claim = ClaimedClient & {
  /** An authorization grant that comes without evidence beside it: a platform's, for one of its agents. */
  readonly grant?: string
}

/** Whom evidence that was good named: it is shown again and again, and read once while the configuration lasts. */
export interface ClaimedNames {
  of(claim: Claim): string | undefined
  proven(claim: Claim, name: string): void
}

export function createClaimedNames({ snapshot }: Pick<HttpDeps, 'snapshot'>): ClaimedNames {
  const known = createRemembered<string>(MAX_REMEMBERED)
  const cameBefore = createSecondSight()
  let read: unknown
  // Of evidence alone: whatever else is there has a word in it too.
  const keyOf = ({ assertion, clientId, held, grant }: Claim): string | undefined =>
    clientId === undefined && held === undefined && grant === undefined ? assertion : undefined
  return {
    of: (claim) => {
      const key = keyOf(claim)
      if (key === undefined) return undefined
      const now = snapshot()
      if (now !== read) {
        known.clear()
        read = now
      }
      return known.get(key)
    },
    proven: (claim, name) => {
      const key = keyOf(claim)
      if (key === undefined || key.length > MAX_LENGTH || snapshot() !== read || known.get(key) !== undefined) return
      if (!cameBefore(key)) return
      known.put(ownText(key), name)
    },
  }
}
const MAX_REMEMBERED = 2_000
const MAX_LENGTH = 4096

/**
 * The client id of whoever an assertion or a parameter names; the empty text where nobody is named. A lie gains
 * nothing: the nonce is then bound to somebody the caller cannot authenticate as.
 */
export function claimedName({ snapshot }: Pick<HttpDeps, 'snapshot'>, claim: Claim): string {
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
