/** The embedded database: one file, one process, and one fsync for everything that arrives in one tick. */
import { chmodSync, existsSync, statSync } from 'node:fs'
import { join } from 'node:path'
import Libsql from 'libsql'
import { type Reason, Unavailable } from '../../oauth/refusal.ts'
import { StoreFault } from '../fault.ts'
import type { Reserve } from '../files/reserve.ts'
import { hasHistory } from '../history.ts'
import { createPrivate } from './lock.ts'
import { FORMAT, MIGRATIONS, SCHEMA } from './schema.ts'

export type Value = string | number | null
export type Row = { readonly [column: string]: Value }

/** libsql aborts the process on a boolean parameter and takes a lone null for an object: parameters always come as one list of these. */
interface Statement {
  /** Answers how many rows changed. */
  run(values: readonly Value[]): number
  one(values: readonly Value[]): Row | undefined
  all(values: readonly Value[]): readonly Row[]
}

interface WriteOptions<T> {
  /** What is thrown where the write cannot be made durable. */
  readonly reason?: Reason
  /** Called at once after the commit, before anything else of this process runs and before the promise resolves. */
  readonly committed?: (value: T) => void
  /** Worth the reserved space when the disk is full: what ends something by somebody's order. */
  readonly urgent?: boolean
}

export interface EmbeddedDatabase {
  prepare(sql: string): Statement
  /**
   * Runs `step` in a transaction that it shares with everything else of this tick; resolves when that is on disk.
   * `step` may run twice, so it touches nothing but the database. What it throws undoes its own writes only.
   */
  write<T>(step: () => T, options?: WriteOptions<T>): Promise<T>
  /** Whether a write reaches the disk at this moment. */
  healthy(): Promise<boolean>
  /** Throws where it was closed: what is remembered of it may be out of date. */
  assertOpen(reason?: Reason): void
  /** Rewrites the file so that what was erased is nowhere in it any more. */
  scrub(): void
  close(): Promise<void>
}

interface Pending {
  readonly step: () => unknown
  readonly options: WriteOptions<unknown>
  readonly resolve: (value: unknown) => void
  readonly reject: (error: unknown) => void
}

export function openDatabase(dataDir: string, reserve: Reserve): EmbeddedDatabase {
  const path = join(dataDir, 'errand.db')
  const db = openFile(dataDir, path)

  const begin = db.prepare('BEGIN IMMEDIATE')
  const commit = db.prepare('COMMIT')
  let queue: Pending[] = []
  let closed = false

  function transaction(batch: readonly Pending[]): unknown[] {
    begin.run([])
    try {
      const values = batch.map(({ step }) => step())
      commit.run([])
      return values
    } catch (error) {
      // A failed COMMIT may have ended the transaction already.
      if (db.inTransaction) db.exec('ROLLBACK')
      throw error
    }
  }

  function settle(batch: readonly Pending[], values: readonly unknown[]): void {
    for (const [index, { options }] of batch.entries()) options.committed?.(values[index])
    for (const [index, { resolve }] of batch.entries()) resolve(values[index])
  }

  function alone(pending: Pending): void {
    try {
      settle([pending], transaction([pending]))
    } catch (error) {
      // The kill switch works with the disk full: the space was set aside for it.
      if (pending.options.urgent && isFull(error) && reserve.release()) alone(pending)
      else pending.reject(fault(error, pending.options.reason))
    }
  }

  function flush(): void {
    const batch = queue
    queue = []
    let values: unknown[]
    try {
      values = transaction(batch)
    } catch {
      // One of them failed, or the disk did: each on its own finds out which.
      for (const pending of batch) alone(pending)
      return
    }
    settle(batch, values)
  }

  function write<T>(step: () => T, options: WriteOptions<T> = {}): Promise<T> {
    const { reason = 'store_unavailable', urgent } = options
    if (closed) return Promise.reject(new Unavailable(reason, 'the store is closed'))
    if (!urgent && !reserve.spares()) return Promise.reject(new Unavailable(reason, 'the disk is full'))
    return new Promise<T>((resolve, reject) => {
      if (queue.length === 0) setImmediate(flush)
      queue.push({ step, options, resolve, reject } as Pending)
    })
  }

  const beat = db.prepare("UPDATE meta SET value = value + 1 WHERE name = 'beats'")
  return {
    prepare: (sql) => statement(db, sql),
    write,
    healthy: async () => {
      try {
        reserve.refill()
        await write(() => beat.run([]))
        return true
      } catch {
        return false
      }
    },
    assertOpen: (reason = 'store_unavailable') => {
      if (closed) throw new Unavailable(reason, 'the store is closed')
    },
    scrub: () => {
      db.pragma('wal_checkpoint(TRUNCATE)')
    },
    close: async () => {
      if (closed) return
      // Queued behind everything that was accepted.
      await write(() => undefined, { urgent: true })
      closed = true
      // libsql keeps the file open until its statements are collected: what is in the log goes to its place now.
      db.pragma('wal_checkpoint(TRUNCATE)')
      db.close()
    },
  }
}

