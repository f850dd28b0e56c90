/** An identity provider sends security events (Shared Signals, CAEP); the provider here signs with jose. */
import { randomBytes } from 'node:crypto'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { exportJWK, type GenerateKeyPairResult, generateKeyPair, type JWTPayload, SignJWT } from 'jose'
import { afterEach, beforeAll, describe, expect, it } from 'vitest'
import type { ReplayGuard } from '../../src/attest/replay-guard.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { type House, ISSUER, openHouse } from '../house.ts'

const IDP = 'https://idp.example'
const TRANSMITTER = 'https://signals.idp.example'
const CAEP = 'https://schemas.openid.net/secevent/caep/event-type/'
const SSF = 'https://schemas.openid.net/secevent/ssf/event-type/'

const closing: (() => Promise<unknown>)[] = []
afterEach(async () => {
  for (const close of closing.splice(0).reverse()) await close()
})

let keys: GenerateKeyPairResult
let jwks: string
beforeAll(async () => {
  keys = await generateKeyPair('RS256')
  jwks = JSON.stringify({ keys: [{ ...(await exportJWK(keys.publicKey)), kid: 's1', alg: 'RS256' }] })
})

const issuer = (signals: string) =>
  `kind: user\nname: idp\nissuer: ${IDP}\njwks_file: idp.json\nalgorithms: [RS256]\naudiences: [errand]\nrights: { '*': [tickets:read_ticket] }\nsignals: { transmitter: ${TRANSMITTER}, ${signals} }\n`
async function open(signals = 'delivery: push', config: Record<string, string> = {}): Promise<House> {
  const house = await openHouse({
    config: { 'issuers/idp.yaml': issuer(signals), '../keys/idp.json': jwks, ...config },
  })
  closing.push(house.close)
  return house
}

const signed = (payload: JWTPayload, header: object, key = keys.privateKey): Promise<string> =>
  new SignJWT(payload).setProtectedHeader({ alg: 'RS256', kid: 's1', typ: 'secevent+jwt', ...header }).sign(key)
const idToken = (house: House, sub: string, claims: object = {}): Promise<string> =>
  signed({ iss: IDP, sub, aud: 'errand', iat: house.now(), exp: house.now() + 600, ...claims }, { typ: 'JWT' })
const event = (house: House, type: string, body: object = {}, claims: object = {}, header: object = {}) =>
  signed(
    {
      iss: TRANSMITTER,
      aud: ISSUER,
      jti: randomBytes(9).toString('hex'),
      iat: house.now(),
      sub_id: { format: 'iss_sub', iss: IDP, sub: 'alice' },
      events: { [type]: body },
      ...claims,
    },
    header,
  )
const push = (house: House, token: string, type = 'application/secevent+jwt') =>
  house.fetch('POST', '/ssf/events', { headers: { 'content-type': type }, body: token })

/** Alice at work: her agent's task and whether its token lives. */
async function atWork(house: House, sub = 'alice') {
  const research = await house.agent('research')
  const tickets = await house.tool('tickets')
  const subject_token = await idToken(house, sub)
  const form = { audience: 'tickets', scope: 'tickets:read_ticket', subject_token }
  const first = await research.exchange({ form })
  expect(first.status, first.text).toBe(200)
  const token = String(first.body['access_token'])
  return {
    again: async () => (await research.exchange({ form })).body['reason'],
    anew: async () => research.exchange({ form: { ...form, subject_token: await idToken(house, sub) } }),
    lives: async () => (await tickets.form('/introspect', { token })).body['active'] as unknown,
  }
}

