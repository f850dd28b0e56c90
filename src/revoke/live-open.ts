/** Opens the counts of live tokens: what was issued before the start is read beside the service's work. */
import type { AuditReader } from '../audit/log.ts'
import { restoreLive } from './live-restore.ts'
import { createLiveTokens, type LiveTokens } from './live-tokens.ts'
import type { RevocationLog } from './revocation-log.ts'

const SWEEP_EVERY_MS = 1_000

export interface OpenedLiveTokens extends LiveTokens {
  close(): Promise<void>
}

export async function openLiveTokens(deps: {
  readonly now: () => number
  readonly log: Pick<RevocationLog, 'after' | 'onAdded'>
  readonly reader: AuditReader
  readonly onError: (error: unknown) => void
}): Promise<OpenedLiveTokens> {
  const { now, log, reader, onError } = deps
  const live = createLiveTokens({ now })
  // Heard twice is one; not heard would be counted for ever.
  const unlisten = log.onAdded(live.killed)
  for (const entry of await log.after()) live.killed(entry)
  let closed = false
  // Not waited for: until it is through, a preview says so.
  const restored = restoreLive({ reader, live, now, stopped: () => closed }).catch(onError)
  const timer = setInterval(live.sweep, SWEEP_EVERY_MS)
  timer.unref()
  return {
    ...live,
    close: async () => {
      closed = true
      clearInterval(timer)
      unlisten()
      await restored
    },
  }
}
