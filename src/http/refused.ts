/** A refusal at one of our own endpoints: counted, recorded once, and told as far as this caller may know. */
import type { Refusal } from '../oauth/refusal.ts'
import { claimedName } from './claimed-name.ts'
import { refusalResponse } from './refusal-response.ts'
import type { Call } from './route.ts'

export async function refused(
  call: Call,
  refusal: Refusal,
  { recorded = false }: { readonly recorded?: boolean } = {},
): Promise<Response> {
  const { c, deps, wire, caller } = call
  c.set('reason', refusal.reason)
  deps.metrics.refused(refusal.reason)
  if (!recorded) {
    if (!caller) deps.audit.countStranger(wire.source, refusal.reason)
    else {
      await deps.audit.append({
        type: caller.kind === 'admin' ? 'admin.refused' : 'task.refused',
        decision: 'refuse',
        reason: refusal.reason,
        ...(caller.kind === 'agent'
          ? { agent: caller.proven.attested.agent.clientId }
          : { by: caller.client.clientId }),
        correlation: wire.correlation,
        details: { route: `${wire.method} ${c.req.routePath}` },
      })
    }
  }
  const hint = caller?.kind === 'agent' ? caller.proven.attested.agent.clientId : caller?.client.clientId
  return refusalResponse(refusal, {
    dpopNonce: deps.dpop.freshNonce(hint ?? hintOf(call)),
    issuer: deps.snapshot().settings.issuer,
  })
}

/** Whom the header claims to be: the nonce in the challenge is bound to that name. */
function hintOf({ c, deps, wire }: Call): string {
  const assertion = c.req.header('authorization')?.split(' ')[1]
  const clientId = c.req.header('client-id')
  return claimedName(deps, {
    ...(clientId === undefined ? {} : { clientId }),
    ...(assertion === undefined ? {} : { assertion }),
    ...(wire.held ? { held: wire.held.token } : {}),
  })
}
