/** Ends bans and suspensions; what they killed stays dead. */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import type { Revocation } from '../revoke/revocation-log.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { adminOf } from './caller.ts'
import { refused } from './refused.ts'
import { revocationView } from './revocation-view.ts'
import type { Route } from './route.ts'
import { errorAnswers, revocationSchema } from './schemas.ts'

const readmitSchema = z.strictObject({ reason: z.string().min(3).max(500) })

/** Why a ban cannot be ended. */
function whyNot(entry: Revocation | undefined): string {
  if (!entry) return 'there is no such revocation'
  if (entry.absolute) return 'it is of a compromised key: what that key signed stays dead, and cannot be readmitted'
  if (entry.mode === 'suspend') return 'it is a suspension: it is resumed'
  if (entry.readmitted) return 'it was readmitted already'
  if (entry.partOf !== undefined) return `it is a part of ${entry.partOf}: readmit that`
  return entry.mode !== 'ban' ? `it is a ${entry.mode} and no ban: nothing is kept out by it` : 'the ban is over'
}

export const readmitRoute: Route = {
  method: 'POST',
  path: '/revocations/:id/readmit',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'End a ban; tokens it killed stay dead',
  json: readmitSchema,
  answers: {
    200: { description: 'Re-admitted', schema: revocationSchema },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, readmitSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const id = c.req.param('id')
    const done = isId('rev', id) && (await deps.revoke.readmit(id, adminOf(call), body.value.reason, wire.correlation))
    const entry = isId('rev', id) ? await deps.revocations.get(id) : undefined
    if (!done || !entry)
      return refused(call, refuse('not_found', 'request', { proven: true, detail: whyNot(entry) }).refusal)
    return Response.json(revocationView(entry))
  },
}

function whyNoResume(entry: Revocation | undefined): string {
  if (!entry) return 'there is no such revocation'
  if (entry.mode === 'suspend' && entry.partOf !== undefined) return `it is a part of ${entry.partOf}: resume that`
  return 'it is no suspension: nothing is paused by it'
}

export const resumeRoute: Route = {
  method: 'POST',
  path: '/revocations/:id/resume',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Lift a suspension: the tasks that it alone held go on; tokens it killed stay dead',
  json: readmitSchema,
  answers: {
    200: { description: 'Resumed; also where it was before', schema: revocationSchema },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, readmitSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const id = c.req.param('id')
    const tasks = isId('rev', id)
      ? await deps.revoke.resume(id, adminOf(call), body.value.reason, wire.correlation)
      : undefined
    const entry = isId('rev', id) ? await deps.revocations.get(id) : undefined
    if (!tasks || !entry) {
      const detail = whyNoResume(entry)
      return refused(call, refuse('not_found', 'request', { proven: true, detail }).refusal)
    }
    return Response.json({ ...revocationView(entry), tasks_resumed: tasks })
  },
}
