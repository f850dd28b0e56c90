/**
 * The one ordered log of revocations. Entry n says: a token that matches this and was checked before n is dead.
 * Its port: adapters live in store/.
 */
import type { Effect } from '@errand/verifier/claims.ts'
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Taken } from '../tasks/containment.ts'
import type { Revocations } from '../tokens/revocations.ts'

/**
 * `cut`: tokens die, tasks go on and may ask again. `ban`: nothing new is issued either, until a re-admission
 * (or `banUntil`, for a task that is over at its deadline). `suspend`: the same until it is lifted, and tasks only pause.
 * `contain`: a cut, and `taken` is taken from tasks for good.
 */
export type RevocationMode = 'cut' | 'ban' | 'suspend' | 'contain'

/** How long past the longest token an entry is kept: clocks of verifiers may lag. */
export const MARGIN_SECONDS = 120

export interface NewRevocation {
  /** `rev_…`; the same id again is the same entry: answered, not added. */
  readonly id: string
  /** A conjunction of dimensions, all within one hop; `{}` matches everything. */
  readonly match: HopFacts
  readonly mode: RevocationMode
  readonly reason: string
  /** Who did it: an admin's, tool's or agent's client id, or `system`. */
  readonly by: string
  /** Where it took two. */
  readonly confirmedBy?: string
  /** The revocation by component that it is a part of: that one is lifted, and this one with it. */
  readonly partOf?: string
  /** Unix seconds. */
  readonly at: number
  /** Unix seconds after which no token it could match is alive: then the entry may be dropped. */
  readonly expiresAt: number
  /** For `ban`: Unix seconds until when; absent is until re-admission. */
  readonly banUntil?: number
  /** For `contain`. */
  readonly taken?: Taken & { readonly maxEffect?: Effect }
  /**
   * The revocation that has changed the tasks of this match by now. An exchange under way may have read them before: what
   * it is told here makes it read them again.
   */
  readonly closes?: string
  /**
   * For entries by `kid` of a compromised key: whatever that key signed is dead whatever `rev` it claims. Such
   * entries stay until the key has left every cache.
   */
  readonly absolute?: boolean
  /**
   * A mark: what was checked before it is dead, and what was checked since lives. Absent it is the entry's own place.
   * Such an entry is about what was there: whatever its mode, it keeps nothing out.
   */
  readonly before?: Epoch
}

export interface Revocation extends NewRevocation {
  readonly epoch: Epoch
  /** Since when a ban or a suspension is over. */
  readonly readmitted?: { readonly at: number; readonly by: string; readonly reason: string }
}

export interface RevocationLog extends Revocations {
  /**
   * Adds the entry at the next epoch, durable and visible to every later `check` before it resolves. `added` is
   * false where the id was there already.
   */
  add(entry: NewRevocation): Promise<{ readonly entry: Revocation; readonly added: boolean }>
  /**
   * Takes a place in the log that kills nothing: what is checked from now on is not before it. Durable, and seen by every
   * later `check`, before it resolves.
   */
  mark(): Promise<Epoch>
  get(id: string): Promise<Revocation | undefined>
  /** Live entries after `epoch`, in order; all live ones where it is absent. Entries with `expiresAt <= now` may be missing. */
  after(epoch?: Epoch): Promise<readonly Revocation[]>
  /** Bans and suspensions in force at `now`. */
  bans(now: number): Promise<readonly Revocation[]>
  /** Ends a ban or a suspension; the entry itself stays. False where there is none in force. */
  readmit(id: string, by: string, reason: string, at: number): Promise<boolean>
  epoch(): Promise<Epoch>
  /**
   * Called after each added entry, in this process and (Redis) for entries of other replicas, in epoch order; `moved`
   * after the epoch moved without one. Returns the unsubscriber.
   */
  onAdded(listener: (entry: Revocation) => void, moved?: () => void): () => void
  /** Forgets entries that expired and bans that ran out. */
  prune(now: number): Promise<void>
}
