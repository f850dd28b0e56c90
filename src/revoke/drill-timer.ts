/**
 * Fire drills by the clock: one in each period, at one replica, with real tokens of the agent that is there for it. How it
 * went stands in the log as that of any other drill; what could not even begin does too.
 */
import type { ReplayGuard } from '../attest/replay-guard.ts'
import type { Containment } from './containment.ts'
import type { Drills } from './drills.ts'
import type { Revocation } from './revocation-log.ts'

export interface DrillSchedule {
  readonly everySeconds: number
  /** client_id of an agent with `drill: true`. */
  readonly agent: string
  /** Its private key. */
  readonly agentKeyFile: string
  readonly tasks: number
  readonly timeoutSeconds: number
}

interface LastDrill {
  /** Unix seconds. */
  readonly at: number
  readonly held: boolean
  /** Until it was seen contained, or given up. */
  readonly milliseconds: number
}

export interface DrillTimer {
  /** Drills where it is time to. */
  tick(): Promise<void>
  /** How the last one of this process went. */
  last(): LastDrill | undefined
  /** The last one did not hold, or none has come for two periods; undefined where there is no timer. */
  failing(): boolean | undefined
  /** Breaks off what is under way, and leaves no ban behind. */
  stop(): void
}

export interface DrillTimerDeps {
  readonly schedule: () => DrillSchedule | undefined
  readonly drills: Drills
  readonly containmentOf: (entry: Revocation) => Promise<Containment>
  readonly replayGuard: ReplayGuard
  /** Opens tasks as the agent, and gets a token for each tool that it may use; answers how many. Rejects with why not. */
  readonly getTokens: (schedule: DrillSchedule) => Promise<number>
  readonly newCorrelation: () => string
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly pause: (milliseconds: number) => Promise<void>
  readonly onFault: (error: unknown) => void
}

const LOOK_EVERY_MS = 100
/** After a store that was away. */
const RETRY_SECONDS = 60

export function createDrillTimer(deps: DrillTimerDeps): DrillTimer {
  const { drills, now, monotonic } = deps
  const startedAt = now()
  let last: LastDrill | undefined
  /** When a drill of any replica was known to have begun. */
  let begunAt: number | undefined
  let seen: string | undefined
  let notBefore = 0
  let stopped = false

  async function round(schedule: DrillSchedule): Promise<void> {
    const { agent, timeoutSeconds } = schedule
    const acting = { by: 'system', correlation: deps.newCorrelation() }
    const at = now()
    let began = monotonic()
    const ended = (held: boolean) => {
      last = { at, held, milliseconds: Math.round(monotonic() - began) }
      return last.milliseconds
    }
    try {
      await drills.endLeft(agent, at, acting)
      const tokens = await deps.getTokens(schedule)
      const begun = await drills.begin(agent, acting)
      if (!begun) throw new Error(`${agent} is no agent for drills: its file says drill: true`)
      began = monotonic()
      let { contained } = await deps.containmentOf(begun.entry)
      while (!contained && !stopped && monotonic() - began < timeoutSeconds * 1000) {
        await deps.pause(LOOK_EVERY_MS)
        contained = (await deps.containmentOf(begun.entry)).contained
      }
      if (stopped && !contained) await drills.endLeft(agent, now(), acting)
      else await drills.finish(begun.entry.id, { tokens, milliseconds: ended(contained), probes: [] }, acting)
    } catch (error) {
      if (stopped) return
      ended(false)
      await drills.failed(agent, error instanceof Error ? error.message : 'unknown', acting)
    }
  }

  return {
    async tick() {
      const schedule = deps.schedule()
      if (!schedule || stopped || now() < notBefore) return
      const { agent, everySeconds } = schedule
      const period = Math.floor(now() / everySeconds)
      const name = `drill:${agent}:${everySeconds}:${period}`
      if (name === seen) return
      try {
        // Also across a restart: nobody wants a drill for each of those.
        const mine = await deps.replayGuard.spend(name, (period + 2) * everySeconds)
        seen = name
        begunAt = now()
        if (mine) await round(schedule)
      } catch (error) {
        notBefore = now() + RETRY_SECONDS
        deps.onFault(error)
      }
    },
    last: () => last,
    failing() {
      const schedule = deps.schedule()
      if (!schedule) return undefined
      const late = now() - (begunAt ?? startedAt) > 2 * schedule.everySeconds
      return late || last?.held === false
    },
    stop() {
      stopped = true
    },
  }
}
