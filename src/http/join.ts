/** How an agent with nothing else makes itself known: join tokens, and the keys that came with them. */
import { z } from 'zod'
import type { JoinedKey } from '../attest/joining.ts'
import { MAX_JOIN_TOKEN_SECONDS } from '../exchange/join.ts'
import { refuse } from '../oauth/refusal.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const problems = errorAnswers(400, 401, 403, 404, 413, 415, 429, 503)
const noStore = { headers: { 'Cache-Control': 'no-store' } }

const acting = ({ caller, wire }: Call) => ({
  by: caller?.kind === 'admin' ? caller.client.clientId : 'unknown',
  correlation: wire.correlation,
})

export const joinedKeyView = ({ kid, joinedAt, by }: JoinedKey) => ({ kid, joined_at: joinedAt, by })

const offerSchema = z.strictObject({
  lifetime_seconds: z
    .int()
    .min(1)
    .max(MAX_JOIN_TOKEN_SECONDS)
    .default(MAX_JOIN_TOKEN_SECONDS)
    .describe('How long it may wait to be used'),
})

const offerRoute: Route = {
  method: 'POST',
  path: '/agents/:id/join-tokens',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Make a join token: one use, ten minutes at most, for the first start of an agent that has nothing else',
  json: offerSchema,
  answers: {
    201: {
      description: 'The token, told once',
      schema: z.looseObject({ client_id: z.string(), join_token: z.string(), expires_at: z.number().int() }),
    },
    ...problems,
  },
  async handle(call) {
    const body = jsonOf(call.c, offerSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const clientId = call.c.req.param('id') ?? ''
    const lifetimeSeconds = body.value.lifetime_seconds
    const offered = await call.deps.join.offer({ clientId, lifetimeSeconds, ...acting(call) })
    if (!offered.ok) return refused(call, offered.refusal)
    const { token, expiresAt } = offered.value
    return Response.json({ client_id: clientId, join_token: token, expires_at: expiresAt }, { status: 201, ...noStore })
  },
}

const acceptSchema = z.strictObject({ join_token: z.string().min(1).max(256) })

const acceptRoute: Route = {
  method: 'POST',
  path: '/agents/:id/keys',
  access: 'public',
  tag: 'Joining',
  summary: 'Register the key of the DPoP proof as this agent’s, by a join token; it attests from then on',
  json: acceptSchema,
  answers: {
    201: {
      description: 'The key is registered',
      schema: z.looseObject({ client_id: z.string(), kid: z.string(), joined_at: z.number().int() }),
    },
    ...problems,
  },
  async handle(call) {
    const body = jsonOf(call.c, acceptSchema)
    if (!body.ok) return refused(call, body.refusal)
    const clientId = call.c.req.param('id') ?? ''
    const joined = await call.deps.join.accept({ clientId, token: body.value.join_token, wire: call.wire })
    if (!joined.ok) return refused(call, joined.refusal, { recorded: joined.refusal.proven === true })
    return Response.json({ client_id: clientId, ...joinedKeyView(joined.value) }, { status: 201, ...noStore })
  },
}

const removeSchema = z.strictObject({ kid: z.string().min(1).max(128), reason: z.string().min(3).max(500) })

const removeRoute: Route = {
  method: 'POST',
  path: '/agents/:id/keys/remove',
  access: ['admin'],
  tag: 'Administration',
  summary:
    'Remove a key that came with a join token: it proves nothing from now on; tokens it got live on until they end',
  json: removeSchema,
  answers: { 200: { description: 'Removed', schema: z.looseObject({ kid: z.string() }) }, ...problems },
  async handle(call) {
    const body = jsonOf(call.c, removeSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const clientId = call.c.req.param('id') ?? ''
    const removed = await call.deps.join.remove({ clientId, ...body.value, ...acting(call) })
    if (!removed) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    return Response.json({ client_id: clientId, kid: body.value.kid })
  },
}

export const joinRoutes: readonly Route[] = [offerRoute, acceptRoute, removeRoute]
