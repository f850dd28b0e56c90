import { afterEach, expect, it } from 'vitest'
import { agentAt, details } from './house.ts'
import {
  type Answer,
  type Double,
  decode,
  readProof,
  type Says,
  type Seen,
  serveErrand,
  serveTool,
} from './service-double.ts'

const open: Double[] = []
afterEach(async () => {
  for (const double of open.splice(0)) await double.close()
})

async function house(answer: Answer, special?: (request: Seen, count: number) => Says | undefined) {
  const service = await serveErrand(special)
  const tool = await serveTool(answer)
  open.push(service, tool)
  const { agent, clock, waits } = agentAt(service.url)
  const task = await agent.task(details)
  return { service, tool, agent, clock, waits, task }
}

const dead: Says = { status: 401, headers: { 'www-authenticate': 'DPoP error="invalid_token"' } }
const stale = (retryAfter: string): Says => ({
  status: 503,
  headers: { 'retry-after': retryAfter },
  body: { error: 'temporarily_unavailable', code: 'revocation_state_stale' },
})

it('adds the token and a proof for exactly this request', async () => {
  const { task, tool, agent } = await house(() => ({ body: { ticket: 42 } }))
  const url = `${tool.url}/tickets/42?verbose=1#top`
  const init = { method: 'post', body: '{"a":1}', headers: { 'content-type': 'application/json' } }
  const response = await task.fetch('tickets', url, init, { scope: 'tickets:comment' })
  expect(await response.json()).toEqual({ ticket: 42 })
  const [request] = tool.seen
  expect(request).toMatchObject({ method: 'POST', path: '/tickets/42?verbose=1', body: '{"a":1}' })
  expect(request!.headers['content-type']).toBe('application/json')
  expect(request!.headers.authorization).toBe('DPoP token-1')
  const proof = await readProof(request!, `${tool.url}/tickets/42`, 'token-1')
  expect(proof.thumbprint).toBe(agent.thumbprint)
})

it('names the tool by its audience URI where it is given one', async () => {
  const { task, tool, service } = await house(() => ({}))
  await task.fetch('https://tickets.example.com/', tool.url)
  expect(service.at('/token')[0]!.form.get('resource')).toBe('https://tickets.example.com/')
})

it('answers a tool’s nonce challenge once, and keeps its nonce apart from the service’s', async () => {
  const { task, tool } = await house(
    (request) =>
      decode(String(request.headers['dpop'])).claims['nonce'] === 't-1'
        ? {}
        : { status: 401, headers: { 'dpop-nonce': 't-1', 'www-authenticate': 'DPoP error="use_dpop_nonce"' } },
    (request) =>
      request.path === '/token' && decode(String(request.headers['dpop'])).claims['nonce'] !== undefined
        ? { status: 400, body: { error: 'invalid_dpop_proof' } }
        : undefined,
  )
  expect((await task.fetch('tickets', tool.url)).status).toBe(200)
  expect((await task.fetch('tickets', tool.url, {}, { scope: 'tickets:read' })).status).toBe(200)
  expect(tool.seen).toHaveLength(3)
})

it('replaces a token that a tool no longer takes, once', async () => {
  const { task, tool, service } = await house((request) =>
    request.headers.authorization === 'DPoP token-1' ? dead : {},
  )
  expect((await task.fetch('tickets', tool.url)).status).toBe(200)
  expect(tool.seen.map((each) => each.headers.authorization)).toEqual(['DPoP token-1', 'DPoP token-2'])
  expect(service.at('/token')).toHaveLength(2)
})

it('tells why there is no other token', async () => {
  const { task, tool } = await house(
    () => dead,
    (request, count) =>
      request.path === '/token' && count > 1
        ? { status: 400, body: { error: 'invalid_request', reason: 'task_not_active' } }
        : undefined,
  )
  await expect(task.fetch('tickets', tool.url)).rejects.toMatchObject({ reason: 'task_not_active' })
})

it('T5 a storm of 401s does not stampede the token endpoint', async () => {
  const { task, tool, service, clock } = await house(() => dead)
  const storm = () => Promise.all(Array.from({ length: 50 }, () => task.fetch('tickets', tool.url)))
  expect((await storm()).every((response) => response.status === 401)).toBe(true)
  // The first token and one other for all fifty.
  expect(service.at('/token')).toHaveLength(2)
  await storm()
  expect(service.at('/token')).toHaveLength(2)
  clock.now += 1
  await storm()
  expect(service.at('/token')).toHaveLength(3)
  clock.now += 1
  await storm()
  expect(service.at('/token')).toHaveLength(3)
  clock.now += 1
  await storm()
  expect(service.at('/token')).toHaveLength(4)
})

it('waits out a short staleness of the verifier, whatever the method', async () => {
  const { task, tool, waits } = await house((_, count) => (count < 3 ? stale('1') : {}))
  expect((await task.fetch('payments', tool.url, { method: 'POST', body: 'x' })).status).toBe(200)
  expect(waits).toHaveLength(2)
  for (const wait of waits) expect(wait).toBeGreaterThanOrEqual(1000)
  const proofs = await Promise.all(tool.seen.map((each) => readProof(each, `${tool.url}/`, 'token-1')))
  expect(new Set(proofs.map((proof) => proof.jti)).size).toBe(3)
})

it('returns what it cannot mend: a long staleness, another 503, a refusal, a redirect', async () => {
  const answers: Says[] = [
    stale('60'),
    { status: 503, headers: { 'retry-after': '1' }, body: { error: 'out_of_stock' } },
    { status: 403, headers: { 'www-authenticate': 'DPoP error="insufficient_scope"' } },
    { status: 401, headers: { 'www-authenticate': 'DPoP error="invalid_dpop_proof"' } },
    { status: 302, headers: { location: 'http://127.0.0.1:1/' } },
  ]
  const { task, tool, service, waits } = await house((_, count) => answers[count - 1]!)
  for (const answer of answers) {
    const response = await task.fetch('tickets', tool.url, { redirect: 'follow' })
    expect(response.status).toBe(answer.status)
    if (answer.body) expect(await response.json()).toEqual(answer.body)
  }
  expect(tool.seen).toHaveLength(answers.length)
  expect(service.at('/token')).toHaveLength(1)
  expect(waits).toEqual([])
})

it('stops waiting after two pauses', async () => {
  const { task, tool } = await house(() => stale('0'))
  expect((await task.fetch('tickets', tool.url)).status).toBe(503)
  expect(tool.seen).toHaveLength(3)
})

it('sends a stream once and never again', async () => {
  const { task, tool } = await house(() => dead)
  const body = new ReadableStream({
    start(controller) {
      controller.enqueue(new TextEncoder().encode('once'))
      controller.close()
    },
  })
  const init = { method: 'POST', body, duplex: 'half' } as const
  expect((await task.fetch('tickets', tool.url, init)).status).toBe(401)
  expect(tool.seen.map((each) => each.body)).toEqual(['once'])
})

it('forgets its tokens when the task is completed', async () => {
  const { task, tool, service } = await house(() => ({}))
  await task.fetch('tickets', tool.url)
  await task.complete()
  await task.token({ tool: 'tickets' })
  expect(service.at('/token')).toHaveLength(2)
})
