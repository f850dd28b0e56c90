import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
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
    // Each preview took a place in the log, which kills nothing.
    expect(await house.service.stores.revocations.after(before)).toEqual([])

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

  describe('pinned by its bulk token', () => {
    const active = async (text: string, on = house) =>
      (await (await on.tool('tickets')).form('/introspect', { token: text })).body['active']
    const execute = (token: unknown, more: object = {}, on = house) =>
      on.admin('POST', '/revocations', { bulk_token: token, reason: 'as it was shown', ...more })
    const stateOf = async (task: string, on = house) => (await on.admin('GET', `/tasks/${task}`)).body['state']

    it('ends what was there, and nothing that was opened or issued to others since; once', async () => {
      const there = await token()
      const seen = await preview(RESEARCH)
      expect(seen['bulk_token']).toMatch(/^bulk_/)
      expect(seen['bulk_token_expires_at']).toBe(house.now() + 900)
      const renewed = await token(house, { task: there.task })
      const later = await token(house, { user: 'bob' })
      const { status, body, text } = await execute(seen['bulk_token'])
      expect(status, text).toBe(201)
      expect(body).toMatchObject({ match: RESEARCH, mode: 'cut', checked_before: expect.stringMatching(/^1\./) })
      expect([...(body['tasks_ended'] as unknown as string[])].sort()).toEqual([...seen.tasks.ids].sort())
      expect(await stateOf(there.task)).toBe('revoked')
      expect(await active(there.text)).toBe(false)
      // A task that ended ends with all that it was given, whenever.
      expect(await active(renewed.text)).toBe(false)
      expect([await stateOf(later.task), await active(later.text)]).toEqual(['active', true])
      expect((await house.admin('GET', '/revocations/bans')).body['bans']).toEqual([])
      await token()

      const again = await execute(seen['bulk_token'])
      expect([again.status, again.body['reason']]).toEqual([400, 'bulk_token_used'])
      expect(String(again.body['error_description'])).toContain(String(body['id']))
      const record = (await house.records({ type: 'admin.acted' })).find(({ cause }) => cause === body['id'])
      expect(record).toMatchObject({ by: 'admin', details: { act: 'revocation.previewed', mode: 'ban' } })
    })

    it('cuts the tokens of before the mark alone, where it is about tokens', async () => {
      const match = { aud: 'https://tickets.example.com/', client_id: 'research' }
      const there = await token()
      const { bulk_token: bulk } = await preview(match)
      const since = await token(house, { task: there.task })
      expect((await execute(bulk)).body['tasks_ended']).toEqual([])
      expect([await active(there.text), await active(since.text)]).toEqual([false, true])
      expect(await stateOf(there.task)).toBe('active')
    })

    it('suspends what was there until it is resumed, also across a restart', async () => {
      const own = await openHouse({ config: { 'errand.yaml': MANY } })
      const there = await token(own)
      const { bulk_token: bulk } = await preview(RESEARCH, own, { mode: 'suspend' })
      const later = await token(own, { user: 'bob' })
      const done = await execute(bulk, {}, own)
      expect(done.body).toMatchObject({ mode: 'suspend', tasks_suspended: [there.task] })
      await own.stop()
      const again = await openHouse({ folder: own.folder, startAt: own.now() + 5 })
      expect([await stateOf(there.task, again), await active(there.text, again)]).toEqual(['suspended', false])
      expect([await stateOf(later.task, again), await active(later.text, again)]).toEqual(['active', true])
      const resumed = await again.admin('POST', `/revocations/${done.body['id']}/resume`, { reason: 'it was nothing' })
      expect(resumed.body['tasks_resumed']).toEqual([there.task])
      await token(again, { task: there.task })
      await again.close()
    })

    it('takes what it was shown for from the tasks that were there', async () => {
      const own = await openHouse({ config: { 'errand.yaml': MANY } })
      const there = await token(own)
      const seen = await preview(RESEARCH, own, { mode: 'contain', take: { tools: ['crm'] } })
      expect(seen.tasks).toMatchObject({ total: 1, effect: 'contain' })
      const later = await token(own, { user: 'bob' })
      const done = await execute(seen['bulk_token'], {}, own)
      expect(done.body).toMatchObject({ tasks_contained: [there.task] })
      expect([await active(there.text, own), await active(later.text, own)]).toEqual([false, true])
      const ask = (task: string, user: string) =>
        later.agent.exchange({ form: { audience: 'crm', task_id: task, request_details: undefined }, user })
      expect((await ask(there.task, 'alice')).body['reason']).toBe('authority_contained')
      expect((await ask(later.task, 'bob')).body['reason']).not.toBe('authority_contained')
      await token(own, { task: there.task })
      await own.close()
    })

    it('does after a restart what a stop came in between of', async () => {
      const own = await openHouse({ config: { 'errand.yaml': MANY } })
      const there = await token(own)
      const { bulk_token: bulk } = await preview(RESEARCH, own)
      const { tasks } = own.service.stores
      const end = tasks.end
      Object.assign(tasks, { end: async () => Promise.reject(new Error('the process was killed here')) })
      expect((await execute(bulk, {}, own)).status).toBe(500)
      Object.assign(tasks, { end })
      expect(await stateOf(there.task, own)).toBe('active')
      await own.stop()
      const again = await openHouse({ folder: own.folder, startAt: own.now() + 5 })
      expect(await stateOf(there.task, again)).toBe('revoked')
      await again.close()
    })

    describe('and interrupted by a fault', () => {
      const interrupted = async (mode: string, method: 'end' | 'suspend' | 'contain') => {
        const own = await openHouse({ config: { 'errand.yaml': MANY } })
        const [one, other] = [await token(own), await token(own, { user: 'bob' })]
        const take = mode === 'contain' ? { take: { tools: ['tickets'] } } : {}
        const { bulk_token: bulk } = await preview(RESEARCH, own, { mode, ...take })
        const { tasks } = own.service.stores
        const real = tasks[method] as (id: string, ...rest: never[]) => Promise<readonly string[]>
        const fault = () => Promise.reject(new Unavailable('store_unavailable', 'away for a moment'))
        Object.assign(tasks, {
          [method]: (id: string, ...rest: never[]) => (id === other.task ? fault() : real(id, ...rest)),
        })
        expect((await execute(bulk, {}, own)).status).toBe(503)
        Object.assign(tasks, { [method]: real })
        return { own, one, other, bulk }
      }

      it.each([
        ['ban', 'end', 'tasks_ended', 'revoked'],
        ['suspend', 'suspend', 'tasks_suspended', 'suspended'],
        ['contain', 'contain', 'tasks_contained', 'active'],
      ] as const)('a %s goes on by the same token, once', async (mode, method, touched, state) => {
        const { own, one, other, bulk } = await interrupted(mode, method)
        expect(await stateOf(one.task, own)).toBe(state)
        const both = [execute(bulk, { reason: 'again' }, own), execute(bulk, {}, own)]
        const [done, beside] = await Promise.all(both)
        expect([done?.status, beside?.status], done?.text).toEqual([201, 201])
        expect(done?.body[touched]).toContain(other.task)
        expect(beside?.body).toEqual(done?.body)
        expect(done?.body['reason']).toBe('as it was shown')
        expect([await stateOf(other.task, own), await active(other.text, own)]).toEqual([state, false])
        const over = await execute(bulk, {}, own)
        expect([over.status, over.body['reason']]).toEqual([400, 'bulk_token_used'])
        // Each task by one entry of its own, however often it was asked for.
        const entries = await own.service.stores.revocations.after()
        expect(entries.filter(({ match }) => match.task === one.task)).toHaveLength(mode === 'contain' ? 2 : 1)
        const told = (await own.records({ cause: String(done?.body['id']) })).flatMap(({ details }) =>
          Object.values(details as Record<string, unknown>).flat(),
        )
        expect(told).toEqual(expect.arrayContaining([one.task, other.task]))
        await own.close()
      })

      it('goes on by itself when nobody asks again', async () => {
        const { own, other, bulk } = await interrupted('suspend', 'suspend')
        await own.service.sweep()
        expect(await stateOf(other.task, own)).toBe('active')
        own.advance(30)
        await own.service.sweep()
        expect(await stateOf(other.task, own)).toBe('suspended')
        expect((await execute(bulk, {}, own)).body['reason']).toBe('bulk_token_used')
        await own.close()
      })
    })

    it('is refused when it is old, unknown, or comes with anything else', async () => {
      await token()
      const { bulk_token: bulk } = await preview(RESEARCH)
      for (const more of [{ match: RESEARCH }, { mode: 'cut' }, { dry_run: true }, { everything: true }]) {
        const no = await execute(bulk, more)
        expect([no.status, no.body['reason']]).toEqual([400, 'bad_body'])
      }
      const unknown = await execute('bulk_AAAA')
      expect([unknown.status, unknown.body['reason']]).toEqual([400, 'bulk_token_unknown'])
      house.advance(900)
      const old = await execute(bulk)
      expect([old.status, old.body['reason']]).toEqual([400, 'bulk_token_expired'])
    })
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
