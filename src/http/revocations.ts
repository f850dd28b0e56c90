/** `/revocations`: add, look up, re-admit; the signed feed that verifiers follow stands in feed.ts. */
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import type { Revocation } from '../revoke/revocation-log.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { feedRoutes } from './feed.ts'
import { refused } from './refused.ts'
import { previewSchema, previewView } from './revocation-preview.ts'
import type { Call, Route } from './route.ts'
import { containmentMembers, receiptRoute } from './receipts.ts'
import { errorAnswers, revocationSchema } from './schemas.ts'

const plainText = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[\x20-\x7e]+$/)
/** Whoever a token may name must be revocable: a subject is not always ASCII. */
const subjectText = z.string().refine((text) => readSubjectText(text, 320).ok, 'not a subject')

const matchSchema = z.strictObject(
  Object.fromEntries(
    DIMENSIONS.map((dimension) => [dimension, (dimension === 'sub' ? subjectText : plainText).optional()]),
  ),
)

const addSchema = z.strictObject({
  match: matchSchema.describe('A conjunction: every dimension must match within one hop of a token. {} is everything'),
  mode: z
    .enum(['cut', 'ban', 'suspend'])
    .describe('Default: ban for agent, client_id, sub, aud, release, kid, task and root; cut otherwise')
    .optional(),
  reason: z.string().min(3).max(500),
  everything: z.literal(true).describe('Needed with an empty match').optional(),
  dry_run: z.boolean().optional(),
})

/** A live agent would simply ask again: naming who or what it is bans, naming single tokens or a policy cuts. */
const BANS: readonly string[] = ['agent', 'client_id', 'sub', 'aud', 'release', 'kid', 'task', 'root', 'domain']

const revocationView = (entry: Revocation) => ({
  id: entry.id,
  epoch: `${entry.epoch.generation}.${entry.epoch.sequence}`,
  match: entry.match,
  mode: entry.mode,
  reason: entry.reason,
  by: entry.by,
  at: entry.at,
  expires_at: entry.expiresAt,
  ...(entry.banUntil === undefined ? {} : { ban_until: entry.banUntil }),
  ...(entry.readmitted ? { [entry.mode === 'suspend' ? 'resumed' : 'readmitted']: entry.readmitted } : {}),
})

const adminOf = ({ caller }: Call): string => (caller?.kind === 'admin' ? caller.client.clientId : 'unknown')

const addRoute: Route = {
  method: 'POST',
  path: '/revocations',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Revoke by any conjunction of dimensions',
  json: addSchema,
  answers: {
    200: { description: 'dry_run: what it would match', schema: previewSchema },
    201: { description: 'In force: no new matching token can be made', schema: revocationSchema },
    ...errorAnswers(400, 401, 403, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, addSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const match = body.value.match as HopFacts
    const named = Object.keys(match)
    if (named.length === 0 && !body.value.everything) {
      return refused(
        call,
        refuse('bad_body', 'request', {
          proven: true,
          detail: 'an empty match is everything: say so with everything: true',
        }).refusal,
      )
    }
    const mode = body.value.mode ?? (named.some((each) => BANS.includes(each)) || named.length === 0 ? 'ban' : 'cut')
    if (body.value.dry_run) {
      return Response.json(previewView(deps, match, mode, await deps.preview(match, mode)))
    }
    const { entry, tasks } = await deps.revoke.byMatch({
      match,
      mode,
      reason: body.value.reason,
      by: adminOf(call),
      correlation: wire.correlation,
    })
    deps.metrics.revoked(mode)
    const touched = mode === 'suspend' ? { tasks_suspended: tasks } : { tasks_ended: tasks }
    return Response.json({ ...revocationView(entry), ...touched }, { status: 201 })
  },
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

const readmitSchema = z.strictObject({ reason: z.string().min(3).max(500) })

/** Why a ban cannot be ended. */
function whyNot(entry: Revocation | undefined): string {
  if (!entry) return 'there is no such revocation'
  if (entry.absolute) return 'it is of a compromised key: what that key signed stays dead, and cannot be readmitted'
  if (entry.mode === 'suspend') return 'it is a suspension: it is resumed'
  if (entry.readmitted) return 'it was readmitted already'
  return entry.mode === 'cut' ? 'it is a cut and no ban: nothing is kept out by it' : 'the ban is over'
}

const readmitRoute: Route = {
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

const resumeRoute: Route = {
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
      const detail = entry ? 'it is no suspension: nothing is paused by it' : 'there is no such revocation'
      return refused(call, refuse('not_found', 'request', { proven: true, detail }).refusal)
    }
    return Response.json({ ...revocationView(entry), tasks_resumed: tasks })
  },
}

// Fixed paths before the one with a parameter.
export const revocationRoutes: readonly Route[] = [
  addRoute,
  ...feedRoutes,
  bansRoute,
  showRoute,
  readmitRoute,
  resumeRoute,
  receiptRoute,
]
