/** Token Status Lists over HTTP, read by libraries that are not ours: a JWT library, and a decoder of such lists. */
import { getListFromStatusListJWT, getStatusListFromJWT } from '@sd-jwt/jwt-status-list'
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Answer, decode, type House, ISSUER, openHouse } from '../house.ts'
import { strangersWithoutTrace } from '../nothing-lost.ts'

const TYPE = 'application/statuslist+jwt'
const LISTED = (text: string) => `${text}\nstatus_list: true\n`
const CONFIG = {
  'errand.yaml': (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
  'tools/tickets.yaml': LISTED,
  'tools/crm.yaml': LISTED,
}

/** What a verifier of somebody else does with a token, by the rules of §8.3. */
async function statusOf(house: House, token: string): Promise<number> {
  const { idx, uri } = getStatusListFromJWT(token)
  const answer = await house.fetch('GET', uri.slice(ISSUER.length), { headers: { accept: TYPE } })
  expect([answer.status, answer.headers.get('content-type')], answer.text).toEqual([200, TYPE])
  const { body: keys } = await house.fetch('GET', '/.well-known/jwks.json')
  const { payload } = await jwtVerify(answer.text, createLocalJWKSet(keys as unknown as JSONWebKeySet), {
    typ: 'statuslist+jwt',
    algorithms: ['ES256'],
    subject: uri,
    issuer: ISSUER,
    requiredClaims: ['iat', 'exp', 'ttl', 'status_list'],
    currentDate: new Date(house.now() * 1000),
  })
  expect([payload['ttl'], Number(payload.exp) - Number(payload.iat)]).toEqual([5, 30])
  return getListFromStatusListJWT(answer.text).getStatus(idx)
}

const GOOD = 0
const REVOKED = 1

describe('a token of a tool that reads status lists', () => {
  let house: House
  let research: Awaited<ReturnType<House['agent']>>
  beforeAll(async () => {
    house = await openHouse({ config: CONFIG })
    research = await house.agent('research')
  })
  afterAll(() => house.close())

  const issued = async (form: Record<string, string> = {}, clientId = 'research') => {
    const agent = clientId === 'research' ? research : await house.agent(clientId)
    const answer = await agent.exchange({ form: { audience: 'tickets', ...form } })
    expect(answer.status, answer.text).toBe(200)
    const text = String(answer.body['access_token'])
    return { text, task: String(answer.body['task_id']), ...decode(text) }
  }
  const revoke = async (match: object, more: object = { mode: 'cut' }) => {
    const answer = await house.admin('POST', '/revocations', { match, reason: 'a test', ...more })
    expect(answer.status, answer.text).toBe(201)
  }
  const status = (text: string) => statusOf(house, text)

  it('is told apart from others in no list but by its index, and tokens of other tools have none', async () => {
    const { text, payload } = await issued()
    expect(payload['status']).toEqual({
      status_list: { idx: expect.any(Number), uri: expect.stringMatching(/^http:.*\/status-lists\/1-1$/) },
    })
    expect(await status(text)).toBe(GOOD)
    const other = decode((await research.exchange({ form: { audience: 'warehouse' } })).body['access_token'] as never)
    expect(other.payload['status']).toBeUndefined()
  })

  it('shares its index with those of its task and audience alone', async () => {
    const first = await issued()
    const again = await issued({ task_id: first.task })
    const narrowed = await issued({ task_id: first.task, scope: 'tickets:read_ticket' })
    const renewed = decode((await research.from(first.text, { audience: 'tickets' })).body['access_token'] as never)
    for (const one of [again, narrowed, renewed]) expect(one.payload['status']).toEqual(first.payload['status'])
    const elsewhere = await issued({ task_id: first.task, audience: 'crm' })
    const another = await issued()
    const indexes = [first, elsewhere, another].map(({ payload }) => JSON.stringify(payload['status']))
    expect(new Set(indexes).size).toBe(3)
  })

  type Issued = Awaited<ReturnType<typeof issued>>
  it.each([
    ['jti', (t: Issued) => ({ jti: t.payload['jti'] })],
    ['jti and audience', (t: Issued) => ({ jti: t.payload['jti'], aud: t.payload['aud'] })],
    ['task', (t: Issued) => ({ task: t.task })],
    ['root', (t: Issued) => ({ root: t.task })],
    ['subject', () => ({ sub: 'dev|alice' })],
    ['agent', () => ({ agent: 'spiffe://company.example/agents/research' })],
    ['client', () => ({ client_id: 'research' })],
    ['audience', () => ({ aud: 'https://tickets.example.com/' })],
    ['key', (t: Issued) => ({ kid: t.header['kid'] })],
    ['policy', (t: Issued) => ({ policy: t.payload['pol'] })],
    ['trust domain', () => ({ domain: 'company.example' })],
  ] as const)(
    'Inv1 is marked by a cut of its %s, with those before, and later ones get another index',
    async (_, match) => {
      const before = await issued()
      const same = await issued({ task_id: before.task })
      expect(await status(before.text)).toBe(GOOD)
      await revoke(match(before))
      expect([await status(before.text), await status(same.text)]).toEqual([REVOKED, REVOKED])
      const after = await issued({ task_id: before.task })
      expect(after.payload['status']).not.toEqual(before.payload['status'])
      expect(await status(after.text)).toBe(GOOD)
      expect(await status(before.text)).toBe(REVOKED)
    },
  )

  it('is marked by a suspension, a containment, a ban, RFC 7009 and the end of its task', async () => {
    const suspended = await issued()
    await revoke({ task: suspended.task }, { mode: 'suspend' })
    const contained = await issued()
    await revoke({ task: contained.task }, { mode: 'contain', take: { operations: ['tickets:add_comment'] } })
    const narrower = await issued({ task_id: contained.task })
    const banned = await issued()
    await revoke({ task: banned.task }, { mode: 'ban' })
    const given = await issued()
    await (await house.tool('tickets')).form('/revoke', { token: given.text })
    const done = await issued()
    await research.call('POST', `/tasks/${done.task}/complete`, {})
    for (const one of [suspended, contained, banned, given, done]) expect(await status(one.text)).toBe(REVOKED)
    expect(await status(narrower.text)).toBe(GOOD)
  })

  it('L3 is marked with what it was handed on from', async () => {
    const parent = await issued()
    const handOver = await research.handOver(parent.text, 'payments', { audience: 'tickets' })
    expect(decode(String(handOver.body['access_token'])).payload['status']).toBeUndefined()
    const payments = await house.agent('payments')
    const child = await payments.accept(String(handOver.body['access_token']), { audience: 'tickets' })
    expect(child.status, child.text).toBe(200)
    const text = String(child.body['access_token'])
    expect(await status(text)).toBe(GOOD)
    await revoke({ task: parent.task })
    expect([await status(parent.text), await status(text)]).toEqual([REVOKED, REVOKED])
  })

  it('L11 is marked by a window that ends after it, and not by one that ends before it', async () => {
    const window = (until: number) => revoke({ client_id: 'research' }, { checked_before: until })
    const before = await issued()
    const until = house.now() + 1
    house.advance(61)
    // A minute in which nothing was issued has no mark.
    await issued()
    await house.service.sweep()
    house.advance(1)
    // Of one task, and yet of two indexes: the mark came in between.
    const after = await issued({ task_id: before.task })
    await window(until)
    expect([await status(before.text), await status(after.text)]).toEqual([REVOKED, GOOD])
    await window(house.now())
    expect(await status(after.text)).toBe(REVOKED)
  })

  it('L1 L15 has no index that is marked before its token is dead, and none unmarked after, while both go on', async () => {
    const { task } = await issued()
    const tokens: string[] = []
    const exchange = async () => {
      const answer = await research.exchange({ form: { audience: 'tickets', task_id: task } })
      expect(answer.status, answer.text).toBe(200)
      tokens.push(String(answer.body['access_token']))
    }
    for (let round = 0; round < 5; round++) {
      const asked = Array.from({ length: 6 }, exchange)
      await revoke(round % 2 ? { task } : { client_id: 'research' })
      await Promise.all(asked)
    }
    const tickets = await house.tool('tickets')
    const said = await Promise.all(tokens.map(async (text) => (await status(text)) === GOOD))
    const asked = await Promise.all(
      tokens.map(async (token) => (await tickets.form('/introspect', { token })).body['active']),
    )
    expect(said).toEqual(asked)
    expect(new Set(tokens.map((text) => JSON.stringify(decode(text).payload['status']))).size).toBeGreaterThan(4)
  })

  it('D20 has the same index when it is asked for again by its key, and is refused once that is marked', async () => {
    const headers = { 'idempotency-key': 'asked-for-twice' }
    const ask = () => research.exchange({ form: { audience: 'tickets' }, headers })
    const [first, second] = [await ask(), await ask()]
    expect(second.status, second.text).toBe(200)
    const [one, two] = [first, second].map(({ body }) => decode(String(body['access_token'])).payload)
    expect([two?.['jti'], two?.['status']]).toEqual([one?.['jti'], one?.['status']])
    await revoke({ task: first.body['task_id'] })
    expect((await ask()).body['reason']).toBe('revoked')
  })

  it('L7 has its index after a restart too, marked or not', async () => {
    const own = await openHouse({ config: CONFIG })
    const agent = await own.agent('research')
    const take = async () => String((await agent.exchange({ form: { audience: 'tickets' } })).body['access_token'])
    const [dead, good] = [await take(), await take()]
    const { task } = decode(dead).payload as { task: { id: string } }
    await own.admin('POST', '/revocations', { match: { task: task.id }, reason: 'a test', mode: 'cut' })
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: own.now() })
    try {
      expect([await statusOf(again, dead), await statusOf(again, good)]).toEqual([REVOKED, GOOD])
    } finally {
      await again.close()
    }
  })

  it('is found in the aggregation, which the metadata and each list name', async () => {
    const { text, payload } = await issued()
    const { uri } = (payload['status'] as { status_list: { uri: string } }).status_list
    const metadata = await house.fetch('GET', '/.well-known/oauth-authorization-server')
    const where = String(metadata.body['status_list_aggregation_endpoint'])
    const all = await house.fetch('GET', where.slice(ISSUER.length))
    expect(all.body['status_lists']).toEqual([uri])
    expect(all.headers.get('access-control-allow-origin')).toBe('*')
    const list = decode((await house.fetch('GET', uri.slice(ISSUER.length))).text).payload
    expect(list['status_list']).toMatchObject({ bits: 1, aggregation_uri: where })
    expect(await status(text)).toBe(GOOD)
  })

  it('is served for as long as its life says, and by name', async () => {
    const first = await house.fetch('GET', '/status-lists/1-1')
    const etag = first.headers.get('etag')!
    expect(first.headers.get('cache-control')).toMatch(/^public, max-age=[0-5]$/)
    const known = await house.fetch('GET', '/status-lists/1-1', { headers: { 'if-none-match': etag } })
    expect([known.status, known.text]).toEqual([304, ''])
    house.advance(6)
    const later = await house.fetch('GET', '/status-lists/1-1', { headers: { 'if-none-match': etag } })
    expect(later.status).toBe(200)
    for (const accept of ['*/*', 'application/*', `${TYPE};q=0.1, text/html`])
      expect((await house.fetch('GET', '/status-lists/1-1', { headers: { accept } })).status).toBe(200)
  })

  it('says how it was at a time within the last hour, in a list that was good then', async () => {
    const { text, task, payload } = await issued()
    const { idx } = (payload['status'] as { status_list: { idx: number } }).status_list
    expect(await status(text)).toBe(GOOD)
    const then = house.now()
    house.advance(40)
    await revoke({ task })
    expect(await status(text)).toBe(REVOKED)
    const at = (time: number): Promise<Answer> => house.fetch('GET', `/status-lists/1-1?time=${time}`)
    const past = await at(then)
    const { iat, exp } = decode(past.text).payload as { iat: number; exp: number }
    expect(iat <= then && then < exp).toBe(true)
    expect(getListFromStatusListJWT(past.text).getStatus(idx)).toBe(GOOD)
    expect(getListFromStatusListJWT((await at(house.now())).text).getStatus(idx)).toBe(REVOKED)
  })

  it('G10 is refused by time, form or name that there is not, and nothing is lost', async () => {
    const get = (path: string, accept?: string) => () =>
      house.fetch('GET', path, accept === undefined ? {} : { headers: { accept } })
    const bad = { status: 400, error: 'invalid_request', reason: 'bad_param' }
    const none = { status: 404, error: 'not_found', reason: 'not_found' }
    const form = { status: 406, error: 'invalid_request', reason: 'not_acceptable' }
    await strangersWithoutTrace(
      house,
      [
        { title: 'time is no number', ...bad, send: get('/status-lists/1-1?time=yesterday') },
        { title: 'time has a sign', ...bad, send: get('/status-lists/1-1?time=-1') },
        { title: 'time is no time', ...bad, send: get('/status-lists/1-1?time=1e9') },
        { title: 'before all', ...none, send: get('/status-lists/1-1?time=1') },
        { title: 'after all', ...none, send: get(`/status-lists/1-1?time=${house.now() + 3600}`) },
        { title: 'no such list', ...none, send: get('/status-lists/1-2') },
        { title: 'of another generation', ...none, send: get('/status-lists/2-1') },
        { title: 'no list', ...none, send: get('/status-lists/__proto__') },
        { title: 'CBOR', ...form, send: get('/status-lists/1-1', 'application/statuslist+cwt') },
        { title: 'not a JWT', ...form, send: get('/status-lists/1-1', `*/*, ${TYPE};q=0`) },
      ],
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })
})

it('there is no list where no tool reads one', async () => {
  const house = await openHouse()
  try {
    const metadata = await house.fetch('GET', '/.well-known/oauth-authorization-server')
    expect(metadata.body['status_list_aggregation_endpoint']).toBeUndefined()
    expect((await house.fetch('GET', '/status-lists')).body).toEqual({ status_lists: [] })
    expect((await house.fetch('GET', '/status-lists/1-1')).status).toBe(404)
  } finally {
    await house.close()
  }
})
