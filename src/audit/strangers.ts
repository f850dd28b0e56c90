/** Folds refused strangers: one record per source, reason and second, however many knock. */
import type { Reason } from '../oauth/refusal.ts'
import type { AuditEvent } from './log.ts'
import { sourceBlock } from './source.ts'

interface Counted {
  readonly source: string
  readonly reason: Reason
  readonly second: number
  count: number
}

export interface StrangerFold {
  count(source: string, reason: Reason, nowMs: number): void
  /** Takes out the events of seconds that are over (all of them with `everything`). */
  take(nowMs: number, everything?: boolean): readonly AuditEvent[]
  /** Counts again what could not be written down. */
  putBack(event: AuditEvent): void
}

/** Past `maxEntries` sources share one record per reason under the source `*`: a flood costs no memory. */
export function createStrangerFold({ maxEntries = 4096 }: { readonly maxEntries?: number } = {}): StrangerFold {
  const open = new Map<string, Counted>()

  const add = (source: string, reason: Reason, second: number, count: number) => {
    const key = `${source} ${reason} ${second}`
    const there = open.get(key)
    if (there !== undefined) there.count += count
    else if (open.size < maxEntries) open.set(key, { source, reason, second, count })
    else {
      const shared = open.get(`* ${reason}`)
      if (shared !== undefined) shared.count += count
      else open.set(`* ${reason}`, { source: '*', reason, second, count })
    }
  }

  return {
    count: (source, reason, nowMs) => add(sourceBlock(source), reason, Math.floor(nowMs / 1000), 1),
    take: (nowMs, everything = false) => {
      const second = Math.floor(nowMs / 1000)
      const events: AuditEvent[] = []
      for (const [key, it] of open) {
        // A second that lies ahead is over too: the clock was set back.
        if (!everything && it.second === second) continue
        open.delete(key)
        const { source, reason, count } = it
        events.push({
          type: 'strangers.refused',
          decision: 'refuse',
          source,
          reason,
          count,
          details: { second: it.second },
        })
      }
      return events
    },
    putBack: ({ source, reason, count, details }) => {
      const second = details?.['second']
      if (source !== undefined && reason !== undefined && count !== undefined && typeof second === 'number')
        add(source, reason, second, count)
    },
  }
}
