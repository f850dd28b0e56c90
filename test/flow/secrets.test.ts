import { readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { TOKEN_TYPE } from '../../src/oauth/words.ts'
import { ticketDesk } from '../company.ts'
import { type Answer, type House, newKeyPair, openHouse } from '../house.ts'
import { openRunning } from '../running.ts'

const CANARY = 'CANARY-7f3a-do-not-write-me-down'
const MANY = (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`

/** Every byte below `folder`, but for the keys that rest there on purpose. */
async function bytesUnder(folder: string): Promise<Buffer> {
  const parts: Buffer[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (entry.isFile()) parts.push(await readFile(join(entry.parentPath, entry.name)))
  }
  return Buffer.concat(parts)
}

/** A secret in the encodings in which it might slip through. */
const spellings = (secret: string): readonly Buffer[] => [
  Buffer.from(secret),
  Buffer.from(Buffer.from(secret).toString('base64').replace(/=+$/, '').slice(2, -2)),
  Buffer.from(Buffer.from(secret).toString('hex')),
]

/** What was presented and given: each must be found nowhere but in the answer it belongs in. */
function watcher(house: House) {
  const secrets = new Map<string, string>()
  const watch = (name: string, secret: string): string => {
    // A JWS is as secret as its signature: header and claims alone open nothing.
    secrets.set(name, secret.split('.').length === 3 ? secret.split('.')[2]! : secret)
    return secret
  }
  const check = async (errors: readonly Answer[]): Promise<void> => {
    const places: Record<string, Buffer> = {
      'the service log': Buffer.from(house.lines.join('')),
      'the data folder': await bytesUnder(join(house.folder, 'data')),
      metrics: Buffer.from((await house.fetch('GET', '/metrics')).text),
      'error bodies': Buffer.from(errors.map(({ text, headers }) => text + JSON.stringify([...headers])).join('\n')),
    }
    expect(places['the service log']!.length).toBeGreaterThan(0)
    expect(places['the data folder']!.length).toBeGreaterThan(0)
    for (const [name, secret] of secrets)
      for (const [where, bytes] of Object.entries(places))
        for (const spelling of spellings(secret)) {
          expect(bytes.includes(spelling), `${name} stands in ${where}`).toBe(false)
        }
  }
  return { watch, check }
}

describe('secrets', () => {
  it('K2 no assertion, proof, token or key is in a log, on the disk, in metrics or in an error', async () => {
    const house = await openHouse({ config: { 'errand.yaml': MANY } })
    const { watch, check } = watcher(house)
    const research = await house.agent('research')
    const payments = await house.agent('payments')
    for (const [name, key] of [
      ['admin key', house.adminKey],
      ['agent key', research.key],
      ['proof key', research.proofKey],
      ['user key', house.userKey],
    ] as const) {
      watch(name, String(key.privateKey.export({ format: 'jwk' }).d))
    }
    watch('root key', (await readFile(join(house.folder, 'keys', 'root.key'), 'utf8')).trim())
    const user = watch('user token', house.userToken('alice'))
    const assertion = watch('assertion', research.assertion())
    const form = { audience: 'payments', subject_token: user, client_assertion: assertion }
    const issued = await research.exchange({
      form,
      headers: { 'idempotency-key': watch('idempotency key', 'key-of-a-retry-1') },
    })
    expect(issued.status, issued.text).toBe(200)
    const token = watch('access token', String(issued.body['access_token']))
    const handOver = await research.handOver(token, 'payments', { audience: 'payments' })
    const given = watch('hand-over token', String(handOver.body['access_token']))
    const child = await payments.accept(given, { audience: 'payments' })
    watch('child token', String(child.body['access_token']))
    const tool = await house.tool('payments')
    await tool.form('/introspect', { token })
    await tool.call('POST', `/tasks/${issued.body['task_id']}/reservations`, {
      token,
      operation: 'read_payment',
      calls: 1,
      operation_id: 'operation-1',
    })

    const errors: Answer[] = []
    const stranger = newKeyPair()
    for (const where of [
      'subject_token',
      'actor_token',
      'client_assertion',
      'client_id',
      'scope',
      'audience',
      'resource',
      'task_id',
      'delegate_to',
      'request_details',
      'authorization_details',
      'grant_type',
      'requested_token_type',
      'subject_token_type',
    ]) {
      errors.push(await research.exchange({ form: { audience: 'tickets', [where]: CANARY } }))
      errors.push(await research.exchange({ form: { audience: 'tickets', [where]: `{"x":"${CANARY}"` } }))
    }
    errors.push(await research.exchange({ form, headers: { dpop: `a.${CANARY}.b` } }))
    errors.push(await research.exchange({ headers: { 'idempotency-key': `${CANARY} with a space` } }))
    for (const authorization of [
      `Bearer ${CANARY}`,
      `ClientAssertion ${CANARY}`,
      `Basic ${CANARY}`,
      `ClientAssertion ${token}`,
    ]) {
      errors.push(
        await house.fetch('GET', '/agents', { headers: { authorization, 'user-agent': CANARY, cookie: CANARY } }),
      )
    }
    errors.push(await house.fetch('GET', `/${CANARY}?x=${CANARY}`))
    errors.push(await house.fetch(CANARY.slice(0, 6), '/tasks'))
    errors.push(
      await house.fetch('GET', '/agents', {
        headers: { authorization: `ClientAssertion ${house.assertionOf(CANARY, stranger)}` },
      }),
    )
    errors.push(await research.call('POST', '/tasks', { ...JSON.parse(house.details()), [CANARY.toLowerCase()]: 1 }))
    errors.push(await research.call('GET', `/explanations/${CANARY}`))
    errors.push(await house.admin('POST', '/keys/rotate', { purpose: CANARY }))
    expect(errors.filter(({ status }) => status < 400)).toEqual([])
    expect(errors.filter(({ status }) => status >= 500)).toEqual([])
    const said = errors.filter(({ text }) => text.includes(CANARY)).map(({ text }) => text)
    expect(said).toEqual([])
    watch('canary', CANARY)
    await check(errors)
    await house.close()
  })

  it('K3 a dependency that throws with a secret in its words is a 500 or a 503 without them', async () => {
    const house = await openHouse({ config: { 'errand.yaml': MANY } })
    const { watch, check } = watcher(house)
    watch('canary', CANARY)
    const research = await house.agent('research')
    const { stores } = house.service
    const error = console.error
    console.error = () => undefined
    const errors: Answer[] = []
    for (const thrown of [
      new Error(`cannot reach redis://user:${CANARY}@host`, { cause: new Error(CANARY) }),
      Object.assign(new TypeError(CANARY), { config: { headers: { authorization: CANARY } }, code: CANARY }),
      Object.assign(new Error(`first line\n    at ${CANARY} (of a stack)`), { name: 'Error' }),
    ]) {
      const { open } = stores.tasks
      const fails = async (): Promise<never> => {
        throw thrown
      }
      Object.assign(stores.tasks, { open: fails })
      const answer = await research.exchange({ form: { audience: 'tickets' } })
      Object.assign(stores.tasks, { open })
      errors.push(answer)
      expect([answer.status, answer.body['error']]).toEqual([500, 'server_error'])
      const correlation = String(answer.body['correlation'])
      expect(
        house.lines.filter((line) => line.includes(correlation) && line.includes('unexpected fault')),
      ).toHaveLength(1)
    }
    const { check: revocationCheck } = stores.revocations
    const away = async (): Promise<never> => {
      throw new Unavailable('store_unavailable', 'the store is away', { cause: new Error(CANARY) })
    }
    Object.assign(stores.revocations, { check: away })
    const answer = await research.exchange({ form: { audience: 'tickets' } })
    Object.assign(stores.revocations, { check: revocationCheck })
    console.error = error
    expect([answer.status, answer.headers.get('retry-after')]).toEqual([503, '1'])
    expect(house.lines.join('')).toContain('the store is away')
    errors.push(answer)
    await check(errors)
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    await house.close()
  })

  it('K3 a promise that nobody waited for is noted by its place, and ends nothing', async () => {
    const running = await openRunning()
    const others = process.listeners('unhandledRejection')
    // The test runner's own listener would call it a failed test.
    for (const each of others.slice(0, -1)) process.off('unhandledRejection', each)
    void Promise.reject(new Error(CANARY))
    await expect.poll(() => running.lines.join('')).toContain('nobody waited for')
    for (const each of others.slice(0, -1)) process.on('unhandledRejection', each)
    expect(running.lines.join('')).not.toContain(CANARY)
    expect((await fetch(`${running.issuer}/health`)).status).toBe(200)
    await running.close()
  })

  it('K1 names and headers that would break a line leave one JSON record per line', async () => {
    const hostile = 'Evil "}{\\"code\\":\\"ok\\"" \\ é'
    const house = await openHouse({
      config: {
        'errand.yaml': MANY,
        'agents/research.yaml': (text) =>
          text.replace('display_name: Research assistant', `display_name: '${hostile}'`),
      },
    })
    const research = await house.agent('research')
    const purpose = 'look \u0022}\\n{"type":"token.issuing" after it'
    const answer = await research.exchange({
      form: { audience: 'tickets', request_details: house.details({ purpose }) },
      headers: { 'user-agent': '"}\\r\\n{"level":60', 'x-request-id': 'req_forged' },
    })
    expect(answer.status, answer.text).toBe(200)
    expect(answer.headers.get('x-request-id')).not.toBe('req_forged')
    for (const bad of ['a\nb', 'a\u001b[31mb', 'a\u2028b', 'a\u202eb', 'a\u0000b']) {
      const refused = await research.exchange({
        form: { audience: 'tickets', request_details: house.details({ purpose: bad }) },
      })
      expect([JSON.stringify(bad), refused.status]).toEqual([JSON.stringify(bad), 400])
      const scope = await research.exchange({ form: { scope: bad } })
      expect(scope.status).toBe(400)
      expect(scope.text).not.toContain(bad)
    }
    for (const line of house.lines) {
      expect(line.endsWith('\n') && line.indexOf('\n') === line.length - 1).toBe(true)
      expect(() => JSON.parse(line) as unknown).not.toThrow()
      expect(line).not.toMatch(/[\u0000-\u0009\u000b-\u001f\u007f\u2028\u2029\u202e]/)
    }
    expect((await house.admin('GET', '/agents/research')).body['display_name']).toBe(hostile)
    for (const record of await house.records()) expect(JSON.stringify(record)).not.toContain(purpose)
    await house.close()
  })

  it('K2 the subject and the purpose rest sealed: the log names no person in the clear', async () => {
    const house = await openHouse()
    const research = await house.agent('research')
    const purpose = 'find out why Alice Cooper was billed twice'
    const answer = await research.exchange({
      form: { audience: 'tickets', request_details: house.details({ purpose }) },
    })
    expect(answer.status, answer.text).toBe(200)
    await house.admin('POST', '/revocations', { match: { sub: 'dev|alice' }, mode: 'cut', reason: 'a test' })
    const bytes = await bytesUnder(join(house.folder, 'data', 'audit'))
    for (const name of ['dev|alice', purpose, 'Alice Cooper']) expect(bytes.includes(name)).toBe(false)
    expect(house.lines.join('')).not.toMatch(/alice|Cooper/)
    // Whoever may know is told.
    const explained = await house.admin('GET', `/explanations/${answer.body['decision_id']}`)
    expect(explained.body).toMatchObject({ subject_name: 'dev|alice', purpose })
    const own = await research.call('GET', `/explanations/${answer.body['decision_id']}`)
    expect(own.status).toBe(200)
    expect(own.text).not.toContain('Cooper')
    await house.close()
  })

  it('K2 neither a group nor a claim of a user is in the log, and no agent is told of them', async () => {
    const house = await openHouse({ config: ticketDesk })
    const research = await house.agent('research')
    const payments = await house.agent('payments')
    const desk = await house.agent('desk')
    const told: Answer[] = []
    const is = (status: number, answer: Answer): Answer => {
      expect(answer.status, answer.text).toBe(status)
      told.push(answer)
      return answer
    }
    const tokenOf = (answer: Answer): string => is(200, answer).body['access_token'] as unknown as string

    const form = { audience: 'tickets', scope: 'tickets:read_ticket' }
    const given = await research.exchange({ form })
    const token = tokenOf(given)
    tokenOf(await research.from(token, form))
    tokenOf(await payments.exchange({ form: { audience: 'payments', scope: 'payments:refund' } }))
    const handed = await research.handOver(token, 'payments', form)
    tokenOf(await payments.accept(tokenOf(handed), form))
    is(400, await payments.accept(tokenOf(await research.handOver(token, 'payments', form)), { audience: 'payments' }))
    tokenOf(await desk.from(token, { audience: 'crm', scope: 'crm:read_customer' }))

    // Lost at the user: that is where the groups were named.
    const bobs = await research.exchange({ user: 'bob', form })
    const lost = is(400, await research.exchange({ user: 'bob', form: { scope: 'payments:read_payment' } }))
    expect(lost.body).toMatchObject({ rule: 'subject', next: expect.stringContaining("one of the user's groups") })
    is(400, await desk.from(tokenOf(bobs), { audience: 'crm', scope: 'crm:read_customer' }))
    is(200, await research.exchange({ user: 'bob', form: { scope: 'payments:read_payment', dry_run: 'true' } }))
    const amount = { type: 'object', properties: { amount_cents: { type: 'integer', maximum: 200_000 } } }
    const details = [{ type: 'tool', tool: 'payments', operations: ['refund'], constraints: amount }]
    const tooMuch = { audience: 'payments', authorization_details: JSON.stringify(details) }
    expect(is(400, await payments.exchange({ form: tooMuch })).body['rule']).toBe('subject')
    is(400, await research.exchange({ user: 'carol', form }))
    is(
      200,
      await research.call('POST', '/access/v1/evaluation', {
        subject: { type: 'agent', id: 'research' },
        action: { name: 'read_customer' },
        resource: { type: 'tool', id: 'crm' },
        context: { task_id: bobs.body['task_id'] },
      }),
    )
    const alices = JSON.parse(house.details()) as object
    is(
      201,
      await research.call('POST', '/tasks', {
        ...alices,
        subject_token: house.userToken('alice'),
        subject_token_type: TOKEN_TYPE.idToken,
      }),
    )

    // A record holds ids at random: only whole words count.
    const personal = /(?<![\w-])(alice|bob|carol|support|finance|engineering|customer-care)(?![\w-])/i
    const log = (await bytesUnder(join(house.folder, 'data', 'audit'))).toString('latin1')
    expect(log).toContain('payments:refund')
    expect(log).toContain('"operand":"subject"')
    expect(log.match(personal)?.[0]).toBeUndefined()
    expect(house.lines.join('').match(personal)?.[0]).toBeUndefined()
    for (const { body, status } of told) {
      if (status === 400) expect(JSON.stringify(body)).not.toMatch(personal)
    }
    expect(told.filter(({ status }) => status === 400)).toHaveLength(5)
    await house.close()
  })
})
