/** Spent ids: in memory and in the journal first, then in the embedded database, whose primary key is the guard. */
import type { ReplayGuard } from '../../attest/replay-guard.ts'
import type { EmbeddedDatabase } from './database.ts'
import type { Journal } from './journal.ts'

/** A clock that is set back a little must not find an id forgotten. */
const KEPT_LONGER_SECONDS = 60
const SPENDS_PER_SWEEP = 256
const ROWS_PER_SWEEP = 1024

export function createReplayGuard(deps: {
  db: EmbeddedDatabase
  journal: Journal
  forgetBefore: () => number
}): ReplayGuard {
  const { db, journal, forgetBefore } = deps
  const find = db.prepare('SELECT 1 FROM spent WHERE id = ?')
  const insert = db.prepare('INSERT INTO spent VALUES (?, ?) ON CONFLICT DO NOTHING')
  // No index by expiry (it would double the cost of every spend): a cursor walks round the table instead.
  const upTo = db.prepare(`SELECT id FROM spent WHERE id > ? ORDER BY id LIMIT 1 OFFSET ${ROWS_PER_SWEEP - 1}`)
  const sweepPart = db.prepare('DELETE FROM spent WHERE id > ? AND id <= ? AND expires_at < ?')
  const sweepRest = db.prepare('DELETE FROM spent WHERE id > ? AND expires_at < ?')
  let cursor = ''
  let untilSweep = SPENDS_PER_SWEEP

  function sweep(): string {
    const before = forgetBefore() - KEPT_LONGER_SECONDS
    const end = upTo.one([cursor])
    if (end) {
      sweepPart.run([cursor, String(end['id']), before])
      return String(end['id'])
    }
    sweepRest.run([cursor, before])
    return ''
  }

  /** Not yet in the database. */
  const spent = new Set<string>()
  journal.carries('spent', {
    carry: ([, id, expiresAt]) => {
      if (Number(expiresAt) >= forgetBefore() - KEPT_LONGER_SECONDS) insert.run([id, Number(expiresAt)])
    },
    carried: ([, id]) => spent.delete(id),
  })

  return {
    spend: async (id, expiresAt) => {
      // Nothing else of this process runs between the look and the note, and no other process has the folder.
      db.assertOpen('replay_guard_unavailable')
      if (spent.has(id) || find.one([id]) !== undefined) return false
      spent.add(id)
      try {
        await journal.append(['spent', id, Math.ceil(expiresAt)], 'replay_guard_unavailable')
      } catch (error) {
        // Nobody was let through with it.
        spent.delete(id)
        throw error
      }
      untilSweep -= 1
      if (untilSweep <= 0) {
        untilSweep = SPENDS_PER_SWEEP
        // Nobody waits for it, and nothing is lost where it fails: the next one walks the same part again.
        db.write(sweep, {
          committed: (next) => {
            cursor = next
          },
        }).catch(() => undefined)
      }
      return true
    },
  }
}
