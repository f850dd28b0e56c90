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
  /** Where nobody acknowledges: resolves once everything sent has arrived for sure; rejects where it may not have. */
  confirm?(): Promise<void>
  /** Told where what was sent and not confirmed may be lost. */
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
  /** Records that it has not taken yet for sure. */
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
const CONFIRM_EVERY_MS = 5_000
/** About so many records may come twice after a loss. */
const UNCONFIRMED_AT_MOST = 5_000
const LOST = 'the connection was lost'
const RETRY_MS = [500, 1_000, 2_000, 5_000, 10_000, 30_000] as const

export async function openMirror(deps: MirrorDeps): Promise<Mirror> {
  const { name, maxBehind, refuses, log, sink, position, monotonic, onChange } = deps
  let next = Math.min((await position.read()) ?? 0, log.size)
  let kept = next
  /** What comes before it has arrived for sure; from here up to `next` nobody knows yet. */
  let confirmed = next
  /** When the first of those was sent. */
  let sentFrom = Number.NEGATIVE_INFINITY
  let losses = 0
  let keptAt = Number.NEGATIVE_INFINITY
  let problem: string | undefined
  let failures = 0
  let retryAt = Number.NEGATIVE_INFINITY
  /** A mirror that is new has the whole log before it: that alone stops nothing. */
  let wasWithin = false
  let told = false

  const state = (): MirrorState => {
    const behind = log.size - confirmed
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

  const fail = (error: unknown) => {
    next = confirmed
    // The listener and the sending of a batch may both tell of the same loss.
    if (monotonic() < retryAt) return
    problem = problemOf(error)
    retryAt = monotonic() + RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]!
    failures += 1
  }

  sink.onLost?.(() => {
    losses += 1
    if (next > confirmed) fail(new Error(LOST))
  })

  // After a failure each batch is confirmed before the next: so it gets on also where more would take too long.
  const mayWait = () =>
    sink.confirm !== undefined &&
    problem === undefined &&
    next - confirmed < Math.min(UNCONFIRMED_AT_MOST, maxBehind / 2) &&
    monotonic() - sentFrom < CONFIRM_EVERY_MS

  const confirm = async () => {
    if (next === confirmed || mayWait()) return
    await sink.confirm?.()
    confirmed = next
    problem = undefined
    failures = 0
    retryAt = Number.NEGATIVE_INFINITY
  }

  const keep = async () => {
    const safe = confirmed
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
        if (next === confirmed) sentFrom = monotonic()
        const before = losses
        const batch = await batchAt(next)
        if (losses === before) await sink.send(batch)
        // What was sent before this batch is lost: it comes first.
        if (losses !== before) throw new Error(LOST)
        next = batch.at(-1)!.index + 1
        await confirm()
      }
      await confirm()
      await keep()
    } catch (error) {
      fail(error)
    }
    tell()
  }

  return {
    state,
    run,
    close: async () => {
      await sink.sync?.().catch(() => undefined)
      const safe = (await sink.close().catch(() => false)) ? next : confirmed
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
