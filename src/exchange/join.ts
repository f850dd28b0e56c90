/**
 * Use case: the first start of an agent with nothing else. An administrator makes a join token; whoever brings it, once
 * and soon, registers a key that it holds; from then on that key attests the agent. Steps of bringing it:
 *
 *  1. everything that needs no store: the proof of the key, the form of the token
 *  2. the token is known, of this agent, unused and in time
 *  3. the agent may join: it is enabled, registered for join tokens, and no ban matches it
 *  4. the proof is spent, the intent recorded, and then token and key change hands in one step
 */
import { createHash } from 'node:crypto'
import { trustDomainOf } from '@errand/verifier/shapes.ts'
import type { Dpop } from '../attest/dpop.ts'
import type { JoinedKey, Joining } from '../attest/joining.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { AuditLog } from '../audit/log.ts'
import { ok, type Reason, type Result, refuse } from '../oauth/refusal.ts'
import type { Revocations } from '../tokens/revocations.ts'
import type { Wire } from './authenticate.ts'
import type { Directory } from './directory.ts'

export const MAX_JOIN_TOKEN_SECONDS = 600
/** Of one agent: one per instance that runs, and some that are on their way out. */
const MAX_JOINED_KEYS = 64
const TOKEN = /^errand_join_[A-Za-z0-9_-]{43}$/

export interface JoinDeps {
  readonly now: () => number
  readonly directory: () => Directory
  readonly joining: Joining
  readonly dpop: Dpop
  readonly revocations: Revocations
  readonly audit: AuditLog
  /** 32 random bytes. */
  readonly newSecret: () => Uint8Array
}

interface Acting {
  readonly by: string
  readonly correlation: string
}

export interface Join {
  offer(
    request: { readonly clientId: string; readonly lifetimeSeconds: number } & Acting,
  ): Promise<Result<{ readonly token: string; readonly expiresAt: number }>>
  /** Refusals of whoever holds a token of ours are recorded already: they are `proven`. */
  accept(request: {
    readonly clientId: string
    readonly token: string
    readonly wire: Wire
  }): Promise<Result<JoinedKey>>
  keysOf(clientId: string): Promise<readonly JoinedKey[]>
  remove(
    request: { readonly clientId: string; readonly kid: string; readonly reason: string } & Acting,
  ): Promise<boolean>
}

const digestOf = (token: string): string => createHash('sha256').update(token).digest('base64url')

export function createJoin(deps: JoinDeps): Join {
  const { now, joining, audit, dpop } = deps

  /** What stands against the agent's joining, whoever asks. */
  async function objection(agent: AgentRegistration | undefined): Promise<Reason | undefined> {
    if (agent === undefined) return 'unknown_client'
    if (agent.disabled) return 'agent_disabled'
    if (!agent.evidence.includes('join_token')) return 'evidence_not_registered'
    const { spiffeId, clientId } = agent
    const { banned } = await deps.revocations.check({
      hops: [],
      issuing: { agent: spiffeId, domain: trustDomainOf(spiffeId), client_id: clientId },
    })
    return banned && (banned.suspended ? 'suspended' : 'banned')
  }

  return {
    keysOf: (clientId) => joining.keysOf(clientId),

    async offer({ clientId, lifetimeSeconds, by, correlation }) {
      const agent = deps.directory().agents.byClientId(clientId)
      if (agent === undefined) return refuse('not_found', 'request', { proven: true })
      const reason = await objection(agent)
      if (reason !== undefined) return refuse(reason, 'request', { proven: true })
      if ((await joining.keysOf(clientId)).length >= MAX_JOINED_KEYS) {
        return refuse('bad_limit', 'request', {
          proven: true,
          detail: `${clientId} has ${MAX_JOINED_KEYS} joined keys: remove those that are not in use`,
        })
      }
      const token = `errand_join_${Buffer.from(deps.newSecret()).toString('base64url')}`
      const expiresAt = now() + Math.min(lifetimeSeconds, MAX_JOIN_TOKEN_SECONDS)
      await audit.append({
        type: 'admin.acted',
        by,
        correlation,
        agent: clientId,
        details: { action: 'agents.join_token', token_digest: digestOf(token), expires_at: expiresAt },
      })
      await joining.offer(digestOf(token), { clientId, expiresAt, by })
      return ok({ token, expiresAt })
    },

    async accept({ clientId, token, wire }) {
      const { method, url, correlation } = wire
      if (wire.dpop === undefined) return refuse('proof_required', 'api')
      const proof = dpop.check({ header: wire.dpop, method, url, slot: 'api' })
      if (!proof.ok) return proof
      if (!TOKEN.test(token)) return refuse('not_a_token', 'enrolment')
      const digest = digestOf(token)
      const offer = await joining.find(digest)
      if (offer === undefined) return refuse('not_a_token', 'enrolment')
      const { jkt: kid, jwk } = proof.value

      /** Whoever holds a token that was made here is no stranger: what became of it is theirs to know. */
      const no = async (reason: Reason): Promise<Result<never>> => {
        await audit.append({
          type: 'agent.join_refused',
          decision: 'refuse',
          reason,
          agent: offer.clientId,
          correlation,
          details: { kid, token_digest: digest },
        })
        return refuse(reason, 'enrolment', { proven: true })
      }
      if (offer.clientId !== clientId) return no('context_mismatch')
      const reason = await objection(deps.directory().agents.byClientId(clientId))
      if (reason !== undefined) return no(reason)
      const key: JoinedKey = {
        clientId,
        kid,
        jwk: { ...jwk, kid, alg: jwk.kty === 'OKP' ? 'EdDSA' : 'ES256', use: 'sig' },
        joinedAt: now(),
        by: offer.by,
      }
      if (offer.usedBy !== undefined) {
        // The answer to the first try may have been lost on its way: to the same key it is given again.
        const known = offer.usedBy === kid ? await joining.key(clientId, kid) : undefined
        if (known === undefined) return no('evidence_replayed')
        const fresh = await dpop.spend(proof.value)
        return fresh.ok ? ok(known) : fresh
      }
      if (now() >= offer.expiresAt) return no('expired')

      const fresh = await dpop.spend(proof.value)
      if (!fresh.ok) return fresh
      await audit.append({
        type: 'agent.joining',
        agent: clientId,
        by: offer.by,
        correlation,
        details: { kid, token_digest: digest },
      })
      switch (await joining.redeem(digest, key, now())) {
        case 'joined':
        case 'again':
          return ok(key)
        case 'spent':
          return no('evidence_replayed')
        case 'expired':
          return no('expired')
        case 'unknown':
          return no('not_a_token')
      }
    },

    async remove({ clientId, kid, reason, by, correlation }) {
      if (!(await joining.key(clientId, kid))) return false
      await audit.append({
        type: 'admin.acted',
        by,
        correlation,
        agent: clientId,
        details: { action: 'agents.remove_key', kid, reason },
      })
      return joining.remove(clientId, kid)
    },
  }
}