describe('security events that are pushed', () => {
  it.each([
    ['session-revoked', {}],
    ['session-revoked', { initiating_entity: 'policy', reason_admin: { en: 'moved' } }],
    ['credential-change', { credential_type: 'password', change_type: 'revoke' }],
    ['credential-change', { credential_type: 'password', change_type: 'update' }],
    ['risk-level-change', { principal: 'USER', current_level: 'HIGH', previous_level: 'LOW' }],
  ])('%s %j ends what runs for the user, who may sign in anew', async (type, body) => {
    const house = await open()
    const alice = await atWork(house)
    const bob = await atWork(house, 'bob')
    const answer = await push(house, await event(house, `${CAEP}${type}`, body))
    expect([answer.status, answer.text]).toEqual([202, ''])
    expect([await alice.lives(), await alice.again(), await bob.lives()]).toEqual([false, 'signed_out', true])
    house.advance(2)
    expect((await alice.anew()).status).toBe(200)
    const [record] = await house.records({ type: 'subject.signed_out' })
    expect(record).toMatchObject({ by: 'issuer:idp', details: { added: true, tasks: 1, event: `${CAEP}${type}` } })
    expect(JSON.stringify(record)).not.toContain('alice')
  })

  it.each([
    [
      'a credential that was added',
      `${CAEP}credential-change`,
      { credential_type: 'fido2-roaming', change_type: 'create' },
    ],
    ['a risk that is not high', `${CAEP}risk-level-change`, { principal: 'USER', current_level: 'MEDIUM' }],
    ['a risk of a device', `${CAEP}risk-level-change`, { principal: 'DEVICE', current_level: 'HIGH' }],
    ['a verification', `${SSF}verification`, { state: 'VGhpcyBpcw' }],
    ['a new status of the stream', `${SSF}stream-updated`, { status: 'paused' }],
    ['an event of a kind unknown here', 'https://example.com/event-type/hired', { to: 'the board' }],
    ['a name that objects have', '__proto__x', {}],
  ])('acknowledges %s, writes it down once, and ends nothing', async (_, type, body) => {
    const house = await open()
    const alice = await atWork(house)
    const token = await event(house, type, body)
    expect([(await push(house, token)).status, (await push(house, token)).status]).toEqual([202, 202])
    expect(await alice.lives()).toBe(true)
    const records = await house.records({ type: 'signal.received' })
    expect(records.map(({ by, details }) => [by, (details as { events: unknown }).events])).toEqual([
      ['issuer:idp', [type]],
    ])
  })

  it('D17 ends nothing of anybody that the provider does not speak for', async () => {
    const house = await open()
    const research = await house.agent('research')
    const tickets = await house.tool('tickets')
    const first = await research.exchange({ form: { audience: 'tickets' } }) // alice of another issuer
    for (const sub_id of [
      { format: 'iss_sub', iss: `${ISSUER}/dev-issuer`, sub: 'alice' },
      { format: 'opaque', id: 'dev|alice' },
      { format: 'email', email: 'alice@example.com' },
      { format: 'complex', session: { format: 'opaque', id: 'dMTlD|1600802906337.16' } },
      undefined,
    ]) {
      expect((await push(house, await event(house, `${CAEP}session-revoked`, {}, { sub_id }))).status).toBe(202)
    }
    const { body } = await tickets.form('/introspect', { token: String(first.body['access_token']) })
    expect(body['active']).toBe(true)
    expect(await house.records({ type: 'subject.signed_out' })).toEqual([])
    expect(await house.records({ type: 'signal.received' })).toHaveLength(5)
  })

  it('takes the user out of a complex subject, and the time of the event where it is older', async () => {
    const house = await open()
    house.advance(100)
    const alice = await atWork(house)
    const sub_id = {
      format: 'complex',
      user: { format: 'iss_sub', iss: IDP, sub: 'alice' },
      session: { format: 'opaque', id: 'dMTlD' },
    }
    const at = house.now() - 50
    await push(house, await event(house, `${CAEP}session-revoked`, { event_timestamp: at }, { sub_id }))
    expect(await alice.lives()).toBe(false)
    // Signed in after it happened: that sign-in is good, in a new task.
    expect(await alice.again()).toBeUndefined()
    expect(await house.service.stores.signOuts.before('idp|alice')).toBe(at)
  })

  it('F1 an event that comes again has no second effect and leaves no second record', async () => {
    const house = await open()
    const alice = await atWork(house)
    const token = await event(house, `${CAEP}session-revoked`)
    expect((await push(house, token)).status).toBe(202)
    house.advance(5)
    const anew = await alice.anew()
    expect(anew.status).toBe(200)
    const epoch = await house.service.stores.revocations.epoch()
    expect((await push(house, token)).status).toBe(202)
    expect(await house.service.stores.revocations.after(epoch)).toEqual([])
    expect(await house.records({ type: 'subject.signed_out' })).toHaveLength(1)
  })

  it('are carried out also where the disk is full, and what ends nothing comes again', async () => {
    const house = await open()
    const alice = await atWork(house)
    const guard = house.service.stores.replayGuard as { spend: ReplayGuard['spend'] }
    const spend = guard.spend.bind(guard)
    guard.spend = async (id, until, urgent) => {
      if (!urgent) throw new Unavailable('replay_guard_unavailable', 'the disk is full')
      return spend(id, until, urgent)
    }
    expect((await push(house, await event(house, `${CAEP}session-revoked`))).status).toBe(202)
    expect((await push(house, await event(house, `${SSF}verification`))).status).toBe(503)
    guard.spend = spend
    expect(await alice.lives()).toBe(false)
  })

  it('F1 H4 one that was refused is written down once, and whoever sends it again pays for it', async () => {
    const house = await open()
    const foreign = await event(house, `${CAEP}session-revoked`, {}, { aud: 'https://another.example' })
    const answers: string[] = []
    while (answers.at(-1) !== '429') {
      const { status, body } = await push(house, foreign)
      answers.push(String(status))
      expect(['400 invalid_audience', '429 temporarily_unavailable']).toContain(
        `${status} ${body['err'] ?? body['error']}`,
      )
      expect(answers.length).toBeLessThan(200)
    }
    const records = await house.records({ type: 'signal.refused' })
    expect(records).toMatchObject([{ by: 'issuer:idp', reason: 'wrong_audience' }])
    // What is new from the provider has given back what it took.
    house.advance(2)
    for (let each = 0; each < 120; each++)
      expect((await push(house, await event(house, `${SSF}verification`))).status).toBe(202)
  })

  it('H4 many that are refused, each another, are written down some at a time', async () => {
    const house = await open()
    for (let each = 0; each < 20; each++)
      await push(house, await event(house, `${CAEP}session-revoked`, {}, { aud: 'https://another.example' }))
    expect(await house.records({ type: 'signal.refused' })).toHaveLength(2)
    house.advance(10)
    await push(house, await event(house, `${CAEP}session-revoked`, {}, { aud: 'https://another.example' }))
    expect(await house.records({ type: 'signal.refused' })).toHaveLength(3)
  })

  it('F1 H4 one that was carried out is paid for by whoever sends it again', async () => {
    const house = await open()
    const token = await event(house, `${SSF}verification`)
    const answers: number[] = []
    while (answers.at(-1) !== 429 && answers.length < 200) answers.push((await push(house, token)).status)
    expect(answers.at(-1)).toBe(429)
    expect(await house.records({ type: 'signal.received' })).toHaveLength(1)
  })

  it('H4 a provider that ends users without number is slowed down, and loses none', async () => {
    const house = await open()
    const tokens = await Promise.all(
      Array.from({ length: 205 }, (_, user) =>
        event(house, `${CAEP}session-revoked`, {}, { sub_id: { format: 'iss_sub', iss: IDP, sub: `user ${user}` } }),
      ),
    )
    const late: string[] = []
    for (const token of tokens) {
      const answer = await push(house, token)
      if (answer.status === 202) continue
      expect([answer.status, answer.body['error'], answer.headers.get('retry-after')]).toEqual([
        429,
        'temporarily_unavailable',
        '1',
      ])
      late.push(token)
    }
    expect(late).toHaveLength(5)
    expect(await house.records({ type: 'subject.signed_out', limit: 300 })).toHaveLength(200)
    house.advance(1)
    for (const token of late) expect((await push(house, token)).status).toBe(202)
    expect(await house.records({ type: 'subject.signed_out', limit: 300 })).toHaveLength(205)
  })

  it('A1 B2 B7 C2 refuses what is no event of the provider with the codes of RFC 8935, and ends nothing', async () => {
    const house = await open()
    const alice = await atWork(house)
    const stolen = await generateKeyPair('RS256')
    const payload = {
      iss: TRANSMITTER,
      aud: ISSUER,
      jti: 'x',
      iat: house.now(),
      events: { [`${CAEP}session-revoked`]: {} },
    }
    const revoked = `${CAEP}session-revoked`
    const [header, , signature] = (await event(house, revoked)).split('.')
    const body = Buffer.from(JSON.stringify({ ...payload, sub_id: { format: 'opaque', id: 'idp|alice' } }))
    for (const [what, token, err] of [
      ['another transmitter', await event(house, revoked, {}, { iss: `${TRANSMITTER}/` }), 'invalid_issuer'],
      ['the issuer of its users', await event(house, revoked, {}, { iss: IDP }), 'invalid_issuer'],
      ['another audience', await event(house, revoked, {}, { aud: 'https://x.example' }), 'invalid_audience'],
      ['no audience', await event(house, revoked, {}, { aud: undefined }), 'invalid_audience'],
      ['an unknown key', await event(house, revoked, {}, {}, { kid: 'x' }), 'invalid_key'],
      ['another key', await signed(payload, {}, stolen.privateKey), 'authentication_failed'],
      [
        'other words under its signature',
        `${header}.${body.toString('base64url')}.${signature}`,
        'authentication_failed',
      ],
      ['another type', await event(house, revoked, {}, {}, { typ: 'JWT' }), 'invalid_request'],
      ['a key that it brings', await event(house, revoked, {}, {}, { jku: 'https://x.example' }), 'invalid_request'],
      ['an end', await event(house, revoked, {}, { exp: house.now() + 600 }), 'invalid_request'],
      ['a sub', await event(house, revoked, {}, { sub: 'alice' }), 'invalid_request'],
      ['no jti', await event(house, revoked, {}, { jti: undefined }), 'invalid_request'],
      ['no time', await event(house, revoked, {}, { iat: undefined }), 'invalid_request'],
      ['a time ahead', await event(house, revoked, {}, { iat: house.now() + 31 }), 'invalid_request'],
      ['eight days', await event(house, revoked, {}, { iat: house.now() - 8 * 86_400 }), 'invalid_request'],
      ['no events', await event(house, revoked, {}, { events: {} }), 'invalid_request'],
      ['a list of events', await event(house, revoked, {}, { events: [revoked] }), 'invalid_request'],
      ['a word', 'session-revoked', 'invalid_request'],
      ['nothing', '', 'invalid_request'],
    ] as const) {
      const answer = await push(house, token)
      expect([what, answer.status, answer.body['err']], answer.text).toEqual([what, 400, err])
      expect(answer.headers.get('content-language')).toBe('en')
    }
    expect((await push(house, await event(house, revoked), 'application/json')).body['err']).toBe('invalid_request')
    expect(await alice.lives()).toBe(true)
    // Whose key signed it is known: each of these has a record of its own, and strangers are counted.
    expect(await house.records({ type: 'signal.refused' })).not.toHaveLength(0)
    expect((await push(house, await event(house, revoked))).status).toBe(202)
    expect(await alice.lives()).toBe(false)
  })
})

