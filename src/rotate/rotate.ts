/** Rotates signing keys on a timer, on request, and at once where one was compromised. */
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { type KeyRing, REPLICA_LAG_SECONDS } from '../keys/key-ring.ts'
import type { KeyPurpose } from '../keys/key-store.ts'
import { isAskedFor, isPublishedLongEnough, nextStep, type Schedule, successorOf } from './step.ts'

const HEARD_MS = 100

export interface Rotation {
  /** Those that it turns. */
  readonly purposes: readonly KeyPurpose[]
  /** One turn: reads the store, and takes every step that is due. The timer does nothing else. */
  tick(): Promise<void>
  /**
   * Prepares a successor and activates it as soon as every verifier holds it, or it has been published for the overlap
   * (`activatesAt`); with `immediately`, at once: a verifier that does not fetch the key set for an unknown kid refuses until it does.
   */
  rotateNow(purpose: KeyPurpose, options?: { readonly immediately?: boolean }): Promise<RotationAnswer>
  compromise(kid: string): Promise<CompromiseAnswer | undefined>
  /** A verifier has said which keys it holds: a turn soon, where a key waits for that. */
  heard(): void
  start(): void
  /** Ends the timer and waits for a turn under way. */
  close(): Promise<void>
}

export interface RotationAnswer {
  readonly purpose: KeyPurpose
  readonly kid: string
  readonly state: 'prepared' | 'active'
  /** Unix seconds: then at the latest, and earlier where every registered verifier has said that it holds the key. */
  readonly activatesAt: number
}

export interface CompromiseAnswer {
  readonly kid: string
  readonly purpose: KeyPurpose
  /** The key that signs from now on; absent where none could be made, and nothing is signed. */
  readonly successor?: string
  /** For a token key: the entry to add to the revocation log, without which tokens by this key live on. */
  readonly revocation?: {
    readonly match: { readonly kid: string }
    readonly mode: 'ban'
    readonly absolute: true
    readonly expiresAt: number
  }
}

export interface RotationDeps {
  readonly ring: KeyRing
  readonly schedule: Schedule
  readonly purposes: readonly KeyPurpose[]
  /** Whether every verifier that may meet what this prepared key signs has said that it holds it; else time alone tells. */
  readonly held?: (key: { readonly kid: string; readonly purpose: KeyPurpose }) => boolean
  /** A key that somebody asked for is published, and waits to be held. */
  readonly onPublished?: () => void
  readonly now: () => number
  /** A turn that failed; the next one tries again. */
  readonly onError: (error: unknown) => void
  readonly pollSeconds?: number
}

/** A schedule no verifier can trip over, whatever the configuration says: bounds are raised to what caches need. */
export function scheduleOf(settings: {
  readonly lifetimeSeconds: number
  readonly overlapSeconds: number
  readonly jwksMaxAgeSeconds: number
  readonly maxTokenLifetimeSeconds: number
  /** Whether other processes serve and verify by keys of the same store. */
  readonly replicas: boolean
}): Schedule {
  const overlapSeconds = Math.max(settings.overlapSeconds, settings.jwksMaxAgeSeconds + REPLICA_LAG_SECONDS)
  const lastTokenDead = settings.maxTokenLifetimeSeconds + CLOCK_LEEWAY_SECONDS + REPLICA_LAG_SECONDS
  return {
    lifetimeSeconds: Math.max(settings.lifetimeSeconds, overlapSeconds),
    overlapSeconds,
    lagSeconds: settings.replicas ? REPLICA_LAG_SECONDS : 0,
    retireAfterSeconds: Math.max(settings.overlapSeconds, lastTokenDead + settings.jwksMaxAgeSeconds),
  }
}

export function createRotation({
  ring,
  schedule,
  purposes,
  held = () => false,
  onPublished = () => undefined,
  now,
  onError,
  pollSeconds = 5,
}: RotationDeps): Rotation {
  let timer: NodeJS.Timeout | undefined
  let turn: Promise<void> | undefined
  let soon: NodeJS.Timeout | undefined

  const keysOf = (purpose: KeyPurpose) =>
    ring
      .keys()
      .filter((key) => key.purpose === purpose)
      .map((key) => ({ ...key, held: key.state === 'prepared' && held(key) }))
  const take = (): void => {
    turn ??= tick()
      .catch(onError)
      .finally(() => {
        turn = undefined
      })
  }

  // Each step is judged anew on what the store says, so stopping between any two, or another replica, changes nothing.
  async function settle(purpose: KeyPurpose, cause: 'schedule' | 'compromised'): Promise<void> {
    for (;;) {
      const step = nextStep(keysOf(purpose), schedule, now())
      switch (step.do) {
        case 'wait':
          return
        case 'prepare':
          await ring.prepare(purpose, cause)
          break
        // Where another replica was faster, the next turn goes on from what it did.
        case 'activate':
          if (!(await ring.activate(step.kid, cause))) return
          break
        case 'retire':
          if (!(await ring.retire(step.kid, cause))) return
          break
      }
    }
  }

  async function tick(): Promise<void> {
    await ring.refresh()
    const faults: unknown[] = []
    // Where the keys of one are with somebody who is away, those of the others still turn.
    for (const purpose of purposes) await settle(purpose, 'schedule').catch((error: unknown) => faults.push(error))
    if (faults.length > 0) throw faults[0]
  }

  return {
    purposes,
    tick,
    async rotateNow(purpose, { immediately = false } = {}) {
      await ring.refresh()
      const spare = successorOf(keysOf(purpose))
      const ready = immediately || (spare !== undefined && isPublishedLongEnough(spare, schedule, now()))
      // The newest key is the wish that `step.ts` reads; what is activated is the one published longest.
      if (!spare || (!ready && !isAskedFor(keysOf(purpose)))) await ring.prepare(purpose, 'asked')
      const next = successorOf(keysOf(purpose))
      if (next && (immediately || ready)) await ring.activate(next.kid, 'asked')
      else if (next) {
        onPublished()
        return { purpose, kid: next.kid, state: 'prepared', activatesAt: next.preparedAt + schedule.overlapSeconds }
      }
      return { purpose, kid: ring.activeKid(purpose), state: 'active', activatesAt: now() }
    },
    async compromise(kid) {
      await ring.refresh()
      const key = ring.verifyKey(kid)
      if (!key) return undefined
      // With the audit disk full the key still dies, and the caller still learns what to revoke.
      await ring.compromise(kid).catch((error: unknown) => {
        if (ring.verifyKey(kid)?.state !== 'compromised') throw error
        onError(error)
      })
      await settle(key.purpose, 'compromised').catch(onError)
      const successor = keysOf(key.purpose).find((one) => one.state === 'active')
      return {
        kid,
        purpose: key.purpose,
        ...(successor ? { successor: successor.kid } : {}),
        ...(key.purpose === 'token'
          ? {
              revocation: {
                match: { kid },
                mode: 'ban' as const,
                absolute: true as const,
                expiresAt: now() + schedule.retireAfterSeconds,
              },
            }
          : {}),
      }
    },
    heard() {
      // Thousands may say it in one second: one turn for all of them.
      if (!timer || soon || !ring.keys().some((key) => key.state === 'prepared')) return
      soon = setTimeout(() => {
        soon = undefined
        take()
      }, HEARD_MS).unref()
    },
    start() {
      timer ??= setInterval(take, pollSeconds * 1000).unref()
    },
    async close() {
      clearInterval(timer)
      clearTimeout(soon)
      timer = undefined
      await turn
    },
  }
}
