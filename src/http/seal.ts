/** `/seal`: nothing is issued until an administrator lifts it. */
import { z } from 'zod'
import type { Sealed } from '../revoke/seals.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const problems = errorAnswers(400, 401, 403, 413, 415, 429, 503)
const reasonSchema = z.strictObject({
  reason: z.string().trim().min(3).max(500).describe('Why, for the audit log'),
})
const answer = z.object({
  sealed: z.boolean(),
  by: z.string().optional(),
  reason: z.string().optional(),
  at: z.number().int().optional().describe('Unix seconds'),
})

const acting = ({ caller, wire }: Call) => ({
  by: caller?.kind === 'admin' ? caller.client.clientId : 'unknown',
  correlation: wire.correlation,
})
const view = (sealed: Sealed | undefined) => Response.json({ sealed: sealed !== undefined, ...sealed })

const stateRoute: Route = {
  method: 'GET',
  path: '/seal',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Whether an administrator has sealed the service',
  answers: { 200: { description: 'By whom, why and since when', schema: answer }, ...problems },
  handle: async ({ deps }) => view(await deps.seals.current()),
}

const sealRoute: Route = {
  method: 'POST',
  path: '/seal',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Issue nothing until it is lifted: tokens that are out live on, and everything can be revoked',
  json: reasonSchema,
  answers: { 200: { description: 'Sealed; where it was before, by the first', schema: answer }, ...problems },
  async handle(call) {
    const body = jsonOf(call.c, reasonSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { by, correlation } = acting(call)
    await call.deps.seals.seal(by, body.value.reason, correlation)
    return view(await call.deps.seals.current())
  },
}

const unsealRoute: Route = {
  method: 'POST',
  path: '/unseal',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Lift the seal of an administrator',
  json: reasonSchema,
  answers: { 200: { description: 'Lifted, or there was none', schema: answer }, ...problems },
  async handle(call) {
    const body = jsonOf(call.c, reasonSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { by, correlation } = acting(call)
    await call.deps.seals.unseal(by, body.value.reason, correlation)
    return view(await call.deps.seals.current())
  },
}

export const sealRoutes: readonly Route[] = [stateRoute, sealRoute, unsealRoute]
