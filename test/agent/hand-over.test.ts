import { afterEach, expect, it } from 'vitest'
import { agentAt, details } from './house.ts'
import { type Double, type Says, type Seen, serveErrand } from './service-double.ts'

const open: Double[] = []
afterEach(async () => {
  for (const double of open.splice(0)) await double.close()
})
const errand = async (special?: (request: Seen, count: number) => Says | undefined) => {
  const double = await serveErrand(special)
  open.push(double)
  return double
}
const HAND_OVER = 'urn:errand:params:oauth:token-type:hand-over'
const ACCESS = 'urn:ietf:params:oauth:token-type:access_token'

it('hands over a part of what it holds, without another exchange for the part', async () => {
  const service = await errand()
  const { agent } = agentAt(service.url)
  const task = await agent.task(details)
  await task.token({ tool: 'tickets' })
  const handOver = await task.handOver({ to: 'payments', tool: 'tickets', scope: 'tickets:read' })
  expect(handOver).toBe('hand-over-2')
  expect(service.at('/token')).toHaveLength(2)
  expect(Object.fromEntries(service.at('/token')[1]!.form)).toMatchObject({
    subject_token: 'token-1',
    subject_token_type: ACCESS,
    requested_token_type: HAND_OVER,
    delegate_to: 'payments',
    audience: 'tickets',
    scope: 'tickets:read',
  })
})

it('first gets what it does not hold yet', async () => {
  const service = await errand()
  const { agent } = agentAt(service.url)
  const task = await agent.task(details)
  expect(await task.handOver({ to: 'payments', tool: 'payments', scope: 'payments:read' })).toBe('hand-over-2')
  const authorizationDetails = [{ type: 'tool', tool: 'payments', operations: ['read'] }] as const
  expect(await task.handOver({ to: 'payments', tool: 'payments', authorizationDetails })).toBe('hand-over-4')
})

it('accepts a hand-over: a child task whose tokens descend from the one that was got for it', async () => {
  const service = await errand()
  const { agent, clock } = agentAt(service.url)
  const child = await agent.accept('handed', {
    tool: 'tickets',
    scope: 'tickets:read tickets:comment',
    purpose: 'Look into the refund',
    environment: 'production',
    dataClassification: 'internal',
  })
  expect(child.id).toBe('task_child')
  const first = service.at('/token')[0]!.form
  expect(first.get('subject_token')).toBe('handed')
  expect(first.get('subject_token_type')).toBe(HAND_OVER)
  expect(JSON.parse(first.get('request_details')!)).toEqual({
    purpose: 'Look into the refund',
    environment: 'production',
    data_classification: 'internal',
  })

  const whole = { tool: 'tickets', scope: 'tickets:comment tickets:read' }
  expect((await child.token(whole)).accessToken).toBe('token-1')
  const narrow = await child.token({ tool: 'tickets', scope: 'tickets:read' })
  expect(narrow.accessToken).toBe('token-2')
  expect(service.at('/token')[1]!.form.get('subject_token')).toBe('token-1')

  // What carries the task is renewed by itself, and before it is used for something else.
  clock.now += 85
  await child.token({ tool: 'tickets', scope: 'tickets:read' })
  expect(service.at('/token').map((each) => each.form.get('subject_token'))).toEqual([
    'handed',
    'token-1',
    'token-1',
    'token-3',
  ])
})

it('says what to do when the token that carries a child task has run out', async () => {
  const service = await errand()
  const { agent, clock } = agentAt(service.url)
  const child = await agent.accept('handed', { tool: 'tickets' })
  clock.now += 100
  await expect(child.token({ tool: 'tickets' })).rejects.toMatchObject({
    reason: 'task_expired',
    next: 'ask the agent that handed over for a new hand-over token',
  })
  expect(service.at('/token')).toHaveLength(1)
})

it('throws where the service grants no hand-over', async () => {
  const service = await errand((request) =>
    request.form.has('delegate_to')
      ? { status: 400, body: { error: 'invalid_request', reason: 'may_act', next: 'name an agent in delegates_to' } }
      : undefined,
  )
  const { agent } = agentAt(service.url)
  const task = await agent.task(details)
  await expect(task.handOver({ to: 'triage', tool: 'tickets', scope: 'tickets:read' })).rejects.toMatchObject({
    code: 'invalid_request',
    reason: 'may_act',
  })
})
