import { once } from 'node:events'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createBuckets } from '../../src/http/buckets.ts'
import { createLimits, rationed } from '../../src/http/limits.ts'
import { createSharedCheck } from '../../src/http/shared-check.ts'
import { ok } from '../../src/oauth/refusal.ts'
import { GRANT } from '../../src/oauth/words.ts'
import { type House, ISSUER, newKeyPair, openHouse } from '../house.ts'
import { openRunning, type Running } from '../running.ts'

const bounds = (members: string) => ({ 'errand.yaml': (text: string) => `${text}\nbounds: { ${members} }\n` })

describe('what one body may hold', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: bounds('strangers_per_second_per_source: 100000') })
  })
  afterAll(() => house.close())
  const form = (body: string) =>
    house.fetch('POST', '/token', { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body })

  it('H1 a form one byte over the limit is refused by its length, and one at the limit is read', async () => {
    const over = await form(`grant_type=x&x=${'y'.repeat(65_537 - 15)}`)
    expect([over.status, over.body['error'], over.body['reason']]).toEqual([413, 'invalid_request', 'body_too_large'])
    const at = await form(`grant_type=x&x=${'y'.repeat(65_536 - 15)}`)
    expect([at.status, at.body['error']]).toEqual([400, 'unsupported_grant_type'])
  })

  it('H1 the same for JSON, from a caller that has proven who it is', async () => {
    const research = await house.agent('research')
    const answer = await research.call('POST', '/tasks', { purpose: 'x'.repeat(70_000) })
    expect([answer.status, answer.body['reason']]).toEqual([413, 'body_too_large'])
  })

  it('H2 deep or broad JSON is refused by its form, wherever JSON is taken', async () => {
    const research = await house.agent('research')
    const post = (body: string) =>
      house.fetch('POST', '/tasks', {
        headers: { authorization: `ClientAssertion ${research.assertion()}`, 'content-type': 'application/json' },
        body,
      })
    const deep = await post(`${'['.repeat(30_000)}${']'.repeat(30_000)}`)
    expect([deep.status, deep.body['reason']]).toEqual([400, 'json_limits'])
    const broad = await post(`{${Array.from({ length: 5_000 }, (_, i) => `"k${i}":1`).join(',')}}`)
    expect(broad.status).toBe(400)
    expect(['json_limits', 'bad_request_details', 'bad_body']).toContain(broad.body['reason'])
    const details = await research.exchange({
      form: { request_details: `${'{"a":'.repeat(1_200)}1${'}'.repeat(1_200)}` },
    })
    expect([details.status, details.body['reason']]).toEqual([400, 'bad_request_details'])
    const asked = await research.exchange({ form: { authorization_details: '['.repeat(16_000) } })
    expect([asked.status, asked.body['reason']]).toEqual([400, 'bad_authorization_details'])
    for (const body of ['{"a":1,"a":2}', '{"__proto__":{}}', '\ufeff{}', '{"a":1e400}', 'null', '[]', '"x"', '{', '']) {
      expect([body, (await post(body)).status]).toEqual([body, 400])
    }
    expect(({} as { x?: unknown }).x).toBeUndefined()
  })

  it('D16 other media types are 415, parameters in the query 400, and a seventieth parameter 400', async () => {
    for (const type of ['application/json', 'multipart/form-data; boundary=x', 'text/plain', '']) {
      const answer = await house.fetch('POST', '/token', { headers: { 'content-type': type }, body: 'grant_type=x' })
      expect([type, answer.status, answer.body['reason']]).toEqual([type, 415, 'media_type'])
    }
    const query = await house.fetch('POST', '/token?grant_type=x', {
      headers: { 'content-type': 'application/x-www-form-urlencoded' },
      body: '',
    })
    expect([query.status, query.body['reason']]).toEqual([400, 'param_in_query'])
    const many = await form(Array.from({ length: 70 }, (_, i) => `p${i}=1`).join('&'))
    expect([many.status, many.body['reason']]).toEqual([400, 'bad_body'])
    const twice = await form('grant_type=x&grant_type=x')
    expect([twice.status, twice.body['reason']]).toEqual([400, 'param_duplicate'])
  })

  it('H3 no field is worth more than its length: what could make a pattern backtrack is refused like any other text', async () => {
    const research = await house.agent('research')
    const corpus = [
      `${'a'.repeat(5_000)}!`,
      `${'a.'.repeat(4_000)}!`,
      `${' '.repeat(8_000)}x`,
      `${'%2e'.repeat(2_500)}`,
    ]
    const fields = [
      'scope',
      'resource',
      'audience',
      'task_id',
      'request_details',
      'authorization_details',
      'delegate_to',
    ]
    for (const text of corpus)
      for (const field of fields) {
        const form = field === 'task_id' ? { task_id: text } : { [field]: text }
        const answer = await research.exchange({ form })
        expect([field, answer.status]).toEqual([field, 400])
      }
  })

  it('D20 an Idempotency-Key that cannot be one is refused, so that nobody relies on what is not remembered', async () => {
    const research = await house.agent('research')
    for (const key of ['short', 'with a space in it', 'é'.repeat(8), 'x'.repeat(256)]) {
      const answer = await research.exchange({ headers: { 'idempotency-key': key }, form: { audience: 'tickets' } })
      expect([answer.status, answer.body['reason']]).toEqual([400, 'bad_param'])
    }
  })
})

