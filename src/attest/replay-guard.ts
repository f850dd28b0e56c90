/** Remembers what may be used once, for as long as it could be accepted. */
import { Unavailable } from '../oauth/refusal.ts'

export interface ReplayGuard {
  /**
   * Records `id` and reports whether this call was the first. Of simultaneous calls, also from several processes,
   * exactly one sees true. Durable before it resolves: a restart does not forget. `expiresAt` in Unix seconds.
   * Throws `Unavailable('replay_guard_unavailable')` where that cannot be known; nobody may accept then. `urgent`: of
   * somebody who is about to end something, and worth the space that is set aside for that. `issuedAt`: when it was made,
   * Unix seconds; what is older than the generation of the store may have been spent in one that was lost, and is refused
   * with `Unavailable('sealed')`.
   */
  spend(id: string, expiresAt: number, urgent?: boolean, issuedAt?: number): Promise<boolean>
}

/** Another of the same kind, made now, is taken. */
export function refuseOlder(issuedAt: number | undefined, openedAt: number): void {
  if (issuedAt !== undefined && issuedAt < openedAt)
    throw new Unavailable(
      'sealed',
      'it was made before the store was opened anew, and may have been used: make another',
    )
}
