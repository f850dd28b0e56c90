/** `/tasks`: open, look at, keep alive, end, and reserve from the budget of a task. */
import { toAuthorizationDetails } from '@errand/verifier/grants.ts'
import type { AccessTokenClaims, Grant } from '@errand/verifier/claims.ts'
import { z } from 'zod'
import type { AuditRecord, Json } from '../audit/log.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { reachOf } from '../exchange/reach.ts'
import { readAsked } from '../exchange/targets.ts'
import { refuse } from '../oauth/refusal.ts'
import { isId } from '../tasks/ids.ts'
import { readRequestDetails } from '../tasks/request-details.ts'
import { stateAt, type Task, TASK_STATES } from '../tasks/task.ts'
import { jsonOf } from './body.ts'
import { nameOf } from './caller.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { budgetSchema, detailSchema, errorAnswers, spentSchema, taskSchema } from './schemas.ts'

/** A constraint out of the reach of today's configuration has no effect to show: it names none of ours. */
const effectIn = (snapshot: Snapshot) => (tool: string, operation: string) =>
  snapshot.tools.byName(tool)?.operations.get(operation)?.effect ?? 'privileged'

function taskView(task: Task, snapshot: Snapshot, now: number) {
  const { budget } = task
  return {
    id: task.id,
    ...(task.parent === undefined ? {} : { parent: task.parent }),
    root: task.root,
    depth: task.depth,
    agent: task.agent,
    ...(task.release === undefined ? {} : { release: task.release }),
    subject: task.subject.id,
    purpose: task.purpose,
    environment: task.context.environment,
    data_classification: task.context.dataClassification,
    state: stateAt(task, now),
    created_at: task.createdAt,
    deadline: task.deadline,
    ...(task.heartbeatBy === undefined ? {} : { heartbeat_by: task.heartbeatBy }),
    ...(task.suspendedBy === undefined ? {} : { suspended_by: task.suspendedBy }),
    ...(task.endedAt === undefined ? {} : { ended_at: task.endedAt }),
    ...(task.endedReason === undefined ? {} : { ended_reason: task.endedReason }),
    budget: {
      ...(budget.maxCalls === undefined ? {} : { max_calls: budget.maxCalls }),
      ...(budget.maxExchanges === undefined ? {} : { max_exchanges: budget.maxExchanges }),
      ...(budget.maxCost === undefined ? {} : { max_cost: budget.maxCost }),
      ...(budget.maxDurationSeconds === undefined ? {} : { max_duration_seconds: budget.maxDurationSeconds }),
    },
    spent: task.spent,
    authority: toAuthorizationDetails(task.authority, effectIn(snapshot)),
    ...(task.contained ? { contained: task.contained } : {}),
  }
}

/** The task, where the caller may see it: its agent, the agent of an ancestor, or an administrator. */
async function visible({ deps, caller, c }: Call): Promise<Task | undefined> {
  const id = c.req.param('id')
  if (!isId('task', id)) return undefined
  const task = await deps.tasks.get(id)
  if (!task || caller?.kind === 'admin') return task
  if (caller?.kind !== 'agent') return undefined
  const me = caller.proven.attested.agent.clientId
  for (let each: Task | undefined = task; each; each = each.parent ? await deps.tasks.get(each.parent) : undefined) {
    if (each.agent === me) return task
  }
  return undefined
}

const nothing = (call: Call) => refused(call, refuse('not_found', 'request', { proven: true }).refusal)

const openSchema = z.looseObject({
  subject_token: z.string().optional(),
  subject_token_type: z.string().optional(),
  // Read with request_details, which names what is missing or misspelt.
  purpose: z.unknown().optional(),
  environment: z.unknown().optional(),
  data_classification: z.unknown().optional(),
  deadline_seconds: z.unknown().optional(),
  heartbeat_seconds: z.unknown().optional(),
  budget: z.unknown().optional(),
  scope: z.string().optional(),
  authorization_details: z.array(z.unknown()).optional(),
})

const documentedOpen = z.strictObject({
  subject_token: z.string().describe("The user's token; absent opens an autonomous task").optional(),
  subject_token_type: z.string().optional(),
  purpose: z.string().max(500),
  environment: z.enum(['production', 'staging', 'development']),
  data_classification: z.enum(['public', 'internal', 'confidential', 'restricted']),
  deadline_seconds: z.number().int().optional(),
  heartbeat_seconds: z.number().int().optional(),
  budget: budgetSchema.optional(),
  scope: z.string().describe('Narrows what the task may do at most').optional(),
  authorization_details: z.array(detailSchema).optional(),
})

