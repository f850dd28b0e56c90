/** Loads what a verifier knew before its restart, and saves what it knows: at a bounded rate, and never in anybody's way. */
import { formatEpoch } from './epoch.ts'
import type { FeedState } from './feed-state.ts'
import { type KeptState, KeptStateError, type Owner, readKept, type StateStore, writeKept } from './kept-state.ts'
import { quietTimer } from './timer.ts'

const KEEP_EVERY_MS = 1_000
const KEEP_AFTER_FAILURE_MS = 30_000
/** Keeping takes this part of the time at most. */
const KEEP_SHARE = 1 / 20

export interface StateKeeper {
  /** Never rejects: what cannot be used is a problem that is told, and nothing is restored. */
  load(owner: Owner): Promise<KeptState | undefined>
  /** Saves soon, where something is new. */
  changed(state: FeedState): void
  /** Saves once more, without being waited for. */
  close(): void
}

export interface StateKeeperDeps {
  readonly store: StateStore | undefined
  readonly checkpoints: () => readonly string[]
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly onProblem: (problem: KeptStateError) => void
}

export function createStateKeeper({ store, checkpoints, monotonic, onProblem }: StateKeeperDeps): StateKeeper {
  if (!store) return { load: async () => undefined, changed: () => undefined, close: () => undefined }
  let owner: Owner | undefined
  let latest: FeedState | undefined
  let kept = ''
  let pauseMs = KEEP_EVERY_MS
  let timer: ReturnType<typeof setTimeout> | undefined
  let closed = false

  function soon(): void {
    if (timer || closed || placeOf(latest) === kept) return
    timer = quietTimer(async () => {
      await save()
      timer = undefined
      soon()
    }, pauseMs)
  }

  async function save(): Promise<void> {
    const what = latest?.kept()
    const place = placeOf(latest)
    if (!owner || !what || place === kept) return
    const began = monotonic()
    try {
      await store!.save(await writeKept({ ...what, checkpoints: checkpoints() }, owner))
      kept = place
      pauseMs = Math.max(KEEP_EVERY_MS, (monotonic() - began) / KEEP_SHARE)
    } catch (error) {
      pauseMs = KEEP_AFTER_FAILURE_MS
      onProblem(new KeptStateError('state_unwritable', 'what is known of revocations cannot be kept', error))
    }
  }

  return {
    async load(of) {
      // What was known under another key is not written under this one.
      latest = undefined
      kept = ''
      owner = of
      try {
        const text = await store.load()
        return text === undefined ? undefined : readKept(text, of)
      } catch (error) {
        const known = error instanceof KeptStateError
        onProblem(known ? error : new KeptStateError('state_unreadable', 'the kept state cannot be read', error))
        return undefined
      }
    },
    changed(state) {
      latest = state
      soon()
    },
    close() {
      clearTimeout(timer)
      if (!closed) void save()
      closed = true
    },
  }
}

const placeOf = (state: FeedState | undefined): string => {
  const epoch = state?.epoch()
  return epoch ? `${formatEpoch(epoch)} ${state!.forked()}` : ''
}
