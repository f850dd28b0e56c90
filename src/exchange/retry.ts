/** Retries by `Idempotency-Key`: bound to client and proof key, compared by what was asked, not by how it was proven. */
import { createHash } from 'node:crypto'
import { ok, type Result, refuse, Unavailable } from '../oauth/refusal.ts'
import type { ProvenAgent } from './authenticate.ts'
import type { IdempotencyStore } from './idempotency.ts'
import type { Standing } from './standing.ts'
import type { Target } from './targets.ts'
import type { TokenRequest } from './token-request.ts'

const sha256 = (...parts: readonly string[]): string =>
  createHash('sha256').update(JSON.stringify(parts)).digest('base64url')

export function boundKey({ attested, confirmation }: ProvenAgent, header: string): string {
  const key = !confirmation ? '' : 'jkt' in confirmation ? confirmation.jkt : confirmation['x5t#S256']
  return sha256(attested.agent.clientId, key, header)
}

/** The same key opens the same task: a retry after a crash finds the one that the first try opened. */
export const taskIdFor = (boundKeyText: string, digest: string): string =>
  `task_${sha256('task', boundKeyText, digest).slice(0, 22)}`

/**
 * Under which a charge of the budget is made once. It lapses with the memory of the retry: a key that is used again
 * long after is another request, and charged.
 */
export const operationIdFor = (boundKeyText: string, now: number, keepSeconds: number): string =>
  `${boundKeyText}.${Math.floor(now / keepSeconds)}`

export const requestDigest = (
  request: TokenRequest,
  standing: Standing,
  target: Target,
  handOverTo: string | undefined,
): string =>
  sha256(
    request.grantType,
    standing.kind,
    standing.identity,
    target.tool.audience,
    request.scope ?? '',
    request.authorizationDetails ?? '',
    request.taskId ?? '',
    request.requestDetails ?? '',
    request.requestContext ?? '',
    handOverTo ?? '',
  )

/** A claim on an idempotency key lapses after 10 s: past this somebody else may have taken over. */
export const CLAIM_SECONDS = 7

/** An idempotency key that this request holds, and the time before it was claimed. */
export interface HeldKey {
  readonly key: string
  readonly since: number
}

export type Retry = { readonly outcome: 'first' } | { readonly outcome: 'again'; readonly response: string }

export async function claimRetry(
  deps: { readonly idempotency: IdempotencyStore; readonly now: () => number },
  key: string,
  digest: string,
  keepSeconds: number,
): Promise<Result<Retry>> {
  const now = deps.now()
  const claim = await deps.idempotency.claim(key, digest, now, now + keepSeconds)
  switch (claim.outcome) {
    case 'claimed':
      return ok({ outcome: 'first' })
    case 'in_progress':
      if (claim.digest !== digest) return refuse('idempotency_conflict', 'request')
      throw new Unavailable('overloaded', 'the first try with this Idempotency-Key is still under way')
    case 'remembered':
      if (claim.remembered.digest !== digest) return refuse('idempotency_conflict', 'request')
      if (!claim.remembered.result) throw new Unavailable('overloaded', 'the first try is still under way')
      return ok({ outcome: 'again', response: claim.remembered.result.response })
  }
}
