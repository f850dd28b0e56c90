/** One key per subject: erasing it erases the person from the log, and no proof breaks. */
export interface SubjectKeys {
  /**
   * The sealed key stored under `ref` (a keyed hash of the subject), or `make()` stored and returned. Of simultaneous
   * first calls one value wins and all see it. Durable before it resolves. Undefined where the key was erased.
   */
  obtain(ref: string, make: () => string): Promise<string | undefined>
  /** The key under `ref`; undefined where there is none, or it was erased. */
  find(ref: string): Promise<string | undefined>
  /** Leaves a tombstone: `obtain` makes no new key for an erased ref. */
  erase(ref: string): Promise<boolean>
}
