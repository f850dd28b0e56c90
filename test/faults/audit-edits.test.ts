import { expect, it } from 'vitest'
import { harmAndCheck } from '../audit/harmed-log.ts'

it('FI-14 Q1 ten thousand edits of a log, its tree and its checkpoints: each is found, in its place', async () => {
  await expect(harmAndCheck(10_000)).resolves.toBeUndefined()
}, 600_000)
