/** Revocations that one administrator asked for and another must confirm. Their port: adapters live in store/. */
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Pin } from './bulk-pins.ts'
import type { NewRevocation, RevocationMode } from './revocation-log.ts'

export interface PendingRevocation {
  /** `rev_…`: what the revocation will be called. */
  readonly id: string
  readonly match: HopFacts
  readonly mode: RevocationMode
  readonly taken?: NonNullable<NewRevocation['taken']>
  readonly before?: Epoch
  /** Of a preview that is to be carried out. */
  readonly pin?: Pin
  readonly reason: string
  /** Who asked. */
  readonly by: string
  /** Unix seconds. */
  readonly at: number
  readonly expiresAt: number
}

export interface HeldRevocation {
  readonly pending: PendingRevocation
  readonly confirmedBy?: string
}

export type Confirmation =
  /** Also again by the same person, while it is not carried out to the end. */
  | { readonly outcome: 'confirmed'; readonly pending: PendingRevocation }
  | { readonly outcome: 'used'; readonly by: string }
  | { readonly outcome: 'own' }
  | { readonly outcome: 'expired' }
  | { readonly outcome: 'unknown' }

export interface PendingRevocations {
  /** The same id again is the same request: answered as it stands, not changed. */
  ask(pending: PendingRevocation): Promise<HeldRevocation>
  find(id: string): Promise<HeldRevocation | undefined>
  /** Of simultaneous calls of several people one sees `confirmed`, and nobody confirms what was their own. */
  confirm(id: string, by: string, now: number): Promise<Confirmation>
  /** It has been carried out. */
  done(id: string): Promise<void>
  /** What waits at `now`. */
  open(now: number): Promise<readonly PendingRevocation[]>
  /** Confirmed, and not carried out to the end: somebody is at it, or a fault or a stop came in between. */
  unfinished(): Promise<readonly Required<HeldRevocation>[]>
}

/** How long after its end one is still known, so that whoever comes late is told why. */
export const PENDING_KNOWN_SECONDS = 3600
