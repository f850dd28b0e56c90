import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ROUTES } from '../../src/http/app.ts'
import type { Route } from '../../src/http/route.ts'
import { type Answer, type House, newKeyPair, openHouse, signJws } from '../house.ts'
import { openRunning, type Running } from '../running.ts'

/** Every endpoint with who may knock (H9): a new one is written here too, by somebody who has thought about it. */
const DECLARED: Record<string, string> = {
  'GET /.well-known/oauth-authorization-server': 'public',
  'GET /.well-known/openid-configuration': 'public',
  'GET /.well-known/jwks.json': 'public',
  'GET /.well-known/authzen-configuration': 'public',
  'GET /authorize': 'public',
  'GET /health': 'public',
  'GET /ready': 'public',
  'GET /metrics': 'public',
  'GET /docs/refusals': 'public',
  'GET /docs/refusals/:reason': 'public',
  'GET /revocations': 'public',
  'GET /revocations/now': 'public',
  'GET /revocations/stream': 'public',
  'GET /status-lists': 'public',
  'GET /status-lists/:id': 'public',
  'POST /token': 'form',
  'POST /agents/:id/join-tokens': 'admin',
  'POST /agents/:id/keys': 'public',
  'POST /agents/:id/keys/remove': 'admin',
  'POST /challenge': 'public',
  'POST /introspect': 'form',
  'POST /revoke': 'form',
  'POST /global-token-revocation': 'provider',
  'POST /revocations/acks/relayed': 'public',
  'POST /ssf/events': 'public',
  'GET /.well-known/ssf-configuration': 'public',
  'POST /ssf/streams': 'receiver',
  'GET /ssf/streams': 'receiver',
  'PATCH /ssf/streams': 'receiver',
  'PUT /ssf/streams': 'receiver',
  'DELETE /ssf/streams': 'receiver',
  'GET /ssf/status': 'receiver',
  'POST /ssf/status': 'receiver',
  'POST /ssf/subjects/add': 'receiver',
  'POST /ssf/subjects/remove': 'receiver',
  'POST /ssf/verify': 'receiver',
  'POST /ssf/poll/:id': 'receiver',
  'POST /tasks': 'agent',
  'GET /tasks': 'admin',
  'GET /tasks/:id': 'agent admin',
  'POST /tasks/:id/heartbeat': 'agent',
  'POST /tasks/:id/complete': 'agent admin',
  'POST /tasks/:id/cancel': 'agent admin',
  'POST /tasks/:id/reservations': 'tool',
  'GET /explanations/:id': 'agent admin',
  'POST /access/v1/evaluation': 'agent tool admin',
  'POST /access/v1/evaluations': 'agent tool admin',
  'POST /revocations': 'admin',
  'GET /revocations/key': 'tool admin',
  'GET /revocations/bans': 'admin',
  'GET /revocations/pending': 'admin',
  'GET /revocations/pending/:id': 'admin',
  'POST /revocations/acks': 'tool',
  'GET /revocations/:id': 'admin',
  'GET /revocations/:id/receipt': 'admin',
  'POST /revocations/:id/readmit': 'admin',
  'POST /revocations/:id/resume': 'admin',
  'POST /revocations/:id/confirm': 'admin',
  'POST /drills': 'admin',
  'POST /drills/:id/finish': 'admin',
  'GET /drills': 'admin',
  'GET /seal': 'admin',
  'POST /seal': 'admin',
  'POST /unseal': 'admin',
  'GET /agents': 'admin',
  'GET /agents/:id': 'admin agent',
  'GET /tools': 'admin agent tool',
  'GET /config': 'admin',
  'GET /releases': 'admin',
  'GET /keys': 'admin',
  'GET /keys/jwks': 'admin',
  'POST /keys/rotate': 'admin',
  'POST /keys/compromise': 'admin',
  'GET /audit/records': 'admin',
  'GET /log/checkpoint': 'agent tool admin',
  'GET /log/tile/:level/:tile{.+}': 'agent tool admin',
  'GET /log/proof': 'agent tool admin',
  'GET /log/consistency': 'agent tool admin',
  'GET /audit/tasks/:id/bundle': 'admin',
  'GET /tenants': 'admin',
  'GET /stats': 'admin',
}

