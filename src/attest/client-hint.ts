/** Who a request says it comes from, before anybody believes it: enough to tell one client's nonces from another's. */
import { parseJws } from '@errand/verifier/jws.ts'
import type { AgentLookup } from './attestor.ts'

export interface ClaimedClient {
  /** Client assertion or actor token. */
  readonly assertion?: string
  /** A client attestation or workload identity token. */
  readonly held?: string
  /** The `client_id` parameter, or the header that stands for it. */
  readonly clientId?: string
}

/**
 * The subject of the evidence, or else the client id that the request names. Both may be a SPIFFE id, and then mean the
 * agent that has it; a workload's token means the agent whose rules it fulfils, an attestation the agent that is known
 * by its subject. What is said here must be what attestation says afterwards.
 */
export function clientHint(
  { assertion, held, clientId }: ClaimedClient,
  agents: Omit<AgentLookup, 'byClientId'>,
): string | undefined {
  const token = assertion ?? held
  const jws = token === undefined ? undefined : parseJws(token)
  const { iss, sub } = jws?.ok ? jws.value.payload : {}
  if (assertion !== undefined && jws?.ok && typeof iss === 'string') {
    const workload = agents.byWorkload(iss, jws.value.payload)
    if (workload !== undefined) return workload.agent.clientId
  }
  const claimed = typeof sub === 'string' ? sub : clientId
  if (claimed === undefined) return undefined
  const attested = assertion === undefined && held !== undefined ? agents.byAttestedSubject(claimed)?.agent : undefined
  return (attested ?? agents.bySpiffeId(claimed))?.clientId ?? claimed
}
