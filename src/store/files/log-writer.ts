/**
 * Puts records at the end of the log: one write and one sync for all that come together, then the tree. After a fault
 * of the disk it says which kind it was, and mends the segment when told that there is hope.
 */
import { MAX_RECORD_BYTES, writeFrame } from '../../audit/frame.ts'
import { assemble, type Draft, draftRecord } from '../../audit/record.ts'
import { noteRecord, regressed } from './blocks.ts'
import { leavesOf } from './log-tree.ts'
import { isRoomGone } from './reserve.ts'
import { type ActiveSegment, beginSegment, closeSegment, type Place, type Segment, writeFully } from './segments.ts'

/** `full`: what was half written is cut off. `sync_failed`: that file is never synced again. */
type Fault = 'full' | 'sync_failed'

type Written =
  | { readonly ok: true; readonly first: number }
  | { readonly ok: false; readonly fault: Fault; readonly cause: unknown }

export interface LogWriter {
  readonly active: () => ActiveSegment
  /** Resolves when all of them are on disk, with the index of the first. Never two at once, nor beside `mend`. */
  write(drafts: readonly Draft[]): Promise<Written>
  /** Throws where the fault is still there; answers `sync_failed` where looking for room met another one. */
  mend(fault: Fault): Promise<'mended' | { readonly fault: 'sync_failed'; readonly cause: unknown }>
  /** Whether the file that is written to is the one that is found under its name. Rejects where it cannot be written to. */
  inPlace(): Promise<boolean>
}

export const MAX_BATCH_BYTES = 4 << 20
const PROBE_BYTES = 1 << 16

export function createLogWriter(deps: {
  readonly place: Place
  readonly closed: Segment[]
  readonly active: ActiveSegment
  readonly maxSegmentBytes: number
  /** Unix milliseconds. */
  readonly now: () => number
  /** Told of what is durable: the leaf hashes from that index on. */
  readonly grown: (first: number, leaves: ReturnType<typeof leavesOf>) => void
}): LogWriter {
  const { place, closed, maxSegmentBytes, now, grown } = deps
  const { files, logId } = place
  let { active } = deps
  const buffer = Buffer.allocUnsafe(MAX_BATCH_BYTES + MAX_RECORD_BYTES * 2)

  const beginNext = async () => {
    const before = active
    const segment = await closeSegment(place, before)
    active = await beginSegment(place, before.first + before.blocks.count, before.blocks.high)
    closed.push(segment)
    await files.close(before.fd).catch(() => undefined)
  }

  const write = async (drafts: readonly Draft[]): Promise<Written> => {
    const failed = (fault: Fault, cause: unknown): Written => ({ ok: false, fault, cause })
    try {
      if (active.size >= maxSegmentBytes) await beginNext()
    } catch (cause) {
      return failed('full', cause)
    }
    const { first, blocks, fd, size } = active
    const time = now()
    const notes: [offset: number, time: number][] = []
    let length = 0
    const put = (draft: Draft) => {
      notes.push([size + length, time])
      const text = assemble(draft, first + blocks.count + notes.length - 1, time)
      length += writeFrame(buffer, length, text, length)
    }
    if (regressed(blocks.high, time)) {
      const details = { from: blocks.high, to: time }
      put(draftRecord({ type: 'clock_regressed', by: 'system', details }, logId, undefined))
    }
    const firstOfBatch = first + blocks.count + notes.length
    for (const draft of drafts) put(draft)

    const reachingDisk = writeFully(files, fd, buffer.subarray(0, length), size)
    const leaves = leavesOf(buffer.subarray(0, length)) // while the disk works
    try {
      await reachingDisk
    } catch (cause) {
      // Anything else may be what a sync would have said.
      if (!isRoomGone(cause)) return failed('sync_failed', cause)
      const cutBack = await files.truncate(fd, size).then(
        () => true,
        () => false,
      )
      return failed(cutBack ? 'full' : 'sync_failed', cause)
    }
    try {
      await files.flush(fd)
    } catch (cause) {
      return failed('sync_failed', cause)
    }
    const firstWritten = first + blocks.count
    for (const [offset, at] of notes) noteRecord(blocks, offset, at)
    active.size = size + length
    grown(firstWritten, leaves)
    return { ok: true, first: firstOfBatch }
  }

  return {
    active: () => active,
    write,
    mend: async (fault) => {
      const { fd, size, first, blocks, path } = active
      if (fault === 'full') {
        try {
          await writeFully(files, fd, Buffer.alloc(PROBE_BYTES), size)
        } catch (cause) {
          if (!isRoomGone(cause)) return { fault: 'sync_failed', cause }
          throw cause
        } finally {
          await files.truncate(fd, size)
        }
        return 'mended'
      }
      await files.truncate(fd, size)
      if (blocks.count > 0) await beginNext()
      else {
        await files.remove(path)
        active = await beginSegment(place, first, blocks.high)
        await files.close(fd).catch(() => undefined)
      }
      return 'mended'
    },
    inPlace: async () => {
      const { path, ino, dev, size } = active
      const id = await files.identify(path)
      if (id === undefined || id.ino !== ino || id.dev !== dev || id.size < size) return false
      await files.checkWritable(path)
      return true
    },
  }
}