const nameOf = ({ method, path }: Pick<Route, 'method' | 'path'>) => `${method} ${path}`
const accessOf = ({ access }: Route) => (typeof access === 'string' ? access : access.join(' '))
const GUARDED = ROUTES.filter(({ access }) => access !== 'public' && access !== 'form')
const FORMS = ROUTES.filter(({ access }) => access === 'form')

const MANY = { 'errand.yaml': (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 1000000 }\n` }

describe('every endpoint and a stranger', () => {
  let house: House
  let ids: { readonly task: string; readonly rev: string; readonly jti: string }
  let token: string
  beforeAll(async () => {
    house = await openHouse({ config: MANY })
    const research = await house.agent('research')
    const issued = await research.exchange({ form: { audience: 'tickets' } })
    token = String(issued.body['access_token'])
    const revoked = await house.admin('POST', '/revocations', { match: { jti: 'x'.repeat(27) }, reason: 'a test' })
    ids = {
      task: String(issued.body['task_id']),
      rev: String(revoked.body['id']),
      jti: JSON.parse(Buffer.from(token.split('.')[1]!, 'base64url').toString())['jti'] as string,
    }
  })
  afterAll(() => house.close())

  const pathOf = ({ path }: Route) => {
    const id = path.startsWith('/tasks') ? ids.task : path.startsWith('/rev') ? ids.rev : ids.jti
    return path.replace(':id', path.startsWith('/agents') ? 'research' : id).replace(':level/:tile{.+}', '0/000')
  }
  /** A body that the endpoint would take from the right caller. */
  const BODIES: Record<string, object> = {
    'POST /tasks/:id/reservations': { token: 't', operation: 'refund', calls: 1, operation_id: 'operation-1' },
    'POST /revocations': { match: {}, everything: true, reason: 'a stranger wants it' },
    'POST /global-token-revocation': {
      sub_id: { format: 'iss_sub', iss: 'http://127.0.0.1:4460/dev-issuer', sub: 'alice' },
    },
    'POST /revocations/:id/readmit': { reason: 'a stranger wants it' },
    'POST /revocations/:id/resume': { reason: 'a stranger wants it' },
    'POST /revocations/:id/confirm': { digest: 'x'.repeat(43) },
    'POST /revocations/acks': { epoch: '1.0' },
    'POST /keys/rotate': { immediately: true },
    'POST /keys/compromise': { kid: 'x', reason: 'a stranger wants it' },
  }
  const knock = (route: Route, headers: Record<string, string>, query = ''): Promise<Answer> =>
    house.fetch(route.method, `${pathOf(route)}${query}`, {
      headers: { ...(route.method === 'POST' ? { 'content-type': 'application/json' } : {}), ...headers },
      ...(route.method === 'POST' ? { body: JSON.stringify(BODIES[nameOf(route)] ?? {}) } : {}),
    })

  /** What a stranger must not have moved. */
  const state = async () => ({
    // Not the epoch: it moves each minute, by a mark that revokes nothing.
    revoked: (await house.service.stores.revocations.after()).map(({ id }) => id),
    bans: (await house.service.stores.revocations.bans(house.now())).length,
    tasks: (await house.service.stores.tasks.list({ limit: 500 })).map(({ id, state, spent }) => ({
      id,
      state,
      spent,
    })),
    keys: (await house.service.stores.keyStore.list()).map(({ kid, state }) => `${kid} ${state}`),
    records: (await house.records()).filter(
      ({ type }) => !['strangers.refused', 'admin.refused', 'task.refused', 'revocation.marked'].includes(type),
    ).length,
  })

  it('H9 every route is declared with its authentication, and the router knows no other', () => {
    expect(Object.fromEntries(ROUTES.map((route) => [nameOf(route), accessOf(route)]))).toEqual(DECLARED)
    const routed = house.service.app.routes
      .filter(({ method }) => method !== 'ALL')
      .map((route) => `${route.method} ${route.path}`)
    expect(routed.sort()).toEqual(Object.keys(DECLARED).sort())
    // What is mounted for all methods is the gate, once, before everything else.
    expect(house.service.app.routes.filter(({ method }) => method === 'ALL').map(({ path }) => path)).toEqual(['/*'])
  })

  it('H9 none of them cancels, resets or reads anything for somebody without credentials', async () => {
    const before = await state()
    for (const route of GUARDED) {
      const answer = await knock(route, {})
      expect([nameOf(route), answer.status, answer.body['error']]).toEqual([nameOf(route), 401, 'invalid_client'])
      expect(answer.headers.get('www-authenticate')).toMatch(/^ClientAssertion error=/)
    }
    for (const route of FORMS) {
      const answer = await house.fetch('POST', route.path, {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: `token=${token}&grant_type=client_credentials&user_id=alice&agent_id=research&tenant=other`,
      })
      expect([route.path, answer.status, answer.body['error']]).toEqual([route.path, 401, 'invalid_client'])
    }
    expect(await state()).toEqual(before)
  })

  it('A18 other schemes, garbage, two headers and credentials in the query are no authentication', async () => {
    const before = await state()
    const admin = house.assertionOf('admin', house.adminKey)
    const presented: readonly [Record<string, string>, string?][] = [
      [{ authorization: 'ClientAssertion' }],
      [{ authorization: 'ClientAssertion ' }],
      [{ authorization: 'ClientAssertion x.y.z' }],
      [{ authorization: `Bearer ${token}` }],
      [{ authorization: `DPoP ${token}` }],
      [{ authorization: `ClientAssertion ${token}` }],
      [{ authorization: `Basic ${Buffer.from('admin:admin').toString('base64')}` }],
      [{ authorization: `ClientAssertion\t${admin}` }],
      [{ authorization: `ClientAssertion ${admin}, ClientAssertion ${admin}` }],
      [{}, `?access_token=${admin}`],
      [{}, `?client_assertion=${admin}&client_assertion_type=x`],
      [{ authorization: `ClientAssertion ${admin}` }, `?access_token=${token}`],
      [{ 'client-id': 'admin' }],
      [{ 'client-cert': ':AAAA:', 'client-id': 'research' }],
      [{ 'x-forwarded-client-cert': 'Hash=00;URI=spiffe://company.example/agents/research', 'client-id': 'research' }],
      [{ cookie: `session=${admin}` }],
    ]
    for (const route of GUARDED)
      for (const [headers, query] of presented) {
        const answer = await knock(route, headers, query)
        expect([nameOf(route), Object.entries(headers), query, answer.status]).toEqual([
          nameOf(route),
          Object.entries(headers),
          query,
          401,
        ])
      }
    expect(await state()).toEqual(before)
  })

  it('F1 H9 assertions that are expired, forged, for somebody else or used are refused everywhere', async () => {
    const research = await house.agent('research')
    const stolen = newKeyPair()
    const used = research.assertion()
    expect(
      (await house.fetch('GET', '/agents/research', { headers: { authorization: `ClientAssertion ${used}` } })).status,
    ).toBe(200)
    const before = await state()
    const presented: readonly [string, () => string][] = [
      ['expired', () => research.assertion({ iat: house.now() - 400, exp: house.now() - 100 })],
      ['used', () => used],
      ['another audience', () => research.assertion({ aud: 'https://other.example' })],
      ['the endpoint as audience', () => research.assertion({ aud: 'http://127.0.0.1:4460/tasks' })],
      ['another key', () => house.assertionOf('research', { ...stolen, kid: research.key.kid! })],
      ['an unknown client', () => house.assertionOf('nobody', stolen)],
      ['an agent as admin', () => house.assertionOf('admin', research.key)],
      ['a user token', () => house.userToken('alice')],
      ['unsigned', () => signJws({ alg: 'none' }, { iss: 'admin', sub: 'admin' }, stolen.privateKey)],
      ['two hours long', () => research.assertion({ exp: house.now() + 7200 })],
    ]
    for (const route of GUARDED)
      for (const [what, make] of presented) {
        const answer = await knock(route, { authorization: `ClientAssertion ${make()}` })
        expect([nameOf(route), what, answer.status]).toEqual([nameOf(route), what, 401])
        expect(answer.text).not.toContain('research.yaml')
      }
    expect(await state()).toEqual(before)
  })

  it('H9 whoever is known and not meant is refused: an agent, a tool, an administrator without proof', async () => {
    const before = await state()
    const research = await house.agent('research')
    const crm = await house.tool('crm')
    for (const route of GUARDED) {
      const allowed = accessOf(route)
      if (!allowed.includes('agent')) {
        const answer = await knock(route, { authorization: `ClientAssertion ${research.assertion()}` })
        expect([nameOf(route), answer.status, answer.body['error']]).toEqual([nameOf(route), 403, 'access_denied'])
      }
      if (!allowed.includes('tool')) {
        const assertion = house.assertionOf(crm.clientId, crm.key)
        const answer = await knock(route, { authorization: `ClientAssertion ${assertion}` })
        expect([nameOf(route), answer.status, answer.body['error']]).toEqual([nameOf(route), 403, 'access_denied'])
      }
      // An administrator's assertion without a proof of the same key, as a thief of the one header has it.
      const assertion = house.assertionOf('admin', house.adminKey)
      const bare = await knock(route, { authorization: `ClientAssertion ${assertion}` })
      expect([nameOf(route), bare.status]).toEqual([nameOf(route), 401])
      if (!house.nonces.has('admin')) await house.learnNonce('admin')
      const withOther = await knock(route, {
        authorization: `ClientAssertion ${house.assertionOf('admin', house.adminKey)}`,
        dpop: house.proof('admin', pathOf(route), { key: newKeyPair(), method: route.method }),
      })
      expect([nameOf(route), withOther.status]).toEqual([nameOf(route), 401])
    }
    expect(await state()).toEqual(before)
  })

  it('H9 methods that are not declared do not exist', async () => {
    for (const route of ROUTES)
      for (const method of ['GET', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS', 'PROPFIND']) {
        const path = pathOf(route)
        const other = ROUTES.find((each) => each.method === method && pathOf(each) === path)
        if (other) continue
        // Another route may take the same path with a parameter: GET /revocations/acks looks for a revocation.
        const answer = await house.fetch(method, path)
        expect([method, path, answer.status]).toEqual([method, path, expect.toSatisfy((s) => s === 404 || s === 401)])
      }
  })

  it('tells strangers nothing on public routes that names a person, an agent, a task or a token', async () => {
    for (const route of ROUTES.filter(({ access }) => access === 'public')) {
      if (route.path === '/revocations/stream') continue
      const query = route.path === '/revocations/now' ? `?nonce=${'n'.repeat(22)}` : ''
      const { text, headers, status } = await house.fetch('GET', `${route.path}${query}`)
      expect(status, route.path).toBeLessThan(500)
      const decoded = text.replace(
        /[A-Za-z0-9_-]{40,}/g,
        (part) => `${part} ${Buffer.from(part, 'base64url').toString()}`,
      )
      for (const word of ['alice', 'research', ids.task, ids.jti, '"d":"', house.folder]) {
        if (word === '"d":"' && route.path === '/revocations') continue // `d` of an entry is its shape
        expect(decoded, `${route.path} tells ${word}`).not.toContain(word)
      }
      expect(headers.get('x-request-id'), route.path).toMatch(/^req_/)
      expect(headers.has('set-cookie')).toBe(false)
    }
  })

  it('counts every refused stranger in the log, folded by source, reason and second', async () => {
    const own = await openHouse({ config: MANY, env: { peer: '2001:db8:0:7::1' } })
    for (let i = 0; i < 5; i += 1) await own.fetch('GET', '/agents')
    for (let i = 0; i < 3; i += 1) await own.fetch('GET', '/nowhere')
    await own.fetch('POST', '/token', { headers: { 'content-type': 'application/json' }, body: '{}' })
    own.advance(2)
    await own.stop()
    const again = await openHouse({ folder: own.folder })
    const folded = await again.records({ type: 'strangers.refused' })
    const rows = folded.map(({ source, reason, count }) => [source, reason, count])
    expect(rows).toContainEqual(['2001:db8:0:7::/64', 'client_auth_required', 5])
    expect(rows).toContainEqual(['2001:db8:0:7::/64', 'not_found', 3])
    expect(rows).toContainEqual(['2001:db8:0:7::/64', 'media_type', 1])
    await again.close()
  })
})

describe('other spellings of a path', () => {
  let running: Running
  let port: number
  beforeAll(async () => {
    running = await openRunning()
    port = Number(new URL(running.issuer).port)
  })
  afterAll(() => running.close())

  /** Bytes in, the status line and everything else out. */
  const raw = (text: string): Promise<string> =>
    new Promise((resolve, reject) => {
      const socket = connect(port, '127.0.0.1', () => socket.write(text))
      let out = ''
      socket.on('data', (chunk) => {
        out += String(chunk)
      })
      socket.on('error', reject)
      socket.on('close', () => resolve(out))
    })
  const get = (target: string, method = 'GET', more = '') =>
    raw(`${method} ${target} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n${more}\r\n`)

  const SPELLINGS = [
    '//agents',
    '/agents/',
    '/%61gents',
    '/x/../agents',
    '/./agents',
    '/AGENTS',
    '/agents%2F',
    '/agents;x=1',
    '/agents%00',
    '/agents//',
    '/%2e/agents',
    '/x/%2e%2e/agents',
    '/x/..%2fagents',
    '/agents%20',
    '/.well-known/../agents',
    '/revocations/../agents',
    '/health/../agents',
    '/agents.',
  ]

  it('G10 never reach a handler: 404, whatever a parser would make of them', async () => {
    for (const target of SPELLINGS) {
      const answer = await get(target)
      expect([target, answer.split('\r\n', 1)[0]]).toEqual([
        target,
        expect.stringMatching(/^HTTP\/1\.1 (404 Not Found|400 Bad Request)$/),
      ])
    }
    for (const target of SPELLINGS.map((each) =>
      each.replace(/agents/i, (word) => (word === 'agents' ? 'token' : 'TOKEN')),
    )) {
      const answer = await get(
        target,
        'POST',
        'Content-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n',
      )
      expect([target, answer.split('\r\n', 1)[0]]).toEqual([
        target,
        expect.stringMatching(/^HTTP\/1\.1 (404 Not Found|400 Bad Request)$/),
      ])
    }
  })

  it('G10 backslashes, other hosts and absolute targets are other places or the same door with its lock', async () => {
    expect(await get('/\\agents')).toMatch(/^HTTP\/1\.1 (400|404)/)
    expect(await get('agents')).toMatch(/^HTTP\/1\.1 400/)
    expect(await get('http://evil.example/agents')).toMatch(/^HTTP\/1\.1 401/)
    expect(await get('http://127.0.0.1/x/../agents')).toMatch(/^HTTP\/1\.1 404/)
    expect(await raw('GET /agents HTTP/1.1\r\nHost: admin@evil.example\r\nConnection: close\r\n\r\n')).toMatch(
      /^HTTP\/1\.1 40[01]/,
    )
    expect(await get('/agents')).toMatch(/^HTTP\/1\.1 401/)
  })

  it('A18 two Authorization headers on the wire are refused, not read as the first', async () => {
    const answer = await get(
      '/agents',
      'GET',
      'Authorization: ClientAssertion a.b.c\r\nAuthorization: ClientAssertion d.e.f\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 401/)
    expect(JSON.stringify(running.lines)).toContain('bad_auth_scheme')
  })

  it('E8 two DPoP headers on the wire are refused', async () => {
    const answer = await get(
      '/token',
      'POST',
      'DPoP: a.b.c\r\nDPoP: a.b.c\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 0\r\n',
    )
    expect(answer).toMatch(/^HTTP\/1\.1 400/)
    expect(answer).toContain('invalid_dpop_proof')
    expect(running.lines.join('')).toContain('proof_duplicate')
  })
})
