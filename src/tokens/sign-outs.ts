/**
 * Users whose identity provider ended everything of theirs: from then on only a newer sign-in counts. Revocation kills
 * what was issued; this keeps the user's token of before from opening something new.
 */
export interface SignOuts {
  /**
   * Sign-ins at or before this (Unix seconds) count no more; undefined where all count. Asked after the revocation
   * check: the mark is made before the entry, so whoever finds none holds a token that was checked before the entry.
   */
  before(subject: string): Promise<number | undefined>
  /** Durable, and known to every later `before`, when it resolves; never lowered. Kept until `keepUntil` at least. */
  mark(subject: string, before: number, keepUntil: number): Promise<void>
  /** Notes that all has been carried out which the mark of `before` announced. */
  settle(subject: string, before: number): Promise<void>
  /** Up to when all is carried out; undefined where nothing is. */
  settled(subject: string): Promise<number | undefined>
  /** Forgets what was to be kept until before `now`. */
  prune(now: number): Promise<void>
}
