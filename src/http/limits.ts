/** Sheds load before it hurts: bounds on what runs and what stays open at once, and shares of clients and sources. */
import { type Result, refuse } from '../oauth/refusal.ts'
import { type Buckets, createBuckets } from './buckets.ts'
import type { Pace } from './pace.ts'

export interface Limits extends Buckets {
  /** False where too much runs already; otherwise call `leave` when done. `kept` goes beyond pace and a tenant's quota. */
  enter(kept?: boolean): boolean
  leave(): void
  /** Whether `enter` would say false once everything that waits for its turn has been let in. */
  full(): boolean
  running(): number
  /** A place among what stays open without working; undefined where there is none. Answers how to give it back. */
  hold(who: Holder): (() => void) | undefined
}

/** A stranger by its address, whoever has proven who it is by that. */
export type Holder = { readonly source: string } | { readonly client: string }

export interface LimitBounds {
  readonly maxConcurrent: () => number
  /** What may stay open without working; the same by default. */
  readonly maxOpen?: () => number
  /** Of a tenant: what of that its quota lets it run. */
  readonly quota?: () => number
  readonly pace?: Pace
  /** How many wait for their turn; see fair-turns.ts. */
  readonly waiting?: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
}

/** What strangers may hold open of all there is: the rest is for those who have proven who they are. */
const SHARE_OF_STRANGERS = 1 / 2
/** Of all there is, too: the rest is for the others. */
const SHARE_OF_ONE_SOURCE = 1 / 16
const SHARE_OF_ONE_CLIENT = 1 / 4

export function createLimits({
  maxConcurrent,
  maxOpen = maxConcurrent,
  quota,
  pace,
  waiting = () => 0,
  monotonic,
}: LimitBounds): Limits {
  let running = 0
  let open = 0
  let openToStrangers = 0
  const openBy = new Map<string, number>()

  const tooMany = (atOnce: number, kept: boolean): boolean =>
    atOnce >= maxConcurrent() ||
    (!kept && (atOnce >= (quota?.() ?? atOnce + 1) || atOnce >= (pace?.most() ?? atOnce + 1)))

  return {
    ...createBuckets({ monotonic }),
    enter(kept = false) {
      if (tooMany(running, kept)) return false
      running += 1
      return true
    },
    leave() {
      running -= 1
      pace?.answered()
    },
    full: () => tooMany(running + waiting(), false),
    running: () => running,
    hold(who) {
      const stranger = 'source' in who
      const key = stranger ? `source:${who.source}` : `client:${who.client}`
      const most = maxOpen()
      const share = (of: number): number => Math.max(1, Math.floor(most * of))
      const own = openBy.get(key) ?? 0
      if (open >= most || own >= share(stranger ? SHARE_OF_ONE_SOURCE : SHARE_OF_ONE_CLIENT)) return undefined
      if (stranger && openToStrangers >= share(SHARE_OF_STRANGERS)) return undefined
      open += 1
      openToStrangers += stranger ? 1 : 0
      openBy.set(key, own + 1)
      let given = false
      return () => {
        if (given) return
        given = true
        open -= 1
        openToStrangers -= stranger ? 1 : 0
        const left = openBy.get(key)! - 1
        if (left === 0) openBy.delete(key)
        else openBy.set(key, left)
      }
    },
  }
}

/**
 * Rations verified clients, each by who it has proven to be: by a name that is only claimed, anybody could use up
 * another's share. Nothing one-use is spent yet, so what is turned away here can be sent again.
 */
export const rationed =
  <P, T>(
    { take }: Pick<Buckets, 'take'>,
    perSecond: () => number,
    clientOf: (proven: T) => string,
    verify: (presented: P) => Promise<Result<T>>,
  ) =>
  async (presented: P): Promise<Result<T>> => {
    const proven = await verify(presented)
    if (!proven.ok) return proven
    const wait = take(`client:${clientOf(proven.value)}`, perSecond())
    return wait > 0 ? refuse('rate_limited', 'request', { retryAfterSeconds: wait, proven: true }) : proven
  }
