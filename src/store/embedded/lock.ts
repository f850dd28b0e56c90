/** One process per data folder (SECURITY-CASES P3). */
import { closeSync, mkdirSync, openSync } from 'node:fs'
import { join } from 'node:path'
import Database from 'libsql'
import { StoreFault } from '../fault.ts'

export interface DataLock {
  release(): void
}

/**
 * Node has no flock, and a file with a pid in it is wrong after pid reuse. An open exclusive transaction on a small
 * database of its own is a lock of the kernel's: it ends with the process, however that ends.
 */
export function lockDataDir(dataDir: string): DataLock {
  mkdirSync(dataDir, { recursive: true, mode: 0o700 })
  const path = join(dataDir, 'errand.lock')
  createPrivate(path)
  const held = new Database(path)
  try {
    held.exec('BEGIN EXCLUSIVE')
  } catch (cause) {
    held.close()
    throw new StoreFault(
      'store_locked',
      `another process is using the data folder ${dataDir}; stop it, or give this one a folder of its own (ERRAND_DATA)`,
      { cause },
    )
  }
  return { release: () => held.close() }
}

/**
 * An existing file is not even opened: closing any descriptor of a file drops every POSIX lock this process has on it.
 */
export function createPrivate(path: string): void {
  try {
    closeSync(openSync(path, 'wx', 0o600))
  } catch (error) {
    if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error
  }
}
