/** Holds the snapshot in force, and replaces it as a whole or not at all. */
import { isReceiver } from '../revoke/signals/transmit.ts'
import { formatProblems } from './check.ts'
import type { LoadResult } from './load.ts'
import type { Snapshot } from './snapshot.ts'
import { watchFiles } from './watch-files.ts'

export interface ReloadFailure {
  /** Unix seconds. */
  readonly at: number
  /** For people: file, line and suggestion of every problem. */
  readonly problems: string
}

export interface ConfigHolder {
  /** A request asks once and keeps what it got. */
  current(): Snapshot
  /** Why the newest attempt did not replace it: shown in `/ready` while the old one serves. */
  failure(): ReloadFailure | undefined
  /** Reads everything anew. True where what was read is in force now; callers at one time share one reading. */
  reload(): Promise<boolean>
  /** Awaited before what was read is in force; where it fails, the old configuration stays. */
  beforeChange(step: (next: Snapshot) => Promise<void>): void
  /** Told after each change of what is in force. */
  onChange(listener: (next: Snapshot, previous: Snapshot) => void): void
  /** Told after each attempt that failed. */
  onFailure(listener: (failure: ReloadFailure) => void): void
  /** Reloads when something below `paths` changes, once it has been quiet for a moment. Answers how to stop. */
  watch(paths: readonly string[]): () => void
}

const QUIET_MS = 150

export function createConfigHolder({
  first,
  load,
  now,
  watchPath = watchFiles,
}: {
  readonly first: Snapshot
  readonly load: () => Promise<LoadResult>
  readonly now: () => number
  readonly watchPath?: (path: string, changed: () => void, options: { readonly except: string }) => () => void
}): ConfigHolder {
  let snapshot = first
  let lastFailure: ReloadFailure | undefined
  let reading: Promise<boolean> | undefined
  let again = false
  const listeners: ((next: Snapshot, previous: Snapshot) => void)[] = []
  const steps: ((next: Snapshot) => Promise<void>)[] = []
  const failureListeners: ((failure: ReloadFailure) => void)[] = []

  function failed(problems: string): false {
    lastFailure = { at: now(), problems }
    for (const listener of failureListeners) listener(lastFailure)
    return false
  }

  async function readOnce(): Promise<boolean> {
    let loaded: LoadResult
    try {
      loaded = await load()
    } catch (error) {
      return failed(`the configuration cannot be read: ${error instanceof Error ? error.message : 'unknown cause'}`)
    }
    if (!loaded.ok) return failed(formatProblems(loaded.problems))
    const next = loaded.snapshot
    // These are bound when the service starts; a snapshot that says otherwise would not be what is in force.
    const fixed = fixedAtStart(snapshot, next)
    if (fixed !== undefined) return failed(`errand.yaml: a change of ${fixed} needs a restart`)
    if (next.digest !== snapshot.digest) {
      try {
        for (const step of steps) await step(next)
      } catch (error) {
        return failed(`the configuration cannot be used: ${error instanceof Error ? error.message : 'unknown cause'}`)
      }
    }
    lastFailure = undefined
    if (next.digest === snapshot.digest) return true
    const previous = snapshot
    snapshot = next
    for (const listener of listeners) listener(next, previous)
    return true
  }

  const reload = async (): Promise<boolean> => {
    if (reading) {
      // Files may have changed after they were read: what was asked for now is read once more.
      again = true
      return reading
    }
    reading = (async () => {
      try {
        let result: boolean
        do {
          again = false
          result = await readOnce()
        } while (again)
        return result
      } finally {
        reading = undefined
      }
    })()
    return reading
  }

  return {
    current: () => snapshot,
    failure: () => lastFailure,
    reload,
    beforeChange: (step) => void steps.push(step),
    onChange: (listener) => void listeners.push(listener),
    onFailure: (listener) => void failureListeners.push(listener),
    watch(paths) {
      let timer: NodeJS.Timeout | undefined
      const changed = () => {
        clearTimeout(timer)
        timer = setTimeout(() => void reload(), QUIET_MS)
        timer.unref()
      }
      // Tenants have holders of their own.
      const stops = paths.map((path) => watchPath(path, changed, { except: 'tenants' }))
      return () => {
        clearTimeout(timer)
        for (const stop of stops) stop()
      }
    },
  }
}

/** What a running service cannot change: its name, its mode, where it listens and where it keeps state. */
function fixedAtStart(before: Snapshot, after: Snapshot): string | undefined {
  const parts = ['issuer', 'mode', 'listen', 'store', 'audit', 'dpop', 'keys', 'log'] as const
  const bounds = ['maxHeaderBytes', 'requestTimeoutSeconds'] as const
  const differs = (a: unknown, b: unknown) => JSON.stringify(a) !== JSON.stringify(b)
  // Its key is made at a start, where somebody is to hear.
  if (!before.machines.all.some(isReceiver) && after.machines.all.some(isReceiver)) return 'signal_receivers'
  return (
    parts.find((part) => differs(before.settings[part], after.settings[part])) ??
    bounds.find((bound) => differs(before.settings.bounds[bound], after.settings.bounds[bound]))
  )
}