const openRoute: Route = {
  method: 'POST',
  path: '/tasks',
  access: ['agent'],
  tag: 'Tasks',
  summary: 'Open a task',
  json: documentedOpen,
  answers: { 201: { description: 'Opened', schema: taskSchema }, ...errorAnswers(400, 401, 403, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, caller, wire, c } = call
    if (caller?.kind !== 'agent') return nothing(call)
    const snapshot = deps.snapshot()
    const body = jsonOf(c, openSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { subject_token, subject_token_type, scope, authorization_details, ...rest } = body.value
    const details = readRequestDetails(rest, snapshot.settings.tasks)
    if (!details.ok) return refused(call, { ...details.refusal, proven: true })
    if ((subject_token === undefined) !== (subject_token_type === undefined)) {
      return refused(
        call,
        refuse('param_missing', 'request', {
          proven: true,
          detail: 'subject_token and subject_token_type come together',
        }).refusal,
      )
    }
    const asked = readAsked(
      {
        ...(scope === undefined ? {} : { scope }),
        ...(authorization_details === undefined ? {} : { authorizationDetails: JSON.stringify(authorization_details) }),
      },
      reachOf(snapshot.tools, caller.proven.attested.agent.ceiling),
    )
    if (!asked.ok) return refused(call, { ...asked.refusal, proven: true })
    const opened = await deps.openTask(
      snapshot,
      caller.proven,
      {
        details: details.value,
        ...(subject_token === undefined ? {} : { subject: { token: subject_token, type: subject_token_type! } }),
        ...asked.value,
        ...(wire.idempotencyKey === undefined ? {} : { idempotencyKey: wire.idempotencyKey }),
      },
      wire.correlation,
    )
    if (!opened.ok) return refused(call, opened.refusal, { recorded: true })
    return Response.json(taskView(opened.value, snapshot, deps.now()), { status: 201 })
  },
}

const listRoute: Route = {
  method: 'GET',
  path: '/tasks',
  access: ['admin'],
  tag: 'Tasks',
  summary: 'Tasks, newest first',
  query: { agent: 'client_id', state: TASK_STATES.join(', '), limit: 'at most 500' },
  answers: {
    200: { description: 'Tasks', schema: z.object({ tasks: z.array(taskSchema) }) },
    ...errorAnswers(400, 401, 403, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const { agent, state, limit = '50' } = c.req.query()
    const known = TASK_STATES.find((each) => each === state)
    if ((state !== undefined && !known) || !/^[1-9][0-9]{0,2}$/.test(limit) || Number(limit) > 500) {
      return refused(
        call,
        refuse('bad_param', 'request', { proven: true, detail: 'state or limit is not of the documented form' })
          .refusal,
      )
    }
    const tasks = await deps.tasks.list({
      ...(agent === undefined ? {} : { agent }),
      ...(known === undefined ? {} : { state: known }),
      limit: Number(limit),
    })
    const snapshot = deps.snapshot()
    return Response.json({ tasks: tasks.map((task) => taskView(task, snapshot, deps.now())) })
  },
}

const showRoute: Route = {
  method: 'GET',
  path: '/tasks/:id',
  access: ['agent', 'admin'],
  tag: 'Tasks',
  summary: 'A task with all below it: state, authority, tokens issued, what was refused',
  answers: { 200: { description: 'The task', schema: taskSchema }, ...errorAnswers(401, 403, 404, 429, 503) },
  async handle(call) {
    const { deps, caller } = call
    // Beside its ration of requests: this one reads the log.
    const wait = caller?.kind === 'agent' ? deps.limits.take(`tree:${nameOf(caller)}`, TREES_PER_SECOND) : 0
    if (wait > 0) {
      return refused(call, refuse('rate_limited', 'request', { proven: true, retryAfterSeconds: wait }).refusal)
    }
    const task = await visible(call)
    if (!task) return nothing(call)
    const tree = shownOf(task, await deps.tasks.tree(task.root))
    const told = await history(call, task, tree.shown)
    const snapshot = deps.snapshot()
    const now = deps.now()
    const view = (each: Task): object => ({
      ...taskView(each, snapshot, now),
      ...told.of(each.id),
      children: (tree.children.get(each.id) ?? []).map(view),
    })
    return Response.json({ ...view(task), ...(tree.truncated || told.truncated ? { truncated: true } : {}) })
  },
}

const TREES_PER_SECOND = 5
/** The rest of a larger tree is looked at from further down. */
const MAX_SHOWN = 100
const MAX_RECORDS = 1000

/** The task and what is below it, level by level as far as it is shown. */
function shownOf(task: Task, tree: readonly Task[]) {
  const below = new Map<string, Task[]>()
  for (const each of tree) {
    if (each.parent === undefined) continue
    const siblings = below.get(each.parent)
    if (siblings) siblings.push(each)
    else below.set(each.parent, [each])
  }
  const shown: Task[] = [task]
  const children = new Map<string, readonly Task[]>()
  let truncated = false
  for (const each of shown) {
    const own = below.get(each.id) ?? []
    const room = own.slice(0, MAX_SHOWN - shown.length)
    truncated ||= room.length < own.length
    children.set(each.id, room)
    shown.push(...room)
  }
  return { shown, children, truncated }
}

/**
 * What the log says of the tasks: tokens issued and requests refused, newest first, by one search for the whole tree.
 * No older or later record can name them.
 */
async function history({ deps }: Call, { id, root, createdAt }: Task, shown: readonly Task[]) {
  const slack = 300
  const records = await deps.reader.search({
    ...(shown.length === 1 ? { task: id } : { root }),
    since: (createdAt - slack) * 1000,
    until: (Math.max(...shown.map(({ deadline }) => deadline)) + slack) * 1000,
    limit: MAX_RECORDS,
  })
  return {
    truncated: records.length === MAX_RECORDS,
    of: (task: string) => {
      const own = records.filter((record) => record['task'] === task)
      const unsigned = new Set(own.filter(({ type }) => type === 'token.unsigned').map((record) => record['jti']))
      return {
        tokens: own.filter((record) => record.type === 'token.issuing' && !unsigned.has(record['jti'])).map(tokenRow),
        refusals: own.filter((record) => record.type === 'token.refused').map(refusalRow),
      }
    },
  }
}

function tokenRow(record: AuditRecord) {
  const claims = (record['claims'] ?? {}) as Partial<AccessTokenClaims>
  return {
    jti: record['jti'] as string,
    audience: claims.aud ?? '',
    scope: claims.scope ?? '',
    issued_at: claims.iat ?? 0,
    expires_at: claims.exp ?? 0,
    decision_id: record['decision_id'] as string,
  }
}

function refusalRow(record: AuditRecord) {
  const details = (record['details'] ?? {}) as { readonly [name: string]: Json }
  return {
    decision_id: record['decision_id'] as string,
    reason: record['reason'] as string,
    at: Math.floor(record.t / 1000),
    ...(Array.isArray(details['missing']) ? { missing: details['missing'] } : {}),
  }
}

const beatRoute: Route = {
  method: 'POST',
  path: '/tasks/:id/heartbeat',
  access: ['agent'],
  tag: 'Tasks',
  summary: 'Say that the task is still worked on',
  answers: { 200: { description: 'The task', schema: taskSchema }, ...errorAnswers(400, 401, 403, 404, 429, 503) },
  async handle(call) {
    const { deps, caller } = call
    const task = await visible(call)
    if (!task || caller?.kind !== 'agent' || task.agent !== caller.proven.attested.agent.clientId) return nothing(call)
    if (!(await deps.tasks.beat(task.id, deps.now()))) {
      const rule = (await deps.tasks.get(task.id))?.suspendedBy?.[0]
      const no = rule === undefined ? {} : { explanation: { rule } }
      const reason = rule === undefined ? 'task_not_active' : 'suspended'
      return refused(call, refuse(reason, 'request', { proven: true, ...no }).refusal)
    }
    return Response.json(taskView((await deps.tasks.get(task.id)) ?? task, deps.snapshot(), deps.now()))
  },
}

const endRoute = (verb: 'complete' | 'cancel'): Route => ({
  method: 'POST',
  path: `/tasks/:id/${verb}`,
  access: ['agent', 'admin'],
  tag: 'Tasks',
  summary: `${verb === 'complete' ? 'Complete' : 'Cancel'} a task: it and all below it end, their tokens die`,
  answers: { 200: { description: 'The task', schema: taskSchema }, ...errorAnswers(401, 403, 404, 429, 503) },
  async handle(call) {
    const { deps, caller, wire } = call
    const task = await visible(call)
    if (!task || !caller) return nothing(call)
    const by = caller.kind === 'agent' ? caller.proven.attested.agent.clientId : caller.client.clientId
    await deps.revoke.endTask(
      task.id,
      verb === 'complete' ? 'completed' : 'cancelled',
      `${verb === 'complete' ? 'completed' : 'cancelled'} by ${by}`,
      by,
      wire.correlation,
    )
    return Response.json(taskView((await deps.tasks.get(task.id)) ?? task, deps.snapshot(), deps.now()))
  },
})

const reservationSchema = z.strictObject({
  token: z.string().describe('The access token with which the call came'),
  operation: z.string(),
  calls: z.number().int().min(1).max(1000),
  cost: z.number().int().min(0).max(100_000_000).optional(),
  operation_id: z
    .string()
    .regex(/^[A-Za-z0-9_-]{8,64}$/)
    .describe('The same id again reserves nothing more'),
})

const reserveRoute: Route = {
  method: 'POST',
  path: '/tasks/:id/reservations',
  access: ['tool'],
  tag: 'Tasks',
  summary: "Reserve calls and cost from a task's budget before a budgeted operation",
  json: reservationSchema,
  answers: {
    200: { description: 'Reserved', schema: z.object({ outcome: z.literal('reserved'), spent: spentSchema }) },
    ...errorAnswers(400, 401, 403, 404, 409, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, caller, c, wire } = call
    if (caller?.kind !== 'tool') return nothing(call)
    const snapshot = deps.snapshot()
    const body = jsonOf(c, reservationSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { token, operation, calls, cost = 0, operation_id } = body.value
    const id = c.req.param('id')
    const { active, token: own } = await deps.introspect(token)
    // A tool reserves for calls that were made to it with a good token of that task, and for nothing else.
    if (!active || own?.kind !== 'own' || own.claims.aud !== caller.client.audience || own.claims.task.id !== id)
      return nothing(call)
    const tool = snapshot.tools.byAudience(own.claims.aud)
    const granted: readonly Grant[] = own.claims.authorization_details.flatMap((detail) =>
      detail.operations.map((name) => ({ tool: detail.tool, operation: name })),
    )
    if (!tool || !granted.some((grant) => grant.tool === tool.name && grant.operation === operation))
      return nothing(call)
    const budgeted = tool.operations.get(operation)?.budgeted
    if (!budgeted) return nothing(call)
    // The configured price is the least that a call costs, whatever the tool says.
    const price = Math.max(cost, budgeted.cost * calls)
    const answer = await deps.tasks.reserve(
      id,
      { calls, exchanges: 0, cost: price, operationId: `${caller.client.clientId}:${operation_id}` },
      deps.now(),
    )
    await deps.audit.append({
      type: 'task.reserved',
      decision: answer.outcome === 'reserved' ? 'permit' : 'refuse',
      ...(answer.outcome === 'reserved'
        ? {}
        : { reason: answer.outcome === 'exhausted' ? 'budget_exhausted' : 'task_not_active' }),
      task: id,
      root: own.claims.task.root,
      agent: own.claims.client_id,
      tool: tool.name,
      operations: [operation],
      jti: own.claims.jti,
      by: caller.client.clientId,
      correlation: wire.correlation,
      details: { calls, cost: price },
    })
    switch (answer.outcome) {
      case 'reserved':
        return Response.json({ outcome: 'reserved', spent: answer.spent })
      case 'exhausted':
        return Response.json(
          {
            error: 'budget_exhausted',
            error_description: `the budget of ${answer.budget} of ${answer.of} does not suffice`,
            reason: 'budget_exhausted',
          },
          { status: 409 },
        )
      case 'not_active':
        return refused(call, refuse('not_found', 'request', { proven: true }).refusal, { recorded: true })
    }
  },
}

export const taskRoutes: readonly Route[] = [
  openRoute,
  listRoute,
  showRoute,
  beatRoute,
  endRoute('complete'),
  endRoute('cancel'),
  reserveRoute,
]
