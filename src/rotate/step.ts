/** What to do next with the signing keys of one purpose: the whole judgement of rotation, without clock or store. */
import type { StoredKey } from '../keys/key-store.ts'

export type RotatingKey = Pick<StoredKey, 'kid' | 'state' | 'preparedAt' | 'activatedAt' | 'retiringAt'> & {
  /** Every verifier that may meet it has said that it holds it. */
  readonly held?: boolean
}

/** Seconds. */
export interface Schedule {
  /** How long a key signs. */
  readonly lifetimeSeconds: number
  /** How long a key is published before it signs: by then every verifier's cache has it. */
  readonly overlapSeconds: number
  /** How long one is published that every verifier holds already: until our own replicas have it. */
  readonly lagSeconds: number
  /** How long a key that signs no more is still published: by then nothing it signed is alive. */
  readonly retireAfterSeconds: number
}

export type Step =
  | { readonly do: 'wait' }
  | { readonly do: 'prepare' }
  | { readonly do: 'activate' | 'retire'; readonly kid: string }

export function nextStep(keys: readonly RotatingKey[], schedule: Schedule, now: number): Step {
  const active = keys.find((key) => key.state === 'active')
  const successor = successorOf(keys)
  // Nothing signs (first start, or the key was compromised): waiting for caches would only prolong it.
  if (!active) return successor ? { do: 'activate', kid: successor.kid } : { do: 'prepare' }

  const since = active.activatedAt ?? active.preparedAt
  const age = now - since
  if (successor) {
    if (isPublishedLongEnough(successor, schedule, now) && (age >= schedule.lifetimeSeconds || isAskedFor(keys)))
      return { do: 'activate', kid: successor.kid }
  } else if (age >= schedule.lifetimeSeconds - schedule.overlapSeconds) {
    return { do: 'prepare' }
  }
  const over = keys.find(
    (key) => key.state === 'retiring' && now - (key.retiringAt ?? now) >= schedule.retireAfterSeconds,
  )
  return over ? { do: 'retire', kid: over.kid } : { do: 'wait' }
}

export const isPublishedLongEnough = (key: RotatingKey, schedule: Schedule, now: number): boolean =>
  now - key.preparedAt >= (key.held ? Math.min(schedule.lagSeconds, schedule.overlapSeconds) : schedule.overlapSeconds)

/** The prepared key that was published first: every replica picks the same one. */
export function successorOf(keys: readonly RotatingKey[]): RotatingKey | undefined {
  return keys
    .filter((key) => key.state === 'prepared')
    .sort((a, b) => a.preparedAt - b.preparedAt || (a.kid < b.kid ? -1 : 1))[0]
}

/**
 * A key prepared since the active one took over is wanted as soon as it may sign: its time has come, or somebody
 * asked. One left over from before (two replicas prepared at once) is a spare for next time.
 */
export function isAskedFor(keys: readonly RotatingKey[]): boolean {
  const since = keys.find((key) => key.state === 'active')?.activatedAt ?? 0
  return keys.some((key) => key.state === 'prepared' && key.preparedAt > since)
}
