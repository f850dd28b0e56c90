/**
 * The time by which things end by themselves and are forgotten. A clock that jumps ahead is not believed before it has
 * stayed there: forgotten by a clock that then comes back, a revoked token would live and a proof could be used again.
 */

/** Longer than anything that was made before a jump could still be accepted after it. */
const PATIENCE_SECONDS = 900

export interface PatientClock {
  /** Unix seconds: the least that wall time would be by now, going by what it was at any moment of late. */
  now(): number
  /** What ended before may be forgotten. Nothing, soon after a start: the clock may be ahead already. */
  forgetBefore(): number
}

export function createPatientClock(deps: {
  /** Unix seconds. */
  readonly now: () => number
  /** Milliseconds. */
  readonly monotonic: () => number
}): PatientClock {
  const startedAt = deps.monotonic() / 1000
  /** The least lead of wall time over monotonic time, in this span and in the one before. */
  let lead = Number.POSITIVE_INFINITY
  let leadBefore = Number.POSITIVE_INFINITY
  let since = startedAt
  const now = (): number => {
    const at = deps.monotonic() / 1000
    if (at - since >= PATIENCE_SECONDS) {
      leadBefore = lead
      lead = Number.POSITIVE_INFINITY
      since = at
    }
    lead = Math.min(lead, deps.now() - at)
    // Back to whole seconds, from which the fractions of monotonic time came.
    return Math.round(at + Math.min(lead, leadBefore))
  }
  now()
  return { now, forgetBefore: () => (deps.monotonic() / 1000 - startedAt < PATIENCE_SECONDS ? 0 : now()) }
}
