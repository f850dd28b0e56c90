import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { decode, type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

const MANY = (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`
const ID = 'urn:ietf:params:oauth:token-type:id_token'

describe('containing', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: { 'errand.yaml': MANY } })
  })
  afterAll(() => house.close())

  const open = async (on = house) => {
    const agent = await on.agent('research')
    const answer = await agent.call('POST', '/tasks', {
      subject_token: on.userToken('alice'),
      subject_token_type: ID,
      ...JSON.parse(on.details()),
    })
    expect(answer.status, answer.text).toBe(201)
    const task = String(answer.body['id'])
    const ask = (form: Record<string, string>) => agent.exchange({ form: { task_id: task, ...form } })
    const text = async (form: Record<string, string>) => {
      const issued = await ask(form)
      expect(issued.status, issued.text).toBe(200)
      return String(issued.body['access_token'])
    }
    return { agent, task, ask, text }
  }
  const contain = (match: object, take: object, on = house) =>
    on.admin('POST', '/revocations', { match, mode: 'contain', take, reason: 'one tool too many' })
  const active = async (tool: string, text: string, on = house) =>
    (await (await on.tool(tool)).form('/introspect', { token: text })).body['active']
  const CRM = { audience: 'crm', scope: 'crm:read_customer' }
  const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

  it.each([
    ['a tool', { tools: ['crm'] }],
    ['an operation', { operations: ['crm:read_customer'] }],
  ])('Inv2 Inv10 %s is taken from a task for good: tokens die, the rest goes on', async (_, take) => {
    const one = await open()
    const [crm, tickets] = [await one.text(CRM), await one.text(TICKETS)]
    const answer = await contain({ task: one.task }, take)
    expect(answer.status, answer.text).toBe(201)
    const id = String(answer.body['id'])
    expect(answer.body).toMatchObject({
      mode: 'contain',
      taken: { tools: [], operations: [], ...take },
      tasks_contained: [one.task],
    })
    expect([await active('crm', crm), await active('tickets', tickets)]).toEqual([false, false])
    expect(await active('tickets', await one.text(TICKETS))).toBe(true)
    await refusedWithoutTrace(
      house,
      () => one.ask(CRM),
      { status: 400, error: 'invalid_scope', reason: 'authority_contained' },
      () => one.ask(TICKETS),
    )
    expect((await one.ask(CRM)).body).toMatchObject({ rule: id, missing: ['crm:read_customer'] })
    const shown = await house.admin('GET', `/tasks/${one.task}`)
    expect(shown.body['state']).toBe('active')
    expect(shown.body['contained']).toEqual([{ by: id, tools: [], operations: [], ...take }])
    expect(JSON.stringify(shown.body['authority'])).not.toContain('read_customer')
    // What is opened afterwards is another task.
    expect(await active('crm', await (await open()).text(CRM))).toBe(true)
  })

  it('by effect: what is stronger goes, as it is labelled now, and what is left is told', async () => {
    const one = await open()
    const answer = await contain({ client_id: 'research' }, { max_effect: 'read' })
    expect(answer.body['tasks_contained']).toContain(one.task)
    const taken = answer.body['taken'] as unknown as { operations: string[]; max_effect: string }
    expect(taken.max_effect).toBe('read')
    expect(taken.operations).toContain('tickets:add_comment')
    expect(taken.operations).not.toContain('tickets:read_ticket')
    expect((await one.ask(TICKETS)).status).toBe(200)
  })

  it('L3 reaches what is below, and what is handed over later', async () => {
    const one = await open()
    const form = { audience: 'payments', scope: 'payments:read_payment' }
    const text = await one.text(form)
    const payments = await house.agent('payments')
    const handed = await one.agent.handOver(text, 'payments', form)
    expect(handed.status, handed.text).toBe(200)
    const child = await payments.accept(String(handed.body['access_token']), form)
    expect(child.status, child.text).toBe(200)
    const below = (decode(String(child.body['access_token'])).payload['task'] as unknown as { id: string }).id
    const answer = await contain({ root: one.task }, { operations: ['payments:read_payment'] })
    expect(answer.body['tasks_contained']).toEqual([one.task, below])
    expect(await active('payments', String(child.body['access_token']))).toBe(false)
    expect((await house.admin('GET', `/tasks/${below}`)).body['authority']).toEqual([])
    expect((await one.ask(form)).body).toMatchObject({ reason: 'authority_contained', rule: answer.body['id'] })
  })

  it('takes nothing by a slip: names must exist, and the match must name tasks', async () => {
    const one = await open()
    const before = await house.service.stores.revocations.epoch()
    for (const [match, take] of [
      [{ task: one.task }, { tools: ['cmr'] }],
      [{ task: one.task }, { operations: ['crm:read_custmer'] }],
      [{ task: one.task }, {}],
      [{ task: one.task }, { max_effect: 'privileged' }],
      [{ task: one.task }, undefined],
      [{ aud: 'https://crm.example.com/' }, { tools: ['crm'] }],
      [{}, { tools: ['crm'] }],
    ] as const) {
      const answer = await contain(match, take as object)
      expect([match, take, answer.status]).toEqual([match, take, 400])
    }
    const cut = await house.admin('POST', '/revocations', {
      match: { task: one.task },
      mode: 'cut',
      take: { tools: ['crm'] },
      reason: 'a slip',
    })
    expect(cut.status).toBe(400)
    expect(await house.service.stores.revocations.after(before)).toEqual([])
  })

  describe('whose narrowing fails', () => {
    const failing = async () => {
      const own = await openHouse()
      const one = await open(own)
      const crm = await one.text(CRM)
      const { tasks, revocations } = own.service.stores
      const real = tasks.contain
      Object.assign(tasks, { contain: () => Promise.reject(new Unavailable('store_unavailable', 'away for a moment')) })
      expect((await contain({ task: one.task }, { tools: ['crm'] }, own)).status).toBe(503)
      const entry = (await revocations.after()).find(({ mode }) => mode === 'contain')!
      const acknowledge = async () => {
        const last = (await revocations.after()).at(-1)!.epoch
        for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
          await (await own.tool(name)).call('POST', '/revocations/acks', { epoch: formatEpoch(last) })
      }
      const state = async () => (await own.admin('GET', `/revocations/${entry.id}`)).body
      return { own, one, crm, entry, acknowledge, state, mend: () => Object.assign(tasks, { contain: real }) }
    }

    it('is not contained before it is closed, whatever verifiers have applied, and the sweep does what is left', async () => {
      const { own, one, crm, entry, acknowledge, state, mend } = await failing()
      await acknowledge()
      own.advance(300)
      const waiting = await state()
      expect(waiting).toMatchObject({ contained: false })
      for (const each of waiting['verifiers'] as unknown as object[]) {
        expect(each).toMatchObject({ state: 'waiting' })
        expect(each).not.toHaveProperty('acknowledged_at')
      }
      const { receipt } = (await own.admin('GET', `/revocations/${entry.id}/receipt`)).body
      expect(decode(String(receipt)).payload).toMatchObject({ contained: false })
      // What is left is tried again and again; nothing else waits for it.
      await own.service.sweep().catch(() => undefined)
      mend()
      own.advance(30)
      await own.service.sweep()
      expect((await one.ask(CRM)).body).toMatchObject({ reason: 'authority_contained', rule: entry.id })
      expect(await active('crm', crm, own)).toBe(false)
      await acknowledge()
      expect(await state()).toMatchObject({ contained: true })
      await own.close()
    })

    it('L7 is found by a start a day later', async () => {
      const { own, one, entry, mend } = await failing()
      mend()
      await own.stop()
      const again = await openHouse({ folder: own.folder, startAt: own.now() + 86_000 })
      const closed = await again.service.stores.revocations.after()
      expect(closed.filter(({ closes }) => closes === entry.id)).toHaveLength(1)
      expect(await again.service.stores.tasks.get(one.task)).toBeDefined()
      await again.close()
    })
  })

  it('L7 L15 is finished after a restart where its writer was stopped, and not begun again where it was not', async () => {
    const own = await openHouse()
    const one = await open(own)
    const id = `rev_${'A'.repeat(22)}`
    await own.service.stores.revocations.add({
      id,
      match: { client_id: 'research' },
      mode: 'contain',
      taken: { tools: ['crm'], operations: [] },
      reason: 'written, and then the process was killed',
      by: 'admin',
      at: own.now(),
      expiresAt: own.now() + 600,
    })
    // Read before anything was taken, and checked after the entry: it dies of the one that closes it.
    const between = await one.text(CRM)
    await own.stop()
    const again = await openHouse({ folder: own.folder })
    expect((await again.service.stores.tasks.get(one.task))?.contained).toEqual([
      { by: id, tools: ['crm'], operations: [] },
    ])
    expect(await active('crm', between, again)).toBe(false)
    const later = await open(again)
    await again.stop()
    const third = await openHouse({ folder: own.folder })
    expect((await third.service.stores.tasks.get(later.task))?.contained).toBeUndefined()
    await third.close()
  })
})
