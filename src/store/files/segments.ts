/** The segment files of a log: finding them at start, repairing the last one, closing one and beginning the next. */
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { canonicalize } from '../../audit/canonical.ts'
import { AuditDamage } from '../../audit/damage.ts'
import {
  type Bytes,
  classifyTail,
  readSegmentHeader,
  SEGMENT_HEADER_BYTES,
  scanFrames,
  segmentHeader,
} from '../../audit/frame.ts'
import { firstOfSegment, indexOf, segmentName, sidecarName, timeOf } from '../../audit/layout.ts'
import type { Json } from '../../audit/log.ts'
import { type Block, type Blocks, newBlocks, noteRecord } from './blocks.ts'
import type { LogFiles } from './log-files.ts'

/** A closed segment; its blocks are read from the sidecar when asked for. */
export interface Segment {
  readonly first: number
  readonly count: number
  readonly size: number
  readonly minTime: number
  readonly maxTime: number
}

/** The segment that is written to. `size` and `blocks` speak of what is durable. */
export interface ActiveSegment {
  readonly first: number
  readonly fd: number
  readonly path: string
  readonly dev: number
  readonly ino: number
  size: number
  readonly blocks: Blocks
}

interface Recovered {
  readonly kind: 'torn_tail' | 'zero_tail' | 'duplicate_segment' | 'overhang'
  readonly index: number
  readonly bytes: number
}

export interface OpenedSegments {
  readonly closed: Segment[]
  readonly active: ActiveSegment
  readonly recovered: readonly Recovered[]
}

export interface Place {
  readonly files: LogFiles
  readonly folder: string
  readonly logId: string
}

const bytesOf = (files: LogFiles, fd: number, size: number): Bytes => ({
  size,
  read: (into, position) => files.read(fd, into, position),
})

/** Writes a small file so that it is there whole or not at all. The folder is synced by the caller. */
export async function putFile(files: LogFiles, folder: string, name: string, bytes: Buffer): Promise<void> {
  const draft = join(folder, `${name}.tmp`)
  await files.remove(draft).catch(() => undefined)
  const fd = await files.open(draft, 'create')
  try {
    await writeFully(files, fd, bytes, 0)
    await files.sync(fd)
  } finally {
    await files.close(fd)
  }
  await files.rename(draft, join(folder, name))
}

/** As `putFile`, but a crash may leave anything under the name: for what is known from elsewhere. */
export async function putUnsynced(files: LogFiles, folder: string, name: string, bytes: Buffer): Promise<void> {
  const draft = join(folder, `${name}.tmp`)
  await files.remove(draft).catch(() => undefined)
  const fd = await files.open(draft, 'create')
  try {
    await writeFully(files, fd, bytes, 0)
  } finally {
    await files.close(fd)
  }
  await files.rename(draft, join(folder, name))
}

export async function writeFully(files: LogFiles, fd: number, bytes: Buffer, position: number): Promise<void> {
  for (let done = 0; done < bytes.length; ) {
    const count = await files.write(fd, bytes.subarray(done), position + done)
    if (count === 0) throw Object.assign(new Error('nothing was written'), { code: 'ENOSPC' })
    done += count
  }
}

export async function beginSegment(place: Place, first: number, high: number): Promise<ActiveSegment> {
  const { files, folder, logId } = place
  await putFile(files, folder, segmentName(first), segmentHeader(logId, first))
  await files.syncFolder(folder)
  return activeSegment(files, join(folder, segmentName(first)), first, SEGMENT_HEADER_BYTES, newBlocks(high))
}

async function activeSegment(files: LogFiles, path: string, first: number, size: number, blocks: Blocks) {
  const fd = await files.open(path, 'update', 'through')
  const id = await files.identify(path)
  return { first, fd, path, dev: id?.dev ?? -1, ino: id?.ino ?? -1, size, blocks }
}

/** Writes the sidecar; the next segment's folder sync makes it durable, and a lost one is made again. */
export async function closeSegment({ files, folder, logId }: Place, active: ActiveSegment): Promise<Segment> {
  const { first, size, blocks } = active
  await putFile(files, folder, sidecarName(first), writeSidecar(logId, first, size, blocks))
  return summary(first, size, blocks.count, blocks.list)
}

function summary(first: number, size: number, count: number, blocks: readonly Block[]): Segment {
  let minTime = Number.POSITIVE_INFINITY
  let maxTime = 0
  for (const [, min, max] of blocks) {
    minTime = Math.min(minTime, min)
    maxTime = Math.max(maxTime, max)
  }
  return { first, count, size, minTime, maxTime }
}

function writeSidecar(logId: string, first: number, size: number, { count, list }: Blocks): Buffer {
  const text = canonicalize({ blocks: list as unknown as Json, count, first, log: logId, size, v: 1 })
  return Buffer.from(`${text}\n${crc32(text).toString(16)}\n`, 'utf8')
}

export interface Sidecar {
  readonly count: number
  readonly size: number
  readonly blocks: readonly Block[]
}

/** Undefined where it is missing, damaged, or another's. */
export async function readSidecar({ files, folder, logId }: Place, first: number): Promise<Sidecar | undefined> {
  const bytes = await files.readWhole(join(folder, sidecarName(first)))
  const [text = '', sum] = bytes?.toString('utf8').split('\n') ?? []
  if (bytes === undefined || sum !== crc32(text).toString(16)) return undefined
  const found = JSON.parse(text) as Sidecar & { first: number; log: string; v: number }
  return found.v === 1 && found.first === first && found.log === logId ? found : undefined
}

