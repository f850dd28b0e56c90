import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decode, type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

const MANY = (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`
const TICKETS = { audience: 'tickets' }
const ID = 'urn:ietf:params:oauth:token-type:id_token'

describe('suspending', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: { 'errand.yaml': MANY } })
  })
  afterAll(() => house.close())

  const open = async (on = house, more: object = {}, clientId = 'research') => {
    const agent = await on.agent(clientId)
    const answer = await agent.call('POST', '/tasks', {
      subject_token: on.userToken('alice'),
      subject_token_type: ID,
      ...JSON.parse(on.details()),
      ...more,
    })
    expect(answer.status, answer.text).toBe(201)
    const task = String(answer.body['id'])
    const issued = await agent.exchange({ form: { ...TICKETS, task_id: task } })
    expect(issued.status, issued.text).toBe(200)
    const state = async () => (await on.admin('GET', `/tasks/${task}`)).body
    const ask = () => agent.exchange({ form: { ...TICKETS, task_id: task } })
    return { agent, task, text: String(issued.body['access_token']), state, ask }
  }
  const suspend = async (match: object, on = house) => {
    const answer = await on.admin('POST', '/revocations', { match, mode: 'suspend', reason: 'looks odd' })
    expect(answer.status, answer.text).toBe(201)
    return { id: String(answer.body['id']), tasks: answer.body['tasks_suspended'] as unknown as string[] }
  }
  const resume = (id: string, on = house) => on.admin('POST', `/revocations/${id}/resume`, { reason: 'it was nothing' })
  const active = async (text: string, on = house) =>
    (await (await on.tool('tickets')).form('/introspect', { token: text })).body['active']

  it.each([
    ['task', (task: string) => ({ task })],
    ['root', (task: string) => ({ root: task })],
    ['client_id', () => ({ client_id: 'research' })],
    ['agent', () => ({ agent: 'spiffe://company.example/agents/research' })],
    ['sub', () => ({ sub: 'dev|alice' })],
    ['domain', () => ({ domain: 'company.example' })],
    ['domain and sub', () => ({ domain: 'company.example', sub: 'dev|alice' })],
    ['everything', () => ({})],
  ] as const)(
    'L15 Inv2 by %s: tokens die, tasks pause, nothing is issued until it is lifted; then new tokens, and old ones stay dead',
    async (_, match) => {
      const one = await open()
      const { body } = await house.admin('POST', '/revocations', {
        match: match(one.task),
        mode: 'suspend',
        reason: 'looks odd',
        ...(Object.keys(match(one.task)).length === 0 ? { everything: true } : {}),
      })
      const id = String(body['id'])
      expect(body).toMatchObject({ mode: 'suspend', tasks_suspended: expect.arrayContaining([one.task]) })
      expect(await active(one.text)).toBe(false)
      expect(await one.state()).toMatchObject({ state: 'suspended', suspended_by: [id] })
      const refused = await one.ask()
      expect([refused.status, refused.body['error'], refused.body['reason'], refused.body['rule']]).toEqual([
        400,
        'invalid_request',
        'suspended',
        id,
      ])
      expect((await house.records({ reason: 'suspended' }))[0]).toMatchObject({ agent: 'research' })
      const bans = (await house.admin('GET', '/revocations/bans')).body['bans'] as unknown as { id: string }[]
      expect(bans.map((ban) => ban.id)).toContain(id)

      const back = await resume(id)
      expect(back.status, back.text).toBe(200)
      expect(back.body).toMatchObject({ resumed: { by: 'admin', reason: 'it was nothing' } })
      expect(back.body['tasks_resumed']).toContain(one.task)
      expect((await one.state())['state']).toBe('active')
      const next = await one.ask()
      expect(next.status, next.text).toBe(200)
      expect(await active(String(next.body['access_token']))).toBe(true)
      expect(await active(one.text)).toBe(false)
      // Again is the same answer, and wakes nothing that has nothing to do with it.
      expect((await resume(id)).body).toMatchObject({ tasks_resumed: [], resumed: back.body['resumed'] })
      expect((await house.records({ type: 'revocation.resumed' }))[0]).toMatchObject({ cause: id, by: 'admin' })
    },
  )

  it('by tool nothing is issued for it, and its agents go on elsewhere', async () => {
    const one = await open()
    const { id, tasks } = await suspend({ aud: 'https://tickets.example.com/' })
    expect(tasks).toEqual([])
    expect((await one.ask()).body['reason']).toBe('suspended')
    expect((await one.state())['state']).toBe('active')
    const crm = await one.agent.exchange({ form: { audience: 'crm', task_id: one.task } })
    expect(crm.status, crm.text).toBe(200)
    await resume(id)
    expect((await one.ask()).status).toBe(200)
  })

  it('L3 pauses what is below as well, whoever works on it', async () => {
    const one = await open()
    const handed = await one.agent.handOver(one.text, 'payments', TICKETS)
    expect(handed.status, handed.text).toBe(200)
    const payments = await house.agent('payments')
    const child = await payments.accept(String(handed.body['access_token']), TICKETS)
    expect(child.status, child.text).toBe(200)
    const below = decode(String(child.body['access_token'])).payload['task'] as unknown as { id: string }
    const { id, tasks } = await suspend({ client_id: 'research' })
    expect(tasks).toEqual(expect.arrayContaining([one.task, below.id]))
    expect(await active(String(child.body['access_token']))).toBe(false)
    expect((await house.admin('GET', `/tasks/${below.id}`)).body['state']).toBe('suspended')
    await resume(id)
    expect((await house.admin('GET', `/tasks/${below.id}`)).body['state']).toBe('active')
    expect(await active(String(child.body['access_token']))).toBe(false)
  })

  it('wakes neither what ended meanwhile nor what another suspension holds', async () => {
    const [one, two] = [await open(), await open()]
    const first = await suspend({ client_id: 'research' })
    const second = await suspend({ task: one.task })
    expect(await one.state()).toMatchObject({ suspended_by: [first.id, second.id] })
    expect((await two.agent.call('POST', `/tasks/${two.task}/complete`)).body['state']).toBe('completed')
    const back = await resume(first.id)
    expect(back.body['tasks_resumed']).not.toContain(one.task)
    expect(back.body['tasks_resumed']).not.toContain(two.task)
    expect(await one.state()).toMatchObject({ state: 'suspended', suspended_by: [second.id] })
    expect((await one.ask()).body).toMatchObject({ reason: 'suspended', rule: second.id })
    expect((await two.state())['state']).toBe('completed')
    expect((await resume(second.id)).body['tasks_resumed']).toEqual([one.task])
    expect((await one.ask()).status).toBe(200)
  })

  it('a ban ends what is suspended, and resuming does not bring it back', async () => {
    const one = await open()
    const held = await suspend({ task: one.task })
    const ban = await house.admin('POST', '/revocations', { match: { client_id: 'research' }, reason: 'it was not' })
    expect(ban.body['tasks_ended']).toContain(one.task)
    expect((await resume(held.id)).body['tasks_resumed']).toEqual([])
    await house.admin('POST', `/revocations/${ban.body['id']}/readmit`, { reason: 'a new key' })
    expect((await one.state())['state']).toBe('revoked')
    expect((await one.ask()).body['reason']).toBe('task_not_active')
  })

  it('a readmission lifts no suspension, and a resume no ban', async () => {
    const one = await open()
    const held = await suspend({ task: one.task })
    const ban = await house.admin('POST', '/revocations', { match: { sub: 'dev|bob' }, reason: 'left the company' })
    const wrong = await house.admin('POST', `/revocations/${held.id}/readmit`, { reason: 'a slip' })
    expect([wrong.status, wrong.body['error_description']]).toEqual([404, 'it is a suspension: it is resumed'])
    expect((await resume(String(ban.body['id']))).status).toBe(404)
    expect((await resume(`rev_${'A'.repeat(22)}`)).status).toBe(404)
    expect((await one.state())['state']).toBe('suspended')
    await resume(held.id)
  })

  it('refuses with nothing lost', async () => {
    const { agent, task } = await open()
    const { id } = await suspend({ task })
    await refusedWithoutTrace(
      house,
      () => agent.exchange({ form: { ...TICKETS, task_id: task } }),
      { status: 400, error: 'invalid_request', reason: 'suspended' },
      () => agent.exchange({ form: TICKETS }),
    )
    await resume(id)
  })

  it('deadlines go on, heartbeats do not: they are counted anew from the resumption', async () => {
    const own = await openHouse()
    const beating = await open(own, { heartbeat_seconds: 60, deadline_seconds: 900 })
    const short = await open(own, { deadline_seconds: 120 })
    const { id } = await suspend({ client_id: 'research' }, own)
    own.advance(300)
    await own.service.sweep()
    await own.learnNonce('research')
    expect((await beating.state())['state']).toBe('suspended')
    expect((await short.state())['state']).toBe('expired')
    const beat = await beating.agent.call('POST', `/tasks/${beating.task}/heartbeat`)
    expect([beat.status, beat.body['reason'], beat.body['rule']]).toEqual([400, 'suspended', id])
    expect((await resume(id, own)).body['tasks_resumed']).toEqual([beating.task])
    expect((await beating.state())['heartbeat_by']).toBe(own.now() + 60)
    own.advance(61)
    await own.service.sweep()
    expect((await own.service.stores.tasks.get(beating.task))?.state).toBe('expired')
    await own.close()
  })

  it.each([
    ['suspend', {}],
    ['contain', { take: { tools: ['crm'] } }],
  ])(
    '%s: what missed its heartbeat, and was not swept yet, ends as the sweep ends it: by its entry, and with its record',
    async (mode, more) => {
      const own = await openHouse()
      const agent = await own.agent('research')
      const details = own.details({ heartbeat_seconds: 30 })
      const opened = await agent.exchange({ form: { audience: 'tickets', request_details: details } })
      expect(opened.status, opened.text).toBe(200)
      const task = String(opened.body['task_id'])
      const { tasks, revocations } = own.service.stores
      const due = tasks.due
      Object.assign(tasks, { due: async () => [] })
      own.advance(31)
      const done = await own.admin('POST', '/revocations', {
        match: { client_id: 'research' },
        mode,
        reason: 'late',
        ...more,
      })
      expect(done.status, done.text).toBe(201)
      Object.assign(tasks, { due })
      expect(await tasks.get(task)).toMatchObject({ state: 'expired', endedReason: 'heartbeat missed' })
      expect((await revocations.bans(own.now())).find(({ match }) => match.task === task)).toMatchObject({
        mode: 'ban',
      })
      const record = (await own.records({ type: 'task.ended' })).find((each) => each['task'] === task)
      expect(record).toMatchObject({
        by: 'system',
        details: { state: 'expired', reason: 'heartbeat missed', ended: [task] },
      })
      const token = String(opened.body['access_token'])
      expect((await (await own.tool('tickets')).form('/introspect', { token })).body['active']).toBe(false)
      await own.close()
    },
  )

  it('L7 Inv6 does after a restart what a stopped process had begun: what is suspended pauses, what is lifted wakes', async () => {
    const own = await openHouse()
    const [one, two] = [await open(own), await open(own)]
    const { tasks, revocations } = own.service.stores
    const entry = (id: string, task: string) => ({
      id,
      match: { task },
      mode: 'suspend' as const,
      reason: 'written, and then the process was killed',
      by: 'admin',
      at: own.now(),
      expiresAt: own.now() + 600,
    })
    const [written, lifted] = [`rev_${'A'.repeat(22)}`, `rev_${'B'.repeat(22)}`]
    await revocations.add(entry(written, one.task))
    await revocations.add(entry(lifted, two.task))
    await tasks.suspend(two.task, lifted, own.now())
    await revocations.readmit(lifted, 'admin', 'it was nothing', own.now())
    await own.stop()
    const again = await openHouse({ folder: own.folder })
    expect((await again.service.stores.tasks.get(one.task))?.suspendedBy).toEqual([written])
    expect((await again.service.stores.tasks.get(two.task))?.state).toBe('active')
    expect(await active(one.text, again)).toBe(false)
    await again.close()
  })
})
