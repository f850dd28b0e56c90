/** Which proof key evidence belongs to, and which registration a SPIFFE id belongs to, in the embedded database. */
import type { KeyPins, PrincipalBindings } from '../../attest/key-pins.ts'
import type { EmbeddedDatabase } from './database.ts'

const KEPT_LONGER_SECONDS = 60

export function createKeyPins(deps: { db: EmbeddedDatabase; forgetBefore: () => number }): KeyPins {
  const { db, forgetBefore } = deps
  const find = db.prepare('SELECT thumbprint FROM key_pins WHERE evidence = ?')
  const insert = db.prepare('INSERT INTO key_pins VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
  const sweep = db.prepare(
    'DELETE FROM key_pins WHERE evidence IN (SELECT evidence FROM key_pins WHERE expires_at < ? ORDER BY expires_at LIMIT 16)',
  )
  return {
    pin: async (evidenceId, thumbprint, expiresAt) => {
      // Evidence is presented many times and pinned once; what is read outside a write has been committed.
      const pinned = find.one([evidenceId])
      if (pinned) return String(pinned['thumbprint'])
      return db.write(() => {
        sweep.run([forgetBefore() - KEPT_LONGER_SECONDS])
        insert.run([evidenceId, thumbprint, Math.ceil(expiresAt)])
        return String(find.one([evidenceId])?.['thumbprint'])
      })
    },
  }
}

export function createPrincipalBindings(deps: { db: EmbeddedDatabase }): PrincipalBindings {
  const { db } = deps
  const find = db.prepare('SELECT client_id, since FROM principals WHERE spiffe_id = ?')
  const bind = db.prepare(
    'INSERT INTO principals VALUES (?, ?, ?) ON CONFLICT (spiffe_id) DO UPDATE SET client_id = excluded.client_id, since = excluded.since',
  )
  const known = (spiffeId: string, clientId: string): number | undefined => {
    const row = find.one([spiffeId])
    return row?.['client_id'] === clientId ? Number(row['since']) : undefined
  }
  return {
    since: async (spiffeId, clientId, now) =>
      known(spiffeId, clientId) ??
      db.write(() => {
        const already = known(spiffeId, clientId)
        if (already !== undefined) return already
        const since = find.one([spiffeId]) ? now : 0
        bind.run([spiffeId, clientId, since])
        return since
      }),
  }
}
