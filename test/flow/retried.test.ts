/** Retries and late revocations over HTTP: what was opened once stays one thing with one end. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

let house: House
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

describe('a task opened by POST /tasks', () => {
  const body = (more: object = {}) => ({
    ...(JSON.parse(house.details()) as object),
    subject_token: house.userToken('alice', { iat: house.now(), exp: house.now() + 300 }),
    subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
    ...more,
  })
  const open = async (key: string, json: object) => {
    const research = await house.agent('research')
    return house.fetch('POST', '/tasks', {
      headers: {
        authorization: `ClientAssertion ${research.assertion()}`,
        'content-type': 'application/json',
        'idempotency-key': key,
      },
      body: JSON.stringify(json),
    })
  }

  it('D20 is the same task for the same Idempotency-Key, and another request with that key is refused', async () => {
    const first = await open('open-once-0001', body())
    expect(first.status, first.text).toBe(201)
    const again = await open('open-once-0001', body())
    expect(again.body['id']).toBe(first.body['id'])
    const other = await open('open-once-0001', body({ purpose: 'something else' }))
    expect(other.status).toBe(422)
    expect(other.body['reason']).toBe('idempotency_conflict')
    const records = await house.records({ type: 'task.opened' })
    expect(records.filter((record) => record['task'] === first.body['id'])).toHaveLength(1)
  })
})

describe('a hand-over', () => {
  it('Inv1 that is revoked after it was spent takes the task it opened with it', async () => {
    const research = await house.agent('research')
    const payments = await house.agent('payments')
    const token = await research.exchange({ form: { audience: 'payments', scope: 'payments:read_payment' } })
    const access = token.body['access_token'] as unknown as string
    const handOver = await research.handOver(access, 'payments', { scope: 'payments:read_payment' })
    const handOverToken = handOver.body['access_token'] as unknown as string
    const child = await payments.accept(handOverToken, { scope: 'payments:read_payment' })
    expect(child.status, child.text).toBe(200)

    const revoked = await research.post({ token: handOverToken }, { path: '/revoke', proofKey: null } as Parameters<
      typeof research.post
    >[1])
    expect(revoked.status, revoked.text).toBe(200)
    const tool = await house.tool('payments')
    const after = await tool.form('/introspect', { token: child.body['access_token'] as unknown as string })
    expect(after.body['active']).toBe(false)
    const parent = await tool.form('/introspect', { token: access })
    expect(parent.body['active']).toBe(true)
  })
})
