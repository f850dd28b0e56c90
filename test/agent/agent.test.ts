import { inspect } from 'node:util'
import { NEXT_ACTIONS as KNOWN_HERE } from '../../sdk/agent/src/errors.ts'
import { NEXT_ACTIONS } from '../../src/oauth/refusals/words.ts'
import { ErrandError } from '@errand/agent'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { agentAt, agentKey, details } from './house.ts'
import { type Double, decode, readProof, type Says, type Seen, serveErrand } from './service-double.ts'

const open: Double[] = []
const errand = async (special?: (request: Seen, count: number) => Says | undefined, life?: number) => {
  const double = await serveErrand(special, life)
  open.push(double)
  return double
}
afterEach(async () => {
  for (const double of open.splice(0)) await double.close()
})

const refusalOf = async (work: Promise<unknown>): Promise<ErrandError> => {
  try {
    await work
  } catch (error) {
    if (error instanceof ErrandError) return error
    throw error
  }
  throw new Error('nothing was refused')
}

describe('an agent', () => {
  it('opens a task with the user’s token, its own evidence and a proof, in the wire’s names', async () => {
    const service = await errand()
    const { agent } = agentAt(service.url)
    const task = await agent.task({
      ...details,
      heartbeatSeconds: 60,
      budget: { maxCalls: 5 },
      scope: ['tickets:read', 'tickets:comment'],
    })
    agent.close()

    expect(task.id).toBe('task_a')
    const [request] = service.at('/tasks')
    expect(JSON.parse(request!.body)).toEqual({
      subject_token: 'alice-token',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      purpose: details.purpose,
      environment: 'production',
      data_classification: 'internal',
      deadline_seconds: 900,
      heartbeat_seconds: 60,
      budget: { max_calls: 5 },
      scope: 'tickets:read tickets:comment',
    })
    expect(request!.headers['idempotency-key']).toMatch(/^[0-9a-f-]{36}$/)
    const [scheme, assertion] = request!.headers.authorization!.split(' ')
    expect(scheme).toBe('ClientAssertion')
    expect(decode(assertion).claims).toMatchObject({ iss: 'research', sub: 'research', aud: service.url })
    expect((await readProof(request!, `${service.url}/tasks`)).thumbprint).toBe(agent.thumbprint)
  })

  it('exchanges the user’s token for one of a tool, within the task', async () => {
    const service = await errand()
    const { agent, clock } = agentAt(service.url)
    const task = await agent.task({ ...details, subjectToken: async () => 'alice-token' })
    const token = await task.token({ tool: 'tickets', scope: 'tickets:read' })

    expect(token).toMatchObject({
      tokenType: 'DPoP',
      scope: ['tickets:read'],
      expiresAt: clock.now + 100,
      taskId: 'task_a',
      decisionId: 'dec_1',
    })
    expect(token.accessToken).toBe('token-1')
    const [request] = service.at('/token')
    expect(Object.fromEntries(request!.form)).toEqual({
      grant_type: 'urn:ietf:params:oauth:grant-type:token-exchange',
      subject_token: 'alice-token',
      subject_token_type: 'urn:ietf:params:oauth:token-type:jwt',
      audience: 'tickets',
      scope: 'tickets:read',
      task_id: 'task_a',
      client_assertion_type: 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer',
      client_assertion: expect.any(String),
    })
    await readProof(request!, `${service.url}/token`)
  })

  it('names a tool by its audience URI, and asks by authorization_details', async () => {
    const service = await errand()
    const { agent } = agentAt(service.url)
    const task = await agent.task({ id: 'task_b', subjectToken: 'alice-token' })
    const authorizationDetails = [
      {
        type: 'tool',
        tool: 'payments',
        operations: ['refund'],
        constraints: { properties: { amount: { maximum: 10 } } },
      },
    ] as const
    await task.token({ resource: 'https://payments.example.com/', authorizationDetails })

    expect(service.at('/tasks')).toEqual([])
    const [request] = service.at('/token')
    expect(request!.form.get('resource')).toBe('https://payments.example.com/')
    expect(request!.form.get('task_id')).toBe('task_b')
    expect(JSON.parse(request!.form.get('authorization_details')!)).toEqual(authorizationDetails)
  })

  it('works for itself by client_credentials, without a subject', async () => {
    const service = await errand()
    const { agent } = agentAt(service.url)
    const { subjectToken: _, ...own } = details
    const task = await agent.task({ ...own, autonomous: true })
    await task.token({ tool: 'tickets' })

    expect(JSON.parse(service.at('/tasks')[0]!.body)).not.toHaveProperty('subject_token')
    const { form } = service.at('/token')[0]!
    expect(form.get('grant_type')).toBe('client_credentials')
    expect(form.has('subject_token')).toBe(false)
  })

  it('asks what would be granted by dry_run and keeps nothing of the answer', async () => {
    const service = await errand((request) =>
      request.form.get('dry_run') === 'true' ? { body: { allowed: true, verdicts: [] } } : undefined,
    )
    const { agent } = agentAt(service.url)
    const task = await agent.task(details)
    expect(await task.token({ tool: 'tickets', dryRun: true })).toEqual({ allowed: true, verdicts: [] })
    expect((await task.token({ tool: 'tickets' })).accessToken).toBe('token-1')
  })

  it('sends heartbeats, completes, cancels and reads the state of its task', async () => {
    const service = await errand()
    const { agent } = agentAt(service.url)
    const task = await agent.task(details)
    await task.heartbeat()
    await task.state()
    await task.complete()
    await task.cancel()
    expect(service.seen.slice(2).map(({ method, path }) => `${method} ${path}`)).toEqual([
      'POST /tasks/task_a/heartbeat',
      'GET /tasks/task_a',
      'POST /tasks/task_a/complete',
      'POST /tasks/task_a/cancel',
    ])
  })

  it('sends heartbeats by itself, three a period, until one is refused', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      let beats = 0
      const service = await errand((request) =>
        request.path.endsWith('/heartbeat') && ++beats === 3
          ? { status: 400, body: { error: 'invalid_request', reason: 'task_not_active' } }
          : undefined,
      )
      const { agent } = agentAt(service.url)
      await agent.task({ ...details, heartbeatSeconds: 60 })
      for (const beat of [1, 2, 3]) {
        expect(vi.getTimerCount()).toBe(1)
        vi.advanceTimersByTime(20_000)
        await vi.waitFor(() => expect(beats).toBe(beat))
      }
      await vi.waitFor(() => expect(vi.getTimerCount()).toBe(0))
    } finally {
      vi.useRealTimers()
    }
  })

  it('stops all heartbeats when it is closed, and one task’s when that ends', async () => {
    vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval'] })
    try {
      const service = await errand()
      const { agent } = agentAt(service.url)
      const task = await agent.task({ ...details, heartbeatSeconds: 60 })
      await agent.task({ id: 'task_b', subjectToken: 'alice-token', heartbeatSeconds: 60 })
      await agent.task({ id: 'task_c', autonomous: true, heartbeatSeconds: 60 })
      expect(vi.getTimerCount()).toBe(3)
      await task.complete()
      expect(vi.getTimerCount()).toBe(2)
      agent.close()
      expect(vi.getTimerCount()).toBe(0)
    } finally {
      vi.useRealTimers()
    }
  })

  it('keeps a token until four fifths of its life are over, one for each thing asked for', async () => {
    const service = await errand()
    const { agent, clock } = agentAt(service.url)
    const task = await agent.task(details)
    const first = await task.token({ tool: 'tickets', scope: ['tickets:comment', 'tickets:read'] })
    clock.now += 79
    expect(await task.token({ tool: 'tickets', scope: 'tickets:read tickets:comment' })).toBe(first)
    expect((await task.token({ tool: 'tickets', scope: 'tickets:read' })).accessToken).toBe('token-2')
    clock.now += 1
    expect((await task.token({ tool: 'tickets', scope: 'tickets:read tickets:comment' })).accessToken).toBe('token-3')
  })

  it('shares one exchange among parallel callers, and one metadata look-up', async () => {
    const service = await errand()
    const { agent } = agentAt(service.url)
    const task = await agent.task({ id: 'task_b', subjectToken: 'alice-token' })
    const tokens = await Promise.all(Array.from({ length: 50 }, () => task.token({ tool: 'tickets' })))
    expect(new Set(tokens).size).toBe(1)
    expect(service.at('/token')).toHaveLength(1)
    expect(service.at('/.well-known/oauth-authorization-server')).toHaveLength(1)
  })

  it('goes on with a token that still lives while the service is away, but not against a refusal', async () => {
    let away: Says | undefined
    const service = await errand((request) => (request.path === '/token' ? away : undefined))
    const { agent, clock } = agentAt(service.url)
    const task = await agent.task(details)
    const first = await task.token({ tool: 'tickets' })
    clock.now += 90
    away = { status: 503, body: { error: 'temporarily_unavailable' } }
    expect(await task.token({ tool: 'tickets' })).toBe(first)
    away = { status: 400, body: { error: 'invalid_request', reason: 'task_not_active' } }
    expect((await refusalOf(task.token({ tool: 'tickets' }))).reason).toBe('task_not_active')
    away = { status: 503, body: { error: 'temporarily_unavailable' } }
    clock.now += 9
    expect((await refusalOf(task.token({ tool: 'tickets' }))).status).toBe(503)
  })

  it('carries on with its own token where the user’s has run out', async () => {
    const service = await errand()
    const { agent, clock } = agentAt(service.url)
    const exp = clock.now + 10
    const subjectToken = `e30.${Buffer.from(JSON.stringify({ exp })).toString('base64url')}.x`
    const task = await agent.task({ ...details, subjectToken })
    await task.token({ tool: 'tickets' })
    clock.now += 80
    await task.token({ tool: 'tickets' })
    const { form } = service.at('/token')[1]!
    expect(form.get('subject_token')).toBe('token-1')
    expect(form.get('subject_token_type')).toBe('urn:ietf:params:oauth:token-type:access_token')
  })
})

