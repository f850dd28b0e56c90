/** Evidence of tier `key`: an assertion signed by a key of the agent's registration. */
import { ok, refuse } from '../oauth/refusal.ts'
import type { AgentLookup, Attestor } from './attestor.ts'
import type { ClientAssertions } from './client-assertion.ts'
import { RELEASE_ID } from './release-manifest.ts'

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
      const { client: agent, expiresAt, issuedAt, oneUse } = verified.value
      const { release } = jws.payload
      if (release !== undefined && (typeof release !== 'string' || !RELEASE_ID.test(release))) {
        return refuse('bad_claim', slot, { detail: 'release is the id of a release: 22 characters of base64url' })
      }
      // The key of the assertion is not the key of the proof: an agent may make one per process.
      return ok({
        agent,
        expiresAt,
        oneUse,
        ...(issuedAt === undefined ? {} : { issuedAt }),
        ...(release === undefined ? {} : { statedRelease: release }),
      })
    },
  }
}
