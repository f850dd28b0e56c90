/** Revocations that wait for a second person, in the embedded database. */
import {
  type HeldRevocation,
  PENDING_KNOWN_SECONDS,
  type PendingRevocation,
  type PendingRevocations,
} from '../../revoke/pending-revocations.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

export function createPendingRevocations(deps: {
  db: EmbeddedDatabase
  forgetBefore: () => number
}): PendingRevocations {
  const { db, forgetBefore } = deps
  const insert = db.prepare('INSERT OR IGNORE INTO pending_revocations VALUES (?, ?, ?, NULL, 0)')
  const find = db.prepare('SELECT * FROM pending_revocations WHERE id = ?')
  const confirm = db.prepare('UPDATE pending_revocations SET confirmed_by = ? WHERE id = ?')
  const finish = db.prepare('UPDATE pending_revocations SET done = 1 WHERE id = ?')
  const open = db.prepare(
    'SELECT * FROM pending_revocations WHERE confirmed_by IS NULL AND expires_at > ? ORDER BY expires_at, id',
  )
  const unfinished = db.prepare('SELECT * FROM pending_revocations WHERE confirmed_by IS NOT NULL AND done = 0')
  const sweep = db.prepare(
    'DELETE FROM pending_revocations WHERE expires_at < ? AND (confirmed_by IS NULL OR done = 1)',
  )

  return {
    ask: (pending) =>
      db.write(
        () => {
          sweep.run([forgetBefore() - PENDING_KNOWN_SECONDS])
          insert.run([pending.id, pending.expiresAt, JSON.stringify(pending)])
          return toHeld(find.one([pending.id])!)
        },
        { urgent: true },
      ),
    find: async (id) => {
      const row = find.one([id])
      return row && toHeld(row)
    },
    confirm: (id, by, now) =>
      db.write(
        () => {
          const row = find.one([id])
          if (!row) return { outcome: 'unknown' }
          const { pending, confirmedBy } = toHeld(row)
          if (confirmedBy !== undefined && (row['done'] === 1 || confirmedBy !== by))
            return { outcome: 'used', by: confirmedBy }
          if (pending.by === by) return { outcome: 'own' }
          if (confirmedBy === undefined && now >= pending.expiresAt) return { outcome: 'expired' }
          confirm.run([by, id])
          return { outcome: 'confirmed', pending }
        },
        { urgent: true },
      ),
    done: async (id) => {
      await db.write(() => finish.run([id]), { urgent: true })
    },
    open: async (now) => open.all([now]).map((row) => toHeld(row).pending),
    unfinished: async () =>
      unfinished.all([]).map((row) => ({ pending: toHeld(row).pending, confirmedBy: String(row['confirmed_by']) })),
  }
}

const toHeld = (row: Row): HeldRevocation => ({
  pending: JSON.parse(String(row['pending'])) as PendingRevocation,
  ...(row['confirmed_by'] == null ? {} : { confirmedBy: String(row['confirmed_by']) }),
})
