/** Whether a data folder has been in use: its state is then somewhere, and beginning without it would un-revoke. */
import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { SEGMENT_HEADER_BYTES } from '../audit/frame.ts'
import { firstOfSegment, LOG_ID_FILE } from '../audit/layout.ts'

const filesOf = (audit: string) =>
  existsSync(audit)
    ? readdirSync(audit, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map(({ parentPath, name }) => ({ name, size: statSync(join(parentPath, name)).size }))
    : []

export const hasHistory = (dataDir: string): boolean => filesOf(join(dataDir, 'audit')).some(({ size }) => size > 0)

/** Whether anything there is sealed under a root key. */
export function hasData(dataDir: string): boolean {
  const state = join(dataDir, 'errand.db')
  return hasHistory(dataDir) || (existsSync(state) && statSync(state).size > 0)
}

export interface AuditTrace {
  /** What `log-id` holds, unread. */
  readonly logId?: string
  /** Whether that log has a segment: the first is there before anything is recorded. */
  readonly begun: boolean
  /** Whether any log there holds more than the heads of its files. */
  readonly records: boolean
}

/** The audit log as far as it can be told without opening it. */
export function auditTrace(dataDir: string): AuditTrace {
  const audit = join(dataDir, 'audit')
  const idFile = join(audit, LOG_ID_FILE)
  const logId = existsSync(idFile) ? readFileSync(idFile, 'latin1').trim() : ''
  const isSegment = ({ name }: { readonly name: string }) => firstOfSegment(name) !== undefined
  return {
    ...(logId === '' ? {} : { logId }),
    begun: logId !== '' && filesOf(join(audit, logId)).some(isSegment),
    records: filesOf(audit).some((file) => isSegment(file) && file.size > SEGMENT_HEADER_BYTES),
  }
}
