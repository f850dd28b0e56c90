/**
 * The audit log on local disk. One writer takes all that is queued, writes it at once and syncs it once; an append
 * resolves after that sync. Whatever fails, the rule is the same: no durable record, no answer but `Unavailable`.
 *
 *   room gone      what was half written is cut off; appends fail until a probe finds room again, but for what ends
 *                  something by somebody's order: that is written to space that was set aside
 *   sync failed    that file is never synced again (the kernel may have dropped the pages and report success): it is
 *                  cut back to what is known durable, and the log goes on in a new segment once one can be made
 *   file gone      unlinked, replaced, or on a read-only file system: appends fail until it is back in its place
 *   disk hangs     appends fail after a time-out, and at once while it lasts
 */
import { join } from 'node:path'
import { FRAME_HEADER_BYTES, MAX_RECORD_BYTES } from '../../audit/frame.ts'
import type { KeptCheckpoints, LogTree } from '../../audit/checkpoints.ts'
import { type AuditEvent, type AuditLog, type AuditReader, endsByOrder, type Receipt } from '../../audit/log.ts'
import { createDraftMemory, type Draft, draftRecord, sealedFor } from '../../audit/record.ts'
import { createStrangerFold } from '../../audit/strangers.ts'
import type { SubjectVault } from '../../audit/subject-vault.ts'
import { Unavailable } from '../../oauth/refusal.ts'
import { createAuditReader } from './audit-reader.ts'
import { type LogFiles, realLogFiles } from './log-files.ts'
import { createKeptCheckpoints } from './kept-checkpoints.ts'
import { openLogTree } from './log-tree.ts'
import { createLogWriter, MAX_BATCH_BYTES } from './log-writer.ts'
import type { Reserve } from './reserve.ts'
import { openLogId } from './log-id.ts'
import { openSegments } from './segments.ts'

export interface AuditLogDeps {
  /** Holds `log-id` and one folder per log. */
  readonly folder: string
  /** Of a log that is begun here; where one is there already it must be the same. */
  readonly logId?: string
  /** Unix milliseconds. */
  readonly now: () => number
  /** Milliseconds that never go back, for time-outs. */
  readonly monotonic?: () => number
  readonly subjectVault: SubjectVault
  /** Of the data folder; without it nothing is set aside. */
  readonly reserve?: Reserve
  readonly maxSegmentBytes?: number
  readonly appendTimeoutMs?: number
  readonly files?: LogFiles
  /** Calls `run` again and again until the returned function is called. */
  readonly every?: (ms: number, run: () => Promise<void>) => () => void
  /** Told once for each change from working to not working, and back; holds no record. */
  readonly onChange?: (state: LogState, cause?: unknown) => void
  /** Told while the tree of a log that has none yet is made. */
  readonly onTree?: (done: number, of: number) => void
}

export interface OpenedLog extends AuditLog, AuditReader {
  readonly tree: LogTree
  readonly checkpoints: KeptCheckpoints
  /** The canonical bytes of some records from that index on, one at least. */
  payloadsFrom(index: number): Promise<readonly Buffer[]>
}

type LogState = 'working' | 'full' | 'sync_failed' | 'displaced' | 'hung' | 'closed'

interface Waiting {
  readonly draft: Draft
  readonly urgent: boolean
  readonly deadline: number
  readonly resolve: (receipt: Receipt) => void
  readonly reject: (error: Error) => void
}

const TICK_MS = 250
const MAX_QUEUE = 20_000
/** Where several arrive together, a sync is begun no sooner after the one before: more of them share one. */
const GATHER_MS = 2

const everyReal = (ms: number, run: () => Promise<void>) => {
  const timer = setInterval(() => void run(), ms)
  timer.unref()
  return () => clearInterval(timer)
}

