/** Answers to be given again, in the embedded database. */
import type { Claim, IdempotencyStore } from '../../exchange/idempotency.ts'
import type { EmbeddedDatabase } from './database.ts'

const CLAIM_LAPSES_AFTER_SECONDS = 10

export function createIdempotencyStore(deps: { db: EmbeddedDatabase }): IdempotencyStore {
  const { db } = deps
  const find = db.prepare('SELECT * FROM idempotency WHERE key = ?')
  const take = db.prepare(
    'INSERT OR REPLACE INTO idempotency (key, digest, claimed_at, expires_at) VALUES (?, ?, ?, ?)',
  )
  const finish = db.prepare(
    'UPDATE idempotency SET log_index = ?, log_id = ?, response = ? WHERE key = ? AND response IS NULL',
  )
  const giveBack = db.prepare('DELETE FROM idempotency WHERE key = ? AND response IS NULL')
  const sweep = db.prepare(
    'DELETE FROM idempotency WHERE key IN (SELECT key FROM idempotency WHERE expires_at <= ? ORDER BY expires_at LIMIT 16)',
  )
  return {
    claim: (key, digest, now, expiresAt) =>
      db.write((): Claim => {
        sweep.run([now])
        const row = find.one([key])
        if (row && Number(row['expires_at']) > now) {
          const known = String(row['digest'])
          if (row['response'] !== null && row['response'] !== undefined) {
            const result = {
              index: Number(row['log_index']),
              logId: String(row['log_id']),
              response: String(row['response']),
            }
            return { outcome: 'remembered', remembered: { digest: known, result } }
          }
          // Only the same request takes over: should the first come back after all, its answer is of this digest.
          if (known !== digest || now < Number(row['claimed_at']) + CLAIM_LAPSES_AFTER_SECONDS) {
            return { outcome: 'in_progress', digest: known }
          }
        }
        take.run([key, digest, now, Math.ceil(expiresAt)])
        return { outcome: 'claimed' }
      }),
    complete: async (key, result) => {
      await db.write(() => finish.run([result.index, result.logId, result.response, key]))
    },
    release: async (key) => {
      await db.write(() => giveBack.run([key]))
    },
  }
}
