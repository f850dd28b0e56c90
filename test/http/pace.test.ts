/** A queue is cut where the processor is what it waits for, and nowhere else. */
import { describe, expect, it } from 'vitest'
import { createLimits } from '../../src/http/limits.ts'
import { createPace } from '../../src/http/pace.ts'

function openPace({ utilization = 1 } = {}) {
  const at = { ms: 0, utilization }
  const pace = createPace({ maxQueueMs: () => 100, utilization: () => at.utilization, monotonic: () => at.ms })
  /** A time in which so many a second were answered. */
  const pass = (ms: number, perSecond: number) => {
    for (let each = 0; each < (perSecond * ms) / 1000; each++) pace.answered()
    at.ms += ms
    return pace.most()
  }
  return { at, pace, pass }
}

describe('how many are worked on at once', () => {
  it('H4 is as many as are answered within the time that one may take, while the loop is busy', () => {
    const { pass } = openPace()
    expect(pass(50, 3000)).toBe(Number.POSITIVE_INFINITY) // too short a time to judge by
    expect(pass(50, 3000)).toBe(300)
    expect(pass(100, 1000)).toBe(200) // half of what was, half of what is
    expect(pass(100, 1000)).toBe(150)
  })

  it('is never less than what one sync of the journal takes along', () => {
    const { pass } = openPace()
    expect(pass(1000, 10)).toBe(64)
    // After a silence nobody knows.
    expect(pass(1001, 10)).toBe(Number.POSITIVE_INFINITY)
  })

  it('has no other bound than the fixed one where requests wait for somebody else', () => {
    const { at, pass } = openPace({ utilization: 0.2 })
    expect(pass(100, 20)).toBe(Number.POSITIVE_INFINITY)
    at.utilization = 1
    expect(pass(100, 2000)).toBe(200)
    at.utilization = 0.5
    expect(pass(100, 20)).toBe(Number.POSITIVE_INFINITY)
  })

  it('H4 turns away what is beyond, but not a revocation', () => {
    const { at, pace } = openPace()
    at.ms = 100
    const limits = createLimits({ maxConcurrent: () => 70, pace, monotonic: () => 0 })
    for (let entered = 0; entered < 64; entered++) expect(limits.enter()).toBe(true)
    expect(limits.full()).toBe(true)
    expect(limits.enter()).toBe(false)
    expect(limits.enter(true)).toBe(true)
    limits.leave()
    limits.leave()
    expect(limits.enter()).toBe(true)
    for (let kept = 0; kept < 6; kept++) expect(limits.enter(true)).toBe(true)
    // The fixed bound is everybody's.
    expect(limits.enter(true)).toBe(false)
  })
})
