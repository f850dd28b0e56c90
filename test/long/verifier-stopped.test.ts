import { expect, it } from 'vitest'
import { stoppedVerifier } from '../faults/verifier-stopped.ts'

it('FI-9 L8 Inv1 a tool stopped for a minute refuses what was queued and revoked meanwhile', async () => {
  await expect(stoppedVerifier({ stoppedMs: 60_000, rounds: 3 })).resolves.toBeUndefined()
}, 400_000)
