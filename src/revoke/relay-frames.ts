/**
 * What a relay keeps of the service's frames: one for each place, and few places. So however many ask, and from wherever,
 * they cost the service and this process no more than a handful of honest readers do.
 */
import { compareEpochs, type Epoch, formatEpoch } from '@errand/verifier/epoch.ts'
import type { FeedFrame } from './feed.ts'

/** One answer of the service serves every reader of the same place for so long. */
const REUSE_MS = 250
/** Whoever is further back begins with the snapshot, of which there is one. */
const FURTHEST_BACK = 4_096
/** Of text and of what is sent of it. */
const MAX_KEPT_BYTES = 256 * 1_048_576

export interface RelayFrames {
  snapshot(): Promise<FeedFrame>
  delta(after: Epoch): Promise<FeedFrame>
  close(): void
}

export interface RelayFramesDeps {
  /** From the service, verified. */
  readonly ask: (path: string) => Promise<FeedFrame>
  /** The newest epoch heard of. */
  readonly newest: () => Epoch | undefined
  /** Whether frames arrive: then the newest epoch is the service's too. */
  readonly connected: () => boolean
  /** Milliseconds. */
  readonly monotonic: () => number
}

interface Kept {
  readonly at: number
  /** Where the log was when it was asked for, then where it is with it. */
  epoch: string | undefined
  bytes: number
  readonly made: Promise<FeedFrame>
  readonly forget: NodeJS.Timeout | undefined
}

export function createRelayFrames({ ask, newest, connected, monotonic }: RelayFramesDeps): RelayFrames {
  const kept = new Map<string, Kept>()

  function drop(path: string, it: Kept): void {
    clearTimeout(it.forget)
    if (kept.get(path) === it) kept.delete(path)
  }

  /** While frames arrive, an answer that has reached the newest epoch is as good as another. */
  const isGood = (it: Kept, lasting: boolean): boolean => {
    const here = newest()
    if (it.epoch !== (here && formatEpoch(here))) return false
    return (lasting && connected()) || monotonic() - it.at <= REUSE_MS
  }

  function shared(path: string, lasting: boolean): Promise<FeedFrame> {
    const known = kept.get(path)
    if (known && isGood(known, lasting)) return known.made
    if (known) drop(path, known)
    const here = newest()
    const made = ask(path)
    const forget = lasting ? undefined : setTimeout(() => drop(path, mine), REUSE_MS)
    forget?.unref()
    const mine: Kept = { at: monotonic(), epoch: here && formatEpoch(here), bytes: 0, made, forget }
    kept.set(path, mine)
    made.then(
      (frame) => {
        mine.epoch = frame.epoch
        mine.bytes = 2 * frame.frame.length
        makeRoom()
      },
      () => drop(path, mine),
    )
    return made
  }

  /** What was asked for first goes first. */
  function makeRoom(): void {
    let bytes = 0
    for (const it of kept.values()) bytes += it.bytes
    for (const [path, it] of [...kept]) {
      if (bytes <= MAX_KEPT_BYTES) return
      bytes -= it.bytes
      drop(path, it)
    }
  }

  const snapshot = () => shared('/revocations', true)

  return {
    snapshot,
    async delta(after) {
      if (!newest()) await snapshot()
      const from = placeBefore(after, newest())
      return from ? shared(`/revocations?after=${formatEpoch(from)}`, false) : snapshot()
    },
    close() {
      for (const [path, it] of [...kept]) drop(path, it)
    },
  }
}

/**
 * The place that a delta is asked from: a little before the reader's, so that readers at many places share few answers,
 * for what one has already does no harm. Undefined where the snapshot serves: too far back, ahead, of another generation.
 */
function placeBefore(after: Epoch, newest: Epoch | undefined): Epoch | undefined {
  if (!newest || after.generation !== newest.generation || compareEpochs(after, newest) > 0) return undefined
  const back = newest.sequence - after.sequence
  if (back > FURTHEST_BACK) return undefined
  const rounded = back === 0 ? 0 : 2 ** Math.ceil(Math.log2(back))
  return { generation: newest.generation, sequence: Math.max(0, newest.sequence - rounded) }
}
