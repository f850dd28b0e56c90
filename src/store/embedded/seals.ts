/** An administrator's seal in the embedded database. */
import type { Sealed, Seals } from '../../revoke/seals.ts'
import type { EmbeddedDatabase } from './database.ts'

export function createSeals({ db }: { db: EmbeddedDatabase }) {
  const insert = db.prepare('INSERT INTO seals VALUES (1, ?, ?, ?) ON CONFLICT DO NOTHING')
  const drop = db.prepare('DELETE FROM seals')
  const row = db.prepare('SELECT * FROM seals').one([])
  // This process is the only one that writes it.
  let current: Sealed | undefined = row && {
    by: String(row['by']),
    reason: String(row['reason']),
    at: Number(row['at']),
  }
  const seals: Seals = {
    seal: (sealed) =>
      db.write(() => insert.run([sealed.by, sealed.reason, sealed.at]) === 1, {
        urgent: true,
        committed: (first) => {
          if (first) current = sealed
        },
      }),
    current: async () => current,
    unseal: () =>
      db.write(() => drop.run([]) === 1, {
        committed: () => {
          current = undefined
        },
      }),
  }
  return { seals, sealed: () => current }
}
