/**
 * DPoP at our own endpoints (RFC 9449): `check` needs no store and spends nothing, `spend` uses a checked proof up.
 * A nonce is a place in time that only we can name (§8), and belongs to the client it was given to.
 */
import { createHmac } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { createProofKeys, type ProofKeys, readDpopProof } from '@errand/verifier/dpop.ts'
import type { PublicJwk } from '@errand/verifier/signature.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { createProofMemory } from './proof-memory.ts'
import { createSecondSight, digestOf } from './remembered.ts'
import type { ReplayGuard } from './replay-guard.ts'
import { createWindowed, type Windowed } from './windowed.ts'

export interface DpopDeps {
  readonly now: () => number
  /** The same at every replica; at least 32 bytes. */
  readonly nonceKey: Uint8Array
  /** How long a window is. A nonce is good in its own and in the next. */
  readonly nonceLifetimeSeconds: number
  readonly proofLifetimeSeconds: number
  readonly requireNonce: boolean
  /** Attestation challenges, which may stand where a nonce does. */
  readonly challenges?: Windowed
  readonly replayGuard: ReplayGuard
  /**
   * Where one process alone hears proofs: its nonces name this run of it and go by its own clock, and what was used
   * with them is remembered in memory. With a nonce of an earlier run a proof is stale.
   */
  readonly run?: {
    readonly id: string
    /** Seconds that never go back. */
    readonly now: () => number
  }
}

export interface DpopRequest {
  /** The whole value of the DPoP header field. */
  readonly header: string
  readonly method: string
  /** The endpoint's absolute URL as the configuration knows it. */
  readonly url: string
  /** The access token that is presented with the proof, which must then name it (`ath`). */
  readonly accessToken?: string
  /** The client as far as it is known before it is authenticated: a nonce of another client is none. */
  readonly clientHint?: string
  /** `api` at the JSON endpoints; the token endpoint's answers by default. */
  readonly slot?: 'dpop' | 'api'
  /** Whether the proof stands for that of a client attestation too, and may carry its challenge as the nonce. */
  readonly challengeAsNonce?: boolean | undefined
}

export interface CheckedProof {
  /** RFC 7638 thumbprint of the proof's key. */
  readonly jkt: string
  readonly jwk: PublicJwk
  readonly oneUse: { readonly id: string; readonly expiresAt: number; readonly issuedAt?: number }
  readonly slot: 'dpop' | 'api'
  /** Whether its nonce is still good, where that is all that keeps it from being used again after it was forgotten. */
  readonly lasts?: () => boolean
}

export interface Dpop {
  check(request: DpopRequest): Result<CheckedProof>
  /** Throws `Unavailable('replay_guard_unavailable')` where it cannot be known whether the proof is fresh. */
  spend(proof: CheckedProof, urgent?: boolean): Promise<Result<true>>
  /** The value of `DPoP-Nonce` for this client's next request. */
  freshNonce(clientHint?: string): string
}

/** Each some kilobytes, most of them outside the heap. */
const MAX_PROOF_KEYS = 2_000

/** A key that signs one proof and no second is not worth its place. */
function keptAtSecondSight({ find, remember }: ProofKeys): ProofKeys {
  const cameBefore = createSecondSight()
  return {
    find,
    remember: (headerText, key) => {
      if (cameBefore(key.jkt)) remember(headerText, key)
    },
  }
}

export function createDpop(deps: DpopDeps): Dpop {
  const { run } = deps
  const keys = keptAtSecondSight(createProofKeys(MAX_PROOF_KEYS))
  const nonces = createWindowed({
    now: run?.now ?? deps.now,
    key: run ? createHmac('sha256', deps.nonceKey).update(`run ${run.id}`).digest() : deps.nonceKey,
    lifetimeSeconds: deps.nonceLifetimeSeconds,
    purpose: 'errand dpop nonce',
  })
  const memory = run && createProofMemory({ window: () => Math.floor(run.now() / deps.nonceLifetimeSeconds) })

  return {
    check: ({ header, method, url, accessToken, clientHint = '', slot = 'dpop', challengeAsNonce = false }) => {
      const proof = readDpopProof(
        header,
        {
          method,
          url,
          now: deps.now(),
          maxAgeSeconds: deps.proofLifetimeSeconds,
          ...(accessToken === undefined ? {} : { accessToken }),
        },
        keys,
      )
      if (!proof.ok) return refuse(proof.fault, slot, proof.detail === undefined ? {} : { detail: proof.detail })
      const { jkt, jwk, jti, iat, nonce } = proof.value
      if (nonce === undefined && deps.requireNonce) return refuse('nonce_missing', slot)
      // draft-ietf-oauth-attestation-based-client-auth §7.3: a challenge belongs to no client.
      const ours = nonce !== undefined && nonces.isOurs(nonce, clientHint)
      const isChallenge = (each: string) => challengeAsNonce && deps.challenges?.isOurs(each) === true
      if (nonce !== undefined && !ours && !isChallenge(nonce)) return refuse('nonce_stale', slot)
      return ok({
        jkt,
        jwk,
        slot,
        ...(memory && ours ? { lasts: () => nonces.isOurs(nonce, clientHint) } : {}),
        oneUse: {
          // A thumbprint has one length, so no two pairs share a text.
          id: memory && ours ? `${jkt}${jti}` : `proof:${digestOf([jkt, jti])}`,
          // For as long as it could be accepted, also by a replica whose clock is behind.
          expiresAt: iat + deps.proofLifetimeSeconds + CLOCK_LEEWAY_SECONDS,
          issuedAt: iat,
        },
      })
    },
    spend: async ({ oneUse, slot, lasts }, urgent = false) => {
      if (lasts && memory) {
        const first = memory.spend(oneUse.id)
        // Looked at again, and after the memory was: forgotten with its window, a proof must not be used by whoever was
        // kept waiting for long, nor in the moment in which the one window ends.
        if (!lasts()) return refuse('nonce_stale', slot)
        return first ? ok(true) : refuse('proof_replayed', slot)
      }
      const first = await deps.replayGuard.spend(oneUse.id, oneUse.expiresAt, urgent, oneUse.issuedAt)
      return first ? ok(true) : refuse('proof_replayed', slot)
    },
    freshNonce: (clientHint = '') => nonces.fresh(clientHint),
  }
}
