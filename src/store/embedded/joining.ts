/** Join tokens by their digests, and the keys that came with them, in the embedded database. */
import type { JoinedKey, Joining } from '../../attest/joining.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

/** A clock that is set back a little must not find a spent token forgotten. */
const KEPT_LONGER_SECONDS = 3600

export function createJoining(deps: { db: EmbeddedDatabase; forgetBefore: () => number }): Joining {
  const { db, forgetBefore } = deps
  const sweep = db.prepare('DELETE FROM join_tokens WHERE expires_at < ?')
  const insert = db.prepare('INSERT INTO join_tokens VALUES (?, ?, ?, ?, NULL)')
  const find = db.prepare('SELECT client_id, expires_at, made_by, used_by FROM join_tokens WHERE digest = ?')
  const use = db.prepare('UPDATE join_tokens SET used_by = ? WHERE digest = ? AND used_by IS NULL')
  const register = db.prepare('INSERT INTO joined_keys VALUES (?, ?, ?, ?, ?) ON CONFLICT DO NOTHING')
  const one = db.prepare('SELECT * FROM joined_keys WHERE client_id = ? AND kid = ?')
  const all = db.prepare('SELECT * FROM joined_keys WHERE client_id = ? ORDER BY joined_at, kid')
  const erase = db.prepare('DELETE FROM joined_keys WHERE client_id = ? AND kid = ?')

  return {
    offer: (digest, { clientId, expiresAt, by }) =>
      db.write(() => {
        sweep.run([forgetBefore() - KEPT_LONGER_SECONDS])
        insert.run([digest, clientId, expiresAt, by])
      }),
    find: async (digest) => {
      const row = find.one([digest])
      const usedBy = row?.['used_by'] ?? undefined
      return (
        row && {
          clientId: String(row['client_id']),
          expiresAt: Number(row['expires_at']),
          by: String(row['made_by']),
          ...(usedBy === undefined ? {} : { usedBy: String(usedBy) }),
        }
      )
    },
    redeem: (digest, key, now) =>
      db.write(() => {
        const row = find.one([digest])
        if (row?.['client_id'] !== key.clientId) return 'unknown'
        if (row['used_by'] !== null) {
          return row['used_by'] === key.kid && one.one([key.clientId, key.kid]) ? 'again' : 'spent'
        }
        if (now >= Number(row['expires_at'])) return 'expired'
        use.run([key.kid, digest])
        register.run([key.clientId, key.kid, JSON.stringify(key.jwk), key.joinedAt, key.by])
        return 'joined'
      }),
    keysOf: async (clientId) => all.all([clientId]).map(toKey),
    key: async (clientId, kid) => {
      const row = one.one([clientId, kid])
      return row && toKey(row)
    },
    remove: (clientId, kid) => db.write(() => erase.run([clientId, kid]) === 1),
  }
}

const toKey = (row: Row): JoinedKey => ({
  clientId: String(row['client_id']),
  kid: String(row['kid']),
  jwk: JSON.parse(String(row['jwk'])),
  joinedAt: Number(row['joined_at']),
  by: String(row['made_by']),
})
