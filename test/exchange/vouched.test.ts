/** Agents that an issuer vouches for (`may_delegate`) stand in the chain: what is revoked of them holds for all below. */
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Answer, decode, type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const PLANNER = 'spiffe://partner.example/planner'
const INTAKE = 'spiffe://intake.example/front'
const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}

describe('an actor that an issuer vouched for', () => {
  let house: House
  let research: Agent
  beforeEach(async () => {
    house = await openHouse({
      config: {
        'issuers/dev.yaml': (text: string) =>
          text.replace('disabled_subjects:', 'may_delegate: true\ndisabled_subjects:'),
      },
    })
    research = await house.agent('research')
  })
  afterEach(() => house.close())

  /** With a fresh token of the user that names the chain. */
  const vouched = (more: object = {}, act: object = { sub: PLANNER, act: { sub: INTAKE } }) =>
    research.exchange({ form: { ...form, subject_token: house.userToken('alice', { act }), ...more } })
  const plain = (more: object = {}) => research.exchange({ form: { ...form, ...more } })
  const revoke = async (match: object, mode: 'ban' | 'cut') => {
    const answer = await house.admin('POST', '/revocations', { match, mode, reason: 'test of the chain' })
    expect(answer.status, answer.text).toBe(201)
    return answer.body['id'] as unknown as string
  }
  const active = async (token: string) =>
    (await (await house.tool('tickets')).form('/introspect', { token })).body['active']
  const banned = { status: 400, error: 'invalid_request', reason: 'banned' }
  const revoked = { ...banned, reason: 'revoked' }

  const ways: [string, object][] = [
    ['the newest of them', { agent: PLANNER }],
    ['an earlier one', { agent: INTAKE }],
    ['its trust domain', { domain: 'intake.example' }],
    ['it together with the subject', { agent: INTAKE, sub: 'dev|alice' }],
  ]
  for (const [what, match] of ways) {
    it(`L3 L15 a ban on ${what} refuses what would descend from it, until it is re-admitted`, async () => {
      const before = tokenOf(await vouched())
      const beside = tokenOf(await plain())
      const ban = await revoke(match, 'ban')
      await refusedWithoutTrace(house, vouched, banned, plain)
      await refusedWithoutTrace(house, () => vouched({ dry_run: 'true' }), banned, plain)
      expect([await active(before), await active(beside)]).toEqual([false, true])
      await refusedWithoutTrace(
        house,
        () => research.from(before, form),
        revoked,
        () => research.from(beside, form),
      )
      await refusedWithoutTrace(house, () => research.handOver(before, 'payments', form), revoked, plain)
      const readmitted = await house.admin('POST', `/revocations/${ban}/readmit`, { reason: 'cleared' })
      expect(readmitted.status, readmitted.text).toBe(200)
      expect(await active(tokenOf(await vouched()))).toBe(true)
      expect(await active(before)).toBe(false)
    })
  }

  it('L3 a cut kills what was checked before it, and nothing that is asked for afterwards', async () => {
    const before = tokenOf(await vouched())
    const payments = await house.agent('payments')
    const handOver = tokenOf(await research.handOver(before, 'payments', form))
    await revoke({ agent: INTAKE }, 'cut')
    expect(await active(before)).toBe(false)
    await refusedWithoutTrace(house, () => payments.accept(handOver, form), revoked, plain)
    expect(await active(tokenOf(await vouched()))).toBe(true)
  })

  it('is taken nothing from, for no task is its own: containing it is refused, and a ban keeps it out', async () => {
    await vouched()
    const contain = (match: object) =>
      house.admin('POST', '/revocations', { match, mode: 'contain', take: { tools: ['crm'] }, reason: 'too much' })
    await refusedWithoutTrace(house, () => contain({ agent: PLANNER }), {
      status: 400,
      error: 'invalid_request',
      reason: 'bad_body',
      record: 'admin.refused',
    })
    const own = await contain({ agent: 'spiffe://company.example/agents/research' })
    expect(own.status, own.text).toBe(201)
    expect(own.body['tasks_contained']).toHaveLength(1)
  })

  it('L3 a ban on it within one tree refuses it there and nowhere else', async () => {
    const opened = await vouched()
    const taskId = opened.body['task_id'] as unknown as string
    const { task } = decode(tokenOf(opened)).payload as unknown as { task: { root: string } }
    await revoke({ agent: PLANNER, root: task.root }, 'ban')
    expect((await vouched({ task_id: taskId })).body['reason']).toBe('task_not_active')
    expect((await vouched()).status).toBe(200)
    expect((await plain({ task_id: taskId })).status).toBe(200)
  })
})
