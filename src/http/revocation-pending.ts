/** Broad revocations that wait for a second person: what waits, what it would touch, and the word that carries it out. */
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { shownMatch } from '../revoke/component-match.ts'
import type { PendingRevocation } from '../revoke/pending-revocations.ts'
import { type Asked, digestOf } from '../revoke/two-people.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { adminOf } from './caller.ts'
import { refused } from './refused.ts'
import { previewSchema, previewView } from './revocation-preview.ts'
import { revocationView, takenView, touched } from './revocation-view.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers, pendingSchema, revocationSchema } from './schemas.ts'

function pendingView(pending: PendingRevocation) {
  const { id, match, mode, taken, before, pin, reason, by, at, expiresAt } = pending
  return {
    id,
    state: 'pending',
    digest: digestOf(pending),
    match: shownMatch(match),
    mode,
    ...(taken ? { taken: takenView(taken) } : {}),
    ...(before === undefined ? {} : { checked_before: formatEpoch(before) }),
    ...(pin === undefined ? {} : { pinned_tasks: pin.tasks.length }),
    reason,
    by,
    at,
    expires_at: expiresAt,
  }
}

/** 202: nothing is revoked yet. Asked for again after it was confirmed, it is the revocation that it became. */
export async function askedForTwo(call: Call, asked: Asked): Promise<Response> {
  const { deps, wire } = call
  const answer = await deps.twoPeople.ask(asked, wire.correlation)
  if (!answer.ok) return refused(call, answer.refusal)
  const { pending, confirmedBy } = answer.value
  const entry = confirmedBy === undefined ? undefined : await deps.revocations.get(pending.id)
  if (entry) return Response.json(revocationView(entry))
  return Response.json(pendingView(pending), { status: 202 })
}

export const pendingRoute: Route = {
  method: 'GET',
  path: '/revocations/pending',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Revocations that wait for a second person',
  answers: {
    200: { description: 'What waits', schema: z.object({ pending: z.array(pendingSchema) }) },
    ...errorAnswers(401, 403, 429, 503),
  },
  async handle({ deps }) {
    return Response.json({ pending: (await deps.twoPeople.open()).map(pendingView) })
  },
}

export const pendingOneRoute: Route = {
  method: 'GET',
  path: '/revocations/pending/:id',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'One of them, and what it would touch now',
  answers: {
    200: {
      description: 'What is confirmed, and its digest',
      schema: pendingSchema.extend({ preview: previewSchema }).meta({ id: 'PendingRevocationPreview' }),
    },
    ...errorAnswers(401, 403, 404, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const id = c.req.param('id')
    const pending = isId('rev', id) ? await deps.twoPeople.find(id) : undefined
    if (!pending) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    const { match, mode } = pending
    const preview = await deps.preview(match, mode)
    return Response.json({ ...pendingView(pending), preview: previewView(deps, match, mode, { preview }) })
  },
}

const confirmSchema = z.strictObject({
  digest: z.string().max(64).describe('Of the revocation that waits, as it was shown to whoever confirms it'),
})

export const confirmRoute: Route = {
  method: 'POST',
  path: '/revocations/:id/confirm',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Confirm what another administrator asked for: it is in force then',
  json: confirmSchema,
  answers: {
    201: { description: 'In force: no new matching token can be made', schema: revocationSchema },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, confirmSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const id = c.req.param('id') ?? ''
    const { digest } = body.value
    const made = isId('rev', id)
      ? await deps.twoPeople.confirm(id, adminOf(call), digest, wire.correlation)
      : refuse('not_found', 'request', { proven: true })
    if (!made.ok) return refused(call, made.refusal)
    const { entry, mode, tasks, releases } = made.value
    deps.metrics.revoked(entry.mode)
    const answer = { ...revocationView(entry), ...touched(mode, tasks), ...(releases ? { releases } : {}) }
    return Response.json(answer, { status: 201 })
  },
}
