/** Agents of platforms: principals that nobody registered (Workload Authorization Grant, RFC 7523 §2.1). */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT } from '../../src/oauth/words.ts'
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
import { refusedWithoutTrace } from '../nothing-lost.ts'

const ACME = 'https://acme.agents.platform.example'
const SHARED = 'https://agents.shared.example'
const TICKETS = 'https://tickets.example.com/'
const key = newKeyPair()
const sharedKey = newKeyPair()

const platform = (name: string, issuer: string, more: readonly string[]): string =>
  [
    'kind: agent_platform',
    `name: ${name}`,
    `issuer: ${issuer}`,
    `jwks_file: ${name}.json`,
    'algorithms: [ES256]',
    `trust_domain: ${name}.platforms.example`,
    'stage: reversible_write',
    'ceiling: [tickets:read_ticket, tickets:add_comment]',
    'claims: { team: string }',
    'default_task: { purpose: Work of its platform, environment: staging, data_classification: internal }',
    ...more,
    '',
  ].join('\n')

const jwks = (kid: string, { publicJwk }: typeof key): string =>
  JSON.stringify({ keys: [{ ...publicJwk, kid, alg: 'ES256', use: 'sig' }] })

const company = {
  '../keys/acme.json': jwks('acme', key),
  '../keys/blue.json': jwks('blue', sharedKey),
  'issuers/acme.yaml': platform('acme', ACME, ['max_agents: 3', 'disabled_agents: [agent/bad]']),
  'issuers/blue.yaml': platform('blue', SHARED, ['tenant: { value: blue }']),
  'policies/platforms.cedar': [
    '@id("acme_reads")',
    'permit (principal == Agent::"platform:acme", action in Action::"effect:read", resource)',
    'when { context.autonomous && context.subject.issuer == "acme" };',
    '@id("acme_support_comments")',
    'permit (principal == Agent::"platform:acme", action == Action::"tickets:add_comment", resource)',
    'when { context.subject.groups.contains("support") && context.subject.claims has team && context.subject.claims.team == "desk" };',
    '@id("blue_reads")',
    'permit (principal == Agent::"platform:blue", action in Action::"effect:read", resource);',
    '',
  ].join('\n'),
}

let house: House
beforeAll(async () => {
  house = await openHouse({ config: company })
})
afterAll(() => house.close())

const grant = (sub: string, claims: object = {}, header: object = {}, by = key): string =>
  signJws(
    { typ: 'JWT', kid: 'acme', ...header },
    {
      iss: ACME,
      sub,
      aud: ISSUER,
      jti: randomBytes(9).toString('hex'),
      iat: house.now(),
      exp: house.now() + 60,
      ...claims,
    },
    by.privateKey,
  )
const proofKey = newKeyPair()
const clientIdOf = (answer: Answer) =>
  decode(answer.body['access_token'] as unknown as string).payload['client_id'] as string

/** `POST /token` as a platform's agent sends it: no client authentication, a proof of a key of its own. */
async function send(
  assertion: string,
  form: ExchangeOptions['form'] = {},
  headers: Record<string, string> = {},
): Promise<Answer> {
  const body = new URLSearchParams({ grant_type: GRANT.jwtBearer, assertion })
  for (const [name, value] of Object.entries({ resource: TICKETS, ...form }))
    for (const each of typeof value === 'string' ? [value] : (value ?? [])) body.append(name, each)
  const post = (dpop: string) =>
    house.fetch('POST', '/token', {
      headers: { 'content-type': 'application/x-www-form-urlencoded', dpop, ...headers },
      body: body.toString(),
    })
  const first = await post(house.proof('', '/token', { key: proofKey, nonce: null }))
  const nonce = first.headers.get('dpop-nonce')
  if (first.body['error'] !== 'use_dpop_nonce') return first
  return post(house.proof('', '/token', { key: proofKey, nonce }))
}

