import { expect, it } from 'vitest'
import { killService } from './kill-service.ts'

it('P1 Inv3 the service killed three times under load: every token a client holds is written down, what was revoked stays revoked', async () => {
  expect((await killService(3)).tokens).toBeGreaterThan(3)
}, 120_000)
