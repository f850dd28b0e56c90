/**
 * Who is asking, where a platform speaks for it: the grant is the agent's evidence, and all the evidence it has. Its
 * one use is spent with the grant, last of all, so that a retry under its idempotency key finds it unspent by others.
 * Whoever brings it after that has proven nothing: not even a dry run is answered.
 */
import { type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import type { Dpop } from '../attest/dpop.ts'
import type { KeyPins } from '../attest/key-pins.ts'
import { registrationOf } from '../attest/platform.ts'
import type { PlatformAgents } from '../attest/platform-agents.ts'
import type { AuditLog } from '../audit/log.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { assertionSpendId, checkKeyBinding, type PlatformOf, type WorkloadGrant } from '../tokens/assertion.ts'
import type { ProveAgent, ProvenAgent } from './authenticate.ts'
import { boundKey } from './retry.ts'

export interface PresentedGrant {
  readonly jws: ParsedJws
  readonly issuer: string
  readonly now: number
  readonly platformOf: PlatformOf
}

export interface ProveWorkloadDeps {
  readonly now: () => number
  readonly dpop: Dpop
  readonly readGrant: (presented: PresentedGrant) => Promise<Result<WorkloadGrant>>
  readonly grants: Pick<KeyPins, 'pinned'>
  readonly platformAgents: PlatformAgents
  readonly audit: Pick<AuditLog, 'append'>
}

export function createProveWorkload(deps: ProveWorkloadDeps): ProveAgent {
  return async (directory, request, wire) => {
    // draft-carleton-workload-authz-grant: client_id means nothing here. Other evidence would name a second agent.
    const other = request.clientAssertion ?? request.clientAssertionType ?? wire.held
    if (other !== undefined) {
      return refuse('bad_param', 'request', {
        detail: 'a workload authorization grant is the evidence of its agent: leave client authentication out',
      })
    }
    const jws = parseJws(request.assertion)
    if (!jws.ok) return refuse(jws.fault, 'assertion')
    const now = deps.now()
    const { settings, platforms } = directory
    const read = await deps.readGrant({ jws: jws.value, issuer: settings.issuer, now, platformOf: platforms.of })
    if (!read.ok) return read
    const { platform, sub, grant } = read.value
    const agent = registrationOf(platform, sub)

    const proof =
      wire.dpop === undefined
        ? undefined
        : deps.dpop.check({ header: wire.dpop, method: wire.method, url: wire.url, clientHint: agent.clientId })
    if (proof && !proof.ok) return proof
    const bound = checkKeyBinding(read.value, proof && { jkt: proof.value.jkt })
    if (!bound.ok) return bound
    const proven: ProvenAgent = {
      attested: {
        agent,
        kind: 'workload_grant',
        tier: 'platform',
        spiffeId: agent.spiffeId,
        issuedAt: grant.issuedAt,
        expiresAt: grant.expiresAt,
      },
      ...(proof ? { confirmation: { jkt: proof.value.jkt } } : {}),
      workload: read.value,
    }
    const spentBy = await deps.grants.pinned(assertionSpendId(grant))
    const own = wire.idempotencyKey === undefined ? undefined : boundKey(proven, wire.idempotencyKey)
    if (spentBy !== undefined && spentBy !== own) return refuse('replayed', 'assertion')
    if (proof) {
      const fresh = await deps.dpop.spend(proof.value)
      if (!fresh.ok) return fresh
    }
    const admitted = await deps.platformAgents.admit({ clientId: agent.clientId, platform: platform.name, sub }, now, {
      most: platform.maxAgents,
      since: now - platform.forgetAfterSeconds,
    })
    if (admitted === 'full') return refuse('platform_full', 'assertion', { proven: true })
    if (admitted === 'new') {
      await deps.audit.append({
        type: 'agent.admitted',
        agent: agent.clientId,
        correlation: wire.correlation,
        details: { platform: platform.name, issuer: platform.issuer, subject: sub, spiffe_id: agent.spiffeId },
      })
    }
    return ok(proven)
  }
}
