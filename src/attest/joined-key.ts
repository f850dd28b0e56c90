/**
 * Evidence of tier `key`: an assertion as of `private_key_jwt`, signed by a key that the agent registered itself with a
 * join token. The key is looked up each time, so that one that was removed proves nothing from then on.
 */
import type { JWK } from 'jose'
import { ok, refuse } from '../oauth/refusal.ts'
import type { AgentLookup, Attestor } from './attestor.ts'
import type { ClientAssertions } from './client-assertion.ts'
import type { Joining } from './joining.ts'
import { createRemembered } from './remembered.ts'

const MAX_REMEMBERED = 10_000
/** RFC 7638, SHA-256: nothing else was ever registered, so nothing else is looked for (B1). */
const THUMBPRINT = /^[A-Za-z0-9_-]{43}$/

export function createJoinedKey(deps: {
  readonly assertions: ClientAssertions
  readonly agents: Pick<AgentLookup, 'byClientId'>
  readonly joining: Pick<Joining, 'key'>
}): Attestor {
  /** By thumbprint, which says all there is in it: one object per key, so that it is imported once. */
  const jwks = createRemembered<JWK>(MAX_REMEMBERED)

  return {
    kind: 'join_token',
    tier: 'key',
    verify: async ({ slot, jws }) => {
      if (jws === undefined) return refuse('client_auth_required', slot)
      const { sub } = jws.payload
      const { kid } = jws.header
      const agent = typeof sub === 'string' ? deps.agents.byClientId(sub) : undefined
      const named = typeof kid === 'string' && THUMBPRINT.test(kid) ? kid : undefined
      const joined = agent && named !== undefined ? await deps.joining.key(agent.clientId, named) : undefined
      const jwk = joined && (jwks.get(joined.kid) ?? joined.jwk)
      if (joined && jwk) jwks.put(joined.kid, jwk)
      const client = agent && { clientId: agent.clientId, keys: jwk ? [jwk] : [] }
      const verified = deps.assertions.verify(jws, slot, () => client)
      if (!verified.ok) return verified
      // Whoever the agent was before can sign anew at any time: it is the key that must not be older than the agent.
      if (joined && joined.joinedAt < (agent?.instanceSince ?? 0)) {
        return refuse('instance_epoch', slot, { proven: true })
      }
      const { client: _, keyThumbprint: __, ...rest } = verified.value
      return ok({ agent: agent!, ...rest })
    },
  }
}
