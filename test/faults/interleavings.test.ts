import { expect, it } from 'vitest'
import { interleave } from './interleavings.ts'

it('FI-16 Inv1 Inv2 Inv3 Inv5 Inv6 Inv10 L15 D20 D23: whatever comes first, and wherever it stops', async () => {
  expect(await interleave({ runs: Number.POSITIVE_INFINITY, ms: 60_000 })).toBeGreaterThan(500)
}, 120_000)
