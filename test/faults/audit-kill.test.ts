import { expect, it } from 'vitest'
import { killLoop } from '../store/files/kill-loop.ts'

it('FI-1 a writer killed fifty times: every record it had acknowledged is there, and the log verifies', async () => {
  await expect(killLoop(50)).resolves.toBeUndefined()
}, 600_000)
