/** Group C at our endpoints: what a token is presented as, by whom, and who may ask about it. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type House, ISSUER, openHouse } from '../house.ts'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>
type Tool = Awaited<ReturnType<House['tool']>>

describe('a token presented as what it is not, or by whom it is not for', () => {
  let house: House
  let research: Agent
  let payments: Agent
  let tickets: Tool
  let crm: Tool
  beforeAll(async () => {
    house = await openHouse()
    research = await house.agent('research')
    payments = await house.agent('payments')
    tickets = await house.tool('tickets')
    crm = await house.tool('crm')
  })
  afterAll(() => house.close())

  const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
  const honest = () => research.exchange({ form })
  const token = async (): Promise<string> => (await honest()).body['access_token'] as unknown as string

  it('C3 a client assertion for the token URL, for several audiences or for another server is refused', async () => {
    await strangersWithoutTrace(
      house,
      [
        `${ISSUER}/token`,
        [ISSUER],
        [ISSUER, 'https://other.example'],
        'https://other.example',
        `${ISSUER}/`,
        undefined,
      ].map((aud) => ({
        title: JSON.stringify(aud) ?? 'absent',
        status: 401,
        error: 'invalid_client',
        reason: 'assertion_audience',
        send: () => research.exchange({ form: { ...form, client_assertion: research.assertion({ aud }) } }),
      })),
      honest,
    )
  })

  for (const [type, what, reason] of [
    [TOKEN_TYPE.accessToken, 'an id token', 'token_type_mismatch'],
    [TOKEN_TYPE.handOver, 'an id token', 'token_type_mismatch'],
    [TOKEN_TYPE.saml2, 'an id token', 'token_type_mismatch'],
    [TOKEN_TYPE.saml1, 'an id token', 'token_type_mismatch'],
    [TOKEN_TYPE.idToken, 'an own token', 'token_type_mismatch'],
    [TOKEN_TYPE.handOver, 'an own token', 'token_type_mismatch'],
    [TOKEN_TYPE.refreshToken, 'an own token', 'token_type_unsupported'],
    ['urn:example:unheard-of', 'an own token', 'token_type_unsupported'],
  ] as const) {
    it(`C4 ${what} that is called ${type} is refused`, async () => {
      const subject = what === 'an own token' ? await token() : house.userToken('alice')
      await refusedWithoutTrace(
        house,
        () => research.exchange({ form: { ...form, subject_token: subject, subject_token_type: type } }),
        { status: 400, error: 'invalid_request', reason },
        honest,
      )
    })
  }

  it('C4 a hand-over token that is called an access token is refused, and still good', async () => {
    const handOver = (await research.handOver(await token(), 'payments', form)).body[
      'access_token'
    ] as unknown as string
    await refusedWithoutTrace(
      house,
      () => payments.accept(handOver, { ...form, subject_token_type: TOKEN_TYPE.accessToken }),
      { status: 400, error: 'invalid_request', reason: 'token_type_mismatch' },
      () => payments.accept(handOver, form),
    )
  })

  it('C5 one token as subject and actor is refused, also under another signature', async () => {
    const both = house.userToken('alice')
    const [input = '', claims = ''] = both.split('.')
    await strangersWithoutTrace(
      house,
      [both, `${input}.${claims}.${Buffer.alloc(64, 1).toString('base64url')}`].map((actor, index) => ({
        title: `signature ${index}`,
        status: 400,
        error: 'invalid_request',
        reason: 'self_actor',
        send: () =>
          research.exchange({
            form: {
              ...form,
              subject_token: both,
              actor_token: actor,
              actor_token_type: TOKEN_TYPE.jwt,
              client_assertion: undefined,
              client_assertion_type: undefined,
            },
          }),
      })),
      honest,
    )
  })

  for (const opaque of [
    'hvs.CAESIJ',
    's.wrapped',
    'task_AAAAAAAAAAAAAAAAAAAAAA',
    'dec_x',
    'a.b',
    'a.b.c.d',
    '...',
    'null',
  ]) {
    it(`C6 ${opaque} is no token`, async () => {
      await refusedWithoutTrace(
        house,
        () => research.exchange({ form: { ...form, subject_token: opaque } }),
        { status: 400, error: 'invalid_request', reason: 'not_a_token' },
        honest,
      )
      const answer = await tickets.form('/introspect', { token: opaque })
      expect([answer.status, answer.body]).toEqual([200, { active: false }])
    })
  }

  it('C7 a user token for another audience opens nothing', async () => {
    for (const aud of ['https://tickets.example.com/', [], ['https://other.example'], undefined, 7, [ISSUER, 7]]) {
      await refusedWithoutTrace(
        house,
        () => research.exchange({ form: { ...form, subject_token: house.userToken('alice', { aud }) } }),
        { status: 400, error: 'invalid_request', reason: 'wrong_audience' },
        honest,
      )
    }
  })

  it('C7 a tool reserves nothing with the token of another tool, nor for an operation that was not granted', async () => {
    const mine = await token()
    const task = (await honest()).body['task_id'] as unknown as string
    const reserve = (tool: Tool, body: object) =>
      tool.call('POST', `/tasks/${task}/reservations`, {
        token: mine,
        operation: 'read_ticket',
        calls: 1,
        operation_id: 'operation-1',
        ...body,
      })
    for (const attempt of [() => reserve(crm, {}), () => reserve(tickets, { operation: 'close_ticket' })]) {
      await refusedWithoutTrace(
        house,
        attempt,
        { status: 404, error: 'not_found', reason: 'not_found', record: 'task.refused' },
        honest,
      )
    }
  })

  it('C8 whoever is neither audience nor owner learns nothing of a token and revokes nothing', async () => {
    const mine = await token()
    const before = await house.service.stores.revocations.epoch()
    const index = house.service.log.size
    const others = [
      await crm.form('/introspect', { token: mine }),
      await payments.post({ token: mine }, { path: '/introspect', proofKey: null }),
    ]
    for (const answer of others) expect([answer.status, answer.body]).toEqual([200, { active: false }])
    for (const answer of [
      await crm.form('/revoke', { token: mine }),
      await payments.post({ token: mine }, { path: '/revoke', proofKey: null }),
    ]) {
      expect([answer.status, answer.text]).toEqual([200, ''])
    }
    const records = await house.service.log.from(index, 100)
    expect(records.map(({ reason, by }) => [reason, by])).toEqual([
      ['caller_not_audience', 'tool:crm'],
      ['caller_not_audience', 'payments'],
      ['caller_not_audience', 'tool:crm'],
      ['caller_not_audience', 'payments'],
    ])
    expect(await house.service.stores.revocations.epoch()).toEqual(before)
    expect((await tickets.form('/introspect', { token: mine })).body['active']).toBe(true)
    expect((await research.from(mine, form)).status).toBe(200)
  })

  it('C8 its audience and its owner may ask, and the owner may revoke', async () => {
    const mine = await token()
    const asked = await research.post({ token: mine }, { path: '/introspect', proofKey: null })
    expect(asked.body).toMatchObject({ active: true, client_id: 'research', token_type: 'DPoP', sub: 'dev|alice' })
    expect((await research.post({ token: mine }, { path: '/revoke', proofKey: null })).status).toBe(200)
    expect((await tickets.form('/introspect', { token: mine })).body).toEqual({ active: false })
    expect((await research.from(mine, form)).body['reason']).toBe('revoked')
  })

  it('C9 introspection and revocation without authentication are refused', async () => {
    const mine = await token()
    const bare = (path: string, form: Record<string, string>) =>
      house.fetch('POST', path, {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams(form).toString(),
      })
    await strangersWithoutTrace(
      house,
      ['/introspect', '/revoke'].flatMap((path) =>
        [{}, { client_id: 'research' }, { client_assertion_type: ASSERTION_TYPE.jwtBearer }, { user_id: 'alice' }].map(
          (extra) => ({
            title: `${path} ${JSON.stringify(extra)}`,
            status: 401,
            error: 'invalid_client',
            reason: 'client_auth_required',
            send: () => bare(path, { token: mine, ...extra }),
          }),
        ),
      ),
      honest,
    )
    expect((await tickets.form('/introspect', { token: mine })).body['active']).toBe(true)
  })
})
