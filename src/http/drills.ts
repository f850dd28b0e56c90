/** `/drills`: fire drills over synthetic agents. Tokens are had and probed by whoever drills. */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { containmentMembers } from './receipts.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const acting = ({ caller, wire }: Call) => ({
  by: caller?.kind === 'admin' ? caller.client.clientId : 'unknown',
  correlation: wire.correlation,
})
const notFound = (call: Call, detail: string) =>
  refused(call, refuse('not_found', 'request', { proven: true, detail }).refusal)

const beginSchema = z.strictObject({ agent: z.string().min(1).max(64).describe('One with `drill: true` in its file') })

const beginRoute: Route = {
  method: 'POST',
  path: '/drills',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Begin a fire drill: an agent that is for drills is banned, and its tasks end',
  json: beginSchema,
  answers: {
    201: {
      description: 'In force; GET /revocations/{id} says where',
      schema: z.object({ id: z.string(), agent: z.string(), tasks_ended: z.number().int() }),
    },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const body = jsonOf(call.c, beginSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { agent } = body.value
    const begun = await call.deps.drills.begin(agent, acting(call))
    if (!begun) return notFound(call, 'no agent of that name is for drills: its file says drill: true')
    return Response.json({ id: begun.entry.id, agent, tasks_ended: begun.tasks }, { status: 201 })
  },
}

const status = z.number().int().min(0).max(999)
const finishSchema = z.strictObject({
  tokens: z.number().int().min(0).max(1_000_000),
  milliseconds: z.number().int().min(0).max(86_400_000).describe('Until it was seen contained'),
  probes: z
    .array(z.strictObject({ url: z.string().min(1).max(1000), before: status, after: status }))
    .max(20)
    .describe('How tools answered, before and after'),
})

const finishRoute: Route = {
  method: 'POST',
  path: '/drills/:id/finish',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Record how a fire drill went, and let its agent be used again',
  json: finishSchema,
  answers: {
    200: { description: 'Recorded; where it was in force', schema: z.object(containmentMembers) },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const body = jsonOf(call.c, finishSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const id = call.c.req.param('id')
    const done = isId('rev', id) ? await call.deps.drills.finish(id, body.value, acting(call)) : undefined
    return done ? Response.json(done) : notFound(call, 'no fire drill is under way by that id')
  },
}

const MOST_SHOWN = 1000

const historyRoute: Route = {
  method: 'GET',
  path: '/drills',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Fire drills, newest first, as the log has them',
  query: { limit: 'at most so many, 100 by default' },
  answers: {
    200: { description: 'Records', schema: z.object({ drills: z.array(z.looseObject({})) }) },
    ...errorAnswers(400, 401, 403, 429, 503),
  },
  async handle(call) {
    const { limit = '100' } = call.c.req.query()
    if (!/^[1-9][0-9]{0,3}$/.test(limit) || Number(limit) > MOST_SHOWN) {
      const detail = `limit is a number from 1 to ${MOST_SHOWN}`
      return refused(call, refuse('bad_param', 'request', { proven: true, detail }).refusal)
    }
    return Response.json({ drills: await call.deps.drills.history(Number(limit)) })
  },
}

export const drillRoutes: readonly Route[] = [beginRoute, finishRoute, historyRoute]
