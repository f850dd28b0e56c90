/** D20: a request that is sent again with its `Idempotency-Key` has one effect and one token. */
import { afterEach, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import {
  type Answer,
  decode,
  type ExchangeOptions,
  type House,
  type HouseOptions,
  newKeyPair,
  openHouse,
} from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>

const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
const tokenOf = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}
const payloadOf = (answer: Answer) => decode(tokenOf(answer)).payload

describe('a retried exchange', () => {
  let house: House
  let research: Agent
  let payments: Agent
  const open = async (options: HouseOptions = {}) => {
    house = await openHouse(options)
    research = await house.agent('research')
    payments = await house.agent('payments')
  }
  afterEach(() => house.close())

  const keyed = (key = 'retry-key-1'): ExchangeOptions => ({ headers: { 'idempotency-key': key } })
  /** One text of details for all tries: a retry says the same. */
  const asking = (more: object = {}) => ({ ...form, request_details: house.details(more) })
  const issued = async () => (await house.records({ type: 'token.issuing' })).length
  const tasks = async () => (await house.service.stores.tasks.list({ limit: 100 })).length

  it('D20 a lost response, sent again: the same claims under a new signature, one task, one record', async () => {
    await open()
    const request = { ...keyed(), form: asking() }
    const first = await research.exchange(request)
    house.advance(5)
    const again = await research.exchange(request)
    expect(payloadOf(again)).toEqual(payloadOf(first))
    expect(tokenOf(again)).not.toBe(tokenOf(first))
    expect(again.body['expires_in']).toBe((first.body['expires_in'] as unknown as number) - 5)
    for (const name of ['task_id', 'decision_id', 'log', 'scope', 'issued_token_type', 'token_type']) {
      expect(again.body[name]).toEqual(first.body[name])
    }
    expect([await issued(), await tasks()]).toEqual([1, 1])
    expect((await house.records({ type: 'token.reissued' })).length).toBe(1)
    const tickets = await house.tool('tickets')
    expect((await tickets.form('/introspect', { token: tokenOf(again) })).body['active']).toBe(true)
  })

  it('D20 the same key with another request is a conflict, whatever differs', async () => {
    await open()
    const user = { ...keyed(), form: asking() }
    const first = await research.exchange(user)
    const conflicting: [string, ExchangeOptions][] = [
      ['scope', { form: { ...asking(), scope: 'tickets:search_tickets' } }],
      ['no scope', { form: { ...asking(), scope: undefined } }],
      ['target', { form: { request_details: house.details(), audience: 'crm', scope: 'crm:read_customer' } }],
      ['subject', { form: asking(), user: 'bob' }],
      ['details of the task', { form: asking({ deadline_seconds: 901 }) }],
      ['task', { form: { ...form, task_id: first.body['task_id'] as unknown as string } }],
    ]
    for (const [what, other] of conflicting) {
      const answer = await refusedWithoutTrace(
        house,
        () => research.exchange({ ...keyed(), ...other }),
        { status: 422, error: 'invalid_request', reason: 'idempotency_conflict' },
        () => research.exchange(user),
      )
      expect(answer.status, what).toBe(422)
    }
  })

  it('D20 the key is bound to client and proof key: another’s same key is another request', async () => {
    await open()
    const first = await research.exchange({ ...keyed(), form: asking() })
    const otherKey = await research.exchange({ ...keyed(), form: asking(), proofKey: newKeyPair() })
    const otherClient = await payments.exchange({ ...keyed(), form: asking() })
    const tokens = [first, otherKey, otherClient].map((answer) => payloadOf(answer)['jti'])
    expect(new Set(tokens).size).toBe(3)
    expect(await tasks()).toBe(3)
  })

  it('D20 evidence, proof and nonce are fresh each time: a retry with the old ones is a replay', async () => {
    await open()
    const assertion = research.assertion()
    const request = { ...keyed(), form: { ...asking(), client_assertion: assertion } }
    expect((await research.exchange(request)).status).toBe(200)
    await refusedWithoutTrace(
      house,
      () => research.exchange(request),
      { status: 401, error: 'invalid_client', reason: 'evidence_replayed', stranger: true },
      () => research.exchange({ ...keyed(), form: asking() }),
    )
  })

  it('D20 what the first try issued has expired: the retry is told so, and issues nothing', async () => {
    await open()
    const request = { ...keyed(), form: asking() }
    const first = await research.exchange(request)
    house.advance(first.body['expires_in'] as unknown as number)
    await refusedWithoutTrace(
      house,
      () => research.exchange(request),
      { status: 400, error: 'invalid_request', reason: 'expired' },
      () => research.exchange({ ...keyed('retry-key-2'), form: asking() }),
    )
  })

  it('D20 revocation is asked anew: by an entry since the first try the answer is dead', async () => {
    await open()
    const request = { ...keyed(), form: asking() }
    const first = await research.exchange(request)
    const task = first.body['task_id'] as unknown as string
    const client = payloadOf(first)['client_id']
    for (const [match, key] of [
      [{ jti: payloadOf(first)['jti'] }, 'retry-key-2'],
      [{ client_id: client }, 'retry-key-3'],
      [{ task }, 'retry-key-4'],
      [{ sub: 'dev|alice', aud: 'https://tickets.example.com/' }, 'retry-key-5'],
    ] as const) {
      const cut = await house.admin('POST', '/revocations', { match, mode: 'cut', reason: 'test of a cut' })
      expect(cut.status, cut.text).toBe(201)
      await refusedWithoutTrace(
        house,
        () => research.exchange(request),
        { status: 400, error: 'invalid_request', reason: 'revoked' },
        () => research.exchange({ ...keyed(key), form: asking() }),
      )
    }
  })

  it('D20 a task that was completed since is not brought back', async () => {
    await open()
    const request = { ...keyed(), form: asking() }
    const first = await research.exchange(request)
    await research.call('POST', `/tasks/${first.body['task_id'] as unknown as string}/complete`)
    const answer = await research.exchange(request)
    expect(answer.status, answer.text).toBe(400)
    expect(['revoked', 'task_not_active']).toContain(answer.body['reason'])
    expect([await issued(), await tasks()]).toEqual([1, 1])
  })

  it('D20 of the same request twice at once one is answered now and the other with the same, or told to wait', async () => {
    await open()
    const request = { ...keyed(), form: asking() }
    const answers = await Promise.all(Array.from({ length: 8 }, () => research.exchange(request)))
    const given = answers.filter(({ status }) => status === 200)
    expect(given.length).toBeGreaterThan(0)
    expect(new Set(given.map((answer) => payloadOf(answer)['jti'])).size).toBe(1)
    for (const answer of answers) {
      if (answer.status === 200) continue
      expect([answer.status, answer.body['error']]).toEqual([503, 'temporarily_unavailable'])
      expect(answer.headers.get('retry-after')).toMatch(/^[1-9]/)
    }
    expect([await issued(), await tasks()]).toEqual([1, 1])
    expect(payloadOf(await research.exchange(request))['jti']).toBe(payloadOf(given[0]!)['jti'])
  })

  it('D20 a hand-over that the first try spent counts for that key only', async () => {
    await open()
    const mine = tokenOf(await research.exchange({ form }))
    const handOver = tokenOf(await research.handOver(mine, 'payments', form))
    const first = await payments.accept(handOver, form, keyed())
    expect(payloadOf(await payments.accept(handOver, form, keyed()))).toEqual(payloadOf(first))
    const replayed = { status: 400, error: 'invalid_request', reason: 'replayed' }
    for (const other of [keyed('retry-key-2'), {}, { ...keyed(), proofKey: newKeyPair() }]) {
      await refusedWithoutTrace(
        house,
        () => payments.accept(handOver, form, other),
        replayed,
        () => payments.accept(handOver, form, keyed()),
      )
    }
    expect(await tasks()).toBe(2)
  })

  it('D20 a hand-over token is given again too', async () => {
    await open()
    const mine = tokenOf(await research.exchange({ form }))
    const first = await research.handOver(mine, 'payments', form, keyed())
    const again = await research.handOver(mine, 'payments', form, keyed())
    expect(payloadOf(again)).toEqual(payloadOf(first))
    expect((await payments.accept(tokenOf(again), form)).status).toBe(200)
    const spent = await payments.accept(tokenOf(first), form)
    expect(spent.body['reason']).toBe('replayed')
  })

  it('D20 a refusal gives the key back', async () => {
    await open()
    const many = { ...asking(), budget: undefined }
    const first = await research.exchange({ form: asking({ budget: { max_exchanges: 1 } }) })
    const task_id = first.body['task_id'] as unknown as string
    await refusedWithoutTrace(
      house,
      () => research.exchange({ ...keyed(), form: { ...form, task_id } }),
      { status: 400, error: 'invalid_request', reason: 'budget_exhausted' },
      () => research.exchange({ ...keyed(), form: many }),
    )
  })

  it('D20 a budget is charged once for a request and its retries, and again once they are forgotten', async () => {
    await open()
    const first = await research.exchange({ form: asking({ budget: { max_exchanges: 3 }, deadline_seconds: 3600 }) })
    const task_id = first.body['task_id'] as unknown as string
    const spent = async () => (await house.service.stores.tasks.get(task_id))?.spent.exchanges
    const request = { ...keyed(), form: { ...form, task_id } }
    for (let round = 0; round < 3; round++) expect((await research.exchange(request)).status).toBe(200)
    expect(await spent()).toBe(2)
    house.advance(700)
    expect((await research.exchange(request)).status).toBe(200)
    expect(await spent()).toBe(3)
    house.advance(700)
    expect((await research.exchange(request)).body['reason']).toBe('budget_exhausted')
  })

  it('D20 a key that nobody could remember is refused, not dropped', async () => {
    await open()
    const answer = await research.exchange({ form, headers: { 'idempotency-key': 'short' } })
    expect([answer.status, answer.body['reason']]).toEqual([400, 'bad_param'])
    expect(await issued()).toBe(0)
  })

  it('D20 a dry run neither uses nor fills the memory of a key', async () => {
    await open()
    const dry = await research.exchange({ ...keyed(), form: { ...asking(), dry_run: 'true' } })
    expect(dry.body['allowed']).toBe(true)
    expect(
      (await research.exchange({ ...keyed(), form: { ...asking(), scope: 'tickets:search_tickets' } })).status,
    ).toBe(200)
  })

  /** Stops the first try at a place, as a crash would: what came after it never happens. */
  for (const [where, method] of [
    ['after the task was opened, before its record', 'append'],
    ['after the record, before it is remembered', 'complete'],
  ] as const) {
    it(`D20 P1 stopped ${where}: the retry goes on with the same task and grant`, async () => {
      await open()
      const mine = tokenOf(await research.exchange({ form }))
      const handOver = tokenOf(await research.handOver(mine, 'payments', form))
      const target = method === 'append' ? house.service.log : house.service.stores.idempotency
      const honest = (target as unknown as Record<string, (...given: unknown[]) => unknown>)[method]!
      let crashed = false
      const crash = (...given: unknown[]) => {
        const event = given[0] as { type?: string }
        if (crashed || (method === 'append' && event.type !== 'token.issuing')) return honest(...given)
        crashed = true
        throw new Unavailable('store_unavailable', 'stopped here')
      }
      Object.assign(target, { [method]: crash })
      const before = await tasks()
      const first = await payments.accept(
        handOver,
        { ...form, request_details: house.details({ deadline_seconds: 100 }) },
        keyed(),
      )
      expect([first.status, crashed]).toEqual([503, true])
      expect(await tasks()).toBe(before + 1)
      // A crash would not have given the key back: its claim lapses.
      house.advance(12)
      const again = await payments.accept(
        handOver,
        { ...form, request_details: house.details({ deadline_seconds: 100 }) },
        keyed(),
      )
      expect(await tasks()).toBe(before + 1)
      const task = await house.service.stores.tasks.get(again.body['task_id'] as unknown as string)
      expect(payloadOf(again)['exp']).toBeLessThanOrEqual(task!.deadline)
      expect((await payments.accept(handOver, form)).body['reason']).toBe('replayed')
    })
  }

  it('D20 who was paused with the key in hand gives nothing: another may have taken it over meanwhile', async () => {
    await open()
    const handOver = tokenOf(await research.handOver(tokenOf(await research.exchange({ form })), 'payments', form))
    const { idempotency } = house.service.stores
    const { claim } = idempotency
    const paused: typeof claim = async (...given) => {
      const claimed = await claim(...given)
      Object.assign(idempotency, { claim })
      house.advance(11)
      return claimed
    }
    Object.assign(idempotency, { claim: paused })
    const before = await issued()
    expect((await payments.accept(handOver, form, keyed())).body['error']).toBe('temporarily_unavailable')
    const again = await payments.accept(handOver, form, keyed())
    expect(payloadOf(await payments.accept(handOver, form, keyed()))).toEqual(payloadOf(again))
    expect(await issued()).toBeLessThanOrEqual(before + 2)
  })

  it('D20 what was answered is remembered across a restart', async () => {
    await open()
    const request = { ...keyed(), form: asking(), proofKey: newKeyPair() }
    const first = await research.exchange(request)
    const { folder } = house
    await house.stop()
    await open({ folder, startAt: house.now() + 3 })
    expect(payloadOf(await research.exchange(request))).toEqual(payloadOf(first))
    expect([await issued(), await tasks()]).toEqual([1, 1])
  })
})
