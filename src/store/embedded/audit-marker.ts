/**
 * Ties the database to the audit log beside it: each half of a data folder alone would start, and forget what the other
 * half knows. The database holds the log's id from before the log's first record on.
 */
import { join } from 'node:path'
import { StoreFault } from '../fault.ts'
import { auditTrace } from '../history.ts'
import type { EmbeddedDatabase } from './database.ts'

const TOGETHER =
  'Restore errand.db (with errand.db-wal) and audit/ from one backup, or move the data folder away to begin a new one'

/** Throws where the two do not belong together. */
export function checkAuditMarker(db: EmbeddedDatabase, dataDir: string): void {
  const marked = db.prepare("SELECT value FROM meta WHERE name = 'audit_log'").one([])?.['value']
  const { logId, begun, records } = auditTrace(dataDir)
  const audit = join(dataDir, 'audit')
  if (marked === undefined) {
    // Written by a version without the marker, the database at least holds keys: they are made at the first start.
    const used = db.prepare('SELECT 1 AS used FROM signing_keys LIMIT 1').one([]) !== undefined
    if (records && !used)
      throw damaged(`${join(dataDir, 'errand.db')} holds no state, and ${audit} has records: the bans are missing`)
    return
  }
  const wanted = textOf(Number(marked))
  if (logId === undefined)
    throw damaged(`${audit} is missing or empty, and errand.db belongs to the audit log ${wanted}`)
  if (logId !== wanted)
    throw damaged(`${audit} holds the log ${logId}, and errand.db belongs to the audit log ${wanted}`)
  if (!begun) throw damaged(`${join(audit, wanted)} holds no segment: the audit log ${wanted} is missing`)
}

/** Before the first record of a new log. */
export async function writeAuditMarker(db: EmbeddedDatabase, logId: string): Promise<void> {
  const insert = db.prepare("INSERT INTO meta VALUES ('audit_log', ?) ON CONFLICT (name) DO NOTHING")
  await db.write(() => insert.run([Number.parseInt(logId, 16)]))
}

const textOf = (marker: number): string => marker.toString(16).padStart(8, '0')

const damaged = (what: string): StoreFault => new StoreFault('data_damaged', `${what}. ${TOGETHER}`)
