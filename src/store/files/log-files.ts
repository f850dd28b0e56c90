/** The few file operations the log rests on, one system call each; tests put a failing disk in their place. */
import { type Stats, close, constants, fdatasync, fsync, ftruncate, open, read, write } from 'node:fs'
import { access, mkdir, readdir, readFile, rename, stat, unlink } from 'node:fs/promises'
import { promisify } from 'node:util'

interface FileId {
  readonly dev: number
  readonly ino: number
  readonly size: number
}

export interface LogFiles {
  makeFolder(path: string): Promise<void>
  list(path: string): Promise<readonly string[]>
  /**
   * `create` fails where the file is there; `update` and `read` where it is not. With `through` a write waits for the
   * disk where the system offers that; `flush` knows.
   */
  open(path: string, how: 'create' | 'update' | 'read', through?: 'through'): Promise<number>
  read(fd: number, into: Buffer, position: number): Promise<number>
  /** May write less than asked. */
  write(fd: number, bytes: Buffer, position: number): Promise<number>
  /** fdatasync. */
  sync(fd: number): Promise<void>
  /** What was written to a file that was opened with `through` is on disk after this; what was cut off may not be. */
  flush(fd: number): Promise<void>
  truncate(fd: number, size: number): Promise<void>
  close(fd: number): Promise<void>
  readWhole(path: string): Promise<Buffer | undefined>
  rename(from: string, to: string): Promise<void>
  remove(path: string): Promise<void>
  syncFolder(path: string): Promise<void>
  identify(path: string): Promise<FileId | undefined>
  /** Rejects where the file cannot be written to, for instance since its file system is read-only now. */
  checkWritable(path: string): Promise<void>
}

const flags = {
  create: constants.O_CREAT | constants.O_EXCL | constants.O_RDWR,
  update: constants.O_RDWR,
  read: constants.O_RDONLY,
} as const

/**
 * On Linux a write to a file opened so returns when its data is on disk (open(2), O_DSYNC): half the trips to the thread
 * pool. Elsewhere it may promise less than fdatasync, as on macOS, or not be there.
 */
const THROUGH = process.platform === 'linux' ? constants.O_DSYNC : 0

const codeOf = (error: unknown): string | undefined =>
  error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined

const absent = (error: unknown): undefined => {
  if (codeOf(error) === 'ENOENT') return undefined
  throw error
}

export function realLogFiles(): LogFiles {
  const openFile = promisify(open)
  const closeFile = promisify(close)
  const syncAll = promisify(fsync)
  const syncData = promisify(fdatasync)
  return {
    makeFolder: async (path) => {
      await mkdir(path, { recursive: true, mode: 0o700 })
    },
    list: (path) => readdir(path),
    // O_NOFOLLOW: a link planted in the folder leads nowhere.
    open: (path, how, through) => openFile(path, flags[how] | constants.O_NOFOLLOW | (through ? THROUGH : 0), 0o600),
    read: (fd, into, position) =>
      new Promise((resolve, reject) =>
        read(fd, into, 0, into.length, position, (error, count) => (error ? reject(error) : resolve(count))),
      ),
    write: (fd, bytes, position) =>
      new Promise((resolve, reject) =>
        write(fd, bytes, 0, bytes.length, position, (error, count) => (error ? reject(error) : resolve(count))),
      ),
    sync: syncData,
    flush: THROUGH ? async () => undefined : syncData,
    truncate: promisify(ftruncate),
    close: closeFile,
    readWhole: (path) => readFile(path).catch(absent),
    rename,
    remove: unlink,
    syncFolder: async (path) => {
      const fd = await openFile(path, constants.O_RDONLY)
      try {
        await syncAll(fd)
      } finally {
        await closeFile(fd)
      }
    },
    identify: async (path) => {
      const found: Stats | undefined = await stat(path).catch(absent)
      return found === undefined ? undefined : { dev: found.dev, ino: found.ino, size: found.size }
    },
    checkWritable: (path) => access(path, constants.W_OK),
  }
}
