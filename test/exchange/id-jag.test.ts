/** The JWT authorization grant with an ID-JAG (RFC 7523 §2.1, draft-ietf-oauth-identity-assertion-authz-grant). */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT } from '../../src/oauth/words.ts'
import {
  type Answer,
  DEV_ISSUER,
  decode,
  type ExchangeOptions,
  type House,
  ISSUER,
  newKeyPair,
  openHouse,
} from '../house.ts'
import { agentFile } from '../company.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>
const TICKETS = 'https://tickets.example.com/'
const CRM = 'https://crm.example.com/'

const withIdJag = {
  'agents/desk.yaml': agentFile('desk', { ceiling: ['crm:read_customer'] }),
  'tools/tickets.yaml': (text: string) => text.replace('name: tickets\n', 'name: tickets\nagent: desk\n'),
  'issuers/dev.yaml': (text: string) => text.replace('groups_claim: groups\n', 'groups_claim: groups\nid_jag: {}\n'),
  'agents/research.yaml': (text: string) =>
    `${text}default_task: { purpose: Answer what users ask, environment: staging, data_classification: internal }\n`,
}

describe('an ID-JAG', () => {
  let house: House
  let research: Agent
  beforeAll(async () => {
    house = await openHouse({ config: withIdJag })
    research = await house.agent('research')
  })
  afterAll(() => house.close())

  const idJag = (claims: object = {}, header: object = {}): string =>
    house.userToken(
      'alice',
      { client_id: 'research', jti: randomBytes(9).toString('hex'), resource: TICKETS, ...claims },
      { typ: 'oauth-id-jag+jwt', ...header },
    )
  const send = (
    assertion: string | undefined,
    form: ExchangeOptions['form'] = {},
    options: ExchangeOptions = {},
  ): Promise<Answer> =>
    research.post({ grant_type: GRANT.jwtBearer, ...(assertion === undefined ? {} : { assertion }), ...form }, options)
  const claimsOf = (answer: Answer) => decode(answer.body['access_token'] as unknown as string).payload

  it('gives its user’s agent a token of ours for the resource it names, in a task with the defaults of the agent', async () => {
    const answer = await send(idJag({ scope: 'openid tickets:read_ticket' }))
    expect(answer.status, answer.text).toBe(200)
    expect(answer.body).toMatchObject({ token_type: 'DPoP', scope: 'tickets:read_ticket' })
    expect(claimsOf(answer)).toMatchObject({
      sub: 'dev|alice',
      aud: TICKETS,
      client_id: 'research',
      act: { sub: 'spiffe://company.example/agents/research' },
    })
    const [record] = await house.records({ jti: claimsOf(answer)['jti'] as string })
    expect(record).toMatchObject({ details: { grant: { issuer: DEV_ISSUER, jti: expect.any(String) } } })
    const task = await research.call('GET', `/tasks/${String(answer.body['task_id'])}`)
    expect(task.body).toMatchObject({
      purpose: 'Answer what users ask',
      environment: 'staging',
      data_classification: 'internal',
      subject: 'dev|alice',
    })
  })

  it('takes the task from the request where the client can say it, also an existing one', async () => {
    const both = idJag({ resource: [TICKETS, CRM] })
    const first = await send(both, { resource: TICKETS, request_details: house.details() })
    const again = await send(idJag({ resource: CRM }), { task_id: String(first.body['task_id']) })
    expect(again.status, again.text).toBe(200)
    expect(again.body['task_id']).toBe(first.body['task_id'])
  })

  it('D1 bounds the task that it opens too: what the target asks of others for it is not beyond the grant', async () => {
    const desk = await house.agent('desk')
    const called = async (resource: readonly string[]) => {
      const answer = await send(idJag({ resource }), { resource: TICKETS })
      expect(answer.status, answer.text).toBe(200)
      return String(answer.body['access_token'])
    }
    const onward = (token: string) => desk.from(token, { scope: 'crm:read_customer' })
    const [one, both] = [await called([TICKETS]), await called([TICKETS, CRM])]
    await refusedWithoutTrace(
      house,
      () => onward(one),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      () => onward(both),
    )
  })

  it('D1 D3 bounds the request by scope, authorization_details and resource', async () => {
    const details = [
      { type: 'tool', tool: 'tickets', operations: ['read_ticket'] },
      { type: 'other', x: 1 },
    ]
    const narrowed = await send(idJag({ authorization_details: details, resource: [TICKETS, CRM] }), {
      resource: TICKETS,
    })
    expect(narrowed.body['scope'], narrowed.text).toBe('tickets:read_ticket')
    const inScope = () => send(idJag({ scope: 'tickets:read_ticket' }), { scope: 'tickets:read_ticket' })
    await refusedWithoutTrace(
      house,
      () => send(idJag({ scope: 'tickets:read_ticket' }), { scope: 'tickets:read_ticket tickets:add_comment' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      inScope,
    )
    await refusedWithoutTrace(
      house,
      () => send(idJag(), { resource: CRM }),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      inScope,
    )
    // Both spellings at once: what only one of them gives, the grant does not give.
    await refusedWithoutTrace(
      house,
      () => send(idJag({ scope: 'tickets:add_comment', authorization_details: details })),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      inScope,
    )
  })

  const grantRefusals: readonly (readonly [string, object, object, string])[] = [
    ['A9 from the future', { iat: 2_000_000_000, exp: 2_000_000_060 }, {}, 'not_yet_valid'],
    ['A8 without an expiry', { exp: undefined }, {}, 'bad_numeric_date'],
    ['of a long life', { exp: 1_795_500_000 }, {}, 'evidence_lifetime'],
    ['for another server', { aud: 'https://other.example/' }, {}, 'wrong_audience'],
    ['C7 for several servers', { aud: [ISSUER, 'https://other.example/'] }, {}, 'wrong_audience'],
    ['of another client', { client_id: 'payments' }, {}, 'context_mismatch'],
    ['without a client', { client_id: undefined }, {}, 'bad_claim'],
    ['without a jti', { jti: undefined }, {}, 'bad_claim'],
    ['B7 of a stranger', { iss: `${DEV_ISSUER}/` }, {}, 'untrusted_issuer'],
    ['D17 of another tenant', { tenant: 'other' }, {}, 'untrusted_issuer'],
    ['for a tenant of ours', { aud_tenant: 'acme' }, {}, 'wrong_audience'],
    [
      'D8 with an actor its issuer may not name',
      { act: { sub: 'spiffe://company.example/agents/payments' } },
      {},
      'forged_actor',
    ],
    ['D18 of a disabled user', { sub: 'carol' }, {}, 'subject_disabled'],
    ['A11 of nobody', { sub: '' }, {}, 'bad_subject'],
    ['B1 by an unknown key', {}, { kid: '../../x' }, 'unknown_kid'],
    ['E6 bound to a key that did not come', { cnf: { jkt: 'x'.repeat(43) } }, {}, 'cnf_mismatch'],
    ['with another binding', { cnf: { 'x5t#S256': 'x' } }, {}, 'bad_claim'],
    ['with a malformed scope', { scope: ['tickets:read_ticket'] }, {}, 'bad_claim'],
    ['with malformed details', { authorization_details: [{ type: 'tool', tool: 3 }] }, {}, 'bad_claim'],
  ]
  for (const [title, claims, header, reason] of grantRefusals) {
    it(`${title} is refused as a bad grant: ${reason}`, async () => {
      await refusedWithoutTrace(
        house,
        () => send(idJag(claims, header)),
        { status: 400, error: 'invalid_grant', reason },
        () => send(idJag()),
      )
    })
  }

  it('C1 is refused as a bad grant when it is of another type, before anybody is asked who asks', async () => {
    for (const typ of ['at+jwt', 'dpop+jwt', 'txntoken+jwt', 'errand-handover+jwt', 'oauth-id-jag+jwt;x=1']) {
      await refusedWithoutTrace(
        house,
        () => send(idJag({}, { typ })),
        { status: 400, error: 'invalid_grant', reason: 'wrong_typ', stranger: true },
        () => send(idJag()),
      )
    }
  })

  it('D16 is sent once, in the body, by a client that authenticates', async () => {
    const honest = () => send(idJag())
    const refused = (attempt: () => Promise<Answer>, error: string, reason: string, status = 400) =>
      refusedWithoutTrace(house, attempt, { status, error, reason, stranger: true }, honest)
    await refused(() => send(undefined), 'invalid_request', 'param_missing')
    await refused(() => send(undefined, { assertion: [idJag(), idJag()] }), 'invalid_request', 'param_duplicate')
    await refused(
      () => send(idJag(), { client_assertion: undefined, client_assertion_type: undefined }),
      'invalid_client',
      'client_auth_required',
      401,
    )
    await refused(
      () => send(idJag(), { subject_token: house.userToken('alice'), subject_token_type: 'x' }),
      'invalid_request',
      'bad_param',
    )
  })

  it('E5 waits for a nonce without being spent, and is bound to the key it was issued for', async () => {
    const assertion = idJag({ cnf: { jkt: house.thumbprint(research.proofKey) } })
    const challenged = await send(assertion, {}, { proof: { nonce: null } })
    expect(challenged.body['error']).toBe('use_dpop_nonce')
    const unbound = await send(assertion, {}, { proofKey: null })
    expect(unbound.body).toMatchObject({ error: 'invalid_grant', reason: 'binding_downgrade' })
    const other = await send(assertion, {}, { proofKey: newKeyPair() })
    expect(other.body).toMatchObject({ error: 'invalid_grant', reason: 'cnf_mismatch' })
    expect((await send(assertion)).status).toBe(200)
  })

  it('is good for one use, by its issuer and jti, whatever else it says', async () => {
    const jti = randomBytes(9).toString('hex')
    expect((await send(idJag({ jti }))).status).toBe(200)
    await refusedWithoutTrace(
      house,
      () => send(idJag({ jti, scope: 'tickets:read_ticket' })),
      { status: 400, error: 'invalid_grant', reason: 'replayed' },
      () => send(idJag()),
    )
  })

  it('D20 gives one token to ten that bring it at once', async () => {
    const assertion = idJag()
    const answers = await Promise.all(Array.from({ length: 10 }, () => send(assertion)))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, ...Array.from({ length: 9 }, () => 400)])
    expect(new Set(answers.map(({ body }) => body['reason']))).toEqual(new Set([undefined, 'replayed']))
  })

  it('C2 is read in every spelling that its draft knows', async () => {
    expect((await send(idJag({ aud: [ISSUER] }, { typ: 'application/OAuth-ID-JAG+jwt' }))).status).toBe(200)
    expect((await send(idJag({ resource: [TICKETS] }))).status).toBe(200)
    const named = await send(idJag({ resource: undefined, scope: 'tickets:read_ticket' }))
    expect(named.body['scope'], named.text).toBe('tickets:read_ticket')
  })

  it('D17 of an issuer that serves several tenants must be of ours', async () => {
    const shared = await openHouse({
      config: {
        ...withIdJag,
        'issuers/dev.yaml': (text) =>
          text.replace('groups_claim: groups\n', 'groups_claim: groups\nid_jag: { tenant: ours }\n'),
      },
    })
    try {
      const agent = await shared.agent('research')
      const brought = (tenant: string | undefined) => {
        const claims = { client_id: 'research', jti: randomBytes(9).toString('hex'), resource: TICKETS, tenant }
        const assertion = shared.userToken('alice', claims, { typ: 'oauth-id-jag+jwt' })
        return agent.post({ grant_type: GRANT.jwtBearer, assertion })
      }
      expect((await brought('ours')).status).toBe(200)
      expect((await brought('theirs')).body).toMatchObject({ error: 'invalid_grant', reason: 'untrusted_issuer' })
      expect((await brought(undefined)).body).toMatchObject({ error: 'invalid_grant', reason: 'untrusted_issuer' })
    } finally {
      await shared.close()
    }
  })

  it('D20 answers a retry under its key with the same token, and nobody else', async () => {
    const assertion = idJag()
    const headers = { 'idempotency-key': randomBytes(9).toString('hex') }
    const first = await send(assertion, {}, { headers })
    const again = await send(assertion, {}, { headers })
    expect([first.status, again.status], again.text).toEqual([200, 200])
    expect(claimsOf(again)).toEqual(claimsOf(first))
    expect((await send(assertion)).body).toMatchObject({ error: 'invalid_grant', reason: 'replayed' })
    expect((await send(idJag(), {}, { headers })).body).toMatchObject({ reason: 'idempotency_conflict' })
  })

  it('D20 gives a retry one token for as long as it may be presented, however short keys are remembered', async () => {
    const short = await openHouse({
      config: {
        ...withIdJag,
        'issuers/dev.yaml': (text) =>
          text.replace('groups_claim: groups\n', 'groups_claim: groups\nid_jag: { max_lifetime_seconds: 900 }\n'),
        'errand.yaml': (text) => `${text}tokens: { idempotency_seconds: 120 }\n`,
      },
    })
    try {
      const agent = await short.agent('research')
      const claims = { client_id: 'research', jti: 'once', resource: TICKETS, exp: short.now() + 900 }
      const assertion = short.userToken('alice', claims, { typ: 'oauth-id-jag+jwt' })
      const headers = { 'idempotency-key': 'a-key-of-its-own' }
      const bring = (form = {}) => agent.post({ grant_type: GRANT.jwtBearer, assertion, ...form }, { headers })
      expect((await bring()).status).toBe(200)
      short.advance(121)
      expect((await bring()).body).toMatchObject({ reason: 'expired' })
      expect((await bring({ scope: 'tickets:add_comment' })).body).toMatchObject({ reason: 'idempotency_conflict' })
      expect((await short.records({ type: 'token.issuing' })).length).toBe(1)
    } finally {
      await short.close()
    }
  })

  it('D21 answers a dry run without spending it', async () => {
    const assertion = idJag()
    const dry = await send(assertion, { dry_run: 'true' })
    expect(dry.body).toMatchObject({ dry_run: true, allowed: true })
    expect((await send(assertion)).status).toBe(200)
  })

  it('F13 gives a banned user nothing', async () => {
    const bob = () => send(idJag({ sub: 'bob', groups: ['engineering'] }))
    expect((await bob()).status).toBe(200)
    await house.admin('POST', '/revocations', { match: { sub: 'dev|bob' }, mode: 'ban', reason: 'left' })
    expect((await bob()).body).toMatchObject({ error: 'invalid_grant', reason: 'banned' })
  })

  it('is refused from an issuer that may not give it, and without a task where nothing says which', async () => {
    const plain = await openHouse()
    try {
      const agent = await plain.agent('research')
      const token = (claims: object = {}) =>
        plain.userToken(
          'alice',
          { client_id: 'research', jti: randomBytes(9).toString('hex'), ...claims },
          { typ: 'oauth-id-jag+jwt' },
        )
      const answer = await agent.post({ grant_type: GRANT.jwtBearer, assertion: token(), resource: TICKETS })
      expect(answer.body).toMatchObject({ error: 'invalid_grant', reason: 'untrusted_issuer' })
    } finally {
      await plain.close()
    }
    const payments = await house.agent('payments')
    const answer = await payments.post({ grant_type: GRANT.jwtBearer, assertion: idJag({ client_id: 'payments' }) })
    expect(answer.body).toMatchObject({ error: 'invalid_request', reason: 'param_missing' })
  })
})
