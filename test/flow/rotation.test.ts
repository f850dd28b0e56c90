/** Rotation of the key that signs tokens, with real verifiers that say what they hold. */
import { describe, expect, it } from 'vitest'
import { rotateUnderLoad } from '../rotation-load.ts'

describe('a token key rotated under load', () => {
  it('O1 O3 FI-12 signs as soon as every tool holds it, long before caches have run out, and no call is refused', async () => {
    const result = await rotateUnderLoad({ seconds: 3, everyMs: 1000, workers: 2, seed: 7 })
    expect(result).toMatchObject({ refused: [], unpublished: [] })
    expect(result.seen.length).toBeGreaterThan(1)
    expect(result.states['active']).toBe(1)
  }, 60_000)

  it('O3 waits for its time where one tool says nothing', async () => {
    const result = await rotateUnderLoad({ seconds: 1, everyMs: 1000, workers: 1, seed: 7, silent: ['github'] })
    expect(result).toMatchObject({ refused: [], states: { active: 1, prepared: 1 } })
    expect(result.seen).toHaveLength(1)
  }, 60_000)
})
