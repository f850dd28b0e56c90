/**
 * Two disks for tests: the real one that fails when told, and one in memory that loses at a crash what was not
 * synced, in every way a real one may.
 */
import { constants } from 'node:fs'
import { readdir, readFile, readlink } from 'node:fs/promises'
import { type LogFiles, realLogFiles } from '../../../src/store/files/log-files.ts'

const failure = (code: string) => Object.assign(new Error(code), { code })

/** For each descriptor of this process that writes to the file: whether its writes wait for the disk. Linux only. */
export async function waitingForDisk(path: string): Promise<readonly boolean[]> {
  const found: boolean[] = []
  for (const fd of await readdir('/proc/self/fd')) {
    if ((await readlink(`/proc/self/fd/${fd}`).catch(() => '')) !== path) continue
    const info = await readFile(`/proc/self/fdinfo/${fd}`, 'utf8')
    const flags = Number.parseInt(/^flags:\s+([0-7]+)$/m.exec(info)?.[1] ?? '0', 8)
    if ((flags & (constants.O_WRONLY | constants.O_RDWR)) !== 0) found.push((flags & constants.O_DSYNC) !== 0)
  }
  return found
}

export function failingFiles() {
  const real = realLogFiles()
  const faults = {
    /** Bytes that may still be written; then ENOSPC, after a short write. */
    room: Number.POSITIVE_INFINITY,
    sync: undefined as string | undefined,
    write: undefined as string | undefined,
    readOnly: false,
    /** Writes wait until this resolves. */
    stall: undefined as Promise<void> | undefined,
  }
  /** Path and inode of each file whose sync was tried. */
  const synced: string[] = []
  const inodes = new Map<number, string>()
  const refuseIfReadOnly = () => {
    if (faults.readOnly) throw failure('EROFS')
  }
  const trySync = async (fd: number, sync: (fd: number) => Promise<void>) => {
    synced.push(inodes.get(fd) ?? '?')
    if (faults.sync !== undefined) throw failure(faults.sync)
    await sync(fd)
  }
  const files: LogFiles = {
    ...real,
    open: async (path, how, through) => {
      if (how !== 'read') refuseIfReadOnly()
      const fd = await real.open(path, how, through)
      inodes.set(fd, `${path} ${(await real.identify(path))?.ino}`)
      return fd
    },
    write: async (fd, bytes, position) => {
      refuseIfReadOnly()
      await faults.stall
      if (faults.write !== undefined) throw failure(faults.write)
      if (faults.room <= 0) throw failure('ENOSPC')
      const count = await real.write(fd, bytes.subarray(0, faults.room), position)
      faults.room -= count
      return count
    },
    sync: (fd) => trySync(fd, real.sync),
    flush: (fd) => trySync(fd, real.flush),
    checkWritable: async (path) => {
      refuseIfReadOnly()
      await real.checkWritable(path)
    },
  }
  return { files, faults, synced }
}

interface Inode {
  now: Buffer
  durable: Buffer
  pending: { readonly at: number; readonly bytes: Buffer | undefined }[]
}

export type Image = ReadonlyMap<string, Buffer>

/** What may be found on disk after a crash at this point. */
interface CrashPoint {
  readonly acknowledged: number
  readonly images: () => Generator<Image>
}

export interface LossyDisk {
  readonly files: LogFiles
  readonly points: readonly CrashPoint[]
}

