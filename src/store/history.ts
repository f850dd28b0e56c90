/** Whether a data folder has been in use: its state is then somewhere, and beginning without it would un-revoke. */
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'

export function hasHistory(dataDir: string): boolean {
  const audit = join(dataDir, 'audit')
  if (!existsSync(audit)) return false
  return readdirSync(audit, { recursive: true, withFileTypes: true }).some(
    (entry) => entry.isFile() && statSync(join(entry.parentPath, entry.name)).size > 0,
  )
}
