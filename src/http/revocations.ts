/** `/revocations`: add, look up, re-admit; the signed feed that verifiers follow stands in feed.ts. */
import { EFFECTS, type Effect } from '@errand/verifier/claims.ts'
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { createHash } from 'node:crypto'
import { z } from 'zod'
import type { Snapshot } from '../config/snapshot.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { namesTasks } from '../revoke/matching-tasks.ts'
import type { Revocation, RevocationMode } from '../revoke/revocation-log.ts'
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

const takeSchema = z.strictObject({
  tools: z.array(plainText).max(100).optional(),
  operations: z.array(plainText).max(1000).describe('<tool>:<operation>').optional(),
  max_effect: z.enum(EFFECTS).describe('Everything of a stronger effect, as operations are labelled now').optional(),
})

const addSchema = z.strictObject({
  match: matchSchema
    .describe('A conjunction: every dimension must match within one hop of a token. {} is everything')
    .optional(),
  mode: z
    .enum(['cut', 'ban', 'suspend', 'contain'])
    .describe('Default: ban for agent, client_id, sub, aud, release, kid, task and root; cut otherwise')
    .optional(),
  take: takeSchema
    .describe('What contain takes from the tasks that match, and from all below them, for good')
    .optional(),
  checked_before: z
    .number()
    .int()
    .describe('Unix seconds: only what was issued until then is cut, by the mark of its minute')
    .optional(),
  reason: z.string().min(3).max(500),
  everything: z.literal(true).describe('Needed with an empty match').optional(),
  dry_run: z.boolean().describe('Name the members, and change nothing').optional(),
  bulk_token: z
    .string()
    .max(64)
    .describe('Of a preview: exactly what it showed is revoked. Nothing else but the reason goes with it')
    .optional(),
})

/** A match, or a preview's bulk token, and nothing that would be ignored. */
function whatIsMeant(
  body: z.infer<typeof addSchema>,
): Result<{ readonly match: HopFacts } | { readonly bulk: string }> {
  const { match, bulk_token: bulk, reason: _, ...rest } = body
  const no = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  if (bulk !== undefined) {
    return match === undefined && Object.keys(rest).length === 0
      ? ok({ bulk })
      : no('a bulk_token says what is revoked: send it with a reason and nothing else')
  }
  if (match === undefined) return no('match is missing')
  if (Object.keys(match).length === 0 && !body.everything)
    return no('an empty match is everything: say so with everything: true')
  return ok({ match: match as HopFacts })
}

/** A live agent would simply ask again: naming who or what it is bans, naming single tokens or a policy cuts. */
const BANS: readonly string[] = ['agent', 'client_id', 'sub', 'aud', 'release', 'kid', 'task', 'root', 'domain']

const takenView = ({ tools, operations, maxEffect }: NonNullable<Revocation['taken']>) => ({
  tools,
  operations,
  ...(maxEffect === undefined ? {} : { max_effect: maxEffect }),
})

/** A misspelt name must not take nothing. */
function readTake(
  { tools = [], operations = [], max_effect: maxEffect }: z.infer<typeof takeSchema>,
  { tools: known }: Snapshot,
): Result<NonNullable<Revocation['taken']>> {
  const bad = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  const all = known.all.flatMap((tool) =>
    [...tool.operations.values()].map(({ name, effect }) => ({ name: `${tool.name}:${name}`, effect })),
  )
  const tool = tools.find((name) => !known.byName(name))
  if (tool !== undefined) return bad(`there is no tool ${tool}`)
  const operation = operations.find((name) => !all.some((each) => each.name === name))
  if (operation !== undefined) return bad(`there is no operation ${operation}`)
  const above = maxEffect === undefined ? [] : all.filter(({ effect }) => rank(effect) > rank(maxEffect))
  const taken = [...new Set([...operations, ...above.map(({ name }) => name)])]
  if (tools.length === 0 && taken.length === 0) return bad('take names nothing: tools, operations or max_effect')
  return ok({ tools, operations: taken, ...(maxEffect === undefined ? {} : { maxEffect }) })
}
const rank = (effect: Effect): number => EFFECTS.indexOf(effect)

