import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decode, type House, openHouse } from '../house.ts'

const REFUND = { audience: 'payments', scope: 'payments:refund' }

describe('a task over HTTP', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({
      config: { 'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n` },
    })
  })
  afterAll(() => house.close())

  const open = async (clientId: string, more: object = {}, user = 'alice') => {
    const agent = await house.agent(clientId)
    const answer = await agent.call('POST', '/tasks', {
      subject_token: house.userToken(user),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(house.details()),
      ...more,
    })
    return { agent, answer, id: String(answer.body['id']) }
  }
  const active = async (tool: string, token: string) =>
    (await (await house.tool(tool)).form('/introspect', { token })).body['active']

  it('is opened with what it may do at most, and looked at with all that came of it', async () => {
    const { agent, answer, id } = await open('research', { scope: 'tickets:read_ticket crm:read_customer' })
    expect(answer.status, answer.text).toBe(201)
    expect(answer.body).toMatchObject({
      root: id,
      depth: 1,
      agent: 'research',
      subject: 'dev|alice',
      state: 'active',
      deadline: house.now() + 900,
      spent: { calls: 0, exchanges: 0, cost: 0 },
    })
    expect((answer.body['authority'] as unknown as readonly { tool: string }[]).map(({ tool }) => tool).sort()).toEqual(
      ['crm', 'tickets'],
    )
    const issued = await agent.exchange({ form: { task_id: id, audience: 'tickets' } })
    expect(issued.status, issued.text).toBe(200)
    expect(issued.body['scope']).toBe('tickets:read_ticket')
    const refused = await agent.exchange({ form: { task_id: id, scope: 'tickets:add_comment' } })
    expect(refused.status).toBe(400)
    const shown = await agent.call('GET', `/tasks/${id}`)
    expect(shown.status).toBe(200)
    expect(shown.body['tokens']).toEqual([
      expect.objectContaining({
        jti: decode(String(issued.body['access_token'])).payload['jti'],
        audience: 'https://tickets.example.com/',
        decision_id: issued.body['decision_id'],
      }),
    ])
    expect(shown.body['refusals']).toEqual([
      expect.objectContaining({ decision_id: refused.body['decision_id'], reason: 'scope_not_granted' }),
    ])
    // A token is never in the answer.
    expect(shown.text).not.toContain('eyJ')
  })

  it('D21 another agent’s task and one that does not exist are the same answer, for every verb', async () => {
    const { id } = await open('research')
    const triage = await house.agent('triage')
    for (const [method, verb] of [
      ['GET', ''],
      ['POST', '/heartbeat'],
      ['POST', '/complete'],
      ['POST', '/cancel'],
    ] as const) {
      const answers = [
        await triage.call(method, `/tasks/${id}${verb}`),
        await triage.call(method, `/tasks/task_${'A'.repeat(22)}${verb}`),
        await triage.call(method, `/tasks/__proto__${verb}`),
      ]
      for (const { status, text } of answers) {
        expect([method, verb, status]).toEqual([method, verb, 404])
        expect(text).toBe(answers[0]!.text)
      }
    }
    expect((await (await house.agent('research')).call('GET', `/tasks/${id}`)).body['state']).toBe('active')
  })

  it('D7 is opened only with details of the documented form', async () => {
    for (const more of [
      { deadline_seconds: 0 },
      { deadline_seconds: -1 },
      { deadline_seconds: 1e9 },
      { deadline_seconds: '1e3' },
      { deadline_seconds: 1.5 },
      { budget: { max_calls: 0 } },
      { budget: { max_calls: '5' } },
      { budget: { tokens: 5 } },
      { environment: 'prod' },
      { purpose: '' },
      { purpose: 'two\nlines' },
      { state: 'completed' },
      { agent: 'triage' },
    ]) {
      const { answer } = await open('research', more)
      expect([more, answer.status, answer.body['reason']]).toEqual([more, 400, 'bad_request_details'])
    }
    const more = await open('research', { scope: 'tickets:read_ticket payments:refund' })
    expect([more.answer.status, more.answer.body['error'], more.answer.body['missing']]).toEqual([
      400,
      'invalid_scope',
      ['payments:refund'],
    ])
  })

  it('ends when its heartbeat is missed, and with it everything below', async () => {
    const { agent, id } = await open('research', { heartbeat_seconds: 30 })
    const token = String((await agent.exchange({ form: { task_id: id, audience: 'tickets' } })).body['access_token'])
    house.advance(20)
    expect((await agent.call('POST', `/tasks/${id}/heartbeat`)).body['heartbeat_by']).toBe(house.now() + 30)
    house.advance(20)
    await house.service.sweep()
    expect((await agent.call('GET', `/tasks/${id}`)).body['state']).toBe('active')
    expect(await active('tickets', token)).toBe(true)
    house.advance(11)
    // Before any timer has noticed.
    const late = await agent.exchange({ form: { task_id: id, audience: 'tickets' } })
    expect([late.status, late.body['reason']]).toEqual([400, 'task_expired'])
    expect((await agent.call('POST', `/tasks/${id}/heartbeat`)).status).toBe(400)
    expect(await house.service.sweep()).toBe(1)
    expect((await agent.call('GET', `/tasks/${id}`)).body).toMatchObject({
      state: 'expired',
      ended_reason: 'heartbeat missed',
    })
    expect(await active('tickets', token)).toBe(false)
    expect((await house.records({ type: 'task.ended', task: id })).map(({ by }) => by)).toEqual(['system'])
  })

  it('D15 ends at its deadline, however often its tokens are renewed', async () => {
    const { agent, id } = await open('research', { deadline_seconds: 100 })
    let token = String((await agent.exchange({ form: { task_id: id, audience: 'tickets' } })).body['access_token'])
    const deadline = house.now() + 100
    for (let i = 0; i < 4; i += 1) {
      house.advance(20)
      const renewed = await agent.from(token, { audience: 'tickets' })
      expect(renewed.status, renewed.text).toBe(200)
      token = String(renewed.body['access_token'])
      expect(decode(token).payload['exp']).toBeLessThanOrEqual(deadline)
    }
    house.advance(20)
    const late = await agent.exchange({ form: { task_id: id, audience: 'tickets' } })
    expect([late.status, late.body['reason']]).toEqual([400, 'task_expired'])
    expect(await active('tickets', token)).toBe(false)
    const before = await house.service.stores.revocations.epoch()
    expect(await house.service.sweep()).toBe(1)
    // Past its deadline nothing of it is alive: no entry is written.
    expect(await house.service.stores.revocations.after(before)).toEqual([])
  })

  describe.each(['complete', 'cancel'] as const)('%s', (verb) => {
    it('Inv1 ends the task, the child made by a hand-over, and every token of both', async () => {
      const { agent: research, id } = await open('research')
      const payments = await house.agent('payments')
      const token = String(
        (await research.exchange({ form: { task_id: id, audience: 'payments' } })).body['access_token'],
      )
      const handOver = await research.handOver(token, 'payments', { audience: 'payments' })
      expect(handOver.status, handOver.text).toBe(200)
      const child = await payments.accept(String(handOver.body['access_token']), { audience: 'payments' })
      expect(child.status, child.text).toBe(200)
      const childToken = String(child.body['access_token'])
      const childId = String(child.body['task_id'])
      expect(await active('payments', childToken)).toBe(true)

      // The parent's agent may look at the child, the child's agent not at the parent.
      expect((await research.call('GET', `/tasks/${childId}`)).body).toMatchObject({
        id: childId,
        parent: id,
        depth: 2,
      })
      expect((await payments.call('GET', `/tasks/${id}`)).status).toBe(404)
      const tree = await research.call('GET', `/tasks/${id}`)
      expect(tree.body['children']).toEqual([expect.objectContaining({ id: childId, agent: 'payments' })])

      const ended = await research.call('POST', `/tasks/${id}/${verb}`)
      expect(ended.body['state']).toBe(verb === 'complete' ? 'completed' : 'cancelled')
      for (const each of [token, childToken]) expect(await active('payments', each)).toBe(false)
      const again = await payments.from(childToken, { audience: 'payments' })
      expect([again.status, again.body['reason']]).toEqual([400, 'task_not_active'])
      expect((await payments.call('GET', `/tasks/${childId}`)).body['state']).not.toBe('active')

      // Asked again it is the same answer, and nothing more is written.
      const before = await house.service.stores.revocations.epoch()
      expect((await research.call('POST', `/tasks/${id}/${verb}`)).status).toBe(200)
      expect(await house.service.stores.revocations.after(before)).toEqual([])
    })
  })

  it('Inv2 stopped between its entry and its end it is dead all the same, and asking again ends it', async () => {
    const { agent, id } = await open('research')
    const token = String((await agent.exchange({ form: { task_id: id, audience: 'tickets' } })).body['access_token'])
    const { tasks } = house.service.stores
    const { end } = tasks
    const crash = async (): Promise<readonly string[]> => {
      throw new Error('stopped here')
    }
    Object.assign(tasks, { end: crash })
    const error = console.error
    console.error = () => undefined
    expect((await agent.call('POST', `/tasks/${id}/complete`)).status).toBe(500)
    console.error = error
    Object.assign(tasks, { end })
    expect(await active('tickets', token)).toBe(false)
    const refused = await agent.exchange({ form: { task_id: id, audience: 'tickets' } })
    expect([refused.status, refused.body['reason']]).toEqual([400, 'task_not_active'])
    expect((await agent.call('POST', `/tasks/${id}/complete`)).body['state']).toBe('completed')
  })

  it('reserves for the tool of the call, once per operation id, and never more than the budget', async () => {
    const { agent, id } = await open('payments', { budget: { max_calls: 5, max_cost: 100 } })
    const issued = await agent.exchange({ form: { task_id: id, ...REFUND } })
    expect(issued.status, issued.text).toBe(200)
    const token = String(issued.body['access_token'])
    const payments = await house.tool('payments')
    const tickets = await house.tool('tickets')
    const reserve = (more: object = {}, task = id, tool = payments) =>
      tool.call('POST', `/tasks/${task}/reservations`, {
        token,
        operation: 'refund',
        calls: 1,
        operation_id: 'operation-1',
        ...more,
      })

    for (const answer of [
      await reserve({}, id, tickets),
      await reserve({ operation: 'pay_out' }),
      await reserve({ operation: 'read_ticket' }),
      await reserve({ token: 'not.a.token' }),
      await reserve({}, `task_${'A'.repeat(22)}`),
    ]) {
      expect([answer.status, answer.body['error']]).toEqual([404, 'not_found'])
    }
    for (const more of [{ calls: 0 }, { calls: '1' }, { cost: -1 }, { operation_id: 'x' }, { more: 1 }]) {
      expect((await reserve(more)).status).toBe(400)
    }
    expect(
      (
        await agent.call('POST', `/tasks/${id}/reservations`, {
          token,
          operation: 'refund',
          calls: 1,
          operation_id: 'operation-1',
        })
      ).status,
    ).toBe(403)

    const first = await reserve()
    expect(first.body).toEqual({ outcome: 'reserved', spent: { calls: 1, exchanges: 0, cost: 1 } })
    expect((await reserve()).body).toEqual(first.body)
    const many = await Promise.all(Array.from({ length: 20 }, (_, i) => reserve({ operation_id: `parallel-${i}` })))
    expect(many.filter(({ status }) => status === 200)).toHaveLength(4)
    expect(many.filter(({ status }) => status === 409)).toHaveLength(16)
    expect(many.find(({ status }) => status === 409)?.body).toMatchObject({
      error: 'budget_exhausted',
      reason: 'budget_exhausted',
    })
    expect((await agent.call('GET', `/tasks/${id}`)).body['spent']).toEqual({ calls: 5, exchanges: 0, cost: 5 })
    expect(
      (await house.records({ type: 'task.reserved', task: id })).filter(({ decision }) => decision === 'refuse'),
    ).toHaveLength(16)

    await agent.call('POST', `/tasks/${id}/complete`)
    expect((await reserve({ operation_id: 'too-late-1' })).status).toBe(404)
  })

  it('charges what is configured where the tool names less, and the cost bounds it too', async () => {
    const { agent, id } = await open('payments', { budget: { max_cost: 7 } })
    const token = String((await agent.exchange({ form: { task_id: id, ...REFUND } })).body['access_token'])
    const payments = await house.tool('payments')
    const reserve = (more: object) =>
      payments.call('POST', `/tasks/${id}/reservations`, {
        token,
        operation: 'refund',
        calls: 1,
        operation_id: 'x',
        ...more,
      })
    expect((await reserve({ calls: 3, cost: 0, operation_id: 'operation-1' })).body['spent']).toMatchObject({
      calls: 3,
      cost: 3,
    })
    expect((await reserve({ cost: 5, operation_id: 'operation-2' })).status).toBe(409)
    expect((await reserve({ cost: 4, operation_id: 'operation-3' })).status).toBe(200)
  })

  it('counts exchanges where they are budgeted', async () => {
    const { agent, id } = await open('research', { budget: { max_exchanges: 3 } })
    const answers = await Promise.all(
      Array.from({ length: 6 }, () => agent.exchange({ form: { task_id: id, audience: 'tickets' } })),
    )
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(3)
    for (const answer of answers.filter(({ status }) => status !== 200)) {
      expect([answer.status, answer.body['reason']]).toEqual([400, 'budget_exhausted'])
    }
  })

  it('lists for administrators, by agent and state, within bounds', async () => {
    const mine = await house.admin('GET', '/tasks?agent=payments&state=active&limit=500')
    const list = mine.body['tasks'] as unknown as { agent: string; state: string }[]
    expect(list.length).toBeGreaterThan(0)
    expect(list.every(({ agent, state }) => agent === 'payments' && state === 'active')).toBe(true)
    for (const query of ['state=dead', 'limit=0', 'limit=501', 'limit=1e2', 'limit=-1']) {
      expect((await house.admin('GET', `/tasks?${query}`)).status).toBe(400)
    }
  })

  it('is opened once for an Idempotency-Key', async () => {
    const research = await house.agent('research')
    const body = JSON.stringify({
      subject_token: house.userToken('alice'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(house.details()),
    })
    const post = () =>
      house.fetch('POST', '/tasks', {
        headers: {
          authorization: `ClientAssertion ${research.assertion()}`,
          'content-type': 'application/json',
          'idempotency-key': 'open-the-task-1',
        },
        body,
      })
    const first = await post()
    const second = await post()
    expect([first.status, second.status]).toEqual([201, 201])
    expect(second.body['id']).toBe(first.body['id'])
  })
})
