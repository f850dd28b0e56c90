/** Group D: an exchange never gives more than each of its operands, and what it combines must belong together. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { chainOfAgents, ticketDesk } from '../company.ts'
import {
  type Answer,
  decode,
  type ExchangeOptions,
  type House,
  ISSUER,
  newKeyPair,
  openHouse,
  signJws,
} from '../house.ts'
import { type Refused, refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const ir = (reason: string): Refused => ({ status: 400, error: 'invalid_request', reason })
const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}

describe('an exchange that asks for more', () => {
  let house: House
  let research: Agent
  let payments: Agent
  let triage: Agent
  let desk: Agent
  let chain: Agent[]
  beforeAll(async () => {
    house = await openHouse({ config: { ...chainOfAgents(), ...ticketDesk } })
    research = await house.agent('research')
    payments = await house.agent('payments')
    triage = await house.agent('triage')
    desk = await house.agent('desk')
    chain = await Promise.all(['first', 'second', 'third', 'fourth', 'fifth'].map((name) => house.agent(name)))
  })
  afterAll(() => house.close())

  const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
  const honest = () => research.exchange({ form })
  const refuse = (form: ExchangeOptions['form'], expected: Refused, more: ExchangeOptions = {}) =>
    refusedWithoutTrace(house, () => research.exchange({ ...more, form: form! }), expected, honest)

  // --- what is asked for -------------------------------------------------------------------------------------------

  it('D1 more than allowed in scope is refused whole, and the refused part named', async () => {
    const answer = await refuse(
      { audience: 'tickets', scope: 'tickets:read_ticket tickets:close_ticket' },
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
    )
    expect(answer.body['missing']).toEqual(['tickets:close_ticket'])
    expect(answer.body['next']).toContain('config/agents/research.yaml')
    expect(answer.body['decision_id']).toMatch(/^dec_/)
  })

  it('D1 more than the user has a right to is refused, and so is more than the stage allows', async () => {
    const user = await refuse(
      { audience: 'crm', scope: 'crm:read_customer' },
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      { user: 'bob' },
    )
    expect(user.body['rule']).toBe('subject')
  })

  it.each([
    [{ operations: ['read_ticket', 'close_ticket'] }],
    [{ operations: ['read_ticket', 'no_such_operation'] }],
    [{ operations: ['close_ticket'], effect: 'reversible_write' }],
  ])('D1 more than allowed in authorization_details %j is refused by that name', async (detail) => {
    await refuse(
      { audience: 'tickets', authorization_details: JSON.stringify([{ type: 'tool', tool: 'tickets', ...detail }]) },
      { status: 400, error: 'invalid_authorization_details', reason: 'scope_not_granted' },
    )
  })

  it('D1 wider arguments than the ceiling admits are refused, in whatever spelling', async () => {
    const ask = (constraints: object) => ({
      audience: 'warehouse',
      authorization_details: JSON.stringify([
        { type: 'tool', tool: 'warehouse', operations: ['run_query'], constraints },
      ]),
    })
    for (const constraints of [
      { type: 'object', properties: { max_rows: { type: 'integer', maximum: 10_001 } } },
      { type: 'object', properties: { dataset: { enum: ['sales', 'finance'] } } },
    ]) {
      await refuse(ask(constraints), {
        status: 400,
        error: 'invalid_authorization_details',
        reason: 'scope_not_granted',
      })
    }
    const within = { type: 'object', properties: { max_rows: { type: 'integer', maximum: 10 } } }
    expect((await research.exchange({ form: ask(within) })).status).toBe(200)
  })

  it.each([
    ['not JSON', '{'],
    ['no list', '{}'],
    ['nothing', '[]'],
    ['a duplicate member', '[{"type":"tool","type":"tool","tool":"tickets","operations":["read_ticket"]}]'],
    ['another type', '[{"type":"payment","tool":"tickets","operations":["read_ticket"]}]'],
    ['an unknown field', '[{"type":"tool","tool":"tickets","operations":["read_ticket"],"actions":["*"]}]'],
    ['a prototype', '[{"type":"tool","tool":"tickets","operations":["read_ticket"],"__proto__":{"effect":"read"}}]'],
    ['another effect', '[{"type":"tool","tool":"tickets","operations":["add_comment"],"effect":"read"}]'],
    ['an operation twice', '[{"type":"tool","tool":"tickets","operations":["read_ticket","read_ticket"]}]'],
    ['nothing but depth', '['.repeat(5000)],
  ])('D1 authorization_details of %s are none', async (_, text) => {
    await refuse(
      { audience: 'tickets', authorization_details: text },
      { status: 400, error: 'invalid_authorization_details', reason: 'bad_authorization_details' },
    )
  })

  it('D1 scope and authorization_details together are refused, even where they agree', async () => {
    const details = JSON.stringify([{ type: 'tool', tool: 'tickets', operations: ['read_ticket'] }])
    await refuse(
      { ...form, authorization_details: details },
      { status: 400, error: 'invalid_authorization_details', reason: 'bad_authorization_details' },
    )
  })

  it.each([
    ['a no-break space', 'tickets:read_ticket\u00a0tickets:search_tickets'],
    ['a tab', 'tickets:read_ticket\ttickets:search_tickets'],
    ['two spaces', 'tickets:read_ticket  tickets:search_tickets'],
    ['a space in front', ' tickets:read_ticket'],
    ['a space behind', 'tickets:read_ticket '],
    ['another case', 'Tickets:read_ticket'],
    ['a look-alike', 'tic\u212aets:read_ticket'],
    ['a duplicate', 'tickets:read_ticket tickets:read_ticket'],
    ['1,001 items', Array.from({ length: 1001 }, (_, index) => `tickets:o${index}`).join(' ')],
    ['a wildcard', 'tickets:*'],
    ['no operation', 'tickets'],
    ['a line break', 'tickets:read_ticket\n'],
  ])('D2 a scope with %s is refused, never trimmed into a valid one', async (_, scope) => {
    await refuse({ audience: 'tickets', scope }, { status: 400, error: 'invalid_scope', reason: 'bad_scope' })
  })

  it('D3 an audience outside the parent’s set is refused', async () => {
    const mine = tokenOf(await honest())
    for (const audience of ['crm', 'https://crm.example.com/', 'nowhere']) {
      await refusedWithoutTrace(
        house,
        () => research.from(mine, { audience }),
        { status: 400, error: 'invalid_target', reason: 'audience_denied' },
        () => research.from(mine, form),
      )
    }
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    await refusedWithoutTrace(
      house,
      () => payments.accept(handOver, { audience: 'payments', scope: 'payments:read_payment' }),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      () => payments.accept(handOver, form),
    )
  })

  it.each([
    ['resource and audience disagree', { resource: 'https://tickets.example.com/', audience: 'crm' }],
    ['two resources', { resource: ['https://tickets.example.com/', 'https://crm.example.com/'], audience: undefined }],
    ['one allowed, one unknown', { audience: ['tickets', 'nowhere'] }],
    ['one allowed, one out of reach', { audience: ['tickets', 'payments'], scope: undefined }],
    ['scope of another tool', { audience: 'tickets', scope: 'crm:read_customer' }],
    ['scopes of two tools', { audience: undefined, scope: 'crm:read_customer tickets:read_ticket' }],
    ['none at all', { audience: undefined, scope: undefined }],
  ])('D4 %s: refused, and nothing is issued for either', async (_, targets) => {
    await refuse({ ...form, ...targets }, { status: 400, error: 'invalid_target', reason: 'one_target' })
  })

  it('D4 one target in several spellings is one', async () => {
    const answer = await research.exchange({
      form: { resource: 'https://tickets.example.com/', audience: ['tickets', 'https://tickets.example.com/'] },
    })
    expect(answer.status, answer.text).toBe(200)
  })

  it.each([
    'https://tickets.example.com/#',
    'https://tickets.example.com/#top',
    'https://user@tickets.example.com/',
    'https://@tickets.example.com/',
    'https://tickets.example.com/./',
    'https://tickets.example.com/a/../',
    'https://tickets.example.com/%2e/',
    'https://tickets.example.com/%7Eme',
    'https://tickets.example.com:443/',
    'https://TICKETS.example.com/',
    'HTTPS://tickets.example.com/',
    '/tickets',
    'tickets.example.com',
    'https:tickets.example.com/',
    'https:\\\\tickets.example.com\\',
    ' https://tickets.example.com/',
    'https://tickets.example.com/\n',
    'https://tickets.example.com./%C3%a9',
  ])('D5 resource %j is not canonical', async (resource) => {
    await refuse(
      { resource, scope: 'tickets:read_ticket' },
      { status: 400, error: 'invalid_target', reason: 'resource_not_canonical' },
    )
  })

  it('D5 a canonical resource that is nearly a tool’s is not the tool’s', async () => {
    for (const resource of [
      'https://tickets.example.com',
      'https://tickets.example.com/?',
      'https://tickets.example.com/x',
    ]) {
      const answer = await research.exchange({ form: { resource, scope: 'tickets:read_ticket' } })
      expect(answer.status, resource).toBe(400)
      expect(answer.body['error']).toBe('invalid_target')
    }
  })

  // --- lifetime ----------------------------------------------------------------------------------------------------

  it('D6 no hand-over of a token with a second left, and one of a token with ten ends with it', async () => {
    const mine = tokenOf(await honest())
    const { exp } = decode(mine).payload as { exp: number }
    house.advance(exp - house.now() - 10)
    const handOver = await research.handOver(mine, 'payments', form)
    expect(handOver.body['expires_in'], handOver.text).toBe(10)
    expect(decode(tokenOf(handOver)).payload['exp']).toBe(exp)
    house.advance(9)
    await refusedWithoutTrace(
      house,
      () => research.handOver(mine, 'payments', form),
      ir('parent_expiring'),
      () => research.from(mine, form),
    )
  })

  it('D6 a child never outlives its parent: neither its deadline nor its tokens', async () => {
    const answer = await research.exchange({
      form: { ...form, request_details: house.details({ deadline_seconds: 100 }) },
    })
    const deadline = house.now() + 100
    const handOver = tokenOf(await research.handOver(tokenOf(answer), 'payments', form))
    house.advance(40)
    const child = await payments.accept(handOver, {
      ...form,
      request_details: house.details({ deadline_seconds: 86_400 }),
    })
    expect(decode(tokenOf(child)).payload['exp']).toBe(deadline)
    const task = await house.service.stores.tasks.get(child.body['task_id'] as unknown as string)
    expect(task?.deadline).toBe(deadline)
  })

  it('D6 a child of a task with a second left is refused, and so is one of a tool whose token has', async () => {
    const answer = await research.exchange({
      form: { ...form, request_details: house.details({ deadline_seconds: 30 }) },
    })
    const handOver = tokenOf(await research.handOver(tokenOf(answer), 'payments', form))
    house.advance(29)
    await refusedWithoutTrace(house, () => payments.accept(handOver, form), ir('parent_expiring'), honest)

    const called = tokenOf(await honest())
    house.advance((decode(called).payload['exp'] as number) - house.now() - 1)
    await refusedWithoutTrace(
      house,
      () => desk.from(called, { audience: 'crm', scope: 'crm:read_customer' }),
      ir('parent_expiring'),
      honest,
    )
  })

  it.each([0, -1, 1e9, '1e3', '300', 1.5, true, null, [], {}, [300]])(
    'D7 a deadline of %j is refused',
    async (value) => {
      await refuse({ ...form, request_details: house.details({ deadline_seconds: value }) }, ir('bad_request_details'))
    },
  )

  const amounts = [0, -1, 1e9, '1e3', 1.5, true, null, [5]]
  for (const name of ['max_calls', 'max_exchanges', 'max_duration_seconds', 'max_cost']) {
    it(`D7 a budget of ${name} that is no number in its range is refused`, async () => {
      for (const value of amounts) {
        await refuse(
          { ...form, request_details: house.details({ budget: { [name]: value } }) },
          ir('bad_request_details'),
        )
      }
    })
  }

  it.each([
    ['unknown member', '{"purpose":"x","environment":"staging","data_classification":"internal","authority":[]}'],
    ['a duplicate', '{"purpose":"x","purpose":"y","environment":"staging","data_classification":"internal"}'],
    ['a list', '[]'],
    ['null', 'null'],
    ['text', '"x"'],
    ['no JSON', 'x'],
    ['no purpose', '{"environment":"staging","data_classification":"internal"}'],
    ['an environment of its own', '{"purpose":"x","environment":"Production","data_classification":"internal"}'],
    ['a classification of its own', '{"purpose":"x","environment":"staging","data_classification":"none"}'],
    ['a bidi override', '{"purpose":"a\u202eb","environment":"staging","data_classification":"internal"}'],
    [
      '1e3 as a number',
      '{"purpose":"x","environment":"staging","data_classification":"internal","deadline_seconds":1e3}',
    ],
    ['a prototype', '{"purpose":"x","environment":"staging","data_classification":"internal","__proto__":{}}'],
    [
      'a budget of its own',
      '{"purpose":"x","environment":"staging","data_classification":"internal","budget":{"constructor":1}}',
    ],
  ])('D7 request_details with %s are refused', async (_, details) => {
    await refuse({ ...form, request_details: details }, ir('bad_request_details'))
  })

  // --- what belongs together ---------------------------------------------------------------------------------------

  it('D8 act, may_act, cnf, rev, task, att and apr as parameters have no effect', async () => {
    const forged = {
      act: '{"sub":"spiffe://company.example/agents/payments"}',
      may_act: '{"sub":"x"}',
      cnf: '{"jkt":"x"}',
      rev: '9.9',
      task: '{"id":"task_AAAAAAAAAAAAAAAAAAAAAA"}',
      att: '{"kind":"x509_svid","tier":"measured"}',
      apr: 'apr_x',
    }
    const { payload } = decode(tokenOf(await research.exchange({ form: { ...form, ...forged } })))
    const { payload: plain } = decode(tokenOf(await honest()))
    expect(Object.keys(payload).sort()).toEqual(Object.keys(plain).sort())
    for (const name of ['act', 'cnf', 'rev', 'att']) expect(payload[name]).toEqual(plain[name])
    expect((payload['task'] as { id: string }).id).not.toBe('task_AAAAAAAAAAAAAAAAAAAAAA')
  })

  it('D8 act in the token of an issuer that may not delegate is forged', async () => {
    for (const act of [{ sub: 'spiffe://company.example/agents/payments' }, {}, null, 'x', []]) {
      await refuse({ ...form, subject_token: house.userToken('alice', { act }) }, ir('forged_actor'))
    }
  })

  it('D8 nothing of an external token is copied but its subject', async () => {
    const foreign = {
      cnf: { jkt: 'x' },
      rev: '9.9',
      task: { id: 'task_AAAAAAAAAAAAAAAAAAAAAA' },
      att: { tier: 'measured' },
      apr: 'apr_x',
      hops: [{ jti: 'x' }],
      client_id: 'payments',
      scope: 'payments:refund',
      authorization_details: [{ type: 'tool' }],
      dev: false,
    }
    const { payload } = decode(
      tokenOf(await research.exchange({ form: { ...form, subject_token: house.userToken('alice', foreign) } })),
    )
    const { payload: plain } = decode(tokenOf(await honest()))
    expect(Object.keys(payload).sort()).toEqual(Object.keys(plain).sort())
    for (const name of ['cnf', 'rev', 'att', 'client_id', 'scope', 'authorization_details', 'dev']) {
      expect(payload[name]).toEqual(plain[name])
    }
  })

  it.each([
    [{ sub: 'spiffe://company.example/agents/research' }],
    [{ iss: 'https://other.example', sub: 'spiffe://company.example/agents/research' }],
    [{ iss: ISSUER, sub: 'spiffe://company.example/agents/payments' }],
    [{ iss: ISSUER, sub: 'research' }],
    [{ iss: ISSUER }],
    [{}],
    [[]],
    ['research'],
    [null],
  ])('D11 may_act %j does not name this agent', async (mayAct) => {
    await refuse({ ...form, subject_token: house.userToken('alice', { may_act: mayAct }) }, ir('may_act'))
  })

  it('D11 may_act that names this agent by issuer and id is honoured', async () => {
    const may_act = { iss: ISSUER, sub: 'spiffe://company.example/agents/research' }
    const answer = await research.exchange({ form: { ...form, subject_token: house.userToken('alice', { may_act }) } })
    expect(answer.status, answer.text).toBe(200)
  })

  it('D12 four actors hand over to one another, and the fourth to nobody', async () => {
    let token = tokenOf(await chain[0]!.exchange({ form }))
    for (const [index, next] of chain.slice(1, 4).entries()) {
      token = tokenOf(await next.accept(tokenOf(await chain[index]!.handOver(token, next.clientId, form)), form))
    }
    const { payload } = decode(token)
    expect(payload).toMatchObject({
      task: { depth: 4 },
      act: {
        sub: 'spiffe://company.example/agents/fourth',
        act: {
          sub: 'spiffe://company.example/agents/third',
          act: {
            sub: 'spiffe://company.example/agents/second',
            act: { sub: 'spiffe://company.example/agents/first' },
          },
        },
      },
    })
    await refusedWithoutTrace(
      house,
      () => chain[3]!.handOver(token, 'fifth', form),
      ir('depth'),
      () => chain[3]!.from(token, form),
    )
  })

  it('D13 a subject token without an agent is impersonation by omission', async () => {
    await strangersWithoutTrace(
      house,
      [
        {
          title: 'neither slot',
          ...ir('actor_required'),
          send: () =>
            research.exchange({ form: { ...form, client_assertion: undefined, client_assertion_type: undefined } }),
        },
        {
          title: 'only a name',
          ...ir('actor_required'),
          send: () =>
            research.exchange({
              form: { ...form, client_assertion: undefined, client_assertion_type: undefined, client_id: 'research' },
            }),
        },
      ],
      honest,
    )
  })

  it('D13 both slots naming two agents do not belong together', async () => {
    await strangersWithoutTrace(
      house,
      [
        {
          title: 'client authentication of one, actor token of another',
          ...ir('context_mismatch'),
          send: () =>
            research.exchange({
              form: { ...form, actor_token: payments.assertion(), actor_token_type: TOKEN_TYPE.jwt },
            }),
        },
      ],
      honest,
    )
    const both = await research.exchange({
      form: { ...form, actor_token: research.assertion(), actor_token_type: TOKEN_TYPE.jwt },
    })
    expect(both.status, both.text).toBe(200)
  })

  it('D14 a token is no subject token in the hands of somebody who is neither its holder nor its audience', async () => {
    const mine = tokenOf(await honest())
    const mineWith = (options: ExchangeOptions) => () => research.from(mine, form, options)
    await refusedWithoutTrace(house, () => payments.from(mine, form), ir('presenter_not_audience'), mineWith({}))
    await refusedWithoutTrace(house, mineWith({ proofKey: newKeyPair() }), ir('cnf_mismatch'), mineWith({}))
    await refusedWithoutTrace(house, mineWith({ proofKey: null }), ir('cnf_mismatch'), mineWith({}))
    const crm = tokenOf(await research.exchange({ form: { audience: 'crm', scope: 'crm:read_customer' } }))
    await refusedWithoutTrace(
      house,
      () => desk.from(crm, form),
      ir('presenter_not_audience'),
      () => desk.from(mine, { audience: 'crm', scope: 'crm:read_customer' }),
    )
  })

  it('D14 a hand-over token serves the agent it names and no other, and stays good for that one', async () => {
    const handOver = tokenOf(await research.handOver(tokenOf(await honest()), 'payments', form))
    for (const other of [triage, research, chain[0]!]) {
      await refusedWithoutTrace(house, () => other.accept(handOver, form), ir('may_act'))
    }
    expect((await payments.accept(handOver, form)).status).toBe(200)
    await refusedWithoutTrace(house, () => payments.accept(handOver, form), ir('replayed'), honest)
  })

  it('D14 a hand-over is made from an own token only, and to an agent that one may hand over to', async () => {
    const mine = tokenOf(await honest())
    await refuse(
      { ...form, requested_token_type: TOKEN_TYPE.handOver, delegate_to: 'payments' },
      ir('presenter_not_audience'),
    )
    await refuse({ ...form, requested_token_type: TOKEN_TYPE.handOver }, ir('param_missing'))
    await refuse({ ...form, delegate_to: 'payments' }, ir('bad_param'))
    for (const other of ['triage', 'research', 'nobody']) {
      await refusedWithoutTrace(
        house,
        () => research.handOver(mine, other, form),
        ir('policy_denied'),
        () => research.handOver(mine, 'payments', form),
      )
    }
  })

  it('D14 a tool that is an agent acts on the token of its caller, within the task and its own ceiling', async () => {
    const mine = tokenOf(await honest())
    const answer = await desk.from(mine, { audience: 'crm', scope: 'crm:read_customer' })
    const { payload } = decode(tokenOf(answer))
    const parent = decode(mine).payload as { exp: number; jti: string; task: { id: string } }
    expect(payload).toMatchObject({
      sub: 'dev|alice',
      client_id: 'desk',
      scope: 'crm:read_customer',
      act: {
        sub: 'spiffe://company.example/agents/desk',
        act: { sub: 'spiffe://company.example/agents/research' },
      },
      task: { root: parent.task.id, depth: 2 },
      cnf: { jkt: house.thumbprint(desk.proofKey) },
      hops: [expect.objectContaining({ jti: parent.jti })],
    })
    expect(payload['exp']).toBeLessThanOrEqual(parent.exp)
    // At itself it may do what it was asked to do, and no more; elsewhere no more than the task of its caller may.
    await refusedWithoutTrace(
      house,
      () => desk.from(mine, { audience: 'tickets', scope: 'tickets:add_comment' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      () => desk.from(mine, form),
    )
    await refusedWithoutTrace(
      house,
      () => desk.from(mine, { audience: 'crm', scope: 'crm:update_customer' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      () => desk.from(mine, form),
    )
  })

  it('D15 renewing for ever ends at the deadline of the task', async () => {
    const details = house.details({ deadline_seconds: 400 })
    const first = await research.exchange({ form: { ...form, request_details: details } })
    const deadline = house.now() + 400
    let token = tokenOf(first)
    for (; house.now() < deadline - 1; house.advance(Math.min(60, deadline - 1 - house.now()))) {
      token = tokenOf(await research.from(token, form))
      expect(decode(token).payload['exp']).toBeLessThanOrEqual(deadline)
    }
    house.advance(1)
    await refusedWithoutTrace(
      house,
      () => research.exchange({ form: { ...form, task_id: first.body['task_id'] as unknown as string } }),
      ir('task_expired'),
      honest,
    )
    expect((await research.from(token, form)).status).toBe(400)
  })

  it('D15 a task whose heartbeat was missed is over', async () => {
    const details = house.details({ heartbeat_seconds: 20 })
    const first = await research.exchange({ form: { ...form, request_details: details } })
    const task = first.body['task_id'] as unknown as string
    house.advance(15)
    expect((await research.call('POST', `/tasks/${task}/heartbeat`)).status).toBe(200)
    house.advance(15)
    expect((await research.exchange({ form: { ...form, task_id: task } })).status).toBe(200)
    house.advance(6)
    const answer = await research.exchange({ form: { ...form, task_id: task } })
    expect([answer.status, answer.body['reason']]).toEqual([400, 'task_expired'])
    await house.service.sweep()
    expect((await research.from(tokenOf(first), form)).body['error']).toBe('invalid_request')
  })

  it('D16 a repeated parameter, one in the query, and another media type are refused', async () => {
    const post = (path: string, body: string, type = 'application/x-www-form-urlencoded') =>
      house.fetch('POST', path, { headers: { 'content-type': type }, body })
    const basic = `grant_type=${encodeURIComponent(GRANT.exchange)}`
    await strangersWithoutTrace(
      house,
      [
        ...['grant_type', 'subject_token', 'scope', 'task_id', 'client_assertion', 'unheard_of'].map((name) => ({
          title: `${name} twice`,
          ...ir('param_duplicate'),
          send: () => post('/token', `${name}=a&${name}=b`),
        })),
        { title: 'an empty one beside', ...ir('param_duplicate'), send: () => post('/token', 'scope=&scope=b') },
        { title: 'in the query', ...ir('param_in_query'), send: () => post('/token?scope=a', basic) },
        ...['application/json', 'multipart/form-data; boundary=x', 'text/plain', ''].map((type) => ({
          title: `as ${type}`,
          status: 415,
          error: 'invalid_request',
          reason: 'media_type',
          send: () => post('/token', type === 'application/json' ? '{}' : basic, type || 'x'),
        })),
        { title: 'no grant type', ...ir('param_missing'), send: () => post('/token', 'scope=a') },
        {
          title: 'a grant type of its own',
          status: 400,
          error: 'unsupported_grant_type',
          reason: 'unsupported_grant_type',
          send: () => post('/token', 'grant_type=password&username=alice&password=x'),
        },
      ],
      honest,
    )
  })

  it('D17 subject and actor tokens of another tenant are those of nobody', async () => {
    const foreign = signJws(
      { typ: 'at+jwt', kid: 'k' },
      { ...decode(tokenOf(await honest())).payload, iss: 'https://other-tenant.example' },
      newKeyPair().privateKey,
    )
    const answer = await refuse(
      { ...form, subject_token: foreign, subject_token_type: TOKEN_TYPE.accessToken },
      ir('untrusted_issuer'),
    )
    expect(answer.text).not.toContain('tenant')
    await strangersWithoutTrace(
      house,
      [
        {
          title: 'actor token',
          ...ir('untrusted_issuer'),
          send: () =>
            research.exchange({
              form: {
                ...form,
                client_assertion: undefined,
                client_assertion_type: undefined,
                actor_token: research.assertion({ iss: 'https://other-tenant.example' }),
                actor_token_type: TOKEN_TYPE.jwt,
              },
            }),
        },
      ],
      honest,
    )
  })

  it('D18 a disabled subject gets nothing', async () => {
    await refuse(form, ir('subject_disabled'), { user: 'carol' })
  })

  it('D18 a banned agent gets nothing, by whichever of its names, until it is readmitted', async () => {
    for (const match of [
      { agent: 'spiffe://company.example/agents/fifth' },
      { client_id: 'fifth' },
      { client_id: 'fifth', aud: 'https://tickets.example.com/' },
    ]) {
      const fifth = chain[4]!
      const before = await fifth.exchange({ form })
      const other = await honest()
      const ban = await house.admin('POST', '/revocations', { match, mode: 'ban', reason: 'test of a ban' })
      expect(ban.status, ban.text).toBe(201)
      await refusedWithoutTrace(house, () => fifth.exchange({ form }), ir('banned'), honest)
      // What it holds is dead, and what others hold is not.
      expect((await fifth.from(tokenOf(before), form)).status).toBe(400)
      expect((await research.from(tokenOf(other), form)).status).toBe(200)
      const lifted = await house.admin('POST', `/revocations/${ban.body['id'] as unknown as string}/readmit`, {
        reason: 'looked into',
      })
      expect(lifted.status, lifted.text).toBe(200)
      expect((await fifth.exchange({ form })).status).toBe(200)
      expect((await fifth.from(tokenOf(before), form)).status).toBe(400)
    }
  })

  it('D18 a task that has ended, or is another’s, is no active task', async () => {
    const first = await honest()
    const task = first.body['task_id'] as unknown as string
    expect((await research.call('POST', `/tasks/${task}/complete`)).body['state']).toBe('completed')
    await refuse({ ...form, task_id: task }, ir('task_not_active'))
    await refusedWithoutTrace(house, () => research.from(tokenOf(first), form), ir('task_not_active'), honest)

    const theirs = (await chain[0]!.exchange({ form })).body['task_id'] as unknown as string
    await refuse({ ...form, task_id: theirs }, ir('task_not_active'))
    const alices = (await honest()).body['task_id'] as unknown as string
    await refuse({ ...form, task_id: alices }, ir('task_not_active'), { user: 'bob' })
  })

  // --- what one may not know ---------------------------------------------------------------------------------------

  /** All that an answer says, but for what is new each time and for the caller's own words. */
  const told = (answer: Answer, word: string) =>
    JSON.stringify([answer.status, { ...answer.body, decision_id: '' }])
      .replaceAll(word, '<asked>')
      .replace(/; or did you mean[^"]*"[^"]*\\"\?/g, '')

  it('D21 what is forbidden and what does not exist are answered alike: operations, tools, tasks, agents', async () => {
    const pairs: [string, (word: string) => Promise<Answer>, string, string][] = [
      [
        'an operation in scope',
        (word) => research.exchange({ form: { ...form, scope: `tickets:${word}` } }),
        'close_ticket',
        'eject_ticket',
      ],
      [
        'an operation in authorization_details, with an effect that is not its own',
        (word) =>
          research.exchange({
            form: {
              audience: 'warehouse',
              authorization_details: JSON.stringify([
                { type: 'tool', tool: 'warehouse', operations: [word], effect: 'read' },
              ]),
            },
          }),
        'drop_dataset',
        'drip_dataset',
      ],
      [
        'an operation by dry run',
        (word) => research.exchange({ form: { ...form, scope: `tickets:${word}`, dry_run: 'true' } }),
        'close_ticket',
        'eject_ticket',
      ],
      [
        'an audience',
        (word) =>
          triage.post({ grant_type: GRANT.clientCredentials, request_details: house.details(), audience: word }),
        'payments',
        'pigments',
      ],
      [
        'an audience URI',
        (word) => payments.exchange({ form: { audience: word } }),
        'https://crm.example.com/',
        'https://prm.example.com/',
      ],
      [
        'a resource',
        (word) => payments.exchange({ form: { resource: word } }),
        'https://crm.example.com/',
        'https://prm.example.com/',
      ],
      ['a tool in scope', (word) => payments.exchange({ form: { scope: `${word}:read_customer` } }), 'crm', 'xrm'],
      [
        'a tool beside an allowed one',
        (word) => payments.exchange({ form: { audience: ['tickets', word] } }),
        'crm',
        'xrm',
      ],
      [
        'an agent to hand over to',
        async (word) => research.handOver(tokenOf(await honest()), word, form),
        'triage',
        'triune',
      ],
    ]
    for (const [what, ask, forbidden, unknown] of pairs) {
      const [one, other] = [await ask(forbidden), await ask(unknown)]
      expect(told(one, forbidden), what).toBe(told(other, unknown))
    }
    // What to do next is true of both: an operation that does not exist in a ceiling would not load.
    for (const word of ['close_ticket', 'eject_ticket'])
      expect((await research.exchange({ form: { ...form, scope: `tickets:${word}` } })).body['next']).toMatch(
        new RegExp(
          `^\`tickets:${word}\` is not in the ceiling in \\S+research\\.yaml; if the tool has this operation, add it there`,
        ),
      )

    const theirs = await chain[0]!.exchange({
      form: { ...form, request_details: house.details({ deadline_seconds: 5 }) },
    })
    const task = theirs.body['task_id'] as unknown as string
    const absent = 'task_AAAAAAAAAAAAAAAAAAAAAA'
    const ask = (id: string) => research.exchange({ form: { ...form, task_id: id } })
    expect(told(await ask(task), task)).toBe(told(await ask(absent), absent))
    house.advance(6)
    expect(told(await ask(task), task), 'also when it has expired').toBe(told(await ask(absent), absent))
    const look = (id: string) => research.call('GET', `/tasks/${id}`)
    expect(told(await look(task), task)).toBe(told(await look(absent), absent))
  })

  it('D21 neither a largest set nor an explanation names an operation beyond the ceiling', async () => {
    const dry = await research.exchange({ form: { audience: 'warehouse', dry_run: 'true' } })
    expect(dry.text).toContain('run_query')
    expect(dry.text).not.toContain('drop_dataset')
    const why = await research.call('GET', `/explanations/${dry.body['decision_id'] as unknown as string}`)
    expect(why.status, why.text).toBe(200)
    expect(why.text).not.toContain('drop_dataset')
    const asked = await research.exchange({ form: { scope: 'warehouse:drop_dataset' } })
    const told = await research.call('GET', `/explanations/${asked.body['decision_id'] as unknown as string}`)
    expect(told.text).not.toContain('privileged')
  })

  it('D22 a refresh token, an id token and whatever else is no token of ours are not issued', async () => {
    await strangersWithoutTrace(
      house,
      [TOKEN_TYPE.refreshToken, TOKEN_TYPE.idToken, TOKEN_TYPE.saml2, 'urn:example:other'].map((type) => ({
        title: type,
        ...ir('token_type_unsupported'),
        send: async () => {
          const answer = await research.exchange({ form: { ...form, requested_token_type: type } })
          expect(answer.body['reason']).toBe('token_type_unsupported')
          return answer
        },
      })),
      honest,
    )
  })

  it('D24 a renewal asks for no more than the ceiling, and a task opens with no more', async () => {
    const mine = tokenOf(await honest())
    await refusedWithoutTrace(
      house,
      () => research.from(mine, { audience: 'tickets', scope: 'tickets:read_ticket tickets:close_ticket' }),
      ir('policy_denied'),
      () => research.from(mine, form),
    )
    await refusedWithoutTrace(
      house,
      () => research.from(mine, { audience: 'tickets', scope: 'tickets:add_comment' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      () => research.from(mine, form),
    )
    for (const scope of ['tickets:close_ticket', 'tickets:read_ticket payments:refund', 'nowhere:read']) {
      await refusedWithoutTrace(
        house,
        () =>
          research.call('POST', '/tasks', {
            ...(JSON.parse(house.details()) as object),
            subject_token: house.userToken('alice'),
            subject_token_type: TOKEN_TYPE.idToken,
            scope,
          }),
        { status: 400, error: 'invalid_scope', reason: 'scope_not_granted', record: 'task.refused' },
        honest,
      )
    }
  })

  it('D24 an agent that may not work for itself opens no task for itself', async () => {
    await refusedWithoutTrace(
      house,
      () => research.post({ grant_type: GRANT.clientCredentials, request_details: house.details(), ...form }),
      { status: 400, error: 'unauthorized_client', reason: 'grant_not_allowed' },
      honest,
    )
    await refusedWithoutTrace(
      house,
      () => research.call('POST', '/tasks', JSON.parse(house.details())),
      { status: 400, error: 'unauthorized_client', reason: 'grant_not_allowed', record: 'task.refused' },
      honest,
    )
  })

  it('D25 a user_id, agent_id or tenant in the body is no credential', async () => {
    const post = (body: Record<string, string>) =>
      house.fetch('POST', '/token', {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(body).toString(),
      })
    const named = { user_id: 'alice', agent_id: 'research', tenant: 'default', client_id: 'research' }
    await strangersWithoutTrace(
      house,
      [GRANT.exchange, GRANT.clientCredentials].map((grant_type) => ({
        title: grant_type,
        status: 401,
        error: 'invalid_client',
        reason: 'client_auth_required',
        send: () => post({ grant_type, ...named }),
      })),
      honest,
    )
  })

  // --- last, since it changes the configuration --------------------------------------------------------------------

  it('D23 a token that another policy set decided dies by the policy entry', async () => {
    const before = tokenOf(await honest())
    const { pol } = decode(before).payload
    const tickets = await house.tool('tickets')
    expect((await tickets.form('/introspect', { token: before })).body['active']).toBe(true)
    const file = house.config('policies/base.cedar')
    await writeFile(
      file,
      (await readFile(file, 'utf8')).replace(
        'unless { context.autonomous };',
        'unless { context.autonomous || context.depth > 3 };',
      ),
    )
    expect(await house.service.reload()).toBe(true)
    await expect.poll(async () => (await house.records({ type: 'revocation.added' }))[0]?.['by']).toBe('system')
    expect((await tickets.form('/introspect', { token: before })).body).toEqual({ active: false })
    const after = tokenOf(await honest())
    expect(decode(after).payload['pol']).not.toBe(pol)
    expect((await tickets.form('/introspect', { token: after })).body['active']).toBe(true)
    await refusedWithoutTrace(
      house,
      () => research.from(before, form),
      ir('revoked'),
      () => research.from(after, form),
    )
  })

  it('D18 a subject that is disabled while its task runs gets nothing more', async () => {
    const mine = tokenOf(await honest())
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    const file = house.config('issuers/dev.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('disabled_subjects: [carol]', 'disabled_subjects: [carol, alice]'))
    expect(await house.service.reload()).toBe(true)
    const bob = () => research.exchange({ form, user: 'bob' })
    await refusedWithoutTrace(house, honest, ir('subject_disabled'), bob)
    await refusedWithoutTrace(house, () => research.from(mine, form), ir('subject_disabled'), bob)
    await refusedWithoutTrace(house, () => payments.accept(handOver, form), ir('subject_disabled'), bob)
    await writeFile(file, text)
    expect(await house.service.reload()).toBe(true)
    expect((await payments.accept(handOver, form)).status).toBe(200)
  })
})