function statement(db: Libsql.Database, sql: string): Statement {
  const prepared = db.prepare(sql)
  return {
    run: (values) => prepared.run(values).changes,
    one: (values) => prepared.get(values) as Row | undefined,
    all: (values) => prepared.all(values) as Row[],
  }
}

function openFile(dataDir: string, path: string): Libsql.Database {
  const empty = !existsSync(path) || statSync(path).size === 0
  if (empty && hasHistory(dataDir)) {
    throw damaged(
      `${dataDir} holds an audit log but no state (errand.db is missing or empty): restore errand.db from a backup, or move the folder away to begin a new one`,
    )
  }
  createPrivate(path)
  chmodSync(path, 0o600)
  const db = new Libsql(path)
  try {
    db.pragma('journal_mode = WAL')
    // An acknowledged write is on disk, not on its way there.
    db.pragma('synchronous = FULL')
    // What is erased (subject keys) is overwritten.
    db.pragma('secure_delete = ON')
    migrate(db, path, hasHistory(dataDir))
    return db
  } catch (error) {
    db.close()
    if (error instanceof StoreFault) throw error
    throw damaged(`${path} cannot be read as a database: restore it from a backup, or move the data folder away`, error)
  }
}

/** The schema comes in one transaction, so the file has all of it or is empty. */
function migrate(db: Libsql.Database, path: string, history: boolean): void {
  const tables = db.prepare("SELECT name FROM sqlite_schema WHERE type = 'table'").all([]) as { name: string }[]
  if (tables.length === 0) {
    // Copied while the service ran, without its write-ahead log: to begin again would lift every ban.
    if (history)
      throw damaged(
        `${path} is empty, and there is an audit log beside it: the copy was made without errand.db-wal. Restore errand.db, errand.db-wal and audit/ from one backup, or move the data folder away to begin a new one`,
      )
    db.exec(`BEGIN EXCLUSIVE; ${SCHEMA} COMMIT;`)
    return
  }
  if (!tables.some(({ name }) => name === 'meta')) throw damaged(`${path} is a database, but not one of Errand's`)
  const found = (db.prepare("SELECT value FROM meta WHERE name = 'format'").get([]) as { value: number } | undefined)
    ?.value
  if (found === undefined) throw damaged(`${path} does not say its format: restore it from a backup`)
  if (found > FORMAT) {
    throw new StoreFault(
      'format_newer',
      `${path} has format ${found}, this version reads up to ${FORMAT}: run the newer version again; nothing was changed`,
    )
  }
  if (found < FORMAT) {
    const steps = Array.from({ length: FORMAT - found }, (_, i) => MIGRATIONS[found + i] ?? '')
    db.exec(`BEGIN EXCLUSIVE; ${steps.join('')} UPDATE meta SET value = ${FORMAT} WHERE name = 'format'; COMMIT;`)
  }
}

const damaged = (message: string, cause?: unknown) => new StoreFault('data_damaged', message, { cause })

const sqliteCode = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' && error.code.startsWith('SQLITE_')
    ? error.code
    : undefined

const isFull = (error: unknown): boolean =>
  sqliteCode(error) === 'SQLITE_FULL' || (sqliteCode(error)?.startsWith('SQLITE_IOERR') ?? false)

/** A constraint is a bug and stays what it is; anything else of SQLite's means that the disk is away. */
function fault(error: unknown, reason: Reason = 'store_unavailable'): unknown {
  const code = sqliteCode(error)
  if (code === undefined || code.startsWith('SQLITE_CONSTRAINT') || code === 'SQLITE_ERROR') return error
  return new Unavailable(reason, `the embedded store cannot write (${code})`, { cause: error })
}
