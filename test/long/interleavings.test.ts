import { expect, it } from 'vitest'
import { interleave } from '../faults/interleavings.ts'

it('FI-16 a hundred thousand schedules of everything at once', async () => {
  expect(await interleave({ runs: 100_000 })).toBe(100_000)
}, 7_200_000)
