/** Remembers what may be used once, for as long as it could be accepted. */
export interface ReplayGuard {
  /**
   * Records `id` and reports whether this call was the first. Of simultaneous calls, also from several processes,
   * exactly one sees true. Durable before it resolves: a restart does not forget. `expiresAt` in Unix seconds.
   * Throws `Unavailable('replay_guard_unavailable')` where that cannot be known; nobody may accept then. `urgent`: of
   * somebody who is about to end something, and worth the space that is set aside for that.
   */
  spend(id: string, expiresAt: number, urgent?: boolean): Promise<boolean>
}
