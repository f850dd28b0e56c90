import { expect, it } from 'vitest'
import { killService } from '../flow/kill-service.ts'

it('FI-1 P1 Inv3 the service killed fifty times under load: no token without its record, nothing acknowledged lost', async () => {
  expect((await killService(50)).tokens).toBeGreaterThan(50)
}, 600_000)
