import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROUTES } from '../../src/http/app.ts'
import { RESERVED_SEGMENTS } from '../../src/config/tenants.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import { readPrivateJwkFile } from '../../src/keys/private-jwk.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { join } from 'node:path'
import { details, openTenancy, type Tenancy } from '../tenancy.ts'

const nameOf = ({ method, path }: { readonly method: string; readonly path: string }) => `${method} ${path}`
const GUARDED = ROUTES.filter(({ access }) => access !== 'public' && access !== 'form')
const FILES = { admin: 'admin.jwk', agent: 'agents/research.jwk', tool: 'tools/tickets.jwk' } as const
const IDS = { admin: 'admin', agent: 'research', tool: 'tool:tickets' } as const
type Kind = keyof typeof FILES

describe("another tenant's keys, ids and tokens", () => {
  let town: Tenancy
  /** What labs has: acme must find none of it. */
  let theirs: {
    readonly task: string
    readonly jti: string
    readonly decision: string
    readonly rev: string
    readonly token: string
    readonly user: string
  }
  beforeAll(async () => {
    town = await openTenancy(['acme', 'labs'], { extra: '\nbounds: { strangers_per_second_per_source: 100000 }\n' })
    const agent = await town.agent('labs')
    const task = await agent.task({ subjectToken: await town.userToken('labs'), ...details })
    const { accessToken, decisionId } = await task.token({ tool: 'tickets' })
    const claims = JSON.parse(Buffer.from(accessToken.split('.')[1]!, 'base64url').toString())
    const revoked = await town.admin('labs', '/revocations', { match: { jti: 'x'.repeat(27) }, reason: 'a test' })
    theirs = {
      task: claims.task.id,
      jti: claims.jti,
      decision: decisionId!,
      rev: String(revoked['id']),
      token: accessToken,
      user: await town.userToken('labs'),
    }
  })
  afterAll(() => town.close())

  /** An assertion and a proof by keys of `from`, made for `audience`. */
  async function credentials(from: string, kind: Kind, audience: string, url: string, method: string) {
    const key = await readPrivateJwkFile(join(town.keysOf(from), FILES[kind]))
    const iat = Math.floor(Date.now() / 1000)
    const { kty, crv, x, y } = key.publicJwk
    const nonce = nonces.get(`${from} ${kind}`)
    return {
      assertion: signEs256(
        key.privateKey,
        { typ: 'client-authentication+jwt', kid: key.kid },
        { iss: IDS[kind], sub: IDS[kind], aud: audience, jti: randomUUID(), iat, exp: iat + 60 },
      ),
      dpop: signEs256(
        key.privateKey,
        { typ: 'dpop+jwt', jwk: { kty, crv, x, y } },
        { jti: randomUUID(), htm: method, htu: url, iat, ...(nonce === undefined ? {} : { nonce }) },
      ),
    }
  }
  const nonces = new Map<string, string>()

  async function ask(
    from: string,
    kind: Kind,
    method: string,
    path: string,
    body?: object,
    audience = town.issuerOf('acme'),
  ) {
    const base = town.issuerOf('acme')
    for (let tries = 1; ; tries++) {
      const { assertion, dpop } = await credentials(from, kind, audience, `${base}${path.split('?')[0]}`, method)
      const answer = await fetch(`${base}${path}`, {
        method,
        headers: {
          authorization: `ClientAssertion ${assertion}`,
          dpop,
          ...(body === undefined ? {} : { 'content-type': 'application/json' }),
        },
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      })
      const nonce = answer.headers.get('dpop-nonce')
      if (nonce !== null) nonces.set(`${from} ${kind}`, nonce)
      const text = await answer.text()
      if (text.includes('use_dpop_nonce') && tries === 1) continue
      return { status: answer.status, text, body: JSON.parse(text) as Record<string, unknown> }
    }
  }

  async function form(path: string, fields: Record<string, string>, kind: Kind = 'agent') {
    const base = town.issuerOf('acme')
    for (let tries = 1; ; tries++) {
      const { assertion, dpop } = await credentials('acme', kind, base, `${base}${path}`, 'POST')
      const answer = await fetch(`${base}${path}`, {
        method: 'POST',
        headers: { dpop },
        body: new URLSearchParams({
          client_assertion_type: ASSERTION_TYPE.jwtBearer,
          client_assertion: assertion,
          ...fields,
        }),
      })
      const nonce = answer.headers.get('dpop-nonce')
      if (nonce !== null) nonces.set(`acme ${kind}`, nonce)
      const text = await answer.text()
      if (text.includes('use_dpop_nonce') && tries === 1) continue
      return { status: answer.status, text, body: (text === '' ? {} : JSON.parse(text)) as Record<string, unknown> }
    }
  }

  const idFor = (path: string) =>
    path.startsWith('/tasks')
      ? theirs.task
      : path.startsWith('/rev')
        ? theirs.rev
        : path.startsWith('/agents')
          ? 'research'
          : theirs.jti

  it('D17 keys of another tenant are no keys here, at no endpoint, for whichever issuer the assertion was made', async () => {
    for (const route of GUARDED) {
      const path = route.path.replace(':id', idFor(route.path)).replace(':level/:tile{.+}', '0/000')
      for (const kind of ['admin', 'agent', 'tool'] as const) {
        for (const audience of [town.issuerOf('acme'), town.issuerOf('labs')]) {
          const answer = await ask('labs', kind, route.method, path, route.method === 'POST' ? {} : undefined, audience)
          expect([nameOf(route), kind, audience, answer.status]).toEqual([nameOf(route), kind, audience, 401])
          expect(answer.text).not.toContain('labs')
        }
      }
    }
  })

  it('D17 D21 ids of another tenant name nothing here, to nobody', async () => {
    const asked: readonly [Kind, string, string, object?][] = [
      ['agent', 'GET', `/tasks/${theirs.task}`],
      ['admin', 'GET', `/tasks/${theirs.task}`],
      ['agent', 'POST', `/tasks/${theirs.task}/heartbeat`, {}],
      ['agent', 'POST', `/tasks/${theirs.task}/complete`, {}],
      ['admin', 'POST', `/tasks/${theirs.task}/cancel`, {}],
      ['admin', 'GET', `/explanations/${theirs.jti}`],
      ['agent', 'GET', `/explanations/${theirs.decision}`],
      ['admin', 'GET', `/revocations/${theirs.rev}`],
      ['admin', 'POST', `/revocations/${theirs.rev}/readmit`, { reason: 'not mine' }],
    ]
    for (const [kind, method, path, body] of asked) {
      const answer = await ask('acme', kind, method, path, body)
      expect([method, path, answer.status]).toEqual([method, path, 404])
    }
    const listed = await ask('acme', 'admin', 'GET', '/tasks')
    expect(listed.body['tasks']).toEqual([])
    const records = await ask('acme', 'admin', 'GET', '/audit/records?limit=1000')
    expect(records.text).not.toContain(theirs.task)
    expect(records.text).not.toContain(theirs.jti)
    const reserved = await ask('acme', 'tool', 'POST', `/tasks/${theirs.task}/reservations`, {
      token: theirs.token,
      operation: 'read_ticket',
      calls: 1,
      operation_id: 'operation-1',
    })
    expect(reserved.status).toBeGreaterThanOrEqual(400)
  })

  it('D17 C8 tokens of another tenant are nothing here: as subject, as user, introspected or revoked', async () => {
    const exchange = (fields: Record<string, string>) =>
      form('/token', {
        grant_type: GRANT.exchange,
        audience: 'tickets',
        request_details: JSON.stringify({
          purpose: 'x',
          environment: 'staging',
          data_classification: 'internal',
          deadline_seconds: 60,
        }),
        ...fields,
      })
    for (const fields of [
      { subject_token: theirs.token, subject_token_type: TOKEN_TYPE.accessToken },
      { subject_token: theirs.user, subject_token_type: TOKEN_TYPE.idToken },
    ]) {
      const answer = await exchange(fields)
      expect([answer.status, answer.body['error'], answer.body['reason']]).toEqual([
        400,
        'invalid_request',
        'untrusted_issuer',
      ])
      expect(answer.text).not.toContain('labs')
    }
    const own = await town.userToken('acme')
    const inTheirTask = await form('/token', {
      grant_type: GRANT.exchange,
      audience: 'tickets',
      subject_token: own,
      subject_token_type: TOKEN_TYPE.idToken,
      task_id: theirs.task,
    })
    expect([inTheirTask.status, inTheirTask.body['reason']]).toEqual([400, 'task_not_active'])
    const introspected = await form('/introspect', { token: theirs.token }, 'tool')
    expect([introspected.status, introspected.body]).toEqual([200, { active: false }])
    expect((await form('/revoke', { token: theirs.token })).status).toBe(200)
    // Without effect where it lives.
    const labs = await town.client('labs', 'tool:tickets', 'tools/tickets.jwk')
    expect(await labs.form('/introspect', { token: theirs.token })).toMatchObject({ active: true })
  })

  it("what everybody may read is the tenant's own: keys, feed and statements of one are not another's", async () => {
    const read = async (name: string, path: string) =>
      (await (await fetch(`${town.issuerOf(name)}${path}`)).json()) as never
    const kids = async (name: string) =>
      ((await read(name, '/.well-known/jwks.json'))['keys'] as { kid: string }[]).map(({ kid }) => kid)
    const labs = await kids('labs')
    expect((await kids('acme')).filter((kid) => labs.includes(kid))).toEqual([])
    const statement = (await read('acme', `/revocations/now?nonce=${'n'.repeat(22)}`))['statement'] as string
    expect(JSON.parse(Buffer.from(statement.split('.')[1]!, 'base64url').toString())['iss']).toBe(town.issuerOf('acme'))
    const keys = await Promise.all(
      ['acme', 'labs'].map(async (name) =>
        (await town.client(name, 'tool:tickets', 'tools/tickets.jwk')).get('/revocations/key'),
      ),
    )
    expect(keys[0]!['key']).not.toBe(keys[1]!['key'])
  })

  it('revoking everything of one agent here revokes nothing there', async () => {
    await town.admin('acme', '/revocations', { match: { client_id: 'research' }, reason: 'a test' })
    const labs = await town.client('labs', 'tool:tickets', 'tools/tickets.jwk')
    expect(await labs.form('/introspect', { token: theirs.token })).toMatchObject({ active: true })
    expect(((await town.admin('labs', '/revocations/bans'))['bans'] as unknown[]).length).toBe(0)
  })
})

it("every first segment of the service's own paths is kept from tenants", () => {
  const own = [...new Set(ROUTES.map(({ path }) => path.split('/')[1]!))]
  expect(own.filter((segment) => !RESERVED_SEGMENTS.includes(segment))).toEqual([])
})