describe('how often', () => {
  it('H4 a flood of strangers is cut by source, and whoever comes from elsewhere does not notice', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 5') })
    const answers = []
    for (let i = 0; i < 30; i += 1) answers.push(await house.fetch('GET', '/agents'))
    expect(answers.map(({ status }) => status)).toEqual([...Array(10).fill(401), ...Array(20).fill(429)])
    expect(answers.at(-1)?.body).toMatchObject({ error: 'temporarily_unavailable', reason: 'rate_limited' })
    expect(answers.at(-1)?.headers.get('retry-after')).toBe('1')
    // Whoever watches the process is always answered.
    expect((await house.fetch('GET', '/health')).status).toBe(200)
    const elsewhere = new Request('http://127.0.0.1:4460/agents')
    const { status } = await house.service.app.fetch(elsewhere, { base: 'http://127.0.0.1:4460', peer: '192.0.2.1' })
    expect(status).toBe(401)
    house.advance(1)
    expect((await house.fetch('GET', '/agents')).status).toBe(401)
    await house.close()
  })

  it('H5 spellings of one IPv6 /64, and IPv4-mapped addresses, are one source', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    const from = async (peer: string) =>
      (
        await house.service.app.fetch(new Request('http://127.0.0.1:4460/agents'), {
          base: 'http://127.0.0.1:4460',
          peer,
        })
      ).status
    const one = ['2001:db8::1', '2001:0db8:0000:0000:aaaa::', '2001:DB8::ffff:1', '2001:db8:0:0:1:2:3:4']
    for (const peer of one) expect(await from(peer)).toBe(401)
    expect(await from('2001:db8::2')).toBe(429)
    expect(await from('2001:db8:0:1::1')).toBe(401)
    for (const peer of ['203.0.113.9', '::ffff:203.0.113.9', '::FFFF:cb00:7109', '203.0.113.9']) {
      expect(await from(peer)).toBe(401)
    }
    expect(await from('203.0.113.9')).toBe(429)
    await house.close()
  })

  it('H5 a client is rationed by what it has proven: naming another uses up nothing of its share', async () => {
    const house = await openHouse({
      config: bounds('strangers_per_second_per_source: 1000, requests_per_second_per_client: 3'),
    })
    const research = await house.agent('research')
    const triage = await house.agent('triage')
    for (let i = 0; i < 50; i += 1) {
      const forged = house.assertionOf('research', { ...triage.key, kid: research.key.kid! })
      await research.post({
        grant_type: GRANT.exchange,
        client_assertion: forged,
        subject_token: 'x',
        subject_token_type: 'y',
      })
    }
    const answers = []
    for (let i = 0; i < 9; i += 1) answers.push(await research.exchange({ form: { audience: 'tickets' } }))
    expect(answers.map(({ status }) => status)).toEqual([...Array(6).fill(200), ...Array(3).fill(429)])
    expect(answers.at(-1)?.headers.get('retry-after')).toBe('1')
    // Across endpoints it is one share, and another client has its own.
    expect((await research.call('GET', '/agents/research')).status).toBe(429)
    expect((await triage.call('GET', '/agents/triage')).status).toBe(200)
    house.advance(1)
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    await house.close()
  })

  it('H4 callers that have proven who they are use up nothing of the share of strangers', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    const research = await house.agent('research')
    for (let i = 0; i < 20; i += 1) {
      expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    }
    await house.close()
  })

  it('H4 more than may run at once is shed with 503, and the places come back', async () => {
    const house = await openHouse({ config: bounds('max_concurrent_requests: 3') })
    const research = await house.agent('research')
    await house.learnNonce('research')
    const answers = await Promise.all(
      Array.from({ length: 12 }, () => research.exchange({ form: { audience: 'tickets' } })),
    )
    const shed = answers.filter(({ status }) => status === 503)
    expect(shed.length).toBeGreaterThan(0)
    expect(answers.every(({ status }) => status === 200 || status === 503)).toBe(true)
    expect(shed[0]?.body).toMatchObject({ error: 'temporarily_unavailable', reason: 'overloaded' })
    expect(shed[0]?.headers.get('retry-after')).toBe('1')
    for (let i = 0; i < 5; i += 1) expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    await house.close()
  })

  it('H8 long-polls and streams hold no place of those that work, strangers half of theirs, one source a sixteenth', async () => {
    const house = await openHouse({
      config: bounds('max_concurrent_requests: 32, strangers_per_second_per_source: 1000'),
    })
    const research = await house.agent('research')
    const crm = await house.tool('crm')
    await research.exchange({ form: { audience: 'tickets' } })
    const leave = new AbortController()
    const open = (path: string, peer: string, headers: Record<string, string> = {}) =>
      house.service.app.fetch(new Request(`${ISSUER}${path}`, { signal: leave.signal, headers }), {
        base: ISSUER,
        peer,
      })
    const proven = () => ({ authorization: `ClientAssertion ${house.assertionOf(crm.clientId, crm.key)}` })
    const { generation, sequence } = await house.service.stores.revocations.epoch()
    const poll = `/revocations?after=${generation}.${sequence}&wait=30`
    const polls = [1, 2].map(() => open(poll, '192.0.2.1'))
    expect((await open('/revocations/stream', '192.0.2.1')).status).toBe(503)
    const others = [2, 3, 4, 5, 6, 7, 8].flatMap((n) => [n, n])
    const streams = await Promise.all(others.map((n) => open('/revocations/stream', `192.0.2.${n}`)))
    expect(streams.map(({ status }) => status)).toEqual(Array(14).fill(200))
    // However many sources there are, these were all the places for strangers.
    for (const path of ['/revocations/stream', poll]) expect((await open(path, '192.0.2.9')).status).toBe(503)
    const lie = { authorization: `ClientAssertion ${house.assertionOf(crm.clientId, research.key)}` }
    expect((await open('/revocations/stream', '192.0.2.9', lie)).status).toBe(503)
    // A verifier says who it is, and has a place, also at an address that has used up its own.
    const known = await Promise.all(Array.from({ length: 8 }, () => open('/revocations/stream', '192.0.2.1', proven())))
    expect(known.map(({ status }) => status)).toEqual(Array(8).fill(200))
    expect((await open('/revocations/stream', '192.0.2.1', proven())).status).toBe(503)
    // Agents have no use for the feed.
    const agent = { authorization: `ClientAssertion ${research.assertion()}` }
    expect((await open('/revocations/stream', '192.0.2.9', agent)).status).toBe(503)
    // A HEAD opens nothing.
    const head = await house.fetch('HEAD', '/revocations/stream')
    expect(head.status).toBe(200)
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    leave.abort()
    expect((await Promise.all(polls)).map(({ status }) => status)).toEqual([200, 200])
    await Promise.all([...streams, ...known].map(({ body }) => body?.cancel()))
    expect((await open('/revocations/stream', '192.0.2.1')).status).toBe(200)
    // Beyond the share of a client it is a stranger like any other.
    for (let i = 0; i < 9; i += 1) expect((await open('/revocations/stream', '192.0.2.7', proven())).status).toBe(200)
    // Credentials that prove nothing are as good as none, where none are needed.
    expect((await open('/revocations/stream', '192.0.2.1', lie)).status).toBe(200)
    await house.close()
  })
})

