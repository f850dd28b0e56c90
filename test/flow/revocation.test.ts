import { type CryptoKey, createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { createHash } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { shapeText, valueDigest } from '@errand/verifier/shapes.ts'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { decode, type House, ISSUER, openHouse } from '../house.ts'

const MANY = (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`
const TICKETS = { audience: 'tickets' }

async function token(house: House, clientId = 'research', form: Record<string, string> = TICKETS) {
  const agent = await house.agent(clientId)
  const answer = await agent.exchange({ form })
  expect(answer.status, answer.text).toBe(200)
  const text = String(answer.body['access_token'])
  const { payload, header } = decode(text)
  return { agent, text, payload, header, task: String(answer.body['task_id']) }
}
const active = async (house: House, tool: string, text: string) =>
  (await (await house.tool(tool)).form('/introspect', { token: text })).body['active']

describe('revoking by each dimension', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: { 'errand.yaml': MANY } })
  })
  afterAll(() => house.close())
  const revoke = (match: object, more: object = {}) =>
    house.admin('POST', '/revocations', { match, reason: 'a test', ...more })

  it.each([
    ['jti', (t: Issued) => t.payload['jti']],
    ['task', (t: Issued) => t.task],
    ['root', (t: Issued) => t.task],
    ['sub', () => 'dev|alice'],
    ['agent', () => 'spiffe://company.example/agents/research'],
    ['client_id', () => 'research'],
    ['aud', () => 'https://tickets.example.com/'],
    ['kid', (t: Issued) => t.header['kid']],
    ['policy', (t: Issued) => t.payload['pol']],
    ['domain', () => 'company.example'],
  ] as const)('Inv1 Inv2 cut by %s: what was issued dies, what is issued next does not', async (dimension, of) => {
    const issued = await token(house)
    expect(await active(house, 'tickets', issued.text)).toBe(true)
    const answer = await revoke({ [dimension]: of(issued) }, { mode: 'cut' })
    expect(answer.status, answer.text).toBe(201)
    expect(answer.body).toMatchObject({ mode: 'cut', by: 'admin', tasks_ended: [] })
    expect(await active(house, 'tickets', issued.text)).toBe(false)
    const next = await token(house)
    expect(await active(house, 'tickets', next.text)).toBe(true)
    const shown = await house.admin('GET', `/revocations/${answer.body['id']}`)
    expect(shown.body).toMatchObject({
      id: answer.body['id'],
      epoch: answer.body['epoch'],
      match: answer.body['match'],
    })
  })
  type Issued = Awaited<ReturnType<typeof token>>

  it.each([
    ['sub', 'dev|alice', true],
    ['agent', 'spiffe://company.example/agents/research', true],
    ['client_id', 'research', true],
    ['aud', 'https://tickets.example.com/', false],
    ['domain', 'company.example', true],
  ] as const)(
    'L15 Inv2 ban by %s: nothing new until a re-admission, and the dead stay dead after it',
    async (dimension, value, ends) => {
      const issued = await token(house)
      const answer = await revoke({ [dimension]: value })
      expect(answer.body).toMatchObject({ mode: 'ban' })
      const ended = answer.body['tasks_ended'] as unknown as string[]
      expect(ended.includes(issued.task)).toBe(ends)
      expect(await active(house, 'tickets', issued.text)).toBe(false)
      const refused = await issued.agent.exchange({ form: TICKETS })
      expect([refused.status, refused.body['reason'], refused.body['rule']]).toEqual([400, 'banned', answer.body['id']])
      // Nothing is told of who else is banned, and the record names the entry.
      expect((await house.records({ reason: 'banned' }))[0]).toMatchObject({ agent: 'research' })
      const bans = (await house.admin('GET', '/revocations/bans')).body['bans'] as unknown as { id: string }[]
      expect(bans.map(({ id }) => id)).toContain(answer.body['id'])

      const back = await house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'looked into' })
      expect(back.body).toMatchObject({ readmitted: { by: 'admin', reason: 'looked into' } })
      expect(
        (await house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'looked into' })).status,
      ).toBe(404)
      const next = await token(house)
      expect(await active(house, 'tickets', next.text)).toBe(true)
      expect(await active(house, 'tickets', issued.text)).toBe(false)
      if (ends) expect((await issued.agent.call('GET', `/tasks/${issued.task}`)).body['state']).toBe('revoked')
    },
  )

  it('F13 a banned agent attests again in vain, also after pruning and after a restart', async () => {
    const own = await openHouse()
    const answer = await own.admin('POST', '/revocations', { match: { client_id: 'research' }, reason: 'stolen' })
    expect(answer.status).toBe(201)
    const refused = async (house: House) => {
      const { status, body } = await (await house.agent('research')).exchange({ form: TICKETS })
      return [status, body['reason']]
    }
    expect(await refused(own)).toEqual([400, 'banned'])
    own.advance(8 * 86_400)
    await own.service.sweep()
    await own.learnNonce('research')
    expect(await refused(own)).toEqual([400, 'banned'])
    const at = own.now()
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: at + 60 })
    await again.service.sweep()
    expect(await refused(again)).toEqual([400, 'banned'])
    const task = await (await again.agent('research')).call('POST', '/tasks', {
      subject_token: again.userToken('alice'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(again.details()),
    })
    expect([task.status, task.body['reason']]).toEqual([400, 'banned'])
    await again.close()
  })

  it('L7 after a restart everything revoked is still revoked, and bans, re-admissions and epochs are as they were', async () => {
    const own = await openHouse()
    const first = await token(own)
    const second = await token(own)
    const cut = await own.admin('POST', '/revocations', { match: { jti: first.payload['jti'] }, reason: 'a test' })
    const ban = await own.admin('POST', '/revocations', { match: { sub: 'dev|bob' }, reason: 'a test' })
    const was = await own.admin('POST', '/revocations', { match: { client_id: 'triage' }, reason: 'a test' })
    await own.admin('POST', `/revocations/${was.body['id']}/readmit`, { reason: 'a mistake' })
    const epoch = await own.service.stores.revocations.epoch()
    await own.stop()
    const again = await openHouse({ folder: own.folder })
    expect(await again.service.stores.revocations.epoch()).toEqual(epoch)
    expect(await active(again, 'tickets', first.text)).toBe(false)
    expect(await active(again, 'tickets', second.text)).toBe(true)
    const bans = (await again.admin('GET', '/revocations/bans')).body['bans'] as unknown as { id: string }[]
    expect(bans.map(({ id }) => id)).toEqual([ban.body['id']])
    expect((await again.admin('GET', `/revocations/${cut.body['id']}`)).body['epoch']).toBe(cut.body['epoch'])
    expect((await again.admin('GET', `/revocations/${was.body['id']}`)).body['readmitted']).toBeDefined()
    await again.close()
  })

  it('ends the tasks of a ban whose writer was stopped before it could', async () => {
    const own = await openHouse()
    const { task } = await token(own)
    await own.service.stores.revocations.add({
      id: `rev_${'A'.repeat(22)}`,
      match: { sub: 'dev|alice' },
      mode: 'ban',
      reason: 'written, and then the process was killed',
      by: 'admin',
      at: own.now(),
      expiresAt: own.now() + 600,
    })
    await own.stop()
    const again = await openHouse({ folder: own.folder })
    expect((await again.service.stores.tasks.get(task))?.state).toBe('revoked')
    await again.close()
  })

  it('a conjunction bans where all of it holds, and ends the tasks it names as a whole', async () => {
    const both = await token(house)
    const other = await token(house, 'payments')
    const match = { client_id: 'research', sub: 'dev|alice' }
    const preview = await revoke(match, { dry_run: true })
    expect([preview.status, preview.body['dry_run'], preview.body['mode']]).toEqual([200, true, 'ban'])
    const { ids } = preview.body['tasks'] as unknown as { ids: readonly string[] }
    expect(ids).toContain(both.task)
    expect(ids).not.toContain(other.task)
    const before = await house.service.stores.revocations.epoch()
    const answer = await revoke(match)
    expect([...(answer.body['tasks_ended'] as unknown as readonly string[])].sort()).toEqual([...ids].sort())
    expect(await house.service.stores.revocations.after(before)).toHaveLength(1)
    expect(await active(house, 'tickets', both.text)).toBe(false)
    expect(await active(house, 'tickets', other.text)).toBe(true)
    expect((await both.agent.exchange({ form: TICKETS, user: 'bob' })).status).toBe(200)
    expect((await both.agent.exchange({ form: TICKETS })).body['reason']).toBe('banned')
    await house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'over' })
  })

  it('dry_run changes nothing, an empty match must say everything, and nothing else passes for a match', async () => {
    const { text, task } = await token(house)
    const before = await house.service.stores.revocations.epoch()
    const records = (await house.records({ type: 'revocation.added' })).length
    const preview = await revoke({ root: task }, { dry_run: true })
    expect(preview.body).toMatchObject({ dry_run: true, match: { root: task }, mode: 'ban' })
    expect(preview.body['tasks']).toEqual({ total: 1, ids: [task], effect: 'end' })
    const refused: readonly (readonly [object, object])[] = [
      [{}, {}],
      [{}, { everything: false }],
      [{ jti: '' }, {}],
      [{ nonsense: 'x' }, {}],
      [{ sub: 'dev|a\u202e' }, {}],
      [{ sub: '' }, {}],
      [{ jti: 7 }, {}],
      [{ __proto__: null, constructor: 'x' }, {}],
      [{ jti: 'x' }, { mode: 'pause' }],
      [{ jti: 'x' }, { reason: 'x' }],
      [{ jti: 'x' }, { by: 'somebody' }],
    ]
    for (const [match, more] of refused) {
      const answer = await revoke(match, more)
      expect([match, more, answer.status]).toEqual([match, more, 400])
    }
    expect(await house.service.stores.revocations.after(before)).toEqual([])
    expect((await house.records({ type: 'revocation.added' })).length).toBe(records)
    expect(await active(house, 'tickets', text)).toBe(true)
  })

  it('a subject whose name is not ASCII can be revoked like any other', async () => {
    const agent = await house.agent('research')
    const issue = () =>
      agent.exchange({ form: { ...TICKETS, subject_token: house.userToken('zoë', { groups: ['support'] }) } })
    const issued = await issue()
    expect(issued.status, issued.text).toBe(200)
    const answer = await revoke({ sub: 'dev|zoë' })
    expect(answer.status, answer.text).toBe(201)
    expect(await active(house, 'tickets', String(issued.body['access_token']))).toBe(false)
    expect((await issue()).body['reason']).toBe('banned')
  })

  it('L14 the same Idempotency-Key is the same entry, whatever came of it since; for another request it is refused', async () => {
    const one = await token(house, 'payments', { audience: 'payments' })
    const ask = (match: object, key: string, more: object = {}) =>
      house.admin('POST', '/revocations', { match, reason: 'asked for twice', ...more }, { 'idempotency-key': key })
    const before = await house.service.stores.revocations.epoch()
    const answers = await Promise.all([1, 2, 3].map(() => ask({ client_id: 'payments' }, 'lost-answer')))
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 200, 201])
    expect(new Set(answers.map(({ body }) => body['id'])).size).toBe(1)
    expect(await house.service.stores.revocations.after(before)).toHaveLength(1)
    expect((await house.service.stores.tasks.get(one.task))?.state).toBe('revoked')
    for (const [match, more] of [
      [{ client_id: 'research' }, {}],
      [{ client_id: 'payments', sub: 'dev|alice' }, {}],
      [{ client_id: 'payments' }, { mode: 'suspend' }],
    ] as const) {
      const other = await ask(match, 'lost-answer', more)
      expect([other.status, other.body['reason']]).toEqual([422, 'idempotency_conflict'])
    }
    expect((await ask({ client_id: 'payments' }, 'short')).status).toBe(400)
    const id = String(answers[0]!.body['id'])
    await house.admin('POST', `/revocations/${id}/readmit`, { reason: 'looked into' })
    const next = await token(house, 'payments', { audience: 'payments' })
    // A retry that comes late stops nothing that goes on again.
    const late = await ask({ client_id: 'payments' }, 'lost-answer')
    expect([late.status, late.body['id'], late.body['tasks_ended']]).toEqual([200, id, []])
    expect(late.body['readmitted']).toBeDefined()
    expect(await active(house, 'payments', next.text)).toBe(true)
    expect((await house.service.stores.tasks.get(next.task))?.state).toBe('active')
    const entries = await house.service.stores.revocations.after(before)
    expect(entries.map(({ closes }) => closes)).toEqual([undefined, id])
  })

  it('L14 an id that nobody knows, and one revoked already, are answered the same and recorded each time', async () => {
    for (let i = 0; i < 2; i += 1) {
      const answer = await revoke({ jti: 'nobody-knows-this-one-27chr' })
      expect([answer.status, answer.body['mode']]).toEqual([201, 'cut'])
    }
    const { agent, text, payload } = await token(house)
    const form = { token: text, client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' }
    for (let i = 0; i < 3; i += 1) {
      const answer = await house.fetch('POST', '/revoke', {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({ ...form, client_assertion: agent.assertion() }).toString(),
      })
      expect([answer.status, answer.text]).toEqual([200, ''])
    }
    const added = (await house.records({ type: 'revocation.added' })).filter(
      // An access token goes with its line: what its agent holds for its task at its audience.
      (record) =>
        (record['details'] as { match?: { task?: string } })?.match?.task === (payload['task'] as { id: string }).id,
    )
    expect(added.map(({ details }) => (details as { added: boolean }).added)).toEqual([false, false, true])
    const tickets = await house.tool('tickets')
    for (const nothing of ['garbage', 'a.b.c', house.userToken('alice')]) {
      expect((await tickets.form('/revoke', { token: nothing })).status).toBe(200)
    }
    expect((await house.records({ reason: 'not_a_token' })).length).toBe(3)
  })

  it('C8 a bystander learns nothing of a token and cannot end it; its audience and its owner can', async () => {
    const first = await token(house)
    const crm = await house.tool('crm')
    const triage = await house.agent('triage')
    const asAgent = (agent: typeof triage, path: string) =>
      house.fetch('POST', path, {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: new URLSearchParams({
          token: first.text,
          client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
          client_assertion: agent.assertion(),
        }).toString(),
      })
    expect((await crm.form('/introspect', { token: first.text })).body).toEqual({ active: false })
    expect((await asAgent(triage, '/introspect')).body).toEqual({ active: false })
    expect([
      (await crm.form('/revoke', { token: first.text })).status,
      (await asAgent(triage, '/revoke')).status,
    ]).toEqual([200, 200])
    expect(await active(house, 'tickets', first.text)).toBe(true)
    expect((await asAgent(first.agent, '/introspect')).body).toMatchObject({
      active: true,
      client_id: 'research',
      token_type: 'DPoP',
    })
    const refused = await house.records({ reason: 'caller_not_audience' })
    expect(refused.map(({ by }) => by)).toEqual(['triage', 'tool:crm', 'triage', 'tool:crm'])
    expect((await (await house.tool('tickets')).form('/revoke', { token: first.text })).status).toBe(200)
    expect((await asAgent(first.agent, '/introspect')).body).toEqual({ active: false })
    const second = await token(house)
    expect(await active(house, 'tickets', second.text)).toBe(true)
  })

  it('C9 nobody asks without authentication', async () => {
    const { text } = await token(house)
    for (const path of ['/introspect', '/revoke']) {
      const answer = await house.fetch('POST', path, {
        headers: { 'content-type': 'application/x-www-form-urlencoded' },
        body: `token=${text}`,
      })
      expect([path, answer.status, answer.body['error'], answer.body['reason']]).toEqual([
        path,
        401,
        'invalid_client',
        'client_auth_required',
      ])
    }
    expect(await active(house, 'tickets', text)).toBe(true)
  })

  it('the kill switch works with the audit disk full; a re-admission does not', async () => {
    const { text } = await token(house)
    const { log } = house.service
    const { append } = log
    const full = async (): Promise<never> => {
      throw new Unavailable('audit_unavailable', 'the disk is full')
    }
    Object.assign(log, { append: full })
    const answer = await revoke({ client_id: 'research' })
    const back = await house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'not now' })
    Object.assign(log, { append })
    expect(answer.status, answer.text).toBe(201)
    expect([back.status, back.body['error'], back.body['reason']]).toEqual([503, 'temporarily_unavailable', undefined])
    expect(await active(house, 'tickets', text)).toBe(false)
    expect((await house.fetch('GET', '/metrics')).text).toMatch(
      /errand_unrecorded_effects_total\{type="revocation.added"\} 1/,
    )
    const agent = await house.agent('research')
    expect((await agent.exchange({ form: TICKETS })).body['reason']).toBe('banned')
    expect(
      (await house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'now it is' })).status,
    ).toBe(200)
  })

  it('everything means everything: tokens, tasks, and what would come next', async () => {
    const own = await openHouse()
    const first = await token(own)
    const second = await token(own, 'payments')
    const answer = await own.admin('POST', '/revocations', { match: {}, everything: true, reason: 'an incident' })
    expect(answer.body['mode']).toBe('ban')
    expect([...(answer.body['tasks_ended'] as unknown as string[])].sort()).toEqual([first.task, second.task].sort())
    expect(await active(own, 'tickets', first.text)).toBe(false)
    expect((await first.agent.exchange({ form: TICKETS })).body['reason']).toBe('banned')
    await own.close()
  })

  it('O4 a compromised key kills what it signed, is never used again, and the service goes on with another', async () => {
    const own = await openHouse()
    const first = await token(own)
    const kid = String(first.header['kid'])
    const answer = await own.admin('POST', '/keys/compromise', { kid, reason: 'found on a laptop' })
    expect(answer.status, answer.text).toBe(200)
    expect(await active(own, 'tickets', first.text)).toBe(false)
    const next = await token(own)
    expect(next.header['kid']).toBe(answer.body['successor'])
    expect(await active(own, 'tickets', next.text)).toBe(true)
    const keys = (await own.fetch('GET', '/.well-known/jwks.json')).body['keys'] as unknown as { kid: string }[]
    expect(keys.map((key) => key.kid)).not.toContain(kid)
    expect((await own.admin('POST', '/keys/compromise', { kid: 'unknown', reason: 'a test' })).status).toBe(404)
    const { bans } = (await own.admin('GET', '/revocations/bans')).body as unknown as {
      bans: { id: string; match: object }[]
    }
    const ban = bans.find(({ match }) => 'kid' in match)!
    const back = await own.admin('POST', `/revocations/${ban.id}/readmit`, { reason: 'the key was found again' })
    expect([back.status, back.body['error_description']]).toEqual([404, expect.stringContaining('compromised key')])
    await own.close()
  })
})

describe('the feed', () => {
  let house: House
  let keys: ReturnType<typeof createLocalJWKSet>
  let feedKey: Uint8Array
  beforeAll(async () => {
    house = await openHouse({ config: { 'errand.yaml': MANY } })
    keys = createLocalJWKSet((await house.fetch('GET', '/.well-known/jwks.json')).body as unknown as JSONWebKeySet)
    const answer = await (await house.tool('tickets')).call('GET', '/revocations/key')
    expect(answer.headers.get('cache-control')).toBe('no-store')
    feedKey = Buffer.from(String(answer.body['key']), 'base64url')
  })
  afterAll(() => house.close())

  const read = async (jws: unknown, typ = 'errand-frame+jwt') => {
    const { payload } = await jwtVerify(String(jws), keys as unknown as () => Promise<CryptoKey>, {
      typ,
      issuer: ISSUER,
      algorithms: ['ES256'],
      currentDate: new Date(house.now() * 1000),
    })
    return payload as Record<string, unknown> & { entries?: { e: string; d: string; v: string; x: number }[] }
  }

  it('its key is for tools and administrators only', async () => {
    expect((await house.fetch('GET', '/revocations/key')).status).toBe(401)
    expect((await (await house.agent('research')).call('GET', '/revocations/key')).status).toBe(403)
    expect((await house.admin('GET', '/revocations/key')).body['key']).toBe(Buffer.from(feedKey).toString('base64url'))
  })

  it('gives snapshot, delta and statements that the JWKS verifies, and says nobody’s name', async () => {
    const empty = await read((await house.fetch('GET', '/revocations')).body['frame'])
    expect(empty).toMatchObject({ kind: 'snapshot', entries: [] })
    const { text, task } = await token(house)
    await house.admin('POST', '/revocations', {
      match: { sub: 'dev|alice', client_id: 'research' },
      mode: 'cut',
      reason: 'a test',
    })
    const delta = await house.fetch('GET', `/revocations?after=${empty['epoch']}`)
    const frame = await read(delta.body['frame'])
    expect(frame).toMatchObject({ kind: 'delta', after: empty['epoch'], run: empty['run'] })
    const shape = 'client_id+sub'
    expect(frame.entries).toEqual([
      {
        e: frame['epoch'],
        d: shape,
        v: valueDigest(feedKey, shape, shapeText(shape, { client_id: 'research', sub: 'dev|alice' })!),
        x: expect.any(Number) as number,
      },
    ])
    expect(Buffer.from(delta.text.split('.')[1] ?? '', 'base64url').toString()).not.toMatch(/alice|research/)
    expect(await active(house, 'tickets', text)).toBe(false)

    const snapshot = await house.fetch('GET', '/revocations')
    expect((await read(snapshot.body['frame'])).entries).toHaveLength(1)
    const etag = snapshot.headers.get('etag')!
    expect((await house.fetch('GET', '/revocations', { headers: { 'if-none-match': etag } })).status).toBe(304)

    const nonce = 'n'.repeat(22)
    const statement = await read(
      (await house.fetch('GET', `/revocations/now?nonce=${nonce}`)).body['statement'],
      'errand-now+jwt',
    )
    expect(statement).toMatchObject({ run: empty['run'], epoch: frame['epoch'], nonces: [nonce], time: house.now() })
    for (const bad of ['', 'short', 'x'.repeat(65), 'no spaces allowed']) {
      expect((await house.fetch('GET', `/revocations/now?nonce=${encodeURIComponent(bad)}`)).status).toBe(400)
    }
    for (const query of [
      'after=x',
      'after=1',
      'after=1.0&wait=0',
      'after=1.0&wait=x',
      'wait=5',
      'after=1.0&wait=100',
    ]) {
      expect([query, (await house.fetch('GET', `/revocations?${query}`)).status]).toEqual([query, 400])
    }
    expect(task).toMatch(/^task_/)
  })

  it('streams an entry in the next frames, each holding the digest of the one before', async () => {
    const response = await house.service.app.fetch(new Request(`${ISSUER}/revocations/stream`), {
      base: ISSUER,
      peer: '127.0.0.1',
    })
    expect(response.headers.get('content-type')).toBe('text/event-stream')
    const reader = response.body!.pipeThrough(new TextDecoderStream()).getReader()
    let buffer = ''
    const next = async (): Promise<string> => {
      for (;;) {
        const found = /^event: frame\nid: (\S+)\ndata: (\S+)\n\n/m.exec(buffer)
        if (found) {
          buffer = buffer.slice(found.index + found[0].length)
          return found[2]!
        }
        const { value, done } = await reader.read()
        if (done) throw new Error('the stream ended')
        buffer += value
      }
    }
    const added = await house.admin('POST', '/revocations', { match: { jti: 'streamed' }, reason: 'a test' })
    let before: string | undefined
    for (let frames = 0; ; frames += 1) {
      expect(frames).toBeLessThan(5)
      const jws = await next()
      const frame = await read(jws)
      // A snapshot stands beside the chain: where the stream begins.
      if (frame['kind'] !== undefined) continue
      if (before !== undefined) expect(frame['prev']).toBe(createHash('sha256').update(before).digest('base64url'))
      before = jws
      if (frame.entries?.some(({ e }) => e === added.body['epoch'])) break
    }
    await reader.cancel()
  })

  it('a long-poll answers when there is something new', async () => {
    const { generation, sequence } = await house.service.stores.revocations.epoch()
    const waiting = house.fetch('GET', `/revocations?after=${generation}.${sequence}&wait=30`)
    const added = await house.admin('POST', '/revocations', { match: { jti: 'polled' }, reason: 'a test' })
    const frame = await read((await waiting).body['frame'])
    expect(frame.entries?.map(({ e }) => e)).toEqual([added.body['epoch']])
  })

  it('notes what verifiers say they applied, each for itself, never backwards and never ahead', async () => {
    const added = await house.admin('POST', '/revocations', { match: { jti: 'acknowledged' }, reason: 'a test' })
    const epoch = String(added.body['epoch'])
    const seen = async () => (await house.admin('GET', `/revocations/${added.body['id']}`)).body['acknowledged']
    expect(await seen()).toEqual([])
    const [generation, sequence] = epoch.split('.').map(Number) as [number, number]
    const tickets = await house.tool('tickets')
    const crm = await house.tool('crm')
    expect((await tickets.call('POST', '/revocations/acks', { epoch })).status).toBe(204)
    expect((await crm.call('POST', '/revocations/acks', { epoch: `${generation}.${sequence - 1}` })).status).toBe(204)
    expect((await tickets.call('POST', '/revocations/acks', { epoch: `${generation}.${sequence - 1}` })).status).toBe(
      204,
    )
    expect(await seen()).toEqual([{ verifier: 'tool:tickets', epoch, at: house.now() }])
    for (const ahead of [`${generation}.${sequence + 1}`, `${generation + 1}.0`, '9007199254740993.1', 'x']) {
      expect((await crm.call('POST', '/revocations/acks', { epoch: ahead })).status).toBe(400)
    }
  })
})
