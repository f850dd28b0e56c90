/** A tool API as its owner builds it, in front of the service as it runs: what ends a token reaches the tool by itself. */
import { createAgent, ErrandError, privateKeyJwt, type Task } from '@errand/agent'
import { createVerifier, honoMiddleware, type VerifiedCall, type Verifier } from '@errand/verifier'
import { serve } from '@hono/node-server'
import { Hono } from 'hono'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decode } from '../house.ts'
import { openRunning, type Running } from '../running.ts'

/** What the tool answered, in order. */
interface Outcome {
  readonly status: number
  readonly code?: string
  /** Of the token that was presented. */
  readonly kid: unknown
}

let running: Running
let verifier: Verifier
let server: Server
let tool: string
let ahead = 0
const asked: string[] = []
const outcomes: Outcome[] = []

beforeAll(async () => {
  running = await openRunning()
  verifier = createVerifier({
    issuer: running.issuer,
    audience: 'https://tickets.example.com/',
    tool: 'tickets',
    key: { ...(await running.jwk('tools/tickets.jwk')) },
    acceptDevelopmentTokens: true,
    routes: [
      { method: 'GET', path: '/tickets/:ticket_id', operation: 'read_ticket' },
      { method: 'POST', path: '/tickets/:ticket_id/comments', operation: 'add_comment' },
    ],
    // The tool's clock is moved by nobody but the last story.
    monotonic: () => performance.now() + ahead,
    fetch: (url, init) => {
      asked.push(new URL(url).pathname)
      return fetch(url, init)
    },
  })
  await verifier.ready()
  const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
  app.use(async (c, next) => {
    await next()
    const { code } = c.res.ok ? {} : ((await c.res.clone().json()) as { code?: string })
    const token = c.req.header('authorization')?.split(' ')[1]
    outcomes.push({
      status: c.res.status,
      kid: token && decode(token).header['kid'],
      ...(code === undefined ? {} : { code }),
    })
  })
  app.use(honoMiddleware(verifier))
  app.get('/tickets/:ticket_id', (c) => c.json({ reader: c.get('caller').subject, by: c.get('caller').agent }))
  app.post('/tickets/:ticket_id/comments', (c) => c.json({ noted: c.get('caller').arguments }))
  server = (await new Promise((resolve) => {
    const listening = serve({ fetch: app.fetch, hostname: '127.0.0.1', port: 0 }, () => resolve(listening))
  })) as unknown as Server
  tool = `http://127.0.0.1:${(server.address() as AddressInfo).port}`
})
afterAll(async () => {
  verifier.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await running.close()
})

const research = async () => {
  const key = JSON.stringify(await running.jwk('agents/research.jwk'))
  return createAgent({
    issuer: running.issuer,
    evidence: privateKeyJwt({ clientId: 'research', key }),
    wait: () => new Promise((resolve) => setTimeout(resolve, 10)),
  })
}

/** A task, and another handle on it that holds a token of its own and learns nothing of what the first one does. */
async function openTask(): Promise<{ readonly task: Task; readonly elsewhere: Task }> {
  const agent = await research()
  const subjectToken = await running.userToken('alice', ['support', 'finance'])
  const task = await agent.task({
    subjectToken,
    purpose: 'Find out why order 4711 was refunded twice',
    environment: 'staging',
    dataClassification: 'internal',
    deadlineSeconds: 600,
  })
  return { task, elsewhere: await agent.task({ id: task.id, subjectToken }) }
}
const read = (task: Task) => task.fetch('tickets', `${tool}/tickets/7`)

/** Calls until the tool refuses; what the agent makes of the refusal is its own matter. */
async function untilRefused(task: Task): Promise<Outcome> {
  for (;;) {
    const before = outcomes.length
    await read(task).catch((error: unknown) => {
      if (!(error instanceof ErrandError)) throw error
    })
    const refused = outcomes.slice(before).find(({ status }) => status !== 200)
    if (refused) return refused
  }
}