/** `acknowledged` is asked at each crash point: just before every sync, when the most is at stake. */
export function lossyDisk(acknowledged: () => number, start: Image = new Map()): LossyDisk {
  const inode = (bytes: Buffer): Inode => ({ now: bytes, durable: bytes, pending: [] })
  const names = new Map<string, Inode>([...start].map(([path, bytes]) => [path, inode(Buffer.from(bytes))]))
  let durableNames = new Map(names)
  const open = new Map<number, Inode>()
  const points: CrashPoint[] = []
  let nextFd = 1

  const at = (fd: number) => {
    const file = open.get(fd)
    if (file === undefined) throw failure('EBADF')
    return file
  }
  const apply = (to: Buffer, position: number, bytes: Buffer | undefined) => {
    if (bytes === undefined) return Buffer.from(to.subarray(0, position))
    const grown = Buffer.alloc(Math.max(to.length, position + bytes.length))
    to.copy(grown)
    bytes.copy(grown, position)
    return grown
  }

  const point = (torn: Inode | undefined): CrashPoint => {
    const states = [durableNames, new Map(names)].map((state) =>
      [...state].map(([path, file]) => ({ path, file, durable: file.durable })),
    )
    const pending = torn === undefined ? [] : torn.pending.slice()
    return {
      acknowledged: acknowledged(),
      images: function* () {
        for (const state of states) {
          const image = (bytes?: Buffer): Image =>
            new Map(
              state.map(({ path, file, durable }) => [path, file === torn && bytes !== undefined ? bytes : durable]),
            )
          yield image()
          let base = torn === undefined ? Buffer.alloc(0) : state.find(({ file }) => file === torn)?.durable
          if (base === undefined) continue
          for (const { at: position, bytes } of pending) {
            for (let cut = 1; bytes !== undefined && cut < bytes.length; cut += 1) {
              yield image(apply(base, position, bytes.subarray(0, cut)))
              if (cut % 61 !== 0) continue
              // The length reached the disk, the rest of the bytes did not; or the later bytes did, the first did not.
              const zeroed = Buffer.from(bytes)
              yield image(apply(base, position, zeroed.fill(0, cut)))
              const holed = Buffer.from(bytes)
              yield image(apply(base, position, holed.fill(0, 0, cut)))
            }
            base = apply(base, position, bytes)
            yield image(base)
          }
        }
      },
    }
  }

  const settle = async (fd: number) => {
    const file = at(fd)
    points.push(point(file))
    file.durable = file.now
    file.pending = []
  }
  const files: LogFiles = {
    makeFolder: async () => undefined,
    list: async (folder) =>
      [...names.keys()]
        .filter((path) => path.startsWith(`${folder}/`) && !path.slice(folder.length + 1).includes('/'))
        .map((path) => path.slice(folder.length + 1)),
    open: async (path, how) => {
      if (how === 'create' && names.has(path)) throw failure('EEXIST')
      if (how === 'create') names.set(path, inode(Buffer.alloc(0)))
      const file = names.get(path)
      if (file === undefined) throw failure('ENOENT')
      open.set(nextFd, file)
      nextFd += 1
      return nextFd - 1
    },
    read: async (fd, into, position) => at(fd).now.copy(into, 0, position),
    write: async (fd, bytes, position) => {
      const file = at(fd)
      const copy = Buffer.from(bytes)
      file.pending.push({ at: position, bytes: copy })
      file.now = apply(file.now, position, copy)
      return copy.length
    },
    truncate: async (fd, size) => {
      const file = at(fd)
      file.pending.push({ at: size, bytes: undefined })
      file.now = apply(file.now, size, undefined)
    },
    sync: settle,
    // Not yet on disk while it is written, as where no write waits for the disk: the most is at stake so.
    flush: settle,
    close: async (fd) => {
      open.delete(fd)
    },
    readWhole: async (path) => names.get(path)?.now,
    rename: async (from, to) => {
      const file = names.get(from)
      if (file === undefined) throw failure('ENOENT')
      names.delete(from)
      names.set(to, file)
    },
    remove: async (path) => {
      if (!names.delete(path)) throw failure('ENOENT')
    },
    syncFolder: async () => {
      points.push(point(undefined))
      durableNames = new Map(names)
    },
    identify: async (path) => {
      const file = names.get(path)
      return file === undefined ? undefined : { dev: 1, ino: 1, size: file.now.length }
    },
    checkWritable: async () => undefined,
  }
  return { files, points }
}
