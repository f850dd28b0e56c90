/** Receivers of security events hear of what ends here (Shared Signals Framework 1.0); jose verifies each token. */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { createLocalJWKSet, type JSONWebKeySet, type JWTPayload, jwtVerify } from 'jose'
import { afterEach, describe, expect, it } from 'vitest'
import { type Answer, DEV_ISSUER, decode, type House, ISSUER, newKeyPair, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

const CAEP = 'https://schemas.openid.net/secevent/caep/event-type/'
const SSF = 'https://schemas.openid.net/secevent/ssf/event-type/'
const AUDIENCE = 'https://siem.example'
const POLL = 'urn:ietf:rfc:8936'
const PUSH = 'urn:ietf:rfc:8935'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

const siem = { ...newKeyPair(), kid: 'siem-1' }
const other = { ...newKeyPair(), kid: 'other-1' }
const receivers = (pushUrl?: string) =>
  `\nsignal_receivers:\n  - { name: siem, audience: '${AUDIENCE}', keys: [${JSON.stringify({ ...siem.publicJwk, kid: 'siem-1', alg: 'ES256' })}]${pushUrl === undefined ? '' : `, push_url: '${pushUrl}'`} }\n  - { name: other, audience: 'https://other.example', keys: [${JSON.stringify({ ...other.publicJwk, kid: 'other-1', alg: 'ES256' })}] }\n`
async function open(pushUrl?: string, more: object = {}): Promise<House> {
  const house = await openHouse({ config: { 'errand.yaml': (text) => `${text}${receivers(pushUrl)}` }, ...more })
  closing.push(house.close)
  return house
}

const as =
  (house: House, name: 'siem' | 'other') =>
  (method: string, path: string, json?: unknown): Promise<Answer> =>
    house.fetch(method, path, {
      headers: {
        authorization: `ClientAssertion ${house.assertionOf(`receiver:${name}`, name === 'siem' ? siem : other)}`,
        ...(json === undefined ? {} : { 'content-type': 'application/json' }),
      },
      ...(json === undefined ? {} : { body: JSON.stringify(json) }),
    })

async function verified(
  house: House,
  token: string,
): Promise<JWTPayload & { events: Record<string, object>; sub_id: object }> {
  const { body } = await house.fetch('GET', '/.well-known/jwks.json')
  const { payload } = await jwtVerify(token, createLocalJWKSet(body as unknown as JSONWebKeySet), {
    issuer: ISSUER,
    audience: AUDIENCE,
    typ: 'secevent+jwt',
    algorithms: ['RS256'],
    currentDate: new Date(house.now() * 1000),
  })
  expect([payload.sub, payload.exp]).toEqual([undefined, undefined])
  return payload as never
}

describe('a stream that a receiver polls', () => {
  async function streaming(more: object = {}, config = {}) {
    const house = await open(undefined, config)
    const receiver = as(house, 'siem')
    const created = await receiver('POST', '/ssf/streams', { ...more })
    expect(created.status, created.text).toBe(201)
    const id = String(created.body['stream_id'])
    const poll = async (body: object = {}) => {
      const answer = await receiver('POST', `/ssf/poll/${id}`, { returnImmediately: true, ...body })
      expect(answer.status, answer.text).toBe(200)
      return { ...answer.body, sets: answer.body['sets'] as unknown as Record<string, string> }
    }
    return { house, receiver, id, created, poll }
  }

  it('is found by the metadata, created and told what it will bring', async () => {
    const { house, created, id } = await streaming({ description: 'SIEM' })
    const { body } = await house.fetch('GET', '/.well-known/ssf-configuration')
    expect(body).toMatchObject({
      spec_version: '1_0',
      issuer: ISSUER,
      jwks_uri: `${ISSUER}/.well-known/jwks.json`,
      delivery_methods_supported: [PUSH, POLL],
      configuration_endpoint: `${ISSUER}/ssf/streams`,
      default_subjects: 'ALL',
    })
    expect(created.body).toMatchObject({
      iss: ISSUER,
      aud: AUDIENCE,
      delivery: { method: POLL, endpoint_url: `${ISSUER}/ssf/poll/${id}` },
      events_delivered: ['session-revoked', 'credential-change', 'token-claims-change'].map((type) => `${CAEP}${type}`),
      description: 'SIEM',
    })
    expect(await house.records({ type: 'signal.stream' })).toMatchObject([{ by: 'receiver:siem' }])
  })

  it('tells what ended, of whom, by the names that others know, in tokens that jose verifies', async () => {
    const { house, poll } = await streaming()
    const research = await house.agent('research')
    const first = await research.exchange({ form: { audience: 'tickets' } })
    const second = await research.exchange({ form: { audience: 'tickets' }, user: 'bob' })
    expect(first.status).toBe(200)
    const task = String(first.body['task_id'])
    await house.admin('POST', `/tasks/${task}/cancel`, { reason: 'wrong order' })
    await house.admin('POST', `/tasks/${String(second.body['task_id'])}/complete`)
    for (const match of [
      { sub: 'dev|alice' },
      { client_id: 'payments' },
      { jti: 'x'.repeat(27) },
      { release: 'r'.repeat(22), aud: 'https://tickets.example.com/' },
      { policy: 'p1' },
    ])
      await house.admin('POST', '/revocations', { match, reason: 'an incident', mode: 'cut' })
    await house.admin('POST', '/revocations', { match: {}, everything: true, reason: 'an incident', mode: 'cut' })

    const { sets } = await poll()
    const told = []
    for (const [jti, token] of Object.entries(sets)) {
      const payload = await verified(house, token)
      expect(payload.jti).toBe(jti)
      expect(payload['txn']).toMatch(/^rev_/)
      told.push([payload.sub_id, Object.keys(payload.events)])
      expect(Object.values(payload.events)[0]).toMatchObject({
        event_timestamp: house.now(),
        initiating_entity: 'admin',
        reason_admin: { en: expect.any(String) },
      })
    }
    const revoked = [`${CAEP}session-revoked`]
    expect(told).toEqual([
      [{ format: 'complex', session: { format: 'opaque', id: task } }, revoked],
      // Completed by its own: nothing was taken from anybody.
      [{ format: 'iss_sub', iss: DEV_ISSUER, sub: 'alice' }, revoked],
      [{ format: 'uri', uri: 'spiffe://company.example/agents/payments' }, revoked],
      [{ format: 'jwt_id', iss: ISSUER, jti: 'x'.repeat(27) }, revoked],
      [
        {
          format: 'complex',
          audience: { format: 'uri', uri: 'https://tickets.example.com/' },
          release: { format: 'opaque', id: 'r'.repeat(22) },
        },
        revoked,
      ],
      [{ format: 'complex', policy: { format: 'opaque', id: 'p1' } }, revoked],
      [{ format: 'complex', tenant: { format: 'uri', uri: ISSUER } }, revoked],
    ])
    // Acknowledged, they are gone; what is refused is gone too, and the operator hears of it.
    const [one, two, ...rest] = Object.keys(sets)
    const after = await poll({ ack: rest, setErrs: { [one!]: { err: 'invalid_request' } } })
    expect(Object.keys(after.sets)).toEqual([two])
    expect(house.lines.join('')).toContain('refused 1 of its events: invalid_request')
    expect((await poll({ ack: [two] })).sets).toEqual({})
  })

  it('O4 tells of a signing key that was given up as a changed credential', async () => {
    const { house, poll } = await streaming({ events_requested: [`${CAEP}credential-change`, 'urn:x:unknown'] })
    const { body } = await house.admin('GET', '/keys')
    const keys = body['keys'] as unknown as { kid: string; purpose: string; state: string }[]
    const { kid } = keys.find(({ purpose, state }) => purpose === 'token' && state === 'active')!
    expect((await house.admin('POST', '/keys/compromise', { kid, reason: 'it leaked' })).status).toBe(200)
    await house.admin('POST', '/revocations', { match: { sub: 'dev|alice' }, reason: 'not asked for' })
    const { sets } = await poll()
    expect(Object.keys(sets)).toHaveLength(1)
    const payload = await verified(house, Object.values(sets)[0]!)
    expect(payload.events[`${CAEP}credential-change`]).toMatchObject({
      credential_type: 'jwk',
      change_type: 'revoke',
      friendly_name: kid,
    })
    expect(payload.sub_id).toMatchObject({ format: 'complex', kid: { format: 'opaque', id: kid } })
  })

  it('tells of a containment, once, what was taken', async () => {
    const { house, poll } = await streaming()
    const research = await house.agent('research')
    const first = await research.exchange({ form: { audience: 'tickets' } })
    const task = String(first.body['task_id'])
    const answer = await house.admin('POST', '/revocations', {
      match: { task },
      mode: 'contain',
      take: { operations: ['tickets:read_ticket'] },
      reason: 'it read too much',
    })
    expect(answer.status, answer.text).toBe(201)
    const { sets } = await poll()
    expect(Object.keys(sets)).toHaveLength(1)
    const { events } = await verified(house, Object.values(sets)[0]!)
    expect(events).toMatchObject({
      [`${CAEP}token-claims-change`]: { claims: { errand_taken: { operations: ['tickets:read_ticket'] } } },
    })
  })

  it('L7 P1 loses nothing to a restart, and brings nothing twice under another name', async () => {
    const { house, poll, id } = await streaming()
    await house.admin('POST', '/revocations', { match: { sub: 'dev|alice' }, reason: 'before', mode: 'cut' })
    const before = Object.keys((await poll()).sets)
    expect(before).toHaveLength(1)
    await house.stop()
    const again = await openHouse({ folder: house.folder, startAt: house.now() + 1 })
    closing.push(again.close)
    closing.splice(closing.indexOf(house.close), 1)
    await again.admin('POST', '/revocations', { match: { sub: 'dev|bob' }, reason: 'after', mode: 'cut' })
    const { body } = await as(again, 'siem')('POST', `/ssf/poll/${id}`, { returnImmediately: true })
    const after = Object.keys(body['sets'] as unknown as object)
    expect(after).toHaveLength(2)
    expect(after[0]).toBe(before[0])
  })

  it('H4 a verification is asked for as seldom in a stream made anew', async () => {
    const { receiver, id, house } = await streaming()
    expect((await receiver('POST', '/ssf/verify', { stream_id: id })).status).toBe(204)
    expect((await receiver('DELETE', `/ssf/streams?stream_id=${id}`)).status).toBe(204)
    const { body } = await receiver('POST', '/ssf/streams', {})
    const again = () => receiver('POST', '/ssf/verify', { stream_id: body['stream_id'] })
    expect((await again()).status).toBe(429)
    house.advance(30)
    expect((await again()).status).toBe(204)
  })

  it('waits for news where it may, and answers as soon as there is some', async () => {
    const { house, poll } = await streaming()
    const waiting = poll({ returnImmediately: false })
    await new Promise((done) => setTimeout(done, 50))
    await house.admin('POST', '/revocations', { match: { sub: 'dev|alice' }, reason: 'now', mode: 'cut' })
    expect(Object.keys((await waiting).sets)).toHaveLength(1)
    expect((await poll({ maxEvents: 0, returnImmediately: false })).sets).toEqual({})
  })

  it('is verified, paused, disabled, changed, replaced and deleted as the framework says', async () => {
    const { house, receiver, id, poll, created } = await streaming({ description: 'first' })
    expect((await receiver('POST', '/ssf/streams', {})).status).toBe(409)
    expect((await receiver('GET', '/ssf/streams')).body).toEqual([created.body])
    expect((await receiver('GET', `/ssf/streams?stream_id=${id}`)).body).toEqual(created.body)

    expect((await receiver('POST', '/ssf/verify', { stream_id: id, state: 'c3RhdGU' })).status).toBe(204)
    const limited = await receiver('POST', '/ssf/verify', { stream_id: id })
    expect([limited.status, limited.headers.get('retry-after')]).toEqual([429, '30'])
    const verification = await verified(house, Object.values((await poll()).sets)[0]!)
    expect(verification.sub_id).toEqual({ format: 'opaque', id })
    expect(verification.events).toEqual({ [`${SSF}verification`]: { state: 'c3RhdGU' } })
    await poll({ ack: [verification.jti] })

    const status = (value: string) =>
      receiver('POST', '/ssf/status', { stream_id: id, status: value, reason: 'a test' })
    const revoke = (sub: string) =>
      house.admin('POST', '/revocations', { match: { sub }, reason: 'a test', mode: 'cut' })
    expect((await status('paused')).body).toEqual({ stream_id: id, status: 'paused', reason: 'a test' })
    await revoke('dev|alice')
    expect((await poll()).sets).toEqual({})
    await status('enabled')
    expect(Object.keys((await poll()).sets)).toHaveLength(1)
    await status('disabled')
    await revoke('dev|bob')
    expect((await poll()).sets).toEqual({})
    await status('enabled')
    expect((await receiver('GET', `/ssf/status?stream_id=${id}`)).body['status']).toBe('enabled')
    expect((await poll()).sets).toEqual({})

    const asked = [`${CAEP}session-revoked`]
    const patched = await receiver('PATCH', '/ssf/streams', { stream_id: id, iss: ISSUER, events_requested: asked })
    expect(patched.body).toMatchObject({ description: 'first', events_requested: asked, events_delivered: asked })
    const contradicting = await receiver('PATCH', '/ssf/streams', { stream_id: id, aud: 'https://x.example' })
    expect(contradicting.status).toBe(400)
    const replaced = await receiver('PUT', '/ssf/streams', { stream_id: id, description: 'second' })
    expect(replaced.body).toMatchObject({ description: 'second', delivery: { method: POLL } })
    expect(replaced.body['events_requested']).toBeUndefined()

    const alice = { format: 'iss_sub', iss: DEV_ISSUER, sub: 'alice' }
    const subject = (what: string) => receiver('POST', `/ssf/subjects/${what}`, { stream_id: id, subject: alice })
    expect((await subject('remove')).status).toBe(204)
    await revoke('dev|alice')
    expect((await poll()).sets).toEqual({})
    expect((await subject('add')).status).toBe(200)
    await revoke('dev|alice')
    expect(Object.keys((await poll()).sets)).toHaveLength(1)

    expect((await receiver('DELETE', `/ssf/streams?stream_id=${id}`)).status).toBe(204)
    expect((await receiver('GET', `/ssf/streams?stream_id=${id}`)).status).toBe(404)
    expect((await receiver('GET', '/ssf/streams')).body).toEqual([])
    expect((await receiver('POST', '/ssf/streams', {})).status).toBe(201)
  })

  it('D21 is there for its own receiver, and for nobody else', async () => {
    const { house, id } = await streaming()
    const stranger = as(house, 'other')
    const body = { stream_id: id, status: 'disabled', subject: { format: 'opaque', id: 'x' } }
    for (const [method, path] of [
      ['GET', `/ssf/streams?stream_id=${id}`],
      ['PATCH', '/ssf/streams'],
      ['PUT', '/ssf/streams'],
      ['DELETE', `/ssf/streams?stream_id=${id}`],
      ['GET', `/ssf/status?stream_id=${id}`],
      ['POST', '/ssf/status'],
      ['POST', '/ssf/subjects/add'],
      ['POST', '/ssf/subjects/remove'],
      ['POST', '/ssf/verify'],
      ['POST', `/ssf/poll/${id}`],
    ] as const) {
      const answer = await stranger(method, path, method === 'GET' || method === 'DELETE' ? undefined : body)
      const none = await stranger(
        method,
        path.replace(id, `stream_${'a'.repeat(22)}`),
        method === 'GET' || method === 'DELETE' ? undefined : { ...body, stream_id: `stream_${'a'.repeat(22)}` },
      )
      expect([method, path, answer.status, none.status]).toEqual([method, path, 404, 404])
      const without = ({ body: shown }: Answer) => ({ ...shown, error_uri: undefined })
      expect(without(answer)).toEqual(without(none))
    }
    const research = await house.agent('research')
    await refusedWithoutTrace(
      house,
      () => stranger('GET', `/ssf/streams?stream_id=${id}`),
      { status: 404, error: 'not_found', reason: 'not_found', record: 'task.refused' },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
    expect((await stranger('GET', '/tools')).status).toBe(403)
    expect((await stranger('GET', '/revocations/key')).status).toBe(403)
  })

  it('H1 is disabled when more waits than is kept, says so in the stream, and the service says so in its log', async () => {
    const { house, poll, id } = await streaming()
    const { signalStreams } = house.service.stores
    const many = Array.from({ length: 10_000 }, (_, n) => ({ jti: `j${n}`, claims: '{"n":1}' }))
    await Promise.all(many.map((each) => signalStreams.add(id, each)))
    await house.admin('POST', '/revocations', { match: { sub: 'dev|alice' }, reason: 'one more', mode: 'cut' })
    const { sets } = await poll()
    const payload = await verified(house, Object.values(sets)[0]!)
    expect(Object.keys(sets)).toHaveLength(1)
    expect(payload.events).toEqual({
      [`${SSF}stream-updated`]: { status: 'disabled', reason: 'more events waited than are kept' },
    })
    expect(house.lines.join('')).toContain('more events waited than are kept')
  })
})

describe('a stream that is pushed', () => {
  async function endpoint() {
    const world = { status: 202, body: '', got: [] as { token: string; headers: IncomingMessage['headers'] }[] }
    const server: Server = createServer((request, response) => {
      let token = ''
      request.on('data', (chunk) => (token += String(chunk)))
      request.on('end', () => {
        world.got.push({ token, headers: request.headers })
        response.writeHead(world.status, world.status === 302 ? { location: '/elsewhere' } : {}).end(world.body)
      })
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', () => done()))
    closing.push(() => new Promise((done) => server.close(done)))
    return { world, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/events` }
  }
  const until = async (check: () => boolean | Promise<boolean>) => {
    for (let round = 0; !(await check()); round++) {
      expect(round).toBeLessThan(400)
      await new Promise((done) => setTimeout(done, 20))
    }
  }
  const push = (url: string, more: object = {}) => ({ delivery: { method: PUSH, endpoint_url: url, ...more } })
  const revoke = (house: House, sub: string) =>
    house.admin('POST', '/revocations', { match: { sub }, reason: 'a test', mode: 'cut' })

  it('brings each event with the header that the receiver wants, and sends again what was not taken', async () => {
    const { world, url } = await endpoint()
    const house = await open(url)
    const receiver = as(house, 'siem')
    const secret = 'Bearer cmVjZWl2ZXItc2VjcmV0'
    const created = await receiver('POST', '/ssf/streams', push(url, { authorization_header: secret }))
    expect(created.status, created.text).toBe(201)
    expect(created.text).not.toContain(secret)
    world.status = 503
    await revoke(house, 'dev|alice')
    await until(() => world.got.length === 1)
    world.status = 202
    await until(() => {
      house.advance(2)
      return world.got.length >= 2
    })
    const [first, again] = world.got.map(({ token }) => decode(token).payload)
    expect(again!['jti']).toBe(first!['jti'])
    expect((await verified(house, world.got[1]!.token)).sub_id).toEqual({
      format: 'iss_sub',
      iss: DEV_ISSUER,
      sub: 'alice',
    })
    expect(world.got[1]!.headers).toMatchObject({ 'content-type': 'application/secevent+jwt', authorization: secret })
    // What the receiver refuses is not sent again, and holds up nothing.
    world.status = 400
    world.body = '{"err":"invalid_audience"}'
    await revoke(house, 'dev|bob')
    await until(() => world.got.length === 3)
    world.status = 202
    await revoke(house, 'dev|carol')
    await until(() => world.got.length === 4)
    const id = String(created.body['stream_id'])
    await until(async () => (await house.service.stores.signalStreams.pending(id, 10)).length === 0)
    expect(house.lines.join('')).toContain('refused an event: invalid_audience')
    expect(house.lines.join('')).not.toContain(secret.slice(7))
    const resting = await house.service.stores.signalStreams.get(id)
    expect(JSON.stringify(resting)).not.toContain(secret.slice(7))
  })

  it('I3 follows no redirect', async () => {
    const { world, url } = await endpoint()
    const house = await open(url)
    await as(house, 'siem')('POST', '/ssf/streams', push(url))
    world.status = 302
    await revoke(house, 'dev|alice')
    await until(() => house.lines.join('').includes('redirect_refused'))
    expect(world.got).toHaveLength(1)
  })

  it('I1 I4 I6 goes nowhere that the configuration does not name, whatever a receiver asks for', async () => {
    const { world, url } = await endpoint()
    const house = await open(url)
    const siems = as(house, 'siem')
    for (const to of [
      `${url}/x`,
      'https://siem.example/events',
      'http://169.254.169.254/latest',
      'file:///etc/passwd',
      'https://a@b.example/',
      url.replace('127.0.0.1', 'localhost'),
      undefined,
    ]) {
      const answer = await siems('POST', '/ssf/streams', { delivery: { method: PUSH, endpoint_url: to } })
      expect([to, answer.status, answer.body['reason']]).toEqual([to, 400, 'bad_body'])
    }
    expect((await as(house, 'other')('POST', '/ssf/streams', push(url))).status).toBe(400)
    expect(world.got).toEqual([])
    await expect(open('https://10.0.0.7/events')).rejects.toThrow('url_forbidden')
  })
})
