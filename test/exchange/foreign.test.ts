/** Issuing for others by exchange: ID-JAGs and transaction tokens, each decided like any operation of a tool. */
import { createPublicKey, verify } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type Answer, decode, type ExchangeOptions, type House, ISSUER, openHouse } from '../house.ts'
import { agentFile } from '../company.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

type Agent = Awaited<ReturnType<House['agent']>>
const CHAT_AS = 'https://auth.chat.example/'
const CHAT = 'https://api.chat.example/'
const FILES = 'https://files.chat.example/'

const tool = (name: string, lines: readonly string[]): string => [`name: ${name}`, ...lines, ''].join('\n')
const company = {
  'agents/desk.yaml': agentFile('desk', { ceiling: ['trading:quote', 'trading:buy', 'chat:read'] }),
  'tools/tickets.yaml': (text: string) => text.replace('name: tickets\n', 'name: tickets\nagent: desk\n'),
  'tools/chat.yaml': tool('chat', [
    `audience: ${CHAT}`,
    'takes:',
    '  kind: id_jag',
    `  authorization_server: ${CHAT_AS}`,
    '  clients: { research: f53f191f9311af35 }',
    '  scopes: { read: chat.read, history: chat.history }',
    'operations:',
    '  read: { effect: read }',
    '  history: { effect: read }',
    '  post: { effect: external_communication }',
    '  search: { effect: read, arguments: { type: object, properties: { q: { type: string, maxLength: 9 } } } }',
  ]),
  'tools/files.yaml': tool('files', [
    `audience: ${FILES}`,
    `takes: { kind: id_jag, authorization_server: '${CHAT_AS}', clients: { research: other }, act: true, details: true }`,
    'operations:',
    '  get: { effect: read, arguments: { type: object, properties: { path: { type: string, maxLength: 9 } } } }',
  ]),
  'tools/trading.yaml': tool('trading', [
    'audience: https://trading.company.example/',
    'takes:',
    '  kind: txn_token',
    '  trust_domain: trading.company.example',
    '  scopes: { buy: trade.stocks }',
    '  request_context: [req_ip]',
    '  lifetime_seconds: 30',
    'operations:',
    '  quote: { effect: read }',
    '  buy:',
    '    effect: reversible_write',
    '    arguments: { type: object, properties: { quantity: { type: integer, maximum: 100 } }, required: [quantity] }',
  ]),
  'agents/research.yaml': (text: string) =>
    text.replace('ceiling:\n', 'ceiling:\n  - chat:*\n  - files:*\n  - trading:*\n') +
    'default_task: { purpose: Ask elsewhere, environment: staging, data_classification: internal }\n',
  'agents/triage.yaml': (text: string) => text.replace('ceiling:\n', 'ceiling:\n  - chat:read\n  - trading:quote\n'),
  'agents/payments.yaml': (text: string) => text.replace('ceiling:\n', 'ceiling:\n  - chat:read\n'),
  'issuers/dev.yaml': (text: string) =>
    text.replace('  support:\n', '  support:\n    - chat:*\n    - files:*\n    - trading:*\n'),
  'policies/guardrails.cedar': (text: string) =>
    text.replace(
      'context.sender_constraint == "bearer" && context.effect',
      'resource != Tool::"trading" && context.sender_constraint == "bearer" && context.effect',
    ),
  'policies/base.cedar': (text: string) =>
    text.replace(
      'resource == Tool::"github"',
      'resource == Tool::"github" || resource == Tool::"chat" || resource == Tool::"trading"',
    ),
}

let house: House
let research: Agent
beforeAll(async () => {
  house = await openHouse({ config: company })
  research = await house.agent('research')
})
afterAll(() => house.close())

const ask = (type: string, form: ExchangeOptions['form'], options: ExchangeOptions = {}): Promise<Answer> =>
  research.exchange({ ...options, form: { requested_token_type: type, request_details: undefined, ...form } })
const token = (answer: Answer): string => {
  expect(answer.status, answer.text).toBe(200)
  return answer.body['access_token'] as unknown as string
}
/** Which kind of key signed it, and that it did. */
const signedBy = async (jws: string): Promise<unknown> => {
  const { keys } = (await house.fetch('GET', '/.well-known/jwks.json')).body as unknown as {
    keys: { kid: string; errand_use: string }[]
  }
  const key = keys.find(({ kid }) => kid === decode(jws).header['kid'])!
  const [header, payload, signature] = jws.split('.') as [string, string, string]
  const publicKey = { key: createPublicKey({ key: key as never, format: 'jwk' }), dsaEncoding: 'ieee-p1363' as const }
  return (
    verify('sha256', Buffer.from(`${header}.${payload}`), publicKey, Buffer.from(signature, 'base64url')) &&
    key.errand_use
  )
}

