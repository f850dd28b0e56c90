import fc from 'fast-check'
import { afterEach, beforeEach, expect, it, vi } from 'vitest'
import { followed, step } from './followed.ts'

// Heartbeats and the gathering of entries are steps here.
beforeEach(() => {
  vi.useFakeTimers({ toFake: ['setTimeout', 'setInterval'] })
})
afterEach(() => {
  vi.useRealTimers()
})

it('L6 L7 L8 the real feed and its followers keep R1 to R4, whatever comes first, late, twice or never', async () => {
  const seed = Date.now() % 1_000_000_000
  console.log(`model: the real feed by seed ${seed}`)
  const said = new Map<string, number>()
  await fc.assert(
    fc.asyncProperty(fc.scheduler(), fc.array(step, { minLength: 12, maxLength: 60 }), (scheduler, steps) =>
      followed(scheduler, steps, said),
    ),
    { seed, numRuns: 400 },
  )
  // Not by refusing everything, nor by never having to.
  expect([...said.keys()].sort()).toEqual(['behind', 'dead', 'live', 'stale'])
}, 120_000)