const revocationView = (entry: Revocation) => ({
  id: entry.id,
  epoch: `${entry.epoch.generation}.${entry.epoch.sequence}`,
  match: entry.match,
  ...(entry.before === undefined ? {} : { checked_before: formatEpoch(entry.before) }),
  mode: entry.mode,
  reason: entry.reason,
  by: entry.by,
  at: entry.at,
  expires_at: entry.expiresAt,
  ...(entry.banUntil === undefined ? {} : { ban_until: entry.banUntil }),
  ...(entry.taken ? { taken: takenView(entry.taken) } : {}),
  ...(entry.readmitted ? { [entry.mode === 'suspend' ? 'resumed' : 'readmitted']: entry.readmitted } : {}),
})

/** What a mode does to tasks, as the answer names it. */
const TOUCHED = {
  cut: 'tasks_ended',
  ban: 'tasks_ended',
  suspend: 'tasks_suspended',
  contain: 'tasks_contained',
} as const

/** What was there is cut; what keeps out, pauses or takes is about what comes. */
function windowOf(
  { checked_before: until, dry_run: dry }: z.infer<typeof addSchema>,
  mode: RevocationMode,
  now: number,
): Result<number | undefined> {
  if (until === undefined) return ok(undefined)
  const no = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  if (mode !== 'cut') return no('checked_before goes with mode cut alone')
  if (dry) return no('checked_before has no preview: a preview is of what is there now')
  return until > now ? refuse('time_in_future', 'request', { proven: true }) : ok(until)
}

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

const adminOf = ({ caller }: Call): string => (caller?.kind === 'admin' ? caller.client.clientId : 'unknown')

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
    ...errorAnswers(400, 401, 403, 413, 415, 422, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, addSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const meant = whatIsMeant(body.value)
    if (!meant.ok) return refused(call, meant.refusal)
    if ('bulk' in meant.value) return inBulk(call, meant.value.bulk, body.value.reason)
    const { match } = meant.value
    const named = Object.keys(match)
    const whole = body.value.checked_before === undefined
    const mode =
      body.value.mode ?? (whole && (named.some((each) => BANS.includes(each)) || named.length === 0) ? 'ban' : 'cut')
    if ((mode === 'contain') !== (body.value.take !== undefined) || (mode === 'contain' && !namesTasks(match))) {
      const detail = 'contain goes with take, and a match of tasks, agents or subjects alone'
      return refused(call, refuse('bad_body', 'request', { proven: true, detail }).refusal)
    }
    const window = windowOf(body.value, mode, deps.now())
    if (!window.ok) return refused(call, window.refusal)
    const taken = body.value.take && readTake(body.value.take, deps.snapshot())
    if (taken && !taken.ok) return refused(call, taken.refusal)
    if (body.value.dry_run) {
      const pinned = await deps.bulk.preview(match, mode, adminOf(call), taken?.value)
      return Response.json(previewView(deps, match, mode, pinned))
    }
    const id = idOf(call)
    if (!id.ok) return refused(call, id.refusal)
    const mark = window.value === undefined ? undefined : await deps.marks.markFor(window.value)
    const { entry, added, tasks, another } = await deps.revoke.byMatch({
      ...id.value,
      ...(mark ? { before: mark.epoch } : {}),
      match,
      mode,
      ...(taken ? { taken: taken.value } : {}),
      reason: body.value.reason,
      by: adminOf(call),
      correlation: wire.correlation,
    })
    if (another) return refused(call, refuse('idempotency_conflict', 'request', { proven: true }).refusal)
    if (added) deps.metrics.revoked(mode)
    return Response.json({ ...revocationView(entry), [TOUCHED[mode]]: tasks }, { status: added ? 201 : 200 })
  },
}

const touched = (mode: RevocationMode, tasks: readonly string[]) => ({ [TOUCHED[mode]]: tasks })

/** What a preview has pinned. */
async function inBulk(call: Call, token: string, reason: string): Promise<Response> {
  const { deps, wire } = call
  const done = await deps.bulk.execute(token, adminOf(call), reason, wire.correlation)
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

const readmitSchema = z.strictObject({ reason: z.string().min(3).max(500) })

/** Why a ban cannot be ended. */
function whyNot(entry: Revocation | undefined): string {
  if (!entry) return 'there is no such revocation'
  if (entry.absolute) return 'it is of a compromised key: what that key signed stays dead, and cannot be readmitted'
  if (entry.mode === 'suspend') return 'it is a suspension: it is resumed'
  if (entry.readmitted) return 'it was readmitted already'
  return entry.mode !== 'ban' ? `it is a ${entry.mode} and no ban: nothing is kept out by it` : 'the ban is over'
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
