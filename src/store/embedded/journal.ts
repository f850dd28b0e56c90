/**
 * A journal beside the database, for small writes that every request makes. One sync serves all that arrived while the
 * one before it was under way, and no request waits for the database, nor the process for the disk. What was written
 * is carried over into the database a part at a time; then the file goes. Entries are such that carrying one over
 * twice changes nothing, and those about different things know no order.
 *
 * A file is lines of CRC-32, space, JSON. After a failed write nothing more is appended to it: what could stand there
 * half is the end of a file.
 */
import { readdirSync, readFileSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { type Reason, Unavailable } from '../../oauth/refusal.ts'
import { type LogFiles, realLogFiles } from '../files/log-files.ts'
import { StoreFault } from '../fault.ts'
import { isRoomGone, type Reserve } from '../files/reserve.ts'
import { writeFully } from '../files/segments.ts'
import type { EmbeddedDatabase } from './database.ts'

/** What it is, what it is about, and the rest. A later entry of one kind about one thing stands for the earlier ones. */
export type Entry = readonly [kind: string, about: string, ...rest: (string | number)[]]

export interface Carrier {
  /** Writes an entry into the database; runs in a transaction, and perhaps twice. */
  readonly carry: (entry: Entry) => void
  /** The database has it for good. */
  readonly carried?: (entry: Entry) => void
}

export interface Journal {
  /** Who carries entries of this kind over. */
  carries(kind: string, carrier: Carrier): void
  /** Resolves when it is on disk; throws `Unavailable` where it cannot be. `urgent`: worth the reserved space. */
  append(entry: Entry, reason?: Reason, urgent?: boolean): Promise<void>
  /** Carries over what an earlier run left; before the first append, when all carriers are known. */
  recover(): Promise<void>
  /** Finishes what is queued and carries everything over. */
  close(): Promise<void>
}

const STEM = 'errand.journal.'
const NAME = /^errand\.journal\.(\d{1,15})$/
/** A file as large or as old as this is carried over while the next one is written. */
const ROTATE_BYTES = 1 << 20
const ROTATE_MS = 2_000
/** Carried over in one transaction, so that requests do not wait long for it. */
const PART = 100
const BETWEEN_PARTS_MS = 5
/** A file that grew while the database was away would hold requests up. */
const MOST_SORTED = 20_000
const RETRY_MS = 1_000
/** Where several arrive together, a sync is begun no sooner after the one before: more of them share one. */
const GATHER_MS = 2

interface Waiting {
  readonly entry: Entry
  readonly line: string
  readonly reason: Reason
  readonly urgent: boolean
  readonly resolve: () => void
  readonly reject: (error: unknown) => void
}

interface File {
  readonly path: string
  readonly fd: number
  readonly begunAt: number
  readonly entries: Map<string, Entry>
  size: number
}

function lineOf(entry: Entry): string {
  const json = JSON.stringify(entry)
  return `${crc32(json).toString(16)} ${json}\n`
}

/** A file ends where a line does not hold together: nobody was told of what stood there. */
function readEntries(path: string): Entry[] {
  const entries: Entry[] = []
  for (const line of readFileSync(path, 'utf8').split('\n')) {
    const space = line.indexOf(' ')
    const json = line.slice(space + 1)
    if (space < 0 || crc32(json).toString(16) !== line.slice(0, space)) break
    entries.push(JSON.parse(json) as Entry)
  }
  return entries
}

export function createJournal(deps: {
  readonly dataDir: string
  readonly db: Pick<EmbeddedDatabase, 'write'>
  readonly reserve: Reserve
  readonly files?: LogFiles
}): Journal {
  const { dataDir, db, reserve, files = realLogFiles() } = deps
  const carriers = new Map<string, Carrier>()
  let number = 0
  let file: File | undefined
  let queue: Waiting[] = []
  let pumping: Promise<void> | undefined
  let carrying: Promise<void> | undefined
  let closed = false

  async function begin(): Promise<File> {
    number += 1
    const path = join(dataDir, `${STEM}${number}`)
    const fd = await files.open(path, 'create', 'through')
    const begun = { path, fd, size: 0, begunAt: performance.now(), entries: new Map<string, Entry>() }
    try {
      await files.syncFolder(dataDir)
      return begun
    } catch (error) {
      await discard(begun)
      throw error
    }
  }

  /** Holds nothing that anybody was told of. */
  async function discard({ fd, path }: File): Promise<void> {
    await files.close(fd).catch(() => undefined)
    await files.remove(path).catch(() => undefined)
  }

  async function carryPart(entries: readonly Entry[]): Promise<void> {
    await db.write(
      () => {
        for (const entry of entries) carriers.get(entry[0])?.carry(entry)
      },
      {
        committed: () => {
          for (const entry of entries) carriers.get(entry[0])?.carried?.(entry)
        },
      },
    )
  }

  async function carryOver({ entries, path }: File): Promise<void> {
    const keys = [...entries.keys()]
    // As most tables lie on disk: neighbours share a page, and a part rewrites a few instead of one for each.
    if (keys.length <= MOST_SORTED) keys.sort()
    const left = keys.map((key) => entries.get(key)!)
    while (left.length > 0) {
      const part = left.slice(-PART)
      try {
        await carryPart(part)
        left.length -= part.length
        if (!closed && left.length > 0) await pause(BETWEEN_PARTS_MS)
      } catch {
        // The database is away. The file stays, at the latest until the next start.
        if (closed) return
        await pause(RETRY_MS)
      }
    }
    await files.remove(path).catch(() => undefined)
  }

  /** Nothing is appended to it any more. One at a time: while the database is behind, the next file grows. */
  function retire(old: File): void {
    // Not when its turn comes: on a full disk that may be long, and descriptors are few.
    void files.close(old.fd).catch(() => undefined)
    const turn = (carrying ?? Promise.resolve()).then(() => carryOver(old))
    const done: Promise<void> = turn
      .catch(() => undefined)
      .finally(() => {
        if (carrying === done) carrying = undefined
      })
    carrying = done
  }

  async function commit(batch: readonly Waiting[]): Promise<void> {
    const before = file
    try {
      file ??= await begin()
      const { fd, size } = file
      const bytes = Buffer.from(batch.map(({ line }) => line).join(''), 'utf8')
      await writeFully(files, fd, bytes, size)
      await files.flush(fd)
      file.size = size + bytes.length
    } catch (cause) {
      // Never synced again: the kernel may have dropped what it could not write, and say nothing of it the next time.
      const spoilt = file
      file = undefined
      if (spoilt && spoilt.entries.size > 0) retire(spoilt)
      else if (spoilt) await discard(spoilt)
      const urgent = batch.filter((each) => each.urgent)
      const again = urgent.length > 0 && isRoomGone(cause) && reserve.release()
      for (const each of batch)
        if (!again || !each.urgent)
          each.reject(new Unavailable(each.reason, 'the embedded store cannot write its journal', { cause }))
      return again ? commit(urgent) : undefined
    }
    const { entries, size, begunAt } = file
    for (const { entry, resolve } of batch) {
      entries.set(`${entry[0]} ${entry[1]}`, entry)
      resolve()
    }
    if (before && !carrying && (size >= ROTATE_BYTES || performance.now() - begunAt >= ROTATE_MS)) {
      retire(file)
      file = undefined
    }
  }

  let syncedAt = Number.NEGATIVE_INFINITY
  let lastBatch = 0

  async function pump(): Promise<void> {
    while (queue.length > 0) {
      const early = GATHER_MS - (performance.now() - syncedAt)
      if (lastBatch > 1 && early > 0 && !closed) await pause(early)
      const batch = queue
      queue = []
      syncedAt = performance.now()
      lastBatch = batch.length
      await commit(batch)
    }
    pumping = undefined
  }

  return {
    carries: (kind, carrier) => {
      carriers.set(kind, carrier)
    },
    append: (entry, reason = 'store_unavailable', urgent = false) =>
      new Promise((resolve, reject) => {
        if (closed) return reject(new Unavailable(reason, 'the store is closed'))
        if (!urgent && !reserve.spares()) return reject(new Unavailable(reason, 'the disk is full'))
        queue.push({ entry, line: lineOf(entry), reason, urgent, resolve, reject })
        // A turn later, so that what is appended together is written together.
        pumping ??= Promise.resolve().then(pump)
      }),
    recover: async () => {
      const numbers = readdirSync(dataDir).flatMap((name) => {
        const match = NAME.exec(name)
        return match ? [Number(match[1])] : []
      })
      // The newest first: where a write failed and was tried again, what was acknowledged stands in the later file.
      const paths = numbers.sort((a, b) => b - a).map((each) => join(dataDir, `${STEM}${each}`))
      const files = paths.map((path) => ({ path, entries: readEntries(path) }))
      // Passed over, what was acknowledged would go with the file. All are looked at before any is carried over.
      const unknown = files.find(({ entries }) => entries.some(([kind]) => !carriers.has(kind)))
      if (unknown)
        throw new StoreFault(
          'format_newer',
          `${unknown.path} holds what this version does not know: run the newer version again; nothing was changed`,
        )
      for (const { path, entries } of files) {
        await carryPart(entries)
        unlinkSync(path)
      }
    },
    close: async () => {
      closed = true
      await pumping
      if (file) retire(file)
      file = undefined
      await carrying
    },
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