describe('a flood from the address of others', () => {
  const revoke = { match: { jti: 'x'.repeat(27) }, reason: 'the kill switch' }
  /** Empties what strangers have, and what `as` has for claims that do not hold. */
  async function flood(house: House, ...as: readonly string[]): Promise<void> {
    const stolen = { ...newKeyPair(), kid: 'none' }
    const knock = async (headers: Record<string, string>) =>
      (await house.fetch('GET', '/agents', { headers })).status === 429
    while (!(await knock({}))) {}
    for (const name of as)
      while (!(await knock({ authorization: `ClientAssertion ${house.assertionOf(name, stolen)}` }))) {}
  }

  it('H4 does not lock the administrator, the tools and the agents out: each is heard, and strangers are not', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    const [research, crm] = [await house.agent('research'), await house.tool('crm')]
    await flood(house)
    for (let i = 0; i < 20; i += 1) expect((await house.admin('POST', '/revocations', revoke)).status).toBe(201)
    for (let i = 0; i < 20; i += 1) {
      expect((await crm.call('GET', '/revocations/key')).status).toBe(200)
      expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    }
    expect((await house.fetch('GET', '/agents')).status).toBe(429)
    expect((await house.fetch('POST', '/token', { body: 'x' })).status).toBe(429)
    await house.close()
  })

  it('H4 of logins that fail is paid by those whose kind they claim, and ends', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    const [research, crm] = [await house.agent('research'), await house.tool('crm')]
    await flood(house, 'research', 'nobody')
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(429)
    expect((await crm.call('GET', '/revocations/key')).status).toBe(200)
    await flood(house, 'tool:crm')
    expect((await crm.call('GET', '/revocations/key')).status).toBe(429)
    expect((await house.admin('POST', '/revocations', revoke)).status).toBe(201)
    await flood(house, 'admin')
    expect((await house.admin('POST', '/revocations', revoke)).status).toBe(429)
    // What verifiers live by goes on.
    for (const path of ['/.well-known/jwks.json', '/revocations', `/revocations/now?nonce=${'n'.repeat(22)}`])
      expect((await house.fetch('GET', path)).status).toBe(200)
    house.advance(1)
    expect((await house.admin('POST', '/revocations', revoke)).status).toBe(201)
    await house.close()
  })

  it('H4 of the feed leaves it open to verifiers that say who they are, and to nobody who lies', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    const crm = await house.tool('crm')
    const research = await house.agent('research')
    const paths = ['/revocations', `/revocations/now?nonce=${'n'.repeat(22)}`, '/revocations?after=1.0']
    while ((await house.fetch('GET', '/revocations')).status !== 429) {}
    for (const path of paths) {
      expect((await house.fetch('GET', path)).status).toBe(429)
      for (let i = 0; i < 10; i += 1) expect((await crm.call('GET', path)).status).toBe(200)
      const lie = house.assertionOf(crm.clientId, { ...research.key, kid: crm.key.kid! })
      const answer = await house.fetch('GET', path, { headers: { authorization: `ClientAssertion ${lie}` } })
      expect([answer.status, answer.body['error']]).toEqual([401, 'invalid_token'])
    }
    expect((await house.fetch('GET', '/.well-known/jwks.json')).status).toBe(200)
    expect((await house.fetch('GET', '/agents')).status).toBe(401)
    await house.close()
  })

  it('H4 of requests held back to be ended in one moment is counted before anything is done for them', async () => {
    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 5') })
    let release = () => {}
    const held = new Promise<void>((resolve) => {
      release = resolve
    })
    const body = () =>
      new ReadableStream<Uint8Array>({
        async start(controller) {
          await held
          controller.enqueue(Buffer.from('grant_type=x'))
          controller.close()
        },
      })
    const headers = { 'content-type': 'application/x-www-form-urlencoded' }
    const asked = Array.from({ length: 200 }, () =>
      house.service.app.fetch(
        new Request(`${ISSUER}/token`, { method: 'POST', headers, body: body(), duplex: 'half' } as RequestInit),
        { base: ISSUER, peer: '127.0.0.1' },
      ),
    )
    release()
    const statuses = (await Promise.all(asked)).map(({ status }) => status)
    expect([400, 429].map((each) => statuses.filter((status) => status === each).length)).toEqual([10, 190])
    await house.close()
  })

  it('H4 of /ready has the store checked once a second, and /health is always answered', async () => {
    let ms = 0
    let checks = 0
    const ready = createSharedCheck({
      check: async () => {
        checks += 1
        return checks < 3
      },
      monotonic: () => ms,
    })
    expect(await Promise.all(Array.from({ length: 100 }, ready))).toEqual(Array(100).fill(true))
    ms += 999
    expect([await ready(), checks]).toEqual([true, 1])
    ms += 1
    expect([await ready(), checks]).toEqual([true, 2])
    ms += 1000
    expect([await ready(), checks]).toEqual([false, 3])

    const house = await openHouse({ config: bounds('strangers_per_second_per_source: 2') })
    await flood(house)
    const answers = []
    for (let i = 0; i < 6; i += 1) answers.push((await house.fetch('GET', '/ready')).status)
    expect(answers).toEqual([200, 200, 200, 200, 429, 429])
    expect((await house.fetch('GET', '/health')).status).toBe(200)
    await house.close()
  })

  it('H4 a check of the store that hangs is asked once', async () => {
    let checks = 0
    let ms = 0
    const ready = createSharedCheck({
      check: () => {
        checks += 1
        return new Promise(() => undefined)
      },
      monotonic: () => ms,
    })
    for (let i = 0; i < 5; i += 1) {
      void ready()
      ms += 5000
    }
    expect(checks).toBe(1)
  })
})

