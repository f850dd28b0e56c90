/** Which proof key evidence belongs to, and which registration a SPIFFE id belongs to, in the embedded database. */
import type { KeyPins, PrincipalBindings } from '../../attest/key-pins.ts'
import { refuseOlder } from '../../attest/replay-guard.ts'
import { createRemembered } from '../../attest/remembered.ts'
import type { EmbeddedDatabase } from './database.ts'
import type { Journal } from './journal.ts'
import { createSweep } from './sweep.ts'

const MAX_REMEMBERED = 20_000

export function createKeyPins(deps: {
  db: EmbeddedDatabase
  journal: Journal
  forgetBefore: () => number
  /** Unix seconds: when its generation was opened. */
  openedAt: number
}): KeyPins {
  const { db, journal, forgetBefore, openedAt } = deps
  const find = db.prepare('SELECT thumbprint FROM key_pins WHERE evidence = ?')
  const insert = db.prepare('INSERT INTO key_pins VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
  const added = createSweep({ db, forgetBefore, table: 'key_pins', key: 'evidence' })
  /** What came again: most evidence does, and is pinned once. */
  const known = createRemembered<string>(MAX_REMEMBERED)
  /** On the way into the journal: whoever comes with it meanwhile waits for the same write. */
  const pinning = new Map<string, { readonly thumbprint: string; readonly done: Promise<void> }>()
  /** Not yet in the database. */
  const journaled = new Map<string, string>()
  journal.carries('pin', {
    carry: ([, evidence, thumbprint, expiresAt]) => {
      insert.run([evidence, String(thumbprint), Number(expiresAt)])
    },
    carried: ([, evidence]) => journaled.delete(evidence),
  })

  function pinned(evidenceId: string): string | undefined {
    const remembered = known.get(evidenceId) ?? journaled.get(evidenceId)
    if (remembered !== undefined) return remembered
    const row = find.one([evidenceId])
    return row && String(row['thumbprint'])
  }

  return {
    pin: async (evidenceId, thumbprint, expiresAt, issuedAt) => {
      refuseOlder(issuedAt, openedAt)
      db.assertOpen()
      const under = pinning.get(evidenceId)
      if (under) {
        await under.done
        return under.thumbprint
      }
      const before = pinned(evidenceId)
      if (before !== undefined) {
        known.put(evidenceId, before)
        return before
      }
      const done = journal.append(['pin', evidenceId, thumbprint, Math.ceil(expiresAt)])
      pinning.set(evidenceId, { thumbprint, done })
      try {
        await done
        journaled.set(evidenceId, thumbprint)
      } finally {
        pinning.delete(evidenceId)
      }
      added()
      return thumbprint
    },
    pinned: async (evidenceId) => {
      db.assertOpen()
      return pinned(evidenceId)
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
  /** As many as there are agents. */
  const remembered = new Map<string, { readonly clientId: string; readonly since: number }>()
  const asked = (spiffeId: string, clientId: string): number | undefined => {
    const since = known(spiffeId, clientId)
    if (since !== undefined) remembered.set(spiffeId, { clientId, since })
    return since
  }
  return {
    since: async (spiffeId, clientId, now) => {
      db.assertOpen()
      const one = remembered.get(spiffeId)
      if (one?.clientId === clientId) return one.since
      // Forgotten before it moves: what is remembered is what the database has.
      remembered.delete(spiffeId)
      return asked(spiffeId, clientId) ?? move(spiffeId, clientId, now)
    },
  }
  function move(spiffeId: string, clientId: string, now: number): Promise<number> {
    return db.write(
      () => {
        const already = known(spiffeId, clientId)
        if (already !== undefined) return already
        const since = find.one([spiffeId]) ? now : 0
        bind.run([spiffeId, clientId, since])
        return since
      },
      { committed: (since) => remembered.set(spiffeId, { clientId, since }) },
    )
  }
}
