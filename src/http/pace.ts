/**
 * How many requests may be worked on at once while the processor is what they wait for: as many as it answers within
 * the time that one may take. More of them would be served no sooner, only later. Where they wait for something else
 * (a store, an issuer's keys), there is no queue here to cut, and the fixed bound alone holds.
 */
export interface Pace {
  /** So many at once, by what was answered lately. */
  most(): number
  /** One more was. */
  answered(): void
}

export interface PaceDeps {
  readonly maxQueueMs: () => number
  /** Share of the time since it was last asked in which the event loop had work: 0 to 1. */
  readonly utilization: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
}

const WINDOW_MS = 100
/** Nobody asked for so long: what was answered meanwhile says nothing about a queue. */
const QUIET_MS = 1000
const BUSY = 0.9
/** What one sync of the journal takes along costs next to nothing more. */
const LEAST = 64

export function createPace({ maxQueueMs, utilization, monotonic }: PaceDeps): Pace {
  let since = monotonic()
  let count = 0
  let most = Number.POSITIVE_INFINITY
  return {
    most() {
      const elapsed = monotonic() - since
      if (elapsed < WINDOW_MS) return most
      const within = Math.max(LEAST, Math.round((count * maxQueueMs()) / elapsed))
      const before = most
      if (utilization() < BUSY || elapsed > QUIET_MS) most = Number.POSITIVE_INFINITY
      else most = before === Number.POSITIVE_INFINITY ? within : Math.round((before + within) / 2)
      since += elapsed
      count = 0
      return most
    },
    answered() {
      count += 1
    },
  }
}

/** How busy this process is, from one asking to the next. */
export function loopUtilization(): () => number {
  let before = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    return utilization
  }
}
