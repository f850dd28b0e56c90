/** Sealed signing keys in the embedded database. Rows are never deleted: a kid is never used again. */
import type { KeyStore, StoredKey } from '../../keys/key-store.ts'
import type { EmbeddedDatabase, Row } from './database.ts'

export function createKeyStore(deps: { db: EmbeddedDatabase }): KeyStore {
  const { db } = deps
  const all = db.prepare('SELECT * FROM signing_keys ORDER BY prepared_at, kid')
  const find = db.prepare('SELECT purpose, state FROM signing_keys WHERE kid = ?')
  const active = db.prepare("SELECT kid FROM signing_keys WHERE purpose = ? AND state = 'active'")
  const insert = db.prepare(
    'INSERT INTO signing_keys VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (kid) DO NOTHING',
  )
  const retire = db.prepare("UPDATE signing_keys SET state = 'retiring', retiring_at = ? WHERE kid = ?")
  const activate = db.prepare("UPDATE signing_keys SET state = 'active', activated_at = ? WHERE kid = ?")
  const move = db.prepare('UPDATE signing_keys SET state = ?, retired_at = ? WHERE kid = ?')
  return {
    list: async () => all.all([]).map(toKey),
    insert: (key) =>
      db.write(() => {
        const values = [key.kid, key.purpose, key.state, key.preparedAt]
        const times = [key.activatedAt ?? null, key.retiringAt ?? null, key.retiredAt ?? null]
        return insert.run([...values, ...times, key.alg, JSON.stringify(key.publicJwk), key.sealed]) === 1
      }),
    activate: (kid, expectedActive, at) =>
      db.write(() => {
        const key = find.one([kid])
        if (key?.['state'] !== 'prepared') return false
        const current = active.one([key['purpose'] ?? null])?.['kid']
        if (current !== expectedActive) return false
        if (current !== undefined) retire.run([at, current])
        return activate.run([at, kid]) === 1
      }),
    move: (kid, from, to, at) =>
      db.write(() => {
        const state = find.one([kid])?.['state']
        if (!from.some((allowed) => allowed === state)) return false
        return move.run([to, at, kid]) === 1
      }),
  }
}

const toKey = (row: Row): StoredKey => ({
  kid: String(row['kid']),
  purpose: row['purpose'] as StoredKey['purpose'],
  alg: row['alg'] as StoredKey['alg'],
  state: row['state'] as StoredKey['state'],
  publicJwk: JSON.parse(String(row['public_jwk'])) as StoredKey['publicJwk'],
  sealed: String(row['sealed']),
  preparedAt: Number(row['prepared_at']),
  ...(row['activated_at'] == null ? {} : { activatedAt: Number(row['activated_at']) }),
  ...(row['retiring_at'] == null ? {} : { retiringAt: Number(row['retiring_at']) }),
  ...(row['retired_at'] == null ? {} : { retiredAt: Number(row['retired_at']) }),
})
