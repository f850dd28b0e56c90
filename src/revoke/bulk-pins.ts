/**
 * What previews have pinned: the members of a revocation that may be made once, by whoever looked at it. Kept under the
 * digest of the bulk token that names it.
 */
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { NewRevocation, RevocationMode } from './revocation-log.ts'

export interface Pin {
  readonly match: HopFacts
  readonly mode: RevocationMode
  readonly taken?: NonNullable<NewRevocation['taken']>
  /** What was checked before it is meant. */
  readonly mark: Epoch
  /** The tasks that were there. */
  readonly tasks: readonly string[]
  /** Who made it, and may use it. */
  readonly by: string
  /** Where it takes two. */
  readonly confirmedBy?: string
  /** Unix seconds. */
  readonly expiresAt: number
  /** `rev_…`: what the revocation will be called. */
  readonly revocation: string
}

/** With why, where it was spent. */
export interface SpentPin extends Pin {
  readonly reason: string
}

export type PinSpent =
  | { readonly outcome: 'spent'; readonly pin: Pin }
  /** By the same maker before, and not carried out to the end: it goes on for the reason of then, however late. */
  | { readonly outcome: 'begun'; readonly pin: SpentPin }
  /** `revocation`: what it was used for. */
  | { readonly outcome: 'used'; readonly revocation: string }
  | { readonly outcome: 'expired' }
  /** Also where somebody else made it. */
  | { readonly outcome: 'unknown' }

export interface BulkPins {
  /**
   * Once more under the same digest it stands as it is offered now, until it is spent: then nothing changes it. With
   * `confirmedBy` it is the word that revokes, and also held where only what ends something is written.
   */
  offer(digest: string, pin: Pin): Promise<void>
  /** Of simultaneous calls one sees `spent`; the reason is kept with it. Forgotten an hour after it has expired. */
  spend(digest: string, by: string, reason: string, now: number): Promise<PinSpent>
  /** What `spend` would answer, and nothing is spent. */
  look(digest: string, by: string, now: number): Promise<PinSpent>
  /** All of it has been carried out. */
  done(digest: string): Promise<void>
  /** Spent, and not carried out to the end: somebody is at it, or a fault or a stop came in between. */
  unfinished(): Promise<readonly { readonly digest: string; readonly pin: SpentPin }[]>
}

/** How long after its end a used bulk token is still known for one. */
export const BULK_PIN_KNOWN_SECONDS = 3600
