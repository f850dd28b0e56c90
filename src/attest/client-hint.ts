/** Who a request says it comes from, before anybody believes it: enough to tell one client's nonces from another's. */
import { parseJws } from '@errand/verifier/jws.ts'
import type { AgentLookup } from './attestor.ts'

export interface ClaimedClient {
  /** Client assertion or actor token. */
  readonly assertion?: string
  /** The `client_id` parameter, or the header that stands for it. */
  readonly clientId?: string
}

/**
 * The subject of the assertion, or else the client id that the request names. Both may be a SPIFFE id, and then mean
 * the agent that has it: what is said here must be what attestation says afterwards.
 */
export function clientHint(
  { assertion, clientId }: ClaimedClient,
  agents: Pick<AgentLookup, 'bySpiffeId'>,
): string | undefined {
  const jws = assertion === undefined ? undefined : parseJws(assertion)
  const sub = jws?.ok ? jws.value.payload['sub'] : undefined
  const claimed = typeof sub === 'string' ? sub : clientId
  return claimed === undefined ? undefined : (agents.bySpiffeId(claimed)?.clientId ?? claimed)
}
