/**
 * Who is asking: evidence in one of its two slots, a proof of possession, and both belonging to one agent. Everything
 * that needs no store is checked before anything one-use is spent.
 */
import type { Confirmation } from '@errand/verifier/claims.ts'
import type { Attest, Presentation } from '../attest/attest.ts'
import { checkPossession, pinProofKey, spendEvidence } from '../attest/attest.ts'
import type { AttestationResult } from '../attest/attestation-result.ts'
import type { Dpop } from '../attest/dpop.ts'
import type { HeldToken } from '../attest/held-token.ts'
import type { KeyPins } from '../attest/key-pins.ts'
import type { ReplayGuard } from '../attest/replay-guard.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { GRANT, TOKEN_TYPE } from '../oauth/words.ts'
import type { WorkloadGrant } from '../tokens/assertion.ts'
import type { Directory } from './directory.ts'
import type { TokenRequest } from './token-request.ts'

/** What came with the request beside its form. */
export interface Wire {
  readonly method: string
  /** Absolute URL of this endpoint as the configuration knows it, never as a header claims it. */
  readonly url: string
  readonly dpop?: string
  /** Evidence in a header field of its own. */
  readonly held?: HeldToken
  /** DER, leaf first, where the request came over mTLS. */
  readonly certificate?: readonly Uint8Array[]
  readonly idempotencyKey?: string
  /** Correlation id for logs and records. */
  readonly correlation: string
  /** Address block of the caller, for counting strangers. */
  readonly source: string
}

export interface ProvenAgent {
  readonly attested: AttestationResult
  /** The key that the token will be bound to; absent where no proof was shown. */
  readonly confirmation?: Confirmation
  /** What its platform says of it, where that is what it proves itself by. */
  readonly workload?: WorkloadGrant
}

export type ProveAgent = (directory: Directory, request: TokenRequest, wire: Wire) => Promise<Result<ProvenAgent>>

export interface AuthenticateDeps {
  readonly attest: Attest
  readonly dpop: Dpop
  readonly replayGuard: ReplayGuard
  readonly keyPins: KeyPins
}

export function createProveAgent(deps: AuthenticateDeps): ProveAgent {
  return async (_directory, request, wire) => {
    const presented = await presentedEvidence(deps, request, wire)
    if (!presented.ok) return presented
    const { attested, slot, client } = presented.value

    const proof =
      wire.dpop === undefined
        ? undefined
        : deps.dpop.check({
            header: wire.dpop,
            method: wire.method,
            url: wire.url,
            clientHint: attested.agent.clientId,
            challengeAsNonce: attested.challengeAsNonce ?? client?.challengeAsNonce,
          })
    if (proof && !proof.ok) return proof
    const both: readonly (readonly [AttestationResult, Presented['slot']])[] = client
      ? [
          [attested, slot],
          [client, 'client'],
        ]
      : [[attested, slot]]
    for (const [evidence] of both) {
      const possessed = checkPossession(evidence, proof?.value.jkt, 'dpop')
      if (!possessed.ok) return possessed
    }

    for (const [evidence, at] of both) {
      const spent = await spendEvidence(evidence, deps.replayGuard, at)
      if (!spent.ok) return spent
    }
    if (proof) {
      const fresh = await deps.dpop.spend(proof.value)
      if (!fresh.ok) return fresh
    }
    for (const [evidence, at] of both) {
      const key = proof?.value.jkt ?? evidence.certificateThumbprint
      const pinned = key === undefined ? ok(true) : await pinProofKey(evidence, key, deps.keyPins, at)
      if (!pinned.ok) return pinned
    }
    const certificate = attested.certificateThumbprint
    const confirmation: Confirmation | undefined = proof
      ? { jkt: proof.value.jkt }
      : certificate
        ? { 'x5t#S256': certificate }
        : undefined
    return ok({ attested, ...(confirmation ? { confirmation } : {}) })
  }
}

interface Presented {
  readonly attested: AttestationResult
  readonly slot: 'client' | 'actor_token'
  /** The client authentication beside an actor token: to be spent as well. */
  readonly client?: AttestationResult
}

async function presentedEvidence(
  deps: AuthenticateDeps,
  request: TokenRequest,
  wire: Wire,
): Promise<Result<Presented>> {
  const { clientAssertion, clientAssertionType, clientId, actorToken, actorTokenType, release } = request
  const asClient =
    clientAssertion !== undefined ||
    clientAssertionType !== undefined ||
    wire.held !== undefined ||
    wire.certificate !== undefined
  if (!asClient && actorToken === undefined) {
    // A subject token without an agent would be impersonation by omission; nothing at all is no authentication.
    return request.grantType === GRANT.exchange && request.subjectToken !== undefined
      ? refuse('actor_required', 'actor_token')
      : refuse('client_auth_required', 'client')
  }
  if ((clientAssertion === undefined) !== (clientAssertionType === undefined)) {
    return refuse('client_auth_required', 'client', {
      detail: 'client_assertion and client_assertion_type come together',
    })
  }
  const shown: { -readonly [K in keyof Presentation]: Presentation[K] } = { slot: 'client' }
  if (clientAssertion !== undefined) shown.assertion = { type: clientAssertionType!, token: clientAssertion }
  if (clientId !== undefined) shown.clientId = clientId
  if (release !== undefined) shown.release = release
  if (wire.held) shown.held = wire.held
  if (wire.certificate) shown.certificate = wire.certificate
  const client = asClient ? await deps.attest(shown) : undefined
  if (client && !client.ok) return client
  if (actorToken === undefined) return ok({ attested: client!.value, slot: 'client' })

  if (actorTokenType !== TOKEN_TYPE.jwt) return refuse('token_type_mismatch', 'actor_token')
  const actor = await deps.attest({
    slot: 'actor_token',
    assertion: { token: actorToken },
    ...(wire.certificate ? { certificate: wire.certificate } : {}),
    ...(clientId === undefined ? {} : { clientId }),
    ...(release === undefined ? {} : { release }),
  })
  if (!actor.ok) return actor
  if (client && client.value.agent.clientId !== actor.value.agent.clientId) {
    return refuse('context_mismatch', 'actor_token', {
      detail: 'client authentication and actor_token name two agents',
    })
  }
  return ok({ attested: actor.value, slot: 'actor_token', ...(client ? { client: client.value } : {}) })
}
