import { expect, it } from 'vitest'
import { killLoop } from './kill-loop.ts'

it('P1 FI-1 a writer killed ten times: every record it had acknowledged is there, and the log verifies', async () => {
  await expect(killLoop(10)).resolves.toBeUndefined()
}, 120_000)