describe('buckets', () => {
  it('H5 forget the oldest names of a flood and keep to their number', () => {
    let ms = 0
    const buckets = createBuckets({ monotonic: () => ms, maxKeys: 3 })
    for (let i = 0; i < 4; i += 1) buckets.take('honest', 1)
    expect(buckets.wait('honest', 1)).toBe(1)
    for (const key of ['a', 'b', 'c']) buckets.take(key, 1)
    expect(buckets.wait('honest', 1)).toBe(0)
    for (let i = 0; i < 5; i += 1) buckets.take('c', 2)
    expect(buckets.take('c', 2)).toBe(1)
    ms += 10_000
    expect(buckets.take('c', 2)).toBe(0)
  })

  it('give back no more than was taken', () => {
    const buckets = createBuckets({ monotonic: () => 0 })
    buckets.giveBack('unknown', 1)
    for (let i = 0; i < 2; i += 1) expect(buckets.take('a', 1)).toBe(0)
    expect(buckets.take('a', 1)).toBe(1)
    buckets.giveBack('a', 1)
    expect(buckets.take('a', 1)).toBe(0)
    for (let i = 0; i < 5; i += 1) buckets.giveBack('a', 1)
    for (let i = 0; i < 2; i += 1) expect(buckets.take('a', 1)).toBe(0)
    expect(buckets.take('a', 1)).toBe(1)
  })

  it('ration only what was verified', async () => {
    const buckets = createBuckets({ monotonic: () => 0 })
    const verify = rationed(
      buckets,
      () => 1,
      (id: string) => id,
      async (id: string) => ok(id),
    )
    expect((await verify('x')).ok).toBe(true)
    expect((await verify('x')).ok).toBe(true)
    expect(await verify('x')).toMatchObject({ ok: false, refusal: { reason: 'rate_limited', retryAfterSeconds: 1 } })
    expect((await verify('y')).ok).toBe(true)
  })
})