describe('an agent of a platform', () => {
  it('F5 gets a token on its first coming, under a name that its issuer and subject alone make', async () => {
    const answer = await send(grant('agent/7f3d'))
    expect(answer.status, answer.text).toBe(200)
    const { payload } = decode(answer.body['access_token'] as unknown as string)
    expect(payload).toMatchObject({
      client_id: expect.stringMatching(/^platform:acme:[\w-]{22}$/),
      sub: expect.stringMatching(/^spiffe:\/\/acme\.platforms\.example\/[\w-]{22}$/),
      aud: TICKETS,
      scope: 'tickets:read_ticket',
      att: { kind: 'workload_grant', tier: 'platform' },
      cnf: { jkt: house.thumbprint(proofKey) },
    })
    expect(payload).not.toHaveProperty('act')
    expect(clientIdOf(await send(grant('agent/7f3d')))).toBe(payload['client_id'])
    expect(clientIdOf(await send(grant('agent/7f3e')))).not.toBe(payload['client_id'])
    const [admitted] = await house.records({ agent: payload['client_id'] as string, type: 'agent.admitted' })
    expect(admitted).toMatchObject({ details: { platform: 'acme', issuer: ACME, subject: 'agent/7f3d' } })

    const { agents } = (await house.admin('GET', '/agents')).body as unknown as { agents: { client_id: string }[] }
    expect(agents.find(({ client_id }) => client_id === payload['client_id'])).toMatchObject({
      spiffe_id: payload['sub'],
      platform: 'acme',
      subject: 'agent/7f3d',
      stage: 'reversible_write',
      last_seen: house.now(),
    })
    const one = await house.admin('GET', `/agents/${payload['client_id'] as string}`)
    expect(one.body).toMatchObject({ subject: 'agent/7f3d' })
  })

  it('D1 has the authority that policy gives its platform for what is said of it, within the cap', async () => {
    const plain = () => send(grant('agent/7f3d'), { scope: 'tickets:add_comment' })
    const told = { groups: ['support'], team: 'desk' }
    expect((await send(grant('agent/7f3d', told), { scope: 'tickets:add_comment' })).status).toBe(200)
    await refusedWithoutTrace(house, plain, { status: 400, error: 'invalid_grant', reason: 'policy_denied' }, () =>
      send(grant('agent/7f3d')),
    )
    await refusedWithoutTrace(
      house,
      () => send(grant('agent/7f3d', told), { scope: 'tickets:close_ticket' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      () => send(grant('agent/7f3d')),
    )
    await refusedWithoutTrace(
      house,
      () => send(grant('agent/7f3d', { ...told, scope: 'tickets:read_ticket' }), { scope: 'tickets:add_comment' }),
      { status: 400, error: 'invalid_scope', reason: 'scope_not_granted' },
      () => send(grant('agent/7f3d')),
    )
  })

  const strangers: readonly (readonly [string, () => string, string])[] = [
    ['B6 by a key of another platform', () => grant('a', {}, {}, sharedKey), 'bad_signature'],
    ['B1 by an unknown key', () => grant('a', {}, { kid: 'blue' }), 'unknown_kid'],
    ['B7 of an issuer that is spelt otherwise', () => grant('a', { iss: `${ACME}/` }), 'untrusted_issuer'],
    ['C7 for another server', () => grant('a', { aud: 'https://other.example' }), 'wrong_audience'],
    ['for the token endpoint too', () => grant('a', { aud: [ISSUER, `${ISSUER}/token`] }), 'wrong_audience'],
    ['A8 without an expiry', () => grant('a', { exp: undefined }), 'bad_numeric_date'],
    ['of a long life', () => grant('a', { exp: house.now() + 301 }), 'evidence_lifetime'],
    ['without a jti', () => grant('a', { jti: undefined }), 'bad_claim'],
    [
      'D8 with an actor',
      () => grant('a', { act: { sub: 'spiffe://company.example/agents/research' } }),
      'forged_actor',
    ],
    ['D18 of an agent that is disabled', () => grant('agent/bad'), 'subject_disabled'],
    ['C1 of another type', () => grant('a', {}, { typ: 'at+jwt' }), 'wrong_typ'],
    ['C1 that is a user’s ID token', () => house.userToken('alice'), 'untrusted_issuer'],
    [
      'D17 of a tenant that is not ours',
      () => grant('a', { iss: SHARED, tenant: 'red' }, { kid: 'blue' }, sharedKey),
      'untrusted_issuer',
    ],
    ['E6 bound to a key that did not come', () => grant('a', { cnf: { jkt: 'x'.repeat(43) } }), 'cnf_mismatch'],
    ['bound otherwise', () => grant('a', { cnf: { 'x5t#S256': 'x' } }), 'bad_claim'],
    ['D17 of no tenant', () => grant('a', { iss: SHARED }, { kid: 'blue' }, sharedKey), 'untrusted_issuer'],
  ]
  for (const [title, make, reason] of strangers) {
    it(`${title} is refused as a bad grant: ${reason}`, async () => {
      await refusedWithoutTrace(
        house,
        () => send(make()),
        { status: 400, error: 'invalid_grant', reason, stranger: true },
        () => send(grant('agent/7f3d')),
      )
    })
  }

  it('of one platform is nobody at another under the same issuer', async () => {
    const blue = await send(grant('agent/1', { iss: SHARED, tenant: 'blue' }, { kid: 'blue' }, sharedKey))
    expect(clientIdOf(blue)).toMatch(/^platform:blue:/)
  })

  it('D13 comes with its grant alone: other evidence would name a second agent', async () => {
    const research = await house.agent('research')
    const form = { client_assertion: research.assertion(), client_assertion_type: 'x' }
    await refusedWithoutTrace(
      house,
      () => send(grant('agent/7f3d'), form),
      { status: 400, error: 'invalid_request', reason: 'bad_param', stranger: true },
      () => send(grant('agent/7f3d'), { client_id: 'means-nothing' }),
    )
  })

  it('D13 comes without a client attestation too', async () => {
    const attestation = { 'oauth-client-attestation': grant('x'), 'oauth-client-attestation-pop': grant('x') }
    await refusedWithoutTrace(
      house,
      () => send(grant('agent/7f3d'), {}, attestation),
      { status: 400, error: 'invalid_request', reason: 'bad_param', stranger: true },
      () => send(grant('agent/7f3d')),
    )
  })

  it('E6 may be bound to the key that it comes with, and does not come without', async () => {
    const bound = grant('agent/7f3d', { cnf: { jkt: house.thumbprint(proofKey) } })
    const body = new URLSearchParams({ grant_type: GRANT.jwtBearer, assertion: bound, resource: TICKETS }).toString()
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    await refusedWithoutTrace(
      house,
      () => house.fetch('POST', '/token', { headers, body }),
      { status: 400, error: 'invalid_grant', reason: 'binding_downgrade', stranger: true },
      () => send(bound),
    )
  })

  it('is good for one use, and for the retries of that use', async () => {
    const once = grant('agent/7f3d')
    const headers = { 'idempotency-key': randomBytes(9).toString('hex') }
    const first = await send(once, {}, headers)
    expect(decode((await send(once, {}, headers)).body['access_token'] as unknown as string).payload).toEqual(
      decode(first.body['access_token'] as unknown as string).payload,
    )
    await refusedWithoutTrace(
      house,
      () => send(once),
      { status: 400, error: 'invalid_grant', reason: 'replayed', stranger: true },
      () => send(grant('agent/7f3d')),
    )
  })

  it('F1 is no evidence once it is spent: who brings it again is told nothing, of a dry run neither', async () => {
    const once = grant('agent/7f3d')
    expect((await send(once, { dry_run: 'true' })).body).toMatchObject({ dry_run: true, allowed: true })
    expect((await send(once)).status).toBe(200)
    for (const form of [{ dry_run: 'true' }, { scope: 'tickets:add_comment' }])
      await refusedWithoutTrace(
        house,
        () => send(once, form),
        { status: 400, error: 'invalid_grant', reason: 'replayed', stranger: true },
        () => send(grant('agent/7f3d')),
      )
  })

  it('stays in its task by its id, and in nobody else’s', async () => {
    const first = await send(grant('agent/7f3d'))
    const task_id = String(first.body['task_id'])
    expect((await send(grant('agent/7f3d'), { task_id })).body['task_id']).toBe(task_id)
    const other = await send(grant('agent/7f3e'), { task_id })
    expect(other.body).toMatchObject({ error: 'invalid_request', reason: 'task_not_active' })
  })

  it('counts against the agents that its platform may have, until it is forgotten', async () => {
    expect((await send(grant('agent/third'))).status).toBe(200)
    const full = await send(grant('agent/fourth'))
    expect(full.body).toMatchObject({ error: 'invalid_grant', reason: 'platform_full' })
    expect((await send(grant('agent/third'))).status).toBe(200)
    house.advance(31 * 86_400)
    expect((await send(grant('agent/fourth'))).status).toBe(200)
  })

  it('F13 is banned by its name, or with its whole platform, also when it was forgotten', async () => {
    const client_id = clientIdOf(await send(grant('agent/fourth')))
    await house.admin('POST', '/revocations', { match: { client_id }, mode: 'ban', reason: 'test' })
    expect((await send(grant('agent/fourth'))).body).toMatchObject({ error: 'invalid_grant', reason: 'banned' })
    expect((await send(grant('agent/fifth'))).status).toBe(200)
    await house.admin('POST', '/revocations', {
      match: { domain: 'acme.platforms.example' },
      mode: 'ban',
      reason: 'test',
    })
    expect((await send(grant('agent/fifth'))).body).toMatchObject({ error: 'invalid_grant', reason: 'banned' })
    const blue = await send(grant('agent/1', { iss: SHARED, tenant: 'blue' }, { kid: 'blue' }, sharedKey))
    expect(blue.status).toBe(200)
  })
})
