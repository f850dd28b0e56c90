/** An agent is banned while it exchanges as fast as it can. */
import { afterAll, beforeAll, expect, it } from 'vitest'
import { decode, type House, openHouse } from '../house.ts'

let house: House
beforeAll(async () => {
  house = await openHouse({
    config: {
      'errand.yaml': (text) =>
        `${text}\nbounds:\n  requests_per_second_per_client: 100000\n  strangers_per_second_per_source: 100000\n  max_concurrent_requests: 5000\n`,
    },
  })
})
afterAll(() => house.close())

it('L1 L15 kills every token that was checked before, and none is made afterwards', async () => {
  const research = await house.agent('research')
  const tickets = await house.tool('tickets')
  const ask = () => research.exchange({ form: { audience: 'tickets', scope: 'tickets:read_ticket' } })
  const before = await ask()
  expect(before.status, before.text).toBe(200)

  const answers: { status: number; reason: unknown; token: string | undefined }[] = []
  let banned = false
  let after = 0
  const worker = async () => {
    while (after < 100) {
      const begunAfter = banned
      const answer = await ask()
      if (begunAfter) {
        after += 1
        expect(answer.status).toBe(400)
        expect(answer.body['reason']).toBe('banned')
      }
      const token = answer.status === 200 ? (answer.body['access_token'] as unknown as string) : undefined
      answers.push({ status: answer.status, reason: answer.body['reason'], token })
    }
  }
  const workers = Array.from({ length: 20 }, worker)
  while (answers.length < 200) await new Promise((resolve) => setImmediate(resolve))
  const revoked = await house.admin('POST', '/revocations', {
    match: { client_id: 'research' },
    reason: 'it misbehaves',
  })
  expect(revoked.status, revoked.text).toBe(201)
  banned = true
  await Promise.all(workers)

  const issued = answers.flatMap(({ token }) => (token === undefined ? [] : [token]))
  expect(issued.length).toBeGreaterThan(50)
  for (const { status, reason } of answers) if (status !== 200) expect(reason).toBe('banned')
  const epoch = Number((revoked.body['epoch'] as unknown as string).split('.')[1])
  for (const token of issued) {
    // Checked before the entry, every one: what it says of its epoch is earlier.
    expect(Number((decode(token).payload['rev'] as string).split('.')[1])).toBeLessThan(epoch)
  }
  for (const token of issued.slice(-20)) {
    expect((await tickets.form('/introspect', { token })).body['active']).toBe(false)
  }
  const records = await house.records({ type: 'token.issuing', agent: 'research' })
  expect(records.length).toBe(issued.length + 1)
})
