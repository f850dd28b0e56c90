import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

const MANY = (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`
const RESEARCH = { client_id: 'research' }

interface Previewed {
  readonly tasks: { readonly total: number; readonly ids: readonly string[]; readonly effect: string }
  readonly live_tokens: { readonly count: number; readonly exact: boolean; readonly latest_expiry?: number }
  readonly [member: string]: unknown
}

describe('the preview of a revocation', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: { 'errand.yaml': MANY } })
  })
  afterAll(() => house.close())

  const token = async (on = house, { agent: name = 'research', user = 'alice', tool = 'tickets', task = '' } = {}) => {
    const agent = await on.agent(name)
    const form = { audience: tool, ...(task === '' ? {} : { task_id: task, request_details: undefined }) }
    const answer = await agent.exchange({ form, user })
    expect(answer.status, answer.text).toBe(200)
    return { agent, task: String(answer.body['task_id']), text: String(answer.body['access_token']) }
  }
  const preview = async (match: object, on = house, more: object = {}) => {
    const answer = await on.admin('POST', '/revocations', { match, reason: 'looking', dry_run: true, ...more })
    expect(answer.status, answer.text).toBe(200)
    return answer.body as unknown as Previewed
  }
  const counted = async (match: object, on = house) => {
    const { count, exact } = (await preview(match, on)).live_tokens
    return [count, exact]
  }

  it('names the members, changes nothing, and what it named is what is ended', async () => {
    const first = await token()
    await token(house, { task: first.task })
    const second = await token(house, { user: 'bob' })
    const other = await token(house, { agent: 'payments', tool: 'payments' })
    const before = await house.service.stores.revocations.epoch()
    const seen = await preview(RESEARCH)
    expect(seen).toMatchObject({
      dry_run: true,
      match: RESEARCH,
      mode: 'ban',
      subjects: { total: 2, names: ['dev|alice', 'dev|bob'] },
      agents: { total: 1, names: ['research'] },
      tools: { total: 1, names: ['tickets'] },
      live_tokens: { count: 3, exact: true, latest_expiry: house.now() + 120 },
      verifiers: [{ tool: 'tickets', by: 'feed' }],
    })
    expect(seen.tasks).toMatchObject({ total: 2, effect: 'end' })
    expect([...seen.tasks.ids].sort()).toEqual([first.task, second.task].sort())
    // Of some tokens of a task that it speaks of, the task goes on.
    const tickets = await preview({ aud: 'https://tickets.example.com/' })
    expect(tickets.tasks).toMatchObject({ total: 2, effect: 'go_on' })
    expect((await preview(RESEARCH, house, { mode: 'suspend' })).tasks.effect).toBe('suspend')
    expect((await preview(RESEARCH, house, { mode: 'cut' })).tasks.effect).toBe('go_on')
    expect(await counted({ sub: 'dev|alice', aud: 'https://tickets.example.com/' })).toEqual([2, true])
    expect(await counted({ task: other.task })).toEqual([1, true])
    expect(
      (
        await house.admin('POST', '/revocations', {
          match: {},
          reason: 'looking',
          dry_run: true,
          everything: true,
        })
      ).body['live_tokens'],
    ).toMatchObject({ count: 4, exact: true })
    expect(await house.service.stores.revocations.epoch()).toEqual(before)

    const done = await house.admin('POST', '/revocations', { match: RESEARCH, reason: 'key leaked' })
    expect([...(done.body['tasks_ended'] as unknown as string[])].sort()).toEqual([...seen.tasks.ids].sort())
    expect(await preview(RESEARCH)).toMatchObject({ tasks: { total: 0 }, live_tokens: { count: 0, exact: true } })
    expect(await counted({ task: other.task })).toEqual([1, true])
    await house.admin('POST', `/revocations/${done.body['id']}/readmit`, { reason: 'over' })
  })

  it('counts a token by every hop of its chain, and a token revoked by its line no more', async () => {
    const one = await token(house, { tool: 'payments' })
    const other = await house.agent('payments')
    const handed = await one.agent.handOver(one.text, 'payments', { audience: 'payments' })
    const child = await other.accept(String(handed.body['access_token']), { audience: 'payments' })
    expect(child.status, child.text).toBe(200)
    // What was handed over counts until it ends, as any token does.
    expect(await counted({ task: one.task })).toEqual([3, true])
    expect(await counted({ task: String(child.body['task_id']) })).toEqual([1, true])
    await (await house.tool('payments')).form('/revoke', { token: one.text })
    expect(await counted({ task: one.task })).toEqual([0, true])
    expect(await counted({ task: String(child.body['task_id']) })).toEqual([0, true])
  })

  it('counts after a restart what was issued before it, from the audit log', async () => {
    const own = await openHouse({ config: { 'errand.yaml': MANY } })
    const lasting = await token(own, { user: 'bob' })
    const ended = await token(own)
    await own.admin('POST', '/revocations', { match: { task: ended.task }, reason: 'wrong customer' })
    const issued = own.now()
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: issued + 20 })
    try {
      await expect.poll(() => counted(RESEARCH, again)).toEqual([1, true])
      expect((await preview(RESEARCH, again)).live_tokens.latest_expiry).toBe(issued + 120)
      expect(await counted({ sub: 'dev|bob' }, again)).toEqual([1, true])
      expect(await counted({ task: ended.task }, again)).toEqual([0, true])
      // Records do not say which key signed.
      expect(await counted({ kid: 'some-key' }, again)).toEqual([1, false])
      await token(again, { user: 'bob', task: lasting.task })
      expect(await counted({ task: lasting.task }, again)).toEqual([2, true])
    } finally {
      await again.close()
    }
  })
})