/** Opens what is there, or begins the first segment. Throws `AuditDamage` where acknowledged records are missing. */
export async function openSegments(place: Place): Promise<OpenedSegments> {
  const recovered: Recovered[] = []
  const firsts = await listSegments(place, recovered)
  const closed: Segment[] = []
  let next = 0
  let high = 0
  for (const [at, first] of firsts.entries()) {
    const file = segmentName(first)
    if (first > next) throw new AuditDamage('missing_segment', next, file, `the segment begins at ${first}`)
    if (first < next) throw new AuditDamage('duplicate_segment', first, file, `${next} was expected`)
    if (at === firsts.length - 1) {
      const active = await openLast(place, first, high, recovered)
      return { closed, active, recovered }
    }
    const segment = await openClosed(place, first, high, recovered)
    closed.push(segment)
    next = first + segment.count
    high = Math.max(high, segment.maxTime)
  }
  return { closed, active: await beginSegment(place, 0, 0), recovered }
}

/** Names of segments in order; leftovers are cleared away, and a copy of another segment is set aside. */
async function listSegments({ files, folder, logId }: Place, recovered: Recovered[]): Promise<number[]> {
  const names = [...(await files.list(folder))].sort()
  const firsts: number[] = []
  for (const name of names) {
    if (name.endsWith('.tmp')) await files.remove(join(folder, name))
    const first = firstOfSegment(name)
    if (first === undefined) continue
    const header = readSegmentHeader(await headOf(files, join(folder, name)))
    if (!header.ok) throw new AuditDamage(header.kind, first, name, 'its header cannot be read')
    if (header.logId !== logId) throw new AuditDamage('wrong_log', first, name, `it belongs to ${header.logId}`)
    if (header.first === first) {
      firsts.push(first)
      continue
    }
    const copy = await files.readWhole(join(folder, name))
    const original = await files.readWhole(join(folder, segmentName(header.first)))
    if (copy === undefined || original === undefined || !original.subarray(0, copy.length).equals(copy))
      throw new AuditDamage('duplicate_segment', first, name, `its records begin at ${header.first}`)
    await files.rename(join(folder, name), join(folder, `${name}.duplicate`))
    recovered.push({ kind: 'duplicate_segment', index: header.first, bytes: copy.length })
  }
  return firsts
}

async function headOf(files: LogFiles, path: string): Promise<Buffer> {
  const fd = await files.open(path, 'read')
  try {
    const head = Buffer.alloc(SEGMENT_HEADER_BYTES)
    return head.subarray(0, await files.read(fd, head, 0))
  } finally {
    await files.close(fd)
  }
}

async function openClosed(place: Place, first: number, high: number, recovered: Recovered[]): Promise<Segment> {
  const { files, folder, logId } = place
  const file = segmentName(first)
  const path = join(folder, file)
  const size = (await files.identify(path))?.size ?? 0
  const sidecar = await readSidecar(place, first)
  if (sidecar !== undefined) {
    if (size < sidecar.size)
      throw new AuditDamage('missing', first + sidecar.count, file, `${sidecar.size - size} bytes are gone`)
    if (size > sidecar.size) {
      // Left by a write whose sync failed: it was answered by a failure, and the next segment began without it.
      await cut(files, path, sidecar.size)
      recovered.push({ kind: 'overhang', index: first + sidecar.count, bytes: size - sidecar.size })
    }
    return summary(first, sidecar.size, sidecar.count, sidecar.blocks)
  }
  const blocks = newBlocks(high)
  const fd = await files.open(path, 'read')
  try {
    const end = await scanInto(files, fd, size, first, file, blocks)
    if (end !== size) throw new AuditDamage('bad_crc', first + blocks.count, file, `at byte ${end}`)
  } finally {
    await files.close(fd)
  }
  await putFile(files, folder, sidecarName(first), writeSidecar(logId, first, size, blocks))
  return summary(first, size, blocks.count, blocks.list)
}

async function openLast(place: Place, first: number, high: number, recovered: Recovered[]): Promise<ActiveSegment> {
  const { files, folder } = place
  const file = segmentName(first)
  const path = join(folder, file)
  const active = await activeSegment(files, path, first, 0, newBlocks(high))
  const size = (await files.identify(path))?.size ?? 0
  const end = await scanInto(files, active.fd, size, first, file, active.blocks)
  if (end !== size) {
    const kind = await classifyTail(bytesOf(files, active.fd, size), end)
    const index = first + active.blocks.count
    if (kind === 'bad_crc') throw new AuditDamage(kind, index, file, `at byte ${end}, with later writes after it`)
    await files.truncate(active.fd, end)
    recovered.push({ kind, index, bytes: size - end })
  }
  // Records that a crash left in memory only become part of the log here.
  await files.sync(active.fd)
  active.size = end
  return active
}

async function scanInto(files: LogFiles, fd: number, size: number, first: number, file: string, blocks: Blocks) {
  return scanFrames(bytesOf(files, fd, size), SEGMENT_HEADER_BYTES, (payload, { offset }) => {
    const expected = first + blocks.count
    const found = indexOf(payload)
    if (found !== expected)
      throw new AuditDamage(
        found > expected ? 'missing' : 'out_of_order',
        expected,
        file,
        `record ${found} stands there`,
      )
    noteRecord(blocks, offset, timeOf(payload))
  })
}

async function cut(files: LogFiles, path: string, size: number): Promise<void> {
  const fd = await files.open(path, 'update')
  try {
    await files.truncate(fd, size)
    await files.sync(fd)
  } finally {
    await files.close(fd)
  }
}
