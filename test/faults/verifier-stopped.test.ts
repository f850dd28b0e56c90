import { expect, it } from 'vitest'
import { stoppedVerifier } from './verifier-stopped.ts'

it('FI-9 L8 Inv1 a tool stopped with a request queued refuses it, when its token was revoked meanwhile', async () => {
  await expect(stoppedVerifier({ stoppedMs: 3_000, rounds: 2 })).resolves.toBeUndefined()
}, 60_000)
