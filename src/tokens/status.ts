/**
 * The port of whoever gives tokens a place in a status list (draft-ietf-oauth-status-list): one index for each task,
 * audience and cut, so that all tokens with it live and die together.
 */
import type { StatusClaim } from '@errand/verifier/claims.ts'
import type { CheckedHop } from '@errand/verifier/shapes.ts'

export interface StatusIndex {
  readonly status: StatusClaim
  /** Its first token's, the own hop first and without a jti: an index is marked where one of them is dead. */
  readonly hops: readonly CheckedHop[]
}

export interface StatusIndexes {
  /**
   * The one that tokens of this group have now. Its hops are asked about in the same revocation check as the token's:
   * where one is dead, the index is marked, or will be, and the token needs another.
   */
  held(group: string): StatusIndex | undefined
  /** Whether it stands for one more token, which ends then. False: take another. */
  keep(index: StatusIndex, expiresAt: number): Promise<boolean>
  /** One that no living token has, for a token that was checked at the epoch of its own hop. Durable when it resolves. */
  take(group: string, hops: readonly CheckedHop[], expiresAt: number): Promise<StatusIndex>
  /** A token with this status, which ends then: found by its id at every replica. Durable when it resolves. */
  enter(jti: string, status: StatusClaim, expiresAt: number): Promise<void>
  /** What would mark an index that a token has already. */
  hopsOf(status: StatusClaim): readonly CheckedHop[]
}
