/**
 * Takes from tasks what a containment says, and closes it: an exchange under way may have read a task before that, and
 * be checked after the first entry. What was made in between dies of the second one, and whoever is checked after that
 * reads the task again.
 */
import { MAX_TOKEN_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import { createHash } from 'node:crypto'
import type { TaskStore } from '../tasks/task-store.ts'
import { containMatching, type Expire } from './matching-tasks.ts'
import { MARGIN_SECONDS, type NewRevocation, type Revocation, type RevocationLog } from './revocation-log.ts'

/** So long a containment is known, and may be finished by whoever starts later. */
export const CONTAIN_KEPT_SECONDS = 86_400
/** Somebody may be at it: so long it is left to them. Two at once do the same, and no harm. */
const LEFT_ALONE_SECONDS = 30

/** The id of the entry that closes a containment, or a ban that is lifted. */
export const closingOf = (id: string): string =>
  `rev_${createHash('sha256').update(`closes ${id}`).digest('base64url').slice(0, 22)}`

export interface Narrowing {
  /** Answers the tasks that it took something from; none where it was closed before. */
  contain(entry: Revocation, correlation?: string): Promise<readonly string[]>
  /** What an entry did to tasks is done: whoever is checked from now on reads them again. */
  close(entry: Revocation, by: string, correlation?: string): Promise<void>
  /** After a start: those that nobody has closed. */
  finish(): Promise<void>
  /** Those that a fault came in between of, here or at another replica. */
  sweep(): Promise<void>
}

export interface NarrowingDeps {
  readonly now: () => number
  /** The furthest that the clock has been. */
  readonly latest: () => number
  readonly log: Pick<RevocationLog, 'get' | 'after' | 'onAdded'>
  readonly tasks: TaskStore
  readonly add: (entry: NewRevocation, correlation: string | undefined) => Promise<unknown>
  readonly expire: Expire
  readonly tell: (entry: Revocation, tasks: readonly string[], correlation: string | undefined) => Promise<void>
}

export function createNarrowing({ now, latest, log, tasks, add, expire, tell }: NarrowingDeps): Narrowing {
  /** Not closed yet, and since when nobody here was at it. */
  const open = new Map<string, { readonly entry: Revocation; readonly since: number }>()
  log.onAdded((entry) => {
    if (entry.mode === 'contain') open.set(entry.id, { entry, since: now() })
    if (entry.closes !== undefined) open.delete(entry.closes)
  })

  const close: Narrowing['close'] = async ({ id, match, expiresAt }, by, correlation) => {
    const at = now()
    await add(
      {
        id: closingOf(id),
        match,
        mode: 'cut',
        closes: id,
        reason: `closes ${id}`,
        by,
        at,
        expiresAt: Math.max(latest() + MAX_TOKEN_LIFETIME_SECONDS + MARGIN_SECONDS, expiresAt),
      },
      correlation,
    )
  }

  const contain: Narrowing['contain'] = async (entry, correlation) => {
    const { id, match, taken, by } = entry
    // Closed: what was opened since then is none of its tasks.
    if (!taken || (await log.get(closingOf(id)))) return []
    const { tools, operations } = taken
    const found = await containMatching(tasks, match, { by: id, tools, operations }, now(), expire)
    await close(entry, by, correlation)
    await tell(entry, found, correlation)
    return found
  }

  return {
    contain,
    close,
    async finish() {
      for (const entry of await log.after()) if (entry.mode === 'contain') await contain(entry)
    },
    async sweep() {
      for (const [id, { entry, since }] of [...open]) {
        if (now() - since < LEFT_ALONE_SECONDS) continue
        open.set(id, { entry, since: now() })
        await contain(entry)
        open.delete(id)
      }
    },
  }
}
