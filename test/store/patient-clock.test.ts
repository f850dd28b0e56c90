import { describe, expect, it } from 'vitest'
import { createPatientClock } from '../../src/store/patient-clock.ts'

const START = 1_700_000_000

function clocks() {
  const wall = { seconds: START }
  const monotonic = { seconds: 77.25 }
  const clock = createPatientClock({ now: () => wall.seconds, monotonic: () => monotonic.seconds * 1000 })
  const pass = (seconds: number) => {
    wall.seconds += seconds
    monotonic.seconds += seconds
  }
  return { wall, clock, pass }
}

describe('the patient clock', () => {
  it('is wall time while nobody sets it', () => {
    const { clock, pass } = clocks()
    for (let passed = 0; passed <= 4000; passed += 250) {
      expect(clock.now()).toBe(START + passed)
      pass(250)
    }
  })

  it('FI-7 does not believe a jump ahead that is taken back', () => {
    const { wall, clock, pass } = clocks()
    pass(2000)
    clock.now()
    wall.seconds += 3600
    for (let second = 0; second < 600; second += 1) {
      expect(clock.now()).toBe(START + 2000 + second)
      pass(1)
    }
    wall.seconds -= 3600
    expect(clock.now()).toBe(START + 2600)
  })

  it('FI-7 believes a jump ahead that stays, when nothing from before it can be accepted any more', () => {
    const { wall, clock, pass } = clocks()
    wall.seconds += 3600
    pass(600)
    expect(clock.now()).toBe(START + 600)
    pass(1300)
    clock.now()
    pass(900)
    expect(clock.now()).toBe(START + 3600 + 2800)
  })

  it('FI-7 follows a step back at once', () => {
    const { wall, clock, pass } = clocks()
    pass(10)
    wall.seconds -= 600
    expect(clock.now()).toBe(START - 590)
  })

  it('FI-7 lets nothing be forgotten right after a start: the clock may be ahead already', () => {
    const { clock, pass } = clocks()
    pass(899)
    expect(clock.forgetBefore()).toBe(0)
    pass(1)
    expect(clock.forgetBefore()).toBe(START + 900)
  })
})
