/** What an exchange gives when nothing stands against it. */
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { adviser, chainOfAgents, wiki } from '../company.ts'
import { type Answer, decode, type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}
const payloadOf = (answer: Answer) => decode(tokenOf(answer)).payload

describe('an exchange', () => {
  let house: House
  let research: Agent
  let payments: Agent
  let triage: Agent
  beforeAll(async () => {
    house = await openHouse({ config: { ...adviser, ...chainOfAgents(), ...wiki } })
    research = await house.agent('research')
    payments = await house.agent('payments')
    triage = await house.agent('triage')
  })
  afterAll(() => house.close())

  const form = { audience: 'tickets', scope: 'tickets:read_ticket' }

  it('gives an attested agent a token for its task, and writes it down before it leaves', async () => {
    const answer = await research.exchange({ form })
    const { header, payload } = decode(tokenOf(answer))
    expect(header).toEqual({ typ: 'at+jwt', alg: 'ES256', kid: expect.any(String) })
    expect(payload).toEqual({
      iss: 'http://127.0.0.1:4460',
      aud: 'https://tickets.example.com/',
      sub: 'dev|alice',
      client_id: 'research',
      act: { sub: 'spiffe://company.example/agents/research' },
      scope: 'tickets:read_ticket',
      authorization_details: [{ type: 'tool', tool: 'tickets', effect: 'read', operations: ['read_ticket'] }],
      cnf: { jkt: house.thumbprint(research.proofKey) },
      task: { id: answer.body['task_id'], root: answer.body['task_id'], depth: 1 },
      att: { kind: 'private_key_jwt', tier: 'key' },
      iat: house.now(),
      exp: house.now() + 300,
      jti: expect.stringMatching(/^[A-Za-z0-9_-]{27}$/),
      rev: expect.stringMatching(/^\d+\.\d+$/),
      pol: house.service.snapshot().policyDigest,
      dev: true,
    })
    expect(answer.body).toEqual({
      access_token: expect.any(String),
      issued_token_type: TOKEN_TYPE.accessToken,
      token_type: 'DPoP',
      expires_in: 300,
      scope: payload['scope'],
      authorization_details: payload['authorization_details'],
      task_id: expect.stringMatching(/^task_[A-Za-z0-9_-]{22}$/),
      decision_id: expect.stringMatching(/^dec_/),
      log: { id: house.service.log.logId, index: expect.any(Number) },
    })
    expect(answer.headers.get('cache-control')).toBe('no-store')
    expect(answer.headers.get('pragma')).toBe('no-cache')
    expect(answer.headers.get('dpop-nonce')).toBeTruthy()
    const [record] = await house.records({ jti: payload['jti'] as string })
    expect(record).toMatchObject({
      i: (answer.body['log'] as unknown as { index: number }).index,
      type: 'token.issuing',
      decision: 'permit',
      decision_id: answer.body['decision_id'],
      agent: 'research',
      tool: 'tickets',
      operations: ['read_ticket'],
    })
    const text = JSON.stringify(record)
    expect(text).not.toContain('alice')
    expect(text).not.toContain('answer a question')
    expect(text).not.toContain(tokenOf(answer).split('.')[2])
  })

  it('takes the tool by name, by audience and by resource, and the scope alone', async () => {
    for (const target of [
      { audience: 'tickets' },
      { audience: 'https://tickets.example.com/' },
      { resource: 'https://tickets.example.com/' },
      {},
    ]) {
      const answer = await research.exchange({ form: { scope: 'tickets:read_ticket', ...target } })
      expect(payloadOf(answer)['aud'], JSON.stringify(target)).toBe('https://tickets.example.com/')
    }
  })

  it('without a scope gives the largest permitted set, which what policy says of one operation shortens', async () => {
    const { payload } = decode(tokenOf(await research.exchange({ form: { audience: 'tickets' } })))
    expect(payload['scope']).toBe('tickets:add_comment tickets:read_ticket tickets:search_tickets')
    expect(payload['authorization_details']).toEqual([
      { type: 'tool', tool: 'tickets', effect: 'read', operations: ['read_ticket', 'search_tickets'] },
      { type: 'tool', tool: 'tickets', effect: 'reversible_write', operations: ['add_comment'] },
    ])
    // add_comment is reversible_for_users: 120 s.
    expect((payload['exp'] as number) - (payload['iat'] as number)).toBe(120)
  })

  it('grants arguments as far as asked for, within those of user and ceiling', async () => {
    const ask = (constraints?: object) =>
      payments.exchange({
        form: {
          audience: 'payments',
          authorization_details: JSON.stringify([
            { type: 'tool', tool: 'payments', operations: ['refund'], ...(constraints ? { constraints } : {}) },
          ]),
        },
      })
    const granted = (answer: Answer) =>
      (payloadOf(answer)['authorization_details'] as { constraints: { properties: object } }[])[0]?.constraints
        .properties
    expect(granted(await ask())).toEqual({
      amount_cents: { type: 'integer', minimum: 1, maximum: 20_000 },
      currency: { enum: ['EUR', 'GBP', 'USD'] },
    })
    const small = { type: 'object', properties: { amount_cents: { type: 'integer', maximum: 700 } } }
    expect(granted(await ask(small))).toEqual({
      amount_cents: { type: 'integer', minimum: 1, maximum: 700 },
      currency: { enum: ['EUR', 'GBP', 'USD'] },
    })
  })

  it('goes on with a task that it opened, for other tools and with a fresh token of the user', async () => {
    const first = await research.exchange({ form })
    const task_id = first.body['task_id'] as unknown as string
    const second = await research.exchange({ form: { audience: 'crm', scope: 'crm:read_customer', task_id } })
    expect(second.body['task_id']).toBe(task_id)
    expect(payloadOf(second)).toMatchObject({ aud: 'https://crm.example.com/', task: { id: task_id, depth: 1 } })
    const task = await research.call('GET', `/tasks/${task_id}`)
    expect((task.body['tokens'] as unknown as object[]).length).toBe(2)
  })

  it('narrows and renews an own token for its audience, under the same task', async () => {
    const wide = await research.exchange({ form: { audience: 'tickets' } })
    house.advance(20)
    const narrow = await research.from(tokenOf(wide), form)
    expect(payloadOf(narrow)).toMatchObject({
      scope: 'tickets:read_ticket',
      task: payloadOf(wide)['task'],
      act: payloadOf(wide)['act'],
      iat: house.now(),
    })
    // What was given up does not come back.
    const again = await research.from(tokenOf(narrow), { audience: 'tickets' })
    expect(payloadOf(again)['scope']).toBe('tickets:read_ticket')
  })

  it('opens a task for the agent itself where that is permitted: no user, no act', async () => {
    const answer = await triage.post({
      grant_type: GRANT.clientCredentials,
      audience: 'tickets',
      request_details: house.details({ purpose: 'nightly triage' }),
    })
    const payload = payloadOf(answer)
    expect(payload).toMatchObject({
      sub: 'spiffe://company.example/agents/triage',
      client_id: 'triage',
      scope: 'tickets:read_ticket tickets:search_tickets',
    })
    expect(payload['act']).toBeUndefined()
    expect((payload['exp'] as number) - (payload['iat'] as number)).toBe(60)
    const task_id = answer.body['task_id'] as unknown as string
    const more = await triage.post({ grant_type: GRANT.clientCredentials, audience: 'github', task_id })
    expect(payloadOf(more)).toMatchObject({ aud: 'https://github-gateway.example.com/', task: { id: task_id } })
  })

  it('hands a narrower part of a task to another agent, whose token shows the chain', async () => {
    const mine = await research.exchange({ form: { audience: 'tickets' } })
    const handOver = await research.handOver(tokenOf(mine), 'payments', {
      audience: 'tickets',
      scope: 'tickets:read_ticket',
    })
    expect(handOver.body).toMatchObject({
      issued_token_type: TOKEN_TYPE.handOver,
      token_type: 'N_A',
      expires_in: 60,
      scope: 'tickets:read_ticket',
    })
    const { header, payload: given } = decode(tokenOf(handOver))
    expect(header['typ']).toBe('errand-handover+jwt')
    expect(given).toMatchObject({
      aud: 'http://127.0.0.1:4460',
      may_act: { iss: 'http://127.0.0.1:4460', sub: 'spiffe://company.example/agents/payments' },
    })
    expect(given['cnf']).toBeUndefined()
    const child = await payments.accept(tokenOf(handOver), { audience: 'tickets' })
    const payload = payloadOf(child)
    expect(payload).toMatchObject({
      sub: 'dev|alice',
      client_id: 'payments',
      scope: 'tickets:read_ticket',
      act: {
        sub: 'spiffe://company.example/agents/payments',
        act: { sub: 'spiffe://company.example/agents/research' },
      },
      cnf: { jkt: house.thumbprint(payments.proofKey) },
      task: { root: mine.body['task_id'], depth: 2 },
    })
    const tree = await research.call('GET', `/tasks/${mine.body['task_id'] as unknown as string}`)
    expect(tree.body['children']).toMatchObject([{ id: child.body['task_id'], agent: 'payments', depth: 2 }])
  })

  it('decides a dry run as it would the request, and changes nothing: not even for an agent that gets no tokens', async () => {
    const picture = async () => ({
      tasks: (await house.service.stores.tasks.list({ limit: 1000 })).map(({ id, spent }) => ({ id, spent })),
      epoch: await house.service.stores.revocations.epoch(),
      issued: (await house.records({ type: 'token.issuing' })).length,
    })
    const mine = tokenOf(await research.exchange({ form }))
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    const before = await picture()
    const dry = await research.exchange({ form: { ...form, dry_run: 'true' } })
    expect(dry.body).toMatchObject({
      dry_run: true,
      allowed: true,
      decision_id: expect.stringMatching(/^dec_/),
      would_issue: {
        audience: 'https://tickets.example.com/',
        scope: 'tickets:read_ticket',
        expires_in: 300,
        token_type: 'DPoP',
      },
      verdicts: [{ tool: 'tickets', operation: 'read_ticket', permitted: true, policies: ['read_for_users'] }],
    })
    expect(dry.body['access_token']).toBeUndefined()
    expect(dry.body['task_id']).toBeUndefined()
    const denied = await research.exchange({ form: { ...form, scope: 'tickets:close_ticket', dry_run: 'true' } })
    expect(denied.body).toMatchObject({ allowed: false, verdicts: [{ permitted: false, lost_at: 'ceiling' }] })
    expect(denied.body['would_issue']).toBeUndefined()
    expect((await payments.accept(handOver, { ...form, dry_run: 'true' })).body['allowed']).toBe(true)

    const advising = await house.agent('adviser')
    const advice = await advising.exchange({ form: { ...form, dry_run: 'true' } })
    expect([advice.status, advice.body['dry_run']]).toEqual([200, true])
    expect(await picture()).toEqual(before)
    await refusedWithoutTrace(
      house,
      () => advising.exchange({ form }),
      { status: 400, error: 'invalid_request', reason: 'stage_no_token' },
      () => advising.exchange({ form: { ...form, dry_run: 'true' } }),
    )
    // The hand-over of the dry run is unspent.
    expect((await payments.accept(handOver, form)).status).toBe(200)
  })

  it('gives a bearer token only where the tool takes one, for 60 s and to read', async () => {
    const reader = await house.agent('reader')
    const bearer = await reader.exchange({ form: { audience: 'wiki' }, proofKey: null })
    expect(bearer.body).toMatchObject({ token_type: 'Bearer', expires_in: 60, scope: 'wiki:read_page' })
    expect(payloadOf(bearer)['cnf']).toBeUndefined()
    await refusedWithoutTrace(
      house,
      () => reader.exchange({ form, proofKey: null }),
      { status: 400, error: 'invalid_dpop_proof', reason: 'proof_required' },
      () => reader.exchange({ form }),
    )
    // Nobody can prove to hold it, so nobody can renew it.
    await refusedWithoutTrace(
      house,
      () => reader.from(tokenOf(bearer), { audience: 'wiki' }),
      { status: 400, error: 'invalid_request', reason: 'presenter_not_audience' },
      () => reader.exchange({ form: { audience: 'wiki' }, proofKey: null }),
    )
    // With a proof it may write, and still lives 60 s: the wiki hears of no revocation.
    const bound = await reader.exchange({ form: { audience: 'wiki' } })
    expect(bound.body).toMatchObject({ token_type: 'DPoP', expires_in: 60, scope: 'wiki:read_page wiki:write_page' })
  })

  it('charges the budget of exchanges to the task and to all above it, and refuses when it is used up', async () => {
    const details = house.details({ budget: { max_exchanges: 4 } })
    const mine = await research.exchange({ form: { ...form, request_details: details } })
    const task_id = mine.body['task_id'] as unknown as string
    const spent = async (id: string) => (await house.service.stores.tasks.get(id))?.spent.exchanges
    expect(await spent(task_id)).toBe(1)
    const handOver = tokenOf(await research.handOver(tokenOf(mine), 'payments', form))
    const child = await payments.accept(handOver, form)
    expect([await spent(task_id), await spent(child.body['task_id'] as unknown as string)]).toEqual([3, 1])
    const second = tokenOf(await research.handOver(tokenOf(mine), 'payments', form))
    const exhausted = { status: 400, error: 'invalid_request', reason: 'budget_exhausted' }
    const beside = () => research.exchange({ form })
    await refusedWithoutTrace(house, () => research.from(tokenOf(mine), form), exhausted, beside)
    await refusedWithoutTrace(house, () => payments.accept(second, form), exhausted, beside)
    await refusedWithoutTrace(house, () => payments.from(tokenOf(child), form), exhausted, beside)
  })

  it('spends no grant and opens no task for what the budget of a task further up refuses', async () => {
    const desks = await Promise.all(['first', 'second', 'third'].map((name) => house.agent(name)))
    const [first, second, third] = desks as [Agent, Agent, Agent]
    const details = house.details({ budget: { max_exchanges: 4 } })
    const root = await first.exchange({ form: { ...form, request_details: details } })
    const toSecond = tokenOf(await first.handOver(tokenOf(root), 'second', form))
    const child = tokenOf(await second.accept(toSecond, form))
    const toThird = tokenOf(await second.handOver(child, 'third', form))
    await refusedWithoutTrace(
      house,
      () => third.accept(toThird, form),
      { status: 400, error: 'invalid_request', reason: 'budget_exhausted' },
      () => third.exchange({ form }),
    )
  })

  it('issues nothing, opens nothing and spends no grant while the audit log cannot be written', async () => {
    const mine = tokenOf(await research.exchange({ form }))
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    const { log, stores } = house.service
    const { healthy } = log
    const tasks = async () => (await stores.tasks.list({ limit: 1000 })).length
    const before = [await tasks(), log.size]
    Object.assign(log, { healthy: () => false })
    const answer = await payments.accept(handOver, form)
    Object.assign(log, { healthy })
    expect([answer.status, answer.body['error']]).toEqual([503, 'temporarily_unavailable'])
    expect(answer.headers.get('retry-after')).toMatch(/^[1-9]/)
    expect([await tasks(), log.size]).toEqual(before)
    expect((await payments.accept(handOver, form)).status).toBe(200)
  })

  it('never overspends by parallel exchanges', async () => {
    const details = house.details({ budget: { max_exchanges: 5 } })
    const first = await research.exchange({ form: { ...form, request_details: details } })
    const task_id = first.body['task_id'] as unknown as string
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => research.exchange({ form: { ...form, task_id } })),
    )
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(4)
    expect((await house.service.stores.tasks.get(task_id))?.spent.exchanges).toBe(5)
  })

  it('of parallel uses of one hand-over token gives one a token', async () => {
    const mine = tokenOf(await research.exchange({ form }))
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    const answers = await Promise.all(Array.from({ length: 6 }, () => payments.accept(handOver, form)))
    expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
    const { id } = decode(mine).payload['task'] as { id: string }
    const tree = await research.call('GET', `/tasks/${id}`)
    expect((tree.body['children'] as unknown as object[]).length).toBe(1)
  })

  it('keeps the chain of an issuer that may delegate, and counts it', async () => {
    const file = house.config('issuers/dev.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, text.replace('disabled_subjects:', 'may_delegate: true\ndisabled_subjects:'))
    expect(await house.service.reload()).toBe(true)
    const agent = (name: string, act?: object) => ({ sub: `spiffe://partner.example/${name}`, ...(act ? { act } : {}) })
    const given = (act: unknown) =>
      research.exchange({ form: { ...form, subject_token: house.userToken('alice', { act }) } })
    const answer = await given(agent('planner', agent('intake')))
    expect(payloadOf(answer)['act']).toEqual({
      sub: 'spiffe://company.example/agents/research',
      act: agent('planner', agent('intake')),
    })
    const three = await given(agent('a', agent('b', agent('c'))))
    expect(three.status).toBe(200)
    const handOver = await research.handOver(tokenOf(three), 'payments', form)
    expect(handOver.body['reason']).toBe('depth')
    for (const [act, reason] of [
      [agent('a', agent('b', agent('c', agent('d')))), 'depth'],
      [agent('a', agent('b', agent('c', agent('d', agent('e'))))), 'depth'],
      [{ sub: 'alice' }, 'bad_claim'],
      [{}, 'bad_claim'],
      [[], 'bad_claim'],
      [{ ...agent('a'), client_id: 'x' }, 'unknown_claim'],
    ] as const) {
      await refusedWithoutTrace(
        house,
        () => given(act),
        { status: 400, error: 'invalid_request', reason },
        () => given(agent('planner')),
      )
    }
    await writeFile(file, text)
    expect(await house.service.reload()).toBe(true)
  })
})
