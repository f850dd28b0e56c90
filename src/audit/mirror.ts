/**
 * Follows the log and passes each record on, in order and at least once: what a mirror has not taken stays in the log,
 * and a restart goes on from the position that was kept. So a mirror that is away loses nothing, and nothing waits for it.
 */
import { indexOf } from './layout.ts'

export interface MirroredRecord {
  /** Its index in the log: the same record again has the same. */
  readonly index: number
  /** Canonical JSON. */
  readonly payload: Buffer
}

/** Where records go. */
export interface MirrorSink {
  /** Rejects where they were not taken, or not all. Never two at once. */
  send(batch: readonly MirroredRecord[]): Promise<void>
  /** Makes safe there what was sent; before a position is kept. */
  sync?(): Promise<void>
  /** Where nobody acknowledges: after so many milliseconds without a fault what was sent has arrived. */
  readonly settleMs?: number
  /** Told where what was sent lately may be lost. */
  onLost?(listener: () => void): void
  /** Resolves with whether everything sent is safe there. */
  close(): Promise<boolean>
}

/** The index of the next record to send, where it survives a restart. */
export interface MirrorPosition {
  read(): Promise<number | undefined>
  keep(next: number): Promise<void>
}

export interface MirrorState {
  readonly name: string
  /** Records that it has not taken yet. */
  readonly behind: number
  /** Why it takes none at this moment. */
  readonly problem?: string
  /** Further behind than its bound. */
  readonly overdue: boolean
  /** Nothing is issued until it has caught up. */
  readonly holds: boolean
}

export interface Mirror {
  state(): MirrorState
  /** What the timer does: sends what there is, and returns when it has caught up, or cannot, or others should have a turn. */
  run(): Promise<void>
  close(): Promise<void>
}

export interface MirrorDeps {
  readonly name: string
  readonly maxBehind: number
  /** Whether issuing stops where it is further behind than that. */
  readonly refuses: boolean
  readonly log: { readonly size: number; payloadsFrom(index: number): Promise<readonly Buffer[]> }
  readonly sink: MirrorSink
  readonly position: MirrorPosition
  /** Milliseconds that never go back. */
  readonly monotonic: () => number
  /** Told when it fails, is overdue, or does no longer. */
  readonly onChange: (state: MirrorState) => void
}

const BATCH_BYTES = 128 << 10
const BATCHES_A_TURN = 16
const KEEP_EVERY_MS = 1_000
const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000, 30_000] as const

export async function openMirror(deps: MirrorDeps): Promise<Mirror> {
  const { name, maxBehind, refuses, log, sink, position, monotonic, onChange } = deps
  let next = Math.min((await position.read()) ?? 0, log.size)
  let kept = next
  /** Positions that were reached, and when; the first one has arrived for sure. */
  let reached: { readonly next: number; readonly at: number }[] = [{ next, at: Number.NEGATIVE_INFINITY }]
  let keptAt = Number.NEGATIVE_INFINITY
  let problem: string | undefined
  let failures = 0
  let retryAt = Number.NEGATIVE_INFINITY
  /** A mirror that is new has the whole log before it: that alone stops nothing. */
  let wasWithin = false
  let told = false

  const state = (): MirrorState => {
    const behind = log.size - next
    const overdue = behind > maxBehind
    wasWithin ||= !overdue
    return {
      name,
      behind,
      ...(problem === undefined ? {} : { problem }),
      overdue,
      holds: refuses && overdue && (wasWithin || problem !== undefined),
    }
  }

  const tell = () => {
    const now = state()
    const ill = now.problem !== undefined || (now.overdue && wasWithin)
    if (ill === told) return
    told = ill
    onChange(now)
  }

  const arrived = (): number => {
    const until = monotonic() - (sink.settleMs ?? 0)
    const last = reached.findLastIndex(({ at }) => at <= until)
    reached = reached.slice(Math.max(0, last))
    return reached[0]!.next
  }

  sink.onLost?.(() => {
    next = arrived()
    reached = [{ next, at: Number.NEGATIVE_INFINITY }]
  })

  const keep = async () => {
    const safe = arrived()
    if (safe === kept || monotonic() - keptAt < KEEP_EVERY_MS) return
    await sink.sync?.()
    keptAt = monotonic()
    // Where there is no room for it, more is sent again after a restart.
    await position.keep(safe).then(
      () => {
        kept = safe
      },
      () => undefined,
    )
  }

  const batchAt = async (index: number): Promise<readonly MirroredRecord[]> => {
    const batch: MirroredRecord[] = []
    let bytes = 0
    for (const payload of await log.payloadsFrom(index)) {
      if (batch.length > 0 && bytes + payload.length > BATCH_BYTES) break
      bytes += payload.length
      batch.push({ index: indexOf(payload), payload })
    }
    return batch
  }

  const run = async () => {
    if (monotonic() < retryAt) return
    try {
      for (let turn = 0; turn < BATCHES_A_TURN && next < log.size; turn += 1) {
        const batch = await batchAt(next)
        await sink.send(batch)
        next = batch.at(-1)!.index + 1
        reached.push({ next, at: monotonic() })
        problem = undefined
        failures = 0
      }
      await keep()
    } catch (error) {
      problem = problemOf(error)
      retryAt = monotonic() + RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]!
      failures += 1
    }
    tell()
  }

  return {
    state,
    run,
    close: async () => {
      await sink.sync?.().catch(() => undefined)
      const safe = (await sink.close().catch(() => false)) ? next : arrived()
      if (safe !== kept) await position.keep(safe).catch(() => undefined)
    },
  }
}

/** A word or a sentence; what it was sent to is not repeated, since an address may hold a secret. */
function problemOf(error: unknown): string {
  if (!(error instanceof Error)) return 'unknown'
  const { code } = error as NodeJS.ErrnoException
  return typeof code === 'string' ? code : error.message.slice(0, 200)
}
