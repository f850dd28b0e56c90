/** AuthZEN 1.0: what it says is what /token would do. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

let house: House
beforeAll(async () => {
  house = await openHouse()
})
afterAll(() => house.close())

const ask = (agent: string, tool: string, operation: string, context: object = {}) =>
  house.admin('POST', '/access/v1/evaluation', {
    subject: { type: 'agent', id: agent },
    action: { name: operation },
    resource: { type: 'tool', id: tool },
    context: { environment: 'staging', ...context },
  })

describe('an evaluation', () => {
  const forSupport = { on_behalf_of: { issuer: 'dev', id: 'alice', groups: ['support'] } }

  it('judges an agent on behalf of the user that is described, by that user’s rights', async () => {
    const permitted = await ask('research', 'tickets', 'read_ticket', forSupport)
    expect(permitted.body['decision'], permitted.text).toBe(true)
    // Engineering has no rights at payments, whatever the agent may.
    const refused = await ask('research', 'payments', 'read_payment', {
      on_behalf_of: { issuer: 'dev', id: 'bob', groups: ['engineering'] },
    })
    expect(refused.body).toMatchObject({ decision: false, context: { lost_at: 'subject' } })
  })

  it('judges an agent for itself only where it may work for itself, and believes no groups beside', async () => {
    const triage = await ask('triage', 'tickets', 'read_ticket')
    expect(triage.body['decision'], triage.text).toBe(true)
    const payments = await ask('payments', 'payments', 'refund', { groups: ['support'] })
    expect(payments.body).toMatchObject({ decision: false, context: { reason: 'grant_not_allowed' } })
    const nobody = await ask('research', 'tickets', 'read_ticket', { on_behalf_of: { issuer: 'nobody' } })
    expect(nobody.body).toMatchObject({ decision: false, context: { reason: 'untrusted_issuer' } })
  })

  it('F13 permits nothing that a ban would refuse, and leaves a record of it', async () => {
    const ban = await house.admin('POST', '/revocations', { match: { client_id: 'triage' }, reason: 'it misbehaves' })
    const answer = await ask('triage', 'tickets', 'read_ticket')
    expect(answer.body).toMatchObject({ decision: false, context: { reason: 'banned' } })
    const { id } = answer.body['context'] as unknown as { id: string }
    const [record] = await house.records({ decisionId: id })
    expect(record).toMatchObject({ type: 'decision.evaluated', decision: 'refuse', reason: 'banned', agent: 'triage' })
    await house.admin('POST', `/revocations/${ban.body['id']}/readmit`, { reason: 'mended' })
    expect((await ask('triage', 'tickets', 'read_ticket')).body['decision']).toBe(true)
  })

  it('says no more of an agent or a tool that is not there than that it is not permitted', async () => {
    for (const [agent, tool] of [
      ['nobody', 'tickets'],
      ['research', 'nothing'],
    ] as const) {
      const answer = await ask(agent, tool, 'read_ticket', forSupport)
      expect(answer.body).toMatchObject({ decision: false, context: { reason: 'not_permitted' } })
    }
  })
})
