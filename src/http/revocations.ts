/** `/revocations`: add, and look up; the signed feed that verifiers follow stands in feed.ts. */
import { createHash } from 'node:crypto'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { isId, newId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { adminOf } from './caller.ts'
import { feedRoutes } from './feed.ts'
import { containmentMembers, receiptRoute } from './receipts.ts'
import { refused } from './refused.ts'
import { readmitRoute, resumeRoute } from './revocation-lifted.ts'
import { askedForTwo, confirmRoute, pendingOneRoute, pendingRoute } from './revocation-pending.ts'
import { previewSchema, previewView } from './revocation-preview.ts'
import { addSchema, readMeant, whatIsMeant } from './revocation-request.ts'
import { revocationView, touched } from './revocation-view.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers, pendingSchema, revocationSchema } from './schemas.ts'

/** The same key of the same administrator is the same entry, also where the first answer was lost. */
function idOf(call: Call): Result<{ readonly id?: string }> {
  const key = call.c.req.header('idempotency-key')
  if (key === undefined) return ok({})
  if (call.wire.idempotencyKey === undefined)
    return refuse('bad_param', 'request', { proven: true, detail: 'Idempotency-Key is not of the documented form' })
  const digest = createHash('sha256')
    .update(JSON.stringify([adminOf(call), key]))
    .digest('base64url')
  return ok({ id: `rev_${digest.slice(0, 22)}` })
}

const addRoute: Route = {
  method: 'POST',
  path: '/revocations',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Revoke by any conjunction of dimensions',
  json: addSchema,
  answers: {
    200: {
      description: 'dry_run: what it would match. With an Idempotency-Key used before: the same entry',
      schema: previewSchema,
    },
    201: { description: 'In force: no new matching token can be made', schema: revocationSchema },
    202: { description: 'It takes two people: nothing is revoked before another confirms it', schema: pendingSchema },
    ...errorAnswers(400, 401, 403, 413, 415, 422, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, addSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const meant = whatIsMeant(body.value)
    if (!meant.ok) return refused(call, meant.refusal)
    if ('bulk' in meant.value) return inBulk(call, meant.value.bulk, body.value.reason)
    const { snapshot, now } = deps
    const read = readMeant(body.value, meant.value.match, { snapshot: snapshot(), now: now() })
    if (!read.ok) return refused(call, read.refusal)
    const { match, mode, taken, until } = read.value
    if (mode === 'contain' && !(await hasTasks(call, match))) {
      const detail =
        'no task is of this agent, so nothing can be taken from it: an actor that others vouch for is banned'
      return refused(call, refuse('bad_body', 'request', { proven: true, detail }).refusal)
    }
    if (body.value.dry_run) {
      const pinned = await deps.bulk.preview(match, mode, adminOf(call), taken)
      return Response.json(previewView(deps, match, mode, pinned))
    }
    const id = idOf(call)
    if (!id.ok) return refused(call, id.refusal)
    const mark = until === undefined ? undefined : await deps.marks.markFor(until)
    const asked = {
      match,
      mode,
      ...(taken ? { taken } : {}),
      ...(mark ? { before: mark.epoch } : {}),
      reason: body.value.reason,
      by: adminOf(call),
    }
    if (deps.twoPeople.needed(match)) return askedForTwo(call, { id: id.value.id ?? newId('rev'), ...asked })
    if (id.value.id !== undefined && (await deps.twoPeople.holds(id.value.id)))
      return refused(call, refuse('idempotency_conflict', 'request', { proven: true }).refusal)
    const { entry, added, tasks, another, releases } = await deps.revoke.byMatch({
      ...id.value,
      ...asked,
      correlation: wire.correlation,
    })
    if (another) return refused(call, refuse('idempotency_conflict', 'request', { proven: true }).refusal)
    if (added) deps.metrics.revoked(mode)
    const answer = { ...revocationView(entry), ...touched(mode, tasks), ...(releases ? { releases } : {}) }
    return Response.json(answer, { status: added ? 201 : 200 })
  },
}

/** Whether its agent can have tasks: an actor that an issuer vouches for stands in the tokens of others' tasks alone. */
async function hasTasks({ deps }: Call, { agent }: HopFacts): Promise<boolean> {
  if (agent === undefined || deps.snapshot().agents.bySpiffeId(agent)) return true
  return (await deps.preview({ agent }, 'contain')).tasks.length > 0
}

/** What a preview has pinned. */
async function inBulk(call: Call, token: string, reason: string): Promise<Response> {
  const { deps, wire } = call
  const by = adminOf(call)
  const pinned = await deps.bulk.pinned(token, by)
  const pin = pinned.ok ? pinned.value : undefined
  if (pin && deps.twoPeople.needed(pin.match)) {
    const { match, mode, taken, mark, revocation: id } = pin
    const asked = { id, match, mode, ...(taken ? { taken } : {}), before: mark, pin, reason, by }
    return askedForTwo(call, asked)
  }
  const done = await deps.bulk.execute(token, by, reason, wire.correlation)
  if (!done.ok) return refused(call, done.refusal)
  const { entry, mode, tasks } = done.value
  deps.metrics.revoked(entry.mode)
  return Response.json({ ...revocationView(entry), ...touched(mode, tasks) }, { status: 201 })
}

const containedSchema = revocationSchema.extend(containmentMembers).meta({ id: 'RevocationState' })

const bansRoute: Route = {
  method: 'GET',
  path: '/revocations/bans',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Bans and suspensions in force',
  answers: {
    200: { description: 'Bans and suspensions', schema: z.object({ bans: z.array(revocationSchema) }) },
    ...errorAnswers(401, 403, 429, 503),
  },
  async handle({ deps }) {
    const bans = await deps.revocations.bans(deps.now())
    // A task that ended is banned until its deadline; that is its end and nobody's ban.
    const shown = bans.filter(({ match, banUntil }) => match.task === undefined || banUntil === undefined)
    return Response.json({ bans: shown.map(revocationView) })
  },
}

const showRoute: Route = {
  method: 'GET',
  path: '/revocations/:id',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'A revocation, which verifiers have applied it, and by when it is in force everywhere',
  answers: {
    200: { description: 'The entry', schema: containedSchema },
    ...errorAnswers(401, 403, 404, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const id = c.req.param('id')
    const entry = isId('rev', id) ? await deps.revocations.get(id) : undefined
    if (!entry) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    const containment = await deps.containments.of(entry)
    return Response.json({ ...revocationView(entry), acknowledged: deps.acks.reached(entry.epoch), ...containment })
  },
}

// Fixed paths before the one with a parameter.
export const revocationRoutes: readonly Route[] = [
  addRoute,
  ...feedRoutes,
  bansRoute,
  pendingRoute,
  pendingOneRoute,
  showRoute,
  readmitRoute,
  resumeRoute,
  confirmRoute,
  receiptRoute,
]
