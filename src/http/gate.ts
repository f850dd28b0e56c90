/**
 * What one tenant may take of the service, looked at before any work is done for it: whatever floods one of them is
 * turned away for the price of reading its request line, and the others do not feel it.
 */
import type { Quota } from '../config/tenants.ts'
import { createBuckets } from './buckets.ts'

export type Entry =
  | { readonly ok: true }
  | { readonly ok: false; readonly reason: 'overloaded' | 'quota_exceeded'; readonly retryAfterSeconds: number }

export interface Gate {
  enter(method: string, target: string): Entry
}

/** What must be heard beside a flood of the same tenant: its kill switch, and what its verifiers live by. */
const KEPT_FREE =
  /^\/(?:(?:revocations|status-lists|global-token-revocation|seal|\.well-known)(?:[/?]|$)|ssf\/events(?:\?|$))/
export const isKeptFree = (target: string): boolean => KEPT_FREE.test(target)
/** What makes something to be stored. */
const MAKES = /^\/(?:token|tasks)(?:[?]|$)/
/** Beside the quota. */
const SHARE_KEPT_FREE = 1 / 4

/**
 * How many are worked on at once is for the app to count: here the body is not in yet, and whoever sends one slowly
 * would hold a place meanwhile.
 */
export function createGate(deps: {
  readonly quota: () => Quota
  /** Whether its data have reached the quota. */
  readonly full: () => boolean
  /** Milliseconds. */
  readonly monotonic: () => number
}): Gate {
  const buckets = createBuckets(deps)
  const overloaded = (seconds: number): Entry => ({ ok: false, reason: 'overloaded', retryAfterSeconds: seconds })
  return {
    enter(method, target) {
      const { requestsPerSecond } = deps.quota()
      const wait = buckets.take('all', requestsPerSecond)
      if (wait > 0) {
        if (!isKeptFree(target) || buckets.take('kept', Math.max(1, requestsPerSecond * SHARE_KEPT_FREE)) > 0)
          return overloaded(wait)
      }
      if (method === 'POST' && MAKES.test(target) && deps.full()) {
        return { ok: false, reason: 'quota_exceeded', retryAfterSeconds: 60 }
      }
      return { ok: true }
    },
  }
}