describe('what goes wrong', () => {
  it('answers a nonce challenge once, and keeps the nonce', async () => {
    const service = await errand((request) => {
      if (request.path !== '/token' && request.path !== '/tasks') return undefined
      const { claims } = decode(String(request.headers['dpop']))
      if (claims['nonce'] === 'n-1') return undefined
      return { status: 400, headers: { 'dpop-nonce': 'n-1' }, body: { error: 'use_dpop_nonce' } }
    })
    const { agent, waits } = agentAt(service.url)
    const task = await agent.task(details)
    await task.token({ tool: 'tickets' })
    expect(service.at('/tasks')).toHaveLength(2)
    expect(service.at('/token')).toHaveLength(1)
    expect(waits).toEqual([])
  })

  it('T5 takes a second nonce challenge for an answer', async () => {
    const service = await errand((request) =>
      request.path === '/token'
        ? { status: 400, headers: { 'dpop-nonce': 'never-right' }, body: { error: 'use_dpop_nonce' } }
        : undefined,
    )
    const { agent } = agentAt(service.url)
    const task = await agent.task(details)
    expect((await refusalOf(task.token({ tool: 'tickets' }))).code).toBe('use_dpop_nonce')
    expect(service.at('/token')).toHaveLength(2)
  })

  it('T5 tries again after a reset, a 500 and a 503, with the same idempotency key and everything else fresh', async () => {
    const faults: Says[] = [
      { reset: true },
      { status: 500, body: '<html>' },
      { status: 503, headers: { 'retry-after': '2' }, body: { error: 'temporarily_unavailable' } },
    ]
    const service = await errand((request, count) => (request.path === '/token' ? faults[count - 1] : undefined))
    const { agent, waits } = agentAt(service.url)
    const task = await agent.task(details)
    expect((await task.token({ tool: 'tickets' })).accessToken).toBe('token-1')

    const tries = service.at('/token')
    expect(tries).toHaveLength(4)
    expect(new Set(tries.map((each) => each.headers['idempotency-key'])).size).toBe(1)
    expect(new Set(tries.map((each) => decode(each.form.get('client_assertion')).claims.jti)).size).toBe(4)
    const proofs = await Promise.all(tries.map((each) => readProof(each, `${service.url}/token`)))
    expect(new Set(proofs.map((proof) => proof.jti)).size).toBe(4)
    expect(waits).toHaveLength(3)
    expect(waits[0]).toBeLessThanOrEqual(200)
    expect(waits[1]).toBeLessThanOrEqual(400)
    expect(waits[2]).toBeGreaterThanOrEqual(2000)
    expect(waits[2]).toBeLessThanOrEqual(2800)

    await task.token({ tool: 'payments' })
    expect(service.at('/token')[4]!.headers['idempotency-key']).not.toBe(tries[0]!.headers['idempotency-key'])
  })

  it('T5 gives up after four tries, and at once where the service asks for a long pause', async () => {
    let says: Says = { reset: true }
    const service = await errand((request) => (request.path === '/token' ? says : undefined))
    const { agent, waits } = agentAt(service.url)
    const task = await agent.task(details)
    const lost = await refusalOf(task.token({ tool: 'tickets' }))
    expect(lost).toMatchObject({ status: 0, code: 'network_error', temporary: true })
    expect(lost.description).toContain(service.url)
    expect(service.at('/token')).toHaveLength(4)
    says = { status: 503, headers: { 'retry-after': '120' }, body: { error: 'temporarily_unavailable' } }
    expect(await refusalOf(task.token({ tool: 'tickets' }))).toMatchObject({ status: 503, retryAfter: 120 })
    expect(service.at('/token')).toHaveLength(5)
    expect(waits).toHaveLength(3)
  })

  it.each([400, 401, 403, 404, 409, 413, 422, 429])('T5 never tries a %i again', async (status) => {
    const service = await errand((request) =>
      request.path === '/token' ? { status, headers: { 'retry-after': '1' }, body: { error: 'e' } } : undefined,
    )
    const { agent, waits } = agentAt(service.url)
    const task = await agent.task(details)
    const tries = await Promise.allSettled(Array.from({ length: 20 }, () => task.token({ tool: 'tickets' })))
    expect(tries.every((each) => each.status === 'rejected')).toBe(true)
    expect(service.at('/token')).toHaveLength(1)
    expect(waits).toEqual([])
  })

  it('throws what the service explained: reason, rule, what is missing and the next step', async () => {
    const service = await errand((request) =>
      request.path === '/token'
        ? {
            status: 400,
            body: {
              error: 'invalid_scope',
              error_description: 'not all of what was asked for is permitted',
              reason: 'scope_not_granted',
              rule: 'support-may-not-refund',
              missing: ['payments:refund'],
              lost: [
                { tool: 'payments', operation: 'refund', operand: 'stage', had: 'read', least_change: 'raise `stage`' },
              ],
              narrower: { scope: 'payments:read_payment' },
              next_action: 'ask_narrower',
              next: 'ask for payments:read',
              error_uri: 'http://127.0.0.1/docs/refusals/scope_not_granted',
              decision_id: 'dec_x',
            },
          }
        : undefined,
    )
    const { agent } = agentAt(service.url)
    const task = await agent.task(details)
    const refusal = await refusalOf(task.token({ tool: 'payments', scope: 'payments:refund' }))
    expect(refusal).toMatchObject({
      status: 400,
      code: 'invalid_scope',
      reason: 'scope_not_granted',
      rule: 'support-may-not-refund',
      missing: ['payments:refund'],
      lost: [{ tool: 'payments', operation: 'refund', operand: 'stage', had: 'read', leastChange: 'raise `stage`' }],
      narrower: { scope: 'payments:read_payment' },
      nextAction: 'ask_narrower',
      next: 'ask for payments:read',
      errorUri: 'http://127.0.0.1/docs/refusals/scope_not_granted',
      decisionId: 'dec_x',
      retryAfter: undefined,
      temporary: false,
    })
    expect(refusal.message).toBe('invalid_scope (scope_not_granted: not all of what was asked for is permitted)')
  })

  it('knows every next step of the service, and hands on no member that is of another form', async () => {
    expect([...KNOWN_HERE].sort()).toEqual(Object.keys(NEXT_ACTIONS).sort())
    const service = await errand((request) =>
      request.path === '/token'
        ? { status: 400, body: { error: 'invalid_scope', lost: 'all', narrower: 'none', next_action: 'constructor' } }
        : undefined,
    )
    const task = await agentAt(service.url).agent.task(details)
    const refusal = await refusalOf(task.token({ tool: 'payments' }))
    expect(refusal).toMatchObject({ lost: [], narrower: undefined, nextAction: undefined, errorUri: undefined })
  })

  it('bounds an endless answer and a silent service', async () => {
    const endless = await errand((request) => (request.path === '/tasks' ? { body: 'x'.repeat(300_000) } : undefined))
    expect((await refusalOf(agentAt(endless.url).agent.task(details))).code).toBe('network_error')
    const silent = await errand((request) =>
      request.path === '/tasks' ? (new Promise(() => undefined) as unknown as Says) : undefined,
    )
    const { agent } = agentAt(silent.url, { timeoutSeconds: 0.05 })
    expect((await refusalOf(agent.task(details))).description).toContain('TimeoutError')
    expect(silent.at('/tasks')).toHaveLength(4)
  })

  it('follows no redirect of the service', async () => {
    const canary = await errand()
    const service = await errand((request) =>
      request.path === '/token' ? { status: 307, headers: { location: `${canary.url}/token` } } : undefined,
    )
    const { agent } = agentAt(service.url)
    const task = await agent.task(details)
    expect((await refusalOf(task.token({ tool: 'tickets' }))).status).toBe(307)
    expect(canary.seen).toEqual([])
  })

  it('T4 believes metadata of its own issuer alone, and sends nothing over http to another machine', async () => {
    let metadata: object = { issuer: 'https://errand.example.com', token_endpoint: 'https://errand.example.com/token' }
    const service = await errand((request) => (request.method === 'GET' ? { body: metadata } : undefined))
    const refused = async () => (await refusalOf(agentAt(service.url).agent.task(details))).description
    expect(await refused()).toBe('the metadata is of another issuer')
    metadata = { issuer: service.url, token_endpoint: 'http://errand.example.com/token' }
    expect(await refused()).toBe('the metadata names no token endpoint over https')
    expect(service.seen.every(({ method }) => method === 'GET')).toBe(true)
    for (const issuer of ['http://errand.example.com', 'ftp://127.0.0.1', 'errand', 'https://a@errand.example.com']) {
      expect(() => agentAt(issuer)).toThrow(/issuer must be/)
    }
  })

  it('refuses a request that names no tool, two, or asks in two ways', async () => {
    const service = await errand()
    const task = await agentAt(service.url).agent.task({ id: 'task_b', subjectToken: 'x' })
    const bad = [{}, { tool: 'a', resource: 'https://a/' }, { tool: 'a', scope: 'a:b', authorizationDetails: [] }]
    for (const request of bad) {
      expect((await refusalOf(task.token(request as { tool: string }))).code).toBe('bad_argument')
    }
    expect(service.seen).toEqual([])
  })
})

it('shows no token and no key however agent, evidence, task and token are printed', async () => {
  const service = await errand()
  const { agent } = agentAt(service.url)
  const task = await agent.task(details)
  const token = await task.token({ tool: 'tickets' })
  const shown = [agent, task, token, { ...token }, [agent, { task, token }]].flatMap((each) => [
    String(each),
    `${JSON.stringify(each)}`,
    inspect(each, { depth: 9, showHidden: false }),
  ])
  shown.push(inspect(await refusalOf(task.token({} as { tool: string })), { depth: 9, showHidden: true }))
  for (const text of shown) {
    for (const secret of ['token-1', 'alice-token', agentKey.d!]) expect(text).not.toContain(secret)
  }
  expect(String(task)).toBe('Task {"id":"task_a"}')
})
