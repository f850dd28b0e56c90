/** Evidence of tier `key`: an assertion signed by a key of the agent's registration. */
import { ok, refuse } from '../oauth/refusal.ts'
import type { AgentLookup, Attestor } from './attestor.ts'
import type { ClientAssertions } from './client-assertion.ts'

export function createPrivateKeyJwt(deps: {
  readonly assertions: ClientAssertions
  readonly agents: AgentLookup
}): Attestor {
  return {
    kind: 'private_key_jwt',
    tier: 'key',
    verify: ({ slot, jws }) => {
      if (jws === undefined) return refuse('client_auth_required', slot)
      const verified = deps.assertions.verify(jws, slot, (clientId) => deps.agents.byClientId(clientId))
      if (!verified.ok) return verified
      // The key of the assertion is not the key of the proof: an agent may make one per process.
      const { client: agent, keyThumbprint: _, ...rest } = verified.value
      return ok({ agent, ...rest })
    },
  }
}