describe('an ID-JAG of ours', () => {
  const idJag = (form: ExchangeOptions['form'] = {}, options: ExchangeOptions = {}) =>
    ask(TOKEN_TYPE.idJag, { audience: CHAT_AS, resource: CHAT, ...form }, options)

  it('names user, client and scope as the other server knows them, for no longer than it says', async () => {
    const answer = await idJag({ scope: 'chat.read chat.history' })
    const jws = token(answer)
    expect(answer.body).toMatchObject({
      issued_token_type: TOKEN_TYPE.idJag,
      token_type: 'N_A',
      expires_in: 60,
      scope: 'chat.history chat.read',
    })
    const { header, payload } = decode(jws)
    expect(header['typ']).toBe('oauth-id-jag+jwt')
    expect(payload).toEqual({
      iss: ISSUER,
      sub: 'dev|alice',
      aud: CHAT_AS,
      client_id: 'f53f191f9311af35',
      jti: expect.any(String),
      iat: house.now(),
      exp: house.now() + 60,
      resource: CHAT,
      scope: 'chat.history chat.read',
      cnf: { jkt: house.thumbprint(research.proofKey) },
      dev: true,
    })
    expect(await signedBy(jws)).toBe('id_jag')
    const [record] = await house.records({ jti: payload['jti'] as string })
    expect(record).toMatchObject({ type: 'token.issuing', tool: 'chat', details: { kind: 'id_jag' } })
  })

  it('is bound to no key where no proof came, and names actors and bounds where the target reads them', async () => {
    expect(decode(token(await idJag({ scope: 'chat.read' }, { proofKey: null }))).payload).not.toHaveProperty('cnf')
    const { payload } = decode(token(await idJag({ resource: FILES })))
    expect(payload).toMatchObject({
      client_id: 'other',
      scope: 'files:get',
      act: { sub: 'spiffe://company.example/agents/research' },
      authorization_details: [{ type: 'tool', tool: 'files', operations: ['get'] }],
    })
  })

  it('is answered to a retry under its key with the same ID-JAG, until somebody revokes what it stands on', async () => {
    const headers = { 'idempotency-key': 'an-id-jag-once' }
    const first = decode(token(await idJag({ scope: 'chat.read' }, { headers }))).payload
    expect(decode(token(await idJag({ scope: 'chat.read' }, { headers }))).payload).toEqual(first)
    await house.admin('POST', '/revocations', { match: { jti: first['jti'] }, mode: 'cut', reason: 'test' })
    expect((await idJag({ scope: 'chat.read' }, { headers })).body).toMatchObject({ reason: 'revoked' })
  })

  it('is decided like an operation of any tool, and refused with the words of any exchange', async () => {
    const honest = () => idJag({ scope: 'chat.read' })
    const refused = (form: ExchangeOptions['form'], error: string, reason: string) =>
      refusedWithoutTrace(house, () => idJag(form), { status: 400, error, reason }, honest)
    // Beyond the stage, beyond the ceiling, beyond what its scope values can say.
    await refused({ scope: 'chat:post' }, 'invalid_scope', 'scope_not_granted')
    await refused({ scope: 'chat.admin' }, 'invalid_scope', 'bad_scope')
    await refused({ scope: 'chat:search' }, 'invalid_scope', 'scope_not_granted')
    await refused({ audience: 'https://unknown.example/' }, 'invalid_target', 'audience_denied')
    await refused({ audience: undefined }, 'invalid_request', 'param_missing')
    await refused({ resource: undefined }, 'invalid_target', 'one_target')
    await refused({ resource: 'https://tickets.example.com/' }, 'invalid_target', 'audience_denied')
    await refused({ audience: [CHAT_AS, CHAT] }, 'invalid_target', 'one_target')
  })

  it('D21 is refused for a target that its agent is no client of, and for an agent that works for itself', async () => {
    const payments = await house.agent('payments')
    const stranger = await payments.exchange({ form: { requested_token_type: TOKEN_TYPE.idJag, audience: CHAT_AS } })
    expect(stranger.body).toMatchObject({ error: 'invalid_target', reason: 'audience_denied', rule: 'clients' })
    const triage = await house.agent('triage')
    const alone = await triage.post({
      grant_type: GRANT.clientCredentials,
      requested_token_type: TOKEN_TYPE.idJag,
      audience: CHAT_AS,
      request_details: house.details(),
    })
    expect(alone.body).toMatchObject({ error: 'unauthorized_client', reason: 'grant_not_allowed' })
  })

  it('D22 is the only kind that its target takes, and no other target takes it', async () => {
    const honest = () => idJag({ scope: 'chat.read' })
    await refusedWithoutTrace(
      house,
      () => research.exchange({ form: { resource: CHAT, scope: 'chat:read' } }),
      { status: 400, error: 'invalid_request', reason: 'token_type_unsupported' },
      honest,
    )
    await refusedWithoutTrace(
      house,
      () => ask(TOKEN_TYPE.txnToken, { audience: CHAT_AS }),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      honest,
    )
  })
})

