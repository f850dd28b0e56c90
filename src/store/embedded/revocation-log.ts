/** The revocation log in the embedded database, with its index in memory. */
import type { Epoch } from '@errand/verifier/epoch.ts'
import { shapeOf } from '@errand/verifier/shapes.ts'
import { Unavailable } from '../../oauth/refusal.ts'
import type { NewRevocation, Revocation, RevocationLog } from '../../revoke/revocation-log.ts'
import { type Sealed, sealedBy } from '../../revoke/seals.ts'
import { banInForce, tell } from '../revocations.ts'
import type { EmbeddedDatabase, Row } from './database.ts'
import { createRevocationIndex } from './revocation-index.ts'

export function createRevocationLog(deps: {
  db: EmbeddedDatabase
  now: () => number
  forgetBefore: () => number
  /** By an administrator. */
  sealed: () => Sealed | undefined
}): RevocationLog {
  const { db, now, forgetBefore, sealed } = deps
  const find = db.prepare('SELECT * FROM revocations WHERE id = ?')
  const insert = db.prepare(
    `INSERT INTO revocations (generation, id, match, mode, reason, by, at, expires_at, ban_until, absolute, more)
     VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
  )
  // The number is used up, whatever becomes of the row.
  const drop = db.prepare('DELETE FROM revocations WHERE id = ?')
  const since = db.prepare('SELECT * FROM revocations WHERE sequence > ? AND expires_at > ? ORDER BY sequence')
  const openBans = db.prepare(
    "SELECT * FROM revocations WHERE mode IN ('ban', 'suspend') AND readmitted_at IS NULL ORDER BY sequence",
  )
  const readmit = db.prepare(
    'UPDATE revocations SET readmitted_at = ?, readmitted_by = ?, readmitted_reason = ? WHERE id = ?',
  )
  // A ban outlives what it kills: it stays until it has run out or was lifted.
  const forget = db.prepare(
    `DELETE FROM revocations WHERE expires_at <= ?
     AND NOT (mode IN ('ban', 'suspend') AND readmitted_at IS NULL AND (ban_until IS NULL OR ban_until > ?))`,
  )
  const generation = Number(db.prepare("SELECT value FROM meta WHERE name = 'generation'").one([])?.['value'])
  // The counter, not the highest row: an entry that was dropped has used its number.
  const sequence = db.prepare("SELECT seq FROM sqlite_sequence WHERE name = 'revocations'").one([])?.['seq']

  const index = createRevocationIndex({ generation, sequence: Number(sequence ?? 0) })
  for (const row of db.prepare('SELECT * FROM revocations ORDER BY sequence').all([])) index.add(toRevocation(row))
  index.prune(forgetBefore())
  const listeners = new Set<(entry: Revocation) => void>()
  const moved = new Set<() => void>()

  return {
    // Nothing else of this process runs meanwhile: entries, bans and epoch are read in one step.
    check: async (question) => {
      db.assertOpen()
      const seal = question.issuing && sealed()
      if (seal) throw sealedBy(seal)
      return index.check(question, now())
    },
    add: (entry) =>
      db.write(
        () => {
          const known = find.one([entry.id])
          if (known) return { entry: toRevocation(known), added: false }
          const adding = () => since.all([index.epoch().sequence, 0]).map((row) => shapeOf(toRevocation(row).match))
          if (!index.hasRoomFor(shapeOf(entry.match), adding)) {
            throw new Unavailable('overloaded', 'too many combinations of dimensions are being revoked by')
          }
          insert.run([
            generation,
            entry.id,
            JSON.stringify(entry.match),
            entry.mode,
            entry.reason,
            entry.by,
            entry.at,
            entry.expiresAt,
            entry.banUntil ?? null,
            entry.absolute ? 1 : 0,
            moreOf(entry),
          ])
          return { entry: toRevocation(find.one([entry.id])!), added: true }
        },
        {
          // What the service does by itself, for tasks whose heartbeats it cannot write, say, may not use it up.
          urgent: entry.by !== 'system',
          // On disk first, then seen by checks, then acknowledged: an epoch that was handed out is never given twice.
          committed: ({ entry: stored, added }) => {
            if (!added) return
            index.add(stored)
            for (const listener of listeners) tell(listener, stored)
          },
        },
      ),
    mark: () =>
      db.write(
        () => {
          insert.run([generation, MARK, '{}', MARK, '', '', 0, 0, null, 0, null])
          const place = Number(find.one([MARK])!['sequence'])
          drop.run([MARK])
          return { generation, sequence: place }
        },
        {
          urgent: true,
          committed: (place) => {
            index.moveTo(place)
            for (const listener of moved) tell(listener, undefined)
          },
        },
      ),
    get: async (id) => {
      const row = find.one([id])
      return row && toRevocation(row)
    },
    after: async (epoch) => since.all([afterSequence(epoch, generation), forgetBefore()]).map(toRevocation),
    bans: async (at) =>
      openBans
        .all([])
        .map(toRevocation)
        .filter((entry) => banInForce(entry, at)),
    readmit: (id, by, reason, at) =>
      db
        .write(
          () => {
            const row = find.one([id])
            if (!row || !banInForce(toRevocation(row), at)) return undefined
            readmit.run([at, by, reason, id])
            return toRevocation(row)
          },
          { committed: (entry) => entry && index.readmit(entry) },
        )
        .then((entry) => entry !== undefined),
    epoch: async () => index.epoch(),
    onAdded: (listener, moves) => {
      listeners.add(listener)
      if (moves) moved.add(moves)
      return () => {
        listeners.delete(listener)
        if (moves) moved.delete(moves)
      }
    },
    prune: async (at) => {
      await db.write(() => forget.run([at, at]), { committed: () => index.prune(at) })
    },
  }
}

/** What few entries have. */
type More = Pick<NewRevocation, 'taken' | 'before' | 'closes' | 'partOf' | 'confirmedBy'>

const moreOf = ({ taken, before, closes, partOf, confirmedBy }: More): string | null => {
  const more = JSON.stringify({ taken, before, closes, partOf, confirmedBy })
  return more === '{}' ? null : more
}

/** Of a row that is gone again before anybody can see it. */
const MARK = 'mark'

/** Everything of an earlier generation lies before; sequences go on counting across generations. */
const afterSequence = (epoch: Epoch | undefined, generation: number): number => {
  if (epoch === undefined || epoch.generation < generation) return 0
  return epoch.generation > generation ? Number.MAX_SAFE_INTEGER : epoch.sequence
}

function toRevocation(row: Row): Revocation {
  const base: NewRevocation = {
    id: String(row['id']),
    match: JSON.parse(String(row['match'])) as NewRevocation['match'],
    mode: row['mode'] as NewRevocation['mode'],
    reason: String(row['reason']),
    by: String(row['by']),
    at: Number(row['at']),
    expiresAt: Number(row['expires_at']),
    ...(row['ban_until'] == null ? {} : { banUntil: Number(row['ban_until']) }),
    ...(row['absolute'] === 1 ? { absolute: true } : {}),
    ...(row['more'] == null ? {} : (JSON.parse(String(row['more'])) as More)),
  }
  return {
    ...base,
    epoch: { generation: Number(row['generation']), sequence: Number(row['sequence']) },
    ...(row['readmitted_at'] == null
      ? {}
      : {
          readmitted: {
            at: Number(row['readmitted_at']),
            by: String(row['readmitted_by']),
            reason: String(row['readmitted_reason']),
          },
        }),
  }
}