describe('a tool in front of the running service', () => {
  it('accepts a task token without a call home, however often', async () => {
    const { task } = await openTask()
    expect(await (await read(task)).json()).toEqual({
      reader: 'dev|alice',
      by: 'spiffe://company.example/agents/research',
    })
    const before = asked.length
    for (let i = 0; i < 100; i += 1) expect((await read(task)).status).toBe(200)
    const written = await task.fetch('tickets', `${tool}/tickets/7/comments`, {
      method: 'POST',
      headers: { 'content-type': 'application/json' },
      body: '{"text":"refunded by two agents"}',
    })
    expect(await written.json()).toEqual({ noted: { ticket_id: '7', text: 'refunded by two agents' } })
    // What the follower does by its own clock, and nothing for each request.
    const meanwhile = asked.slice(before)
    expect(meanwhile.filter((path) => !path.startsWith('/revocations/'))).toEqual([])
    expect(meanwhile.length).toBeLessThan(10)
  })

  it('refuses a token of a task that was completed, as soon as the feed says so', async () => {
    const { task, elsewhere } = await openTask()
    expect((await read(elsewhere)).status).toBe(200)
    const before = asked.length
    await task.complete()
    expect(await untilRefused(elsewhere)).toMatchObject({ status: 401, code: 'revoked' })
    expect(asked.slice(before).filter((path) => path === '/introspect')).toEqual([])
    await expect(task.token({ tool: 'tickets' })).rejects.toMatchObject({ reason: 'task_not_active' })
  })

  it('refuses a banned agent until it is admitted again, and what it held before for ever', async () => {
    const { elsewhere } = await openTask()
    expect((await read(elsewhere)).status).toBe(200)
    const { id } = await running.admin('/revocations', { match: { client_id: 'research' }, reason: 'acts strangely' })
    expect(await untilRefused(elsewhere)).toMatchObject({ status: 401, code: 'revoked' })
    await expect(openTask()).rejects.toThrow(ErrandError)

    await running.admin(`/revocations/${String(id)}/readmit`, { reason: 'was a misunderstanding' })
    const { task } = await openTask()
    expect((await read(task)).status).toBe(200)
    expect(await untilRefused(elsewhere)).toMatchObject({ status: 401, code: 'revoked' })
  })

  it('O1 a key that is rotated at once, under load, makes no refusal', async () => {
    const { task } = await openTask()
    await read(task)
    const before = outcomes.length
    const oldKid = outcomes.at(-1)!.kid
    let rotated = false
    const worker = async () => {
      // Until tokens of the new key were seen, each time by a new task.
      while (!outcomes.slice(before).some(({ kid }) => kid !== oldKid)) {
        const { task: other } = await openTask()
        for (let i = 0; i < 3; i += 1) await Promise.all([read(task), read(other)])
      }
      expect(rotated).toBe(true)
    }
    const workers = Promise.all([worker(), worker(), worker()])
    const { kid: newKid, state } = await running.admin('/keys/rotate', { immediately: true })
    rotated = true
    expect(state).toBe('active')
    await workers
    const seen = outcomes.slice(before)
    expect(seen.filter(({ status }) => status !== 200)).toEqual([])
    expect(new Set(seen.map(({ kid }) => kid))).toEqual(new Set([oldKid, newKid]))
  })

  it('says 503 and not 401 once the service has been away for longer than the bound', async () => {
    const { task } = await openTask()
    expect((await read(task)).status).toBe(200)
    await running.stop()
    // Within the bound of the effect the tool serves on by what it knows.
    expect((await read(task)).status).toBe(200)
    ahead = 31_000
    const answer = await read(task)
    expect(answer.status).toBe(503)
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(answer.headers.get('www-authenticate')).toBeNull()
    expect(await answer.json()).toMatchObject({ code: 'revocation_state_stale' })
  })
})