describe('a transaction token', () => {
  const txn = (form: ExchangeOptions['form'] = {}, options: ExchangeOptions = {}) =>
    ask(TOKEN_TYPE.txnToken, { audience: 'trading.company.example', scope: 'trade.stocks', ...form }, options)
  const call = JSON.stringify({ quantity: 100, ticker: 'MSFT' })

  it('carries the call through its trust domain, and leaves a record without it', async () => {
    const answer = await txn({ request_details: call, request_context: JSON.stringify({ req_ip: '192.0.2.7' }) })
    const jws = token(answer)
    expect(answer.body).toMatchObject({
      issued_token_type: TOKEN_TYPE.txnToken,
      token_type: 'N_A',
      scope: 'trade.stocks',
    })
    const { header, payload } = decode(jws)
    expect(header['typ']).toBe('txntoken+jwt')
    expect(payload).toEqual({
      iss: ISSUER,
      aud: 'trading.company.example',
      sub: 'dev|alice',
      iat: house.now(),
      exp: house.now() + 30,
      txn: expect.any(String),
      scope: 'trade.stocks',
      req_wl: 'spiffe://company.example/agents/research',
      tctx: { quantity: 100, ticker: 'MSFT' },
      rctx: { req_ip: '192.0.2.7' },
      dev: true,
    })
    expect(await signedBy(jws)).toBe('txn_token')
    const [record] = await house.records({ jti: payload['txn'] as string })
    expect(record).toMatchObject({ details: { kind: 'txn_token' }, claims: { tctx_sha256: expect.any(String) } })
    expect(JSON.stringify(record)).not.toContain('192.0.2.7')
  })

  it('is given only for a call within the bounds on its arguments', async () => {
    const honest = () => txn({ request_details: call })
    const refused = (form: ExchangeOptions['form'], error: string, reason: string) =>
      refusedWithoutTrace(house, () => txn(form), { status: 400, error, reason }, honest)
    await refused({ request_details: JSON.stringify({ quantity: 101 }) }, 'invalid_scope', 'scope_not_granted')
    await refused({}, 'invalid_scope', 'scope_not_granted')
    await refused({ request_details: '[1]' }, 'invalid_request', 'bad_param')
    await refused({ request_details: '{"quantity":1,"quantity":2}' }, 'invalid_request', 'bad_param')
    await refused({ request_details: `{"x":"${'y'.repeat(2048)}"}` }, 'invalid_request', 'bad_param')
    await refused({ request_details: call, request_context: '{"authn":"face"}' }, 'invalid_request', 'bad_param')
    await refused({ request_details: call, scope: 'trade.stocks tickets:read_ticket' }, 'invalid_target', 'one_target')
  })

  it('D1 D14 is given to the tool that was called, within the task of the token it was called with', async () => {
    const desk = await house.agent('desk')
    const called = async (ops: string) => {
      const details = house.details({ purpose: 'answer a ticket' })
      return token(await research.exchange({ form: { scope: ops, request_details: details } }))
    }
    const pass = (inbound: string, form: ExchangeOptions['form'] = {}) =>
      desk.from(inbound, {
        requested_token_type: TOKEN_TYPE.txnToken,
        audience: 'trading.company.example',
        scope: 'trading:quote',
        ...form,
      })
    const inbound = await called('tickets:read_ticket')
    const { payload } = decode(token(await pass(inbound)))
    expect(payload).toMatchObject({ sub: 'dev|alice', req_wl: 'spiffe://company.example/agents/desk' })
    // Of a task without it nothing is passed on, and by nobody else than whom the token is for.
    const narrow = await research.call('POST', '/tasks', {
      ...(JSON.parse(house.details()) as object),
      subject_token: house.userToken('alice'),
      subject_token_type: TOKEN_TYPE.idToken,
      scope: 'tickets:read_ticket',
    })
    const bounded = token(
      await research.exchange({ form: { scope: 'tickets:read_ticket', task_id: String(narrow.body['id']) } }),
    )
    await refusedWithoutTrace(
      house,
      () => pass(bounded),
      { status: 400, error: 'invalid_target', reason: 'audience_denied' },
      () => pass(inbound),
    )
    const payments = await house.agent('payments')
    const stolen = await payments.from(inbound, {
      requested_token_type: TOKEN_TYPE.txnToken,
      audience: 'trading.company.example',
    })
    expect(stolen.status).toBe(400)
  })

  it('is given to an agent for itself where policy lets it, and dies with its ban', async () => {
    const triage = await house.agent('triage')
    const own = () =>
      triage.post({
        grant_type: GRANT.clientCredentials,
        requested_token_type: TOKEN_TYPE.txnToken,
        audience: 'trading.company.example',
        task_id: task,
      })
    const opened = await triage.call('POST', '/tasks', {
      ...(JSON.parse(house.details()) as object),
    })
    const task = String(opened.body['id'])
    expect(decode(token(await own())).payload).toMatchObject({
      sub: 'spiffe://company.example/agents/triage',
      scope: 'trading:quote',
    })
    await house.admin('POST', '/revocations', { match: { client_id: 'triage' }, mode: 'ban', reason: 'test' })
    expect((await own()).status).toBe(400)
  })
})
