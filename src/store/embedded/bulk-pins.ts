/** What previews have pinned, in the embedded database. */
import { type Pin, BULK_PIN_KNOWN_SECONDS, type BulkPins, type PinSpent } from '../../revoke/bulk-pins.ts'
import type { EmbeddedDatabase } from './database.ts'

export function createBulkPins(deps: { db: EmbeddedDatabase; forgetBefore: () => number }): BulkPins {
  const { db, forgetBefore } = deps
  const insert = db.prepare(
    `INSERT INTO bulk_pins VALUES (?, ?, ?, ?, NULL, 0) ON CONFLICT (digest) DO UPDATE
     SET made_by = excluded.made_by, expires_at = excluded.expires_at, pin = excluded.pin WHERE reason IS NULL`,
  )
  const find = db.prepare('SELECT * FROM bulk_pins WHERE digest = ?')
  const use = db.prepare('UPDATE bulk_pins SET reason = ? WHERE digest = ?')
  const finish = db.prepare('UPDATE bulk_pins SET done = 1 WHERE digest = ?')
  const open = db.prepare('SELECT * FROM bulk_pins WHERE reason IS NOT NULL AND done = 0')
  const sweep = db.prepare('DELETE FROM bulk_pins WHERE expires_at < ? AND (reason IS NULL OR done = 1)')
  const toPin = (text: unknown) => JSON.parse(String(text)) as Pin

  function look(digest: string, by: string, now: number): PinSpent {
    const row = find.one([digest])
    if (row?.['made_by'] !== by) return { outcome: 'unknown' }
    const pin = toPin(row['pin'])
    if (row['reason'] !== null && row['done'] === 0)
      return { outcome: 'begun', pin: { ...pin, reason: String(row['reason']) } }
    if (row['reason'] !== null) return { outcome: 'used', revocation: pin.revocation }
    return now >= pin.expiresAt ? { outcome: 'expired' } : { outcome: 'spent', pin }
  }

  return {
    offer: (digest, pin) =>
      db.write(
        () => {
          sweep.run([forgetBefore() - BULK_PIN_KNOWN_SECONDS])
          insert.run([digest, pin.by, pin.expiresAt, JSON.stringify(pin)])
        },
        { urgent: pin.confirmedBy !== undefined },
      ),
    spend: (digest, by, reason, now) =>
      db.write(
        () => {
          const found = look(digest, by, now)
          if (found.outcome === 'spent') use.run([reason, digest])
          return found
        },
        { urgent: true },
      ),
    look: async (...asked) => look(...asked),
    done: async (digest) => {
      await db.write(() => finish.run([digest]), { urgent: true })
    },
    unfinished: async () =>
      open.all([]).map((row) => ({
        digest: String(row['digest']),
        pin: { ...toPin(row['pin']), reason: String(row['reason']) },
      })),
  }
}