describe('security events that are fetched', () => {
  /** A transmitter with a queue (RFC 8936). */
  async function transmitter() {
    const asked: { body: Record<string, unknown>; authorization: string | undefined }[] = []
    const world = { sets: {} as Record<string, string>, status: 200, asked }
    const server: Server = createServer((request, response) => {
      let text = ''
      request.on('data', (chunk) => (text += String(chunk)))
      request.on('end', () => {
        const body = JSON.parse(text) as { ack?: string[]; setErrs?: object }
        asked.push({ body, authorization: request.headers.authorization })
        for (const jti of [...(body.ack ?? []), ...Object.keys(body.setErrs ?? {})]) delete world.sets[jti]
        response
          .writeHead(world.status, {
            'content-type': 'application/json',
            ...(world.status === 302 ? { location: '/' } : {}),
          })
          .end(JSON.stringify({ sets: world.sets }))
      })
    })
    await new Promise<void>((done) => server.listen(0, '127.0.0.1', () => done()))
    closing.push(() => new Promise((done) => server.close(done)))
    return { ...world, world, url: `http://127.0.0.1:${(server.address() as AddressInfo).port}/poll` }
  }
  const until = async (check: () => boolean | Promise<boolean>) => {
    for (let round = 0; !(await check()); round++) {
      expect(round).toBeLessThan(400)
      await new Promise((done) => setTimeout(done, 20))
    }
  }

  it('carries them out, acknowledges them, and says what is wrong with the others', async () => {
    const idp = await transmitter()
    const house = await open(
      `delivery: poll, poll: { url: '${idp.url}', token_file: poll.token, interval_seconds: 1 }`,
      {
        '../keys/poll.token': 'c2VjcmV0LXBvbGwtdG9rZW4\n',
      },
    )
    const alice = await atWork(house)
    const good = await event(house, `${CAEP}session-revoked`, {}, { jti: 'good' })
    idp.sets['good'] = good
    idp.sets['bad'] = await event(house, `${CAEP}session-revoked`, {}, { jti: 'bad', aud: 'https://x.example' })
    idp.sets['other'] = await event(house, `${SSF}verification`, {}, { jti: 'not-this' })
    await until(async () => {
      house.advance(2)
      return (await alice.lives()) === false && Object.keys(idp.sets).length === 0
    })
    const told = idp.asked.find(({ body }) => body['ack'] !== undefined)!
    expect(told.authorization).toBe('Bearer c2VjcmV0LXBvbGwtdG9rZW4')
    expect(told.body).toMatchObject({
      returnImmediately: true,
      ack: ['good'],
      setErrs: { bad: { err: 'invalid_audience' }, other: { err: 'invalid_request' } },
    })
    expect(house.lines.join('')).not.toContain('c2VjcmV0LXBvbGwtdG9rZW4')
    // It pushes nothing: whoever sends its events otherwise is somebody else.
    const pushed = await push(house, await event(house, `${CAEP}session-revoked`))
    expect([pushed.status, pushed.body['err']]).toEqual([400, 'invalid_issuer'])
  })

  it('I3 follows no redirect, says once that it fails, and goes on when it serves again', async () => {
    const idp = await transmitter()
    idp.world.status = 302
    const house = await open(`delivery: poll, poll: { url: '${idp.url}', interval_seconds: 1 }`)
    const told = () => house.lines.filter((line) => line.includes('security events'))
    await until(async () => {
      house.advance(400)
      await new Promise((done) => setTimeout(done, 200))
      return idp.asked.length >= 2
    })
    expect(told()).toHaveLength(1)
    expect(told()[0]).toContain('redirect_refused')
    idp.world.status = 200
    await until(() => {
      house.advance(400)
      return told().length === 2
    })
  })

  it.each([
    ['I1 a private address', "poll: { url: 'https://169.254.169.254/poll' }", 'url_forbidden'],
    ['I4 another scheme', "poll: { url: 'file:///etc/passwd' }", 'url_forbidden'],
    ['I6 userinfo', "poll: { url: 'https://a@b.example/poll' }", 'url_forbidden'],
    ['nowhere to ask', '', 'poll says where'],
    ['a token that is none', "poll: { url: 'https://x.example/p', token_file: poll.token }", 'holds no bearer token'],
  ])('refuses a configuration with %s', async (_, poll, problem) => {
    await expect(
      open(`delivery: poll${poll === '' ? '' : `, ${poll}`}`, { '../keys/poll.token': 'two words' }),
    ).rejects.toThrow(problem)
  })
})