describe('limits', () => {
  it('give a held place back once', () => {
    const limits = createLimits({ maxConcurrent: () => 4, monotonic: () => 0 })
    const leave = limits.hold({ source: 'a' })!
    expect(limits.hold({ source: 'a' })).toBeUndefined()
    leave()
    leave()
    const strangers = ['b', 'c', 'd'].map((source) => limits.hold({ source }) !== undefined)
    expect(strangers).toEqual([true, true, false])
    const known = ['b', 'b', 'c', 'd'].map((client) => limits.hold({ client }) !== undefined)
    expect(known).toEqual([true, false, true, false])
  })
})

describe('bytes on the wire', () => {
  let running: Running
  let port: number
  beforeAll(async () => {
    running = await openRunning((file, text) =>
      file === 'errand.yaml'
        ? `${text}\nbounds: { request_timeout_seconds: 1, strangers_per_second_per_source: 100000 }\n`
        : text,
    )
    port = Number(new URL(running.issuer).port)
  })
  afterAll(() => running.close())

  const open = async (): Promise<{ socket: Socket; out: () => string; closed: Promise<void> }> => {
    const socket = connect(port, '127.0.0.1')
    let out = ''
    socket.on('data', (chunk) => {
      out += String(chunk)
    })
    socket.on('error', () => undefined)
    const closed = new Promise<void>((resolve) => {
      socket.on('close', () => resolve())
    })
    await once(socket, 'connect')
    return { socket, out: () => out, closed }
  }
  const send = async (text: string | Buffer): Promise<string> => {
    const { socket, out, closed } = await open()
    socket.write(text)
    await closed
    return out()
  }
  const alive = async () => expect((await fetch(`${running.issuer}/health`)).status).toBe(200)

  it('H1 a chunked body over the limit is answered 413', async () => {
    const chunk = `${(16_384).toString(16)}\r\n${'y'.repeat(16_384)}\r\n`
    const head = `POST /token HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nTransfer-Encoding: chunked\r\n\r\n`
    const over = await send(`${head}${chunk.repeat(5)}0\r\n\r\n`)
    expect(over).toMatch(/^HTTP\/1\.1 413 /)
    expect(over).toContain('body_too_large')
    // Endless: answered before the end, and cut.
    const { socket, out, closed } = await open()
    socket.write(head)
    const pump = setInterval(() => socket.write(chunk), 1)
    await closed
    clearInterval(pump)
    expect(out()).toMatch(/^HTTP\/1\.1 413 /)
    const within = await send(`${head}${(12).toString(16)}\r\ngrant_type=x\r\n0\r\n\r\n`)
    expect(within).toMatch(/^HTTP\/1\.1 400 /)
    expect(within).toContain('unsupported_grant_type')
    await alive()
  })

  it('H1 ten thousand headers, and a megabyte of one, are 431', async () => {
    const many = Array.from({ length: 10_000 }, (_, i) => `X-${i}: ${i}\r\n`).join('')
    const answer = await send(`GET /health HTTP/1.1\r\nHost: x\r\n${many}\r\n`)
    expect(answer).toMatch(/^HTTP\/1\.1 431 /)
    expect(answer).toContain('invalid_request')
    expect(await send(`GET /health HTTP/1.1\r\nHost: x\r\nX-Big: ${'y'.repeat(1_000_000)}\r\n\r\n`)).toMatch(
      /^HTTP\/1\.1 431 /,
    )
    // Small, and far more than anybody has a use for.
    const small = Array.from({ length: 3_000 }, () => 'a:1\r\n').join('')
    expect(await send(`GET /agents HTTP/1.1\r\nHost: x\r\nConnection: close\r\n${small}\r\n`)).toMatch(
      /^HTTP\/1\.1 (431|401) /,
    )
    await alive()
  })

  it('H1 who sends headers or a body too slowly is answered 408, and no place was held meanwhile', async () => {
    const headers = await open()
    headers.socket.write('GET /health HTTP/1.1\r\nHost: x\r\nX-Slow: ')
    const body = await open()
    body.socket.write(
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 100\r\n\r\ngrant',
    )
    await Promise.all([headers.closed, body.closed])
    expect(headers.out()).toMatch(/^HTTP\/1\.1 408 /)
    expect(headers.out()).toContain('invalid_request')
    expect(body.out()).toMatch(/^HTTP\/1\.1 408 /)
    await alive()
    // A slow sender is no bug of ours.
    expect(running.lines.filter((line) => line.includes('unexpected fault'))).toEqual([])
  })

  it('who goes away in the middle of a body leaves no fault behind', async () => {
    for (const framing of ['Content-Length: 5000', 'Transfer-Encoding: chunked']) {
      const { socket, closed } = await open()
      socket.write(
        `POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n${framing}\r\n\r\n10\r\ngrant_type=client`,
      )
      await new Promise((resolve) => setImmediate(resolve))
      socket.resetAndDestroy()
      await closed
    }
    await alive()
    await alive()
    expect(running.lines.filter((line) => line.includes('fault'))).toEqual([])
  })

  it('H2 bytes that are no HTTP, or HTTP that could be read twice, are refused, and the process goes on', async () => {
    const noise = Buffer.from(Array.from({ length: 2_000 }, (_, i) => (i * 7919) % 256))
    const smuggled =
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /agents HTTP/1.1\r\nHost: x\r\n\r\n'
    const cases: readonly (string | Buffer)[] = [
      noise,
      '\r\n\r\n\0\0\0',
      'GET\r\n\r\n',
      'GET / HTTP/9.9\r\n\r\n',
      'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
      '\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03',
      smuggled,
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxy',
      'POST /token HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n',
      'GET /health HTTP/1.1\r\n\r\n',
      'GET /health HTTP/1.1\r\nHost: x\r\nX: a\nb: c\r\n d\r\n\r\n',
      'CONNECT 169.254.169.254:80 HTTP/1.1\r\nHost: x\r\n\r\n',
      'GET /health HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n',
      'TRACE /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n',
    ]
    for (const bytes of cases) {
      const answer = await send(bytes)
      expect(answer.split('HTTP/1.1 ').length - 1, JSON.stringify(String(bytes).slice(0, 40))).toBeLessThanOrEqual(1)
      expect(answer).not.toContain('at Object')
    }
    await alive()
    expect(running.lines.filter((line) => line.includes('fault'))).toEqual([])
  })
})
