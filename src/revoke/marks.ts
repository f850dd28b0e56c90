/**
 * Places in the log by time: what was issued until T becomes what was checked before a mark. A mark is taken in each minute
 * in which something was issued, and where there is none since T; so a window reaches a minute further than T at most, and
 * further by what the clocks of several replicas may differ.
 */
import { type Epoch, formatEpoch, parseEpoch } from '@errand/verifier/epoch.ts'
import type { AuditEvent, AuditRecord } from '../audit/log.ts'

export interface Mark {
  readonly epoch: Epoch
  /** Unix seconds, read before the mark was taken: whatever was checked before this moment lies before the mark. */
  readonly at: number
}

export interface MarksDeps {
  readonly now: () => number
  readonly mark: () => Promise<Epoch>
  readonly audit: { append(event: AuditEvent): Promise<unknown> }
  /** `revocation.marked` records since that many Unix seconds, oldest first. */
  readonly recorded: (since: number) => Promise<readonly AuditRecord[]>
  /**
   * So far apart may the clocks be of those that issue by this log: what another checked before a moment of its clock, it
   * checked before that moment and this much of ours. Nothing where one process alone issues.
   */
  readonly clocksApartSeconds: number
  /** Told of a mark that could not be recorded: after a restart windows reach further. */
  readonly onError: (error: unknown) => void
}

export interface Marks {
  /** Something was issued: the minute will be marked. */
  issued(): void
  /** To be called each second or so. */
  tick(): Promise<void>
  /** The first mark after everything that has been checked before `time`; for a later time never an earlier mark. */
  markFor(time: number): Promise<Mark>
}

const EVERY_SECONDS = 60
/** Longer than any token lives: what was checked before the oldest of these is dead anyway. */
const KEPT_SECONDS = 3600
const MOST = 200

export async function openMarks(deps: MarksDeps): Promise<Marks> {
  const { now } = deps
  const marks: Mark[] = []
  for (const record of await deps.recorded(now() - KEPT_SECONDS)) {
    const place = parseEpoch(record['epoch'])
    const { at } = (record['details'] ?? {}) as { readonly at?: unknown }
    if (place && typeof at === 'number') marks.push({ epoch: place, at })
  }
  let unmarked = false

  async function take(): Promise<Mark> {
    const at = now()
    unmarked = false
    const mark = { epoch: await deps.mark(), at }
    marks.push(mark)
    marks.splice(0, marks.length - MOST)
    await deps.audit
      .append({ type: 'revocation.marked', by: 'system', epoch: formatEpoch(mark.epoch), details: { at } })
      .catch(deps.onError)
    return mark
  }

  // One after the other: who asks twice at once is answered the same.
  let last: Promise<unknown> = Promise.resolve()
  function inTurn<T>(step: () => Promise<T>): Promise<T> {
    const next = last.then(step)
    last = next.catch(() => undefined)
    return next
  }

  return {
    issued() {
      unmarked = true
    },
    tick: () =>
      inTurn(async () => {
        const newest = marks.at(-1)
        // At once where the clock went back: what is issued now bears times from before marks that it lies after.
        const due = newest === undefined || now() < newest.at || now() - newest.at >= EVERY_SECONDS
        if (unmarked && due) await take()
      }),
    markFor: (time) =>
      inTurn(async () => {
        // By their order and not by their times, which may go back: after the last one from before it.
        const before = marks.findLastIndex(({ at }) => at < time + deps.clocksApartSeconds)
        return marks[before + 1] ?? take()
      }),
  }
}
