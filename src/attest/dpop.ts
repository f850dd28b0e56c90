/**
 * DPoP at our own endpoints (RFC 9449): `check` needs no store and spends nothing, `spend` uses a checked proof up.
 * A nonce is a place in time that only we can name (§8): a window and a MAC over it and the client it was given to.
 */
import { createHmac, timingSafeEqual } from 'node:crypto'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { readDpopProof } from '@errand/verifier/dpop.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { digestOf } from './remembered.ts'
import type { ReplayGuard } from './replay-guard.ts'

export interface DpopDeps {
  readonly now: () => number
  /** The same at every replica; at least 32 bytes. */
  readonly nonceKey: Uint8Array
  /** How long a window is. A nonce is good in its own and in the next. */
  readonly nonceLifetimeSeconds: number
  readonly proofLifetimeSeconds: number
  readonly requireNonce: boolean
  readonly replayGuard: ReplayGuard
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
}

export interface CheckedProof {
  /** RFC 7638 thumbprint of the proof's key. */
  readonly jkt: string
  readonly oneUse: { readonly id: string; readonly expiresAt: number }
  readonly slot: 'dpop' | 'api'
}

export interface Dpop {
  check(request: DpopRequest): Result<CheckedProof>
  /** Throws `Unavailable('replay_guard_unavailable')` where it cannot be known whether the proof is fresh. */
  spend(proof: CheckedProof): Promise<Result<true>>
  /** The value of `DPoP-Nonce` for this client's next request. */
  freshNonce(clientHint?: string): string
}

export function createDpop(deps: DpopDeps): Dpop {
  const nonceOf = (window: number, client: string): string => {
    const mac = createHmac('sha256', deps.nonceKey).update(`errand dpop nonce|${window}|${client}`).digest()
    return `${window.toString(36)}.${mac.subarray(0, 16).toString('base64url')}`
  }
  const windowNow = (): number => Math.floor(deps.now() / deps.nonceLifetimeSeconds)
  const isOurs = (nonce: string, client: string): boolean => {
    const window = windowNow()
    return [window, window - 1].some((each) => sameText(nonce, nonceOf(each, client)))
  }

  return {
    check: ({ header, method, url, accessToken, clientHint = '', slot = 'dpop' }) => {
      const proof = readDpopProof(header, {
        method,
        url,
        now: deps.now(),
        maxAgeSeconds: deps.proofLifetimeSeconds,
        ...(accessToken === undefined ? {} : { accessToken }),
      })
      if (!proof.ok) return refuse(proof.fault, slot, proof.detail === undefined ? {} : { detail: proof.detail })
      const { jkt, jti, iat, nonce } = proof.value
      if (nonce === undefined && deps.requireNonce) return refuse('nonce_missing', slot)
      if (nonce !== undefined && !isOurs(nonce, clientHint)) return refuse('nonce_stale', slot)
      return ok({
        jkt,
        slot,
        oneUse: {
          id: `proof:${digestOf([jkt, jti])}`,
          // For as long as it could be accepted, also by a replica whose clock is behind.
          expiresAt: iat + deps.proofLifetimeSeconds + CLOCK_LEEWAY_SECONDS,
        },
      })
    },
    spend: async ({ oneUse, slot }) =>
      (await deps.replayGuard.spend(oneUse.id, oneUse.expiresAt)) ? ok(true) : refuse('proof_replayed', slot),
    freshNonce: (clientHint = '') => nonceOf(windowNow(), clientHint),
  }
}

function sameText(a: string, b: string): boolean {
  const left = Buffer.from(a)
  const right = Buffer.from(b)
  return left.length === right.length && timingSafeEqual(left, right)
}
