/** Spent ids: in memory and in the journal first, then in the embedded database, whose primary key is the guard. */
import { type ReplayGuard, refuseOlder } from '../../attest/replay-guard.ts'
import type { EmbeddedDatabase } from './database.ts'
import type { Journal } from './journal.ts'
import { createSweep, KEPT_LONGER_SECONDS } from './sweep.ts'

export function createReplayGuard(deps: {
  db: EmbeddedDatabase
  journal: Journal
  forgetBefore: () => number
  /** Unix seconds: when its generation was opened. */
  openedAt: number
}): ReplayGuard {
  const { db, journal, forgetBefore, openedAt } = deps
  const find = db.prepare('SELECT 1 FROM spent WHERE id = ?')
  const insert = db.prepare('INSERT INTO spent VALUES (?, ?) ON CONFLICT DO NOTHING')
  const added = createSweep({ db, forgetBefore, table: 'spent', key: 'id' })
  /** Not yet in the database. */
  const spent = new Set<string>()
  journal.carries('spent', {
    carry: ([, id, expiresAt]) => {
      if (Number(expiresAt) >= forgetBefore() - KEPT_LONGER_SECONDS) insert.run([id, Number(expiresAt)])
    },
    carried: ([, id]) => spent.delete(id),
  })

  return {
    spend: async (id, expiresAt, urgent, issuedAt) => {
      refuseOlder(issuedAt, openedAt)
      // Nothing else of this process runs between the look and the note, and no other process has the folder.
      db.assertOpen('replay_guard_unavailable')
      if (spent.has(id) || find.one([id]) !== undefined) return false
      spent.add(id)
      try {
        await journal.append(['spent', id, Math.ceil(expiresAt)], 'replay_guard_unavailable', urgent)
      } catch (error) {
        // Nobody was let through with it.
        spent.delete(id)
        throw error
      }
      added()
      return true
    },
  }
}