export async function openAuditLog(deps: AuditLogDeps): Promise<OpenedLog> {
  const { now, subjectVault, reserve, maxSegmentBytes = 32 << 20, appendTimeoutMs = 5000 } = deps
  const { files = realLogFiles(), every = everyReal, monotonic = () => performance.now() } = deps
  const logId = await openLogId(files, deps.folder, deps.logId)
  const folder = join(deps.folder, logId)
  await files.makeFolder(folder)
  await files.syncFolder(deps.folder)
  const place = { files, folder, logId }
  const opened = await openSegments(place)
  const { closed } = opened
  const writer = createLogWriter({
    place,
    closed,
    active: opened.active,
    maxSegmentBytes,
    now,
    grown: (first, leaves) => tree.grown(first, leaves),
  })
  const { active } = writer
  const reader = createAuditReader({ files, folder, logId, closed, active, subjectVault })
  const tree = await openLogTree({
    files,
    folder,
    logSize: () => reader.size,
    payloadsFrom: reader.payloadsFrom,
    ...(deps.onTree === undefined ? {} : { onProgress: deps.onTree }),
  })

  let state: Exclude<LogState, 'hung'> = 'working'
  let hung = false
  let queue: Waiting[] = []
  let writing: readonly Waiting[] = []
  let pumping: Promise<void> | undefined
  let minding = false
  let recovering: Promise<void> | undefined
  let closing = false
  let lastBatch = 0
  const strangers = createStrangerFold()
  const memory = createDraftMemory()

  const unavailable = (why: string, cause?: unknown) =>
    new Unavailable('audit_unavailable', `the audit log cannot be written: ${why}`, { cause })

  /** What is urgent is taken also where there is no room. */
  const takes = (urgent: boolean): boolean => {
    if (hung || closing) return false
    if (state === 'full') return urgent && reserve !== undefined
    return state === 'working' && (urgent || reserve?.tapped() !== true)
  }

  const become = (next: Exclude<LogState, 'hung'>, cause?: unknown) => {
    if (state === next || state === 'closed') return
    state = next
    deps.onChange?.(next, cause)
    if (next === 'working') return
    const refused = queue.filter((it) => !takes(it.urgent))
    queue = queue.filter((it) => takes(it.urgent))
    for (const it of refused) it.reject(unavailable(next, cause))
  }

  /** Writes and syncs one batch, then answers. */
  const commit = async (batch: readonly Waiting[]): Promise<void> => {
    const written = await writer.write(batch.map(({ draft }) => draft))
    if (written.ok) {
      // Found out of its place meanwhile: it is durable, but nobody will find it there.
      if (state === 'displaced') for (const it of batch) it.reject(unavailable(state))
      else for (const [at, it] of batch.entries()) it.resolve({ logId, index: written.first + at })
      return
    }
    const { fault, cause } = written
    const urgent = batch.filter((it) => it.urgent)
    const again = fault === 'full' && urgent.length > 0 && reserve?.release() === true
    for (const it of batch) if (!again || !it.urgent) it.reject(unavailable(fault, cause))
    become(fault, cause)
    writing = urgent
    if (again) await commit(urgent)
  }

  const writes = () => state === 'working' || state === 'full'
  let begunAt = Number.NEGATIVE_INFINITY
  const pump = async () => {
    // What is looked for at the end of the file must not meet what is written there.
    await recovering
    while (queue.length > 0 && writes()) {
      const early = GATHER_MS - (performance.now() - begunAt)
      if (lastBatch > 1 && early > 0 && !closing) await pause(early)
      let bytes = 0
      let count = 0
      while (count < queue.length && bytes < MAX_BATCH_BYTES) {
        // Three bytes per UTF-16 unit at most, so a batch always fits its buffer.
        bytes += queue[count]!.draft.length * 3 + FRAME_HEADER_BYTES
        count += 1
      }
      writing = queue.slice(0, count)
      queue = count === queue.length ? [] : queue.slice(count)
      begunAt = performance.now()
      lastBatch = count
      await commit(writing)
      writing = []
    }
  }

  const startPump = () => {
    if (pumping !== undefined) return
    // A turn later, so that what is appended together is written together.
    pumping = Promise.resolve()
      .then(pump)
      .catch((cause: unknown) => {
        for (const it of writing) it.reject(unavailable('broken', cause))
        become('sync_failed', cause)
      })
      .finally(() => {
        writing = []
        pumping = undefined
        if (hung) {
          hung = false
          deps.onChange?.(state)
        }
        if (queue.length > 0 && writes()) startPump()
      })
  }

  const why = () => (hung ? 'hung' : state === 'working' && !closing ? 'full' : state)

  const enqueue = (draft: Draft, urgent: boolean): Promise<Receipt> =>
    new Promise((resolve, reject) => {
      if (!takes(urgent)) return reject(unavailable(why()))
      if (queue.length >= MAX_QUEUE) return reject(unavailable('too much is waiting'))
      queue.push({ draft, urgent, deadline: monotonic() + appendTimeoutMs, resolve, reject })
      startPump()
    })

  const append = async (event: AuditEvent): Promise<Receipt> => {
    const urgent = endsByOrder(event)
    if (!takes(urgent)) throw unavailable(why())
    const whom = sealedFor(event)
    const sealer = whom === undefined ? undefined : (subjectVault.peek(whom) ?? (await subjectVault.of(whom)))
    const draft = draftRecord(event, logId, sealer, memory)
    if (draft.length * 3 > MAX_RECORD_BYTES) throw new RangeError('the event is too large for one record')
    return enqueue(draft, urgent)
  }

  const expire = () => {
    const late = monotonic()
    if (writing.length > 0 && writing[0]!.deadline <= late && !hung) {
      hung = true
      deps.onChange?.('hung')
    }
    if (!hung) return
    const overdue = [...writing, ...queue]
    queue = []
    for (const it of overdue) it.reject(unavailable('hung'))
  }

  const flushStrangers = async (everything = false) => {
    await Promise.all(
      strangers.take(now(), everything).map((event) => append(event).catch(() => strangers.putBack(event))),
    )
  }

  const recover = async () => {
    if (state === 'full' || state === 'sync_failed') {
      const mended = await writer.mend(state)
      if (mended !== 'mended') return become(mended.fault, mended.cause)
    } else if (!(await writer.inPlace())) return
    become('working')
  }

  const mind = async () => {
    if (state === 'closed' || state === 'sync_failed' || hung) return
    const there = await writer.inPlace().catch((cause: unknown) => {
      become('displaced', cause)
      return true
    })
    if (!there) become('displaced')
  }

  const look = async () => {
    if (minding || state === 'closed') return
    minding = true
    reserve?.spares()
    if (state === 'working') await mind()
    else if (pumping === undefined) {
      // Where it fails it is looked at again at the next tick.
      recovering = recover().catch(() => undefined)
      await recovering
      recovering = undefined
    }
    minding = false
  }

  const stop = every(TICK_MS, async () => {
    expire()
    await look()
    if (state === 'working' && !hung) await flushStrangers()
  })

  try {
    for (const { kind, index, bytes } of opened.recovered)
      await append({ type: 'recovered_tail', by: 'system', details: { kind, index, bytes } })
  } catch (error) {
    stop()
    await files.close(active().fd)
    throw error
  }

  return {
    logId,
    append,
    countStranger: (source, reason) => strangers.count(source, reason, now()),
    healthy: () => state === 'working' && !hung && reserve?.tapped() !== true,
    close: async () => {
      if (closing) return
      if (state === 'working') await flushStrangers(true)
      closing = true
      const drained = new Promise<void>((resolve) => {
        const late = setTimeout(resolve, appendTimeoutMs)
        void (pumping ?? Promise.resolve()).finally(() => {
          clearTimeout(late)
          resolve()
        })
      })
      await drained
      stop()
      await tree.close()
      become('closed')
      await files.close(active().fd)
    },
    get size() {
      return reader.size
    },
    get: reader.get,
    from: reader.from,
    payloadsFrom: reader.payloadsFrom,
    search: reader.search,
    unseal: reader.unseal,
    tree,
    checkpoints: createKeptCheckpoints({ files, folder }),
  }
}

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))
