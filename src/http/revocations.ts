/** `/revocations`: add, look up, re-admit, and the signed feed that verifiers follow. */
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import type { Revocation } from '../revoke/revocation-log.ts'
import { isNonce } from '../revoke/statement.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers, revocationSchema } from './schemas.ts'

const value = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[\x20-\x7e]+$/)

const matchSchema = z.partialRecord(z.enum(DIMENSIONS), value)

const addSchema = z.strictObject({
  match: matchSchema.describe('A conjunction: every dimension must match within one hop of a token. {} is everything'),
  mode: z
    .enum(['cut', 'ban'])
    .describe('Default: ban for agent, client_id, sub, aud, release, kid, task and root; cut otherwise')
    .optional(),
  reason: z.string().min(3).max(500),
  everything: z.literal(true).describe('Needed with an empty match').optional(),
  dry_run: z.boolean().optional(),
})

/** A live agent would simply ask again: naming who or what it is bans, naming single tokens or a policy cuts. */
const BANS: readonly string[] = ['agent', 'client_id', 'sub', 'aud', 'release', 'kid', 'task', 'root', 'domain']

export const revocationView = (entry: Revocation) => ({
  id: entry.id,
  epoch: `${entry.epoch.generation}.${entry.epoch.sequence}`,
  match: entry.match,
  mode: entry.mode,
  reason: entry.reason,
  by: entry.by,
  at: entry.at,
  expires_at: entry.expiresAt,
  ...(entry.banUntil === undefined ? {} : { ban_until: entry.banUntil }),
  ...(entry.readmitted ? { readmitted: entry.readmitted } : {}),
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
    200: { description: 'dry_run: what it would match', schema: z.looseObject({}) },
    201: { description: 'In force: no new matching token can be made', schema: revocationSchema },
    ...errorAnswers(400, 401, 403, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = await jsonOf(c, deps.snapshot().settings.bounds.maxBodyBytes, addSchema)
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
      const tasks = await matchingTasks(call, match)
      return Response.json({ dry_run: true, match, mode, active_tasks: tasks })
    }
    const { entry, tasks } = await deps.revoke.byMatch({
      match,
      mode,
      reason: body.value.reason,
      by: adminOf(call),
      correlation: wire.correlation,
    })
    deps.metrics.revoked(mode)
    return Response.json({ ...revocationView(entry), tasks_ended: tasks }, { status: 201 })
  },
}

/** Ids of active tasks that a revocation by task, root, agent or subject would end. */
async function matchingTasks({ deps }: Call, match: HopFacts): Promise<readonly string[] | undefined> {
  const named = Object.keys(match)
  const root = match.root ?? match.task
  if (named.length !== 1) return undefined
  if (root !== undefined) {
    const task = isId('task', root) ? await deps.tasks.get(root) : undefined
    if (!task) return []
    const tree = await deps.tasks.tree(task.root)
    const below = new Set([task.id])
    for (const each of tree) if (each.parent !== undefined && below.has(each.parent)) below.add(each.id)
    return tree.filter((each) => below.has(each.id) && each.state === 'active').map((each) => each.id)
  }
  const whose =
    match.client_id !== undefined
      ? { agent: match.client_id }
      : match.agent !== undefined
        ? { agentSpiffeId: match.agent }
        : match.sub !== undefined
          ? { subject: match.sub }
          : undefined
  return whose && (await deps.tasks.list({ ...whose, state: 'active', limit: 500 })).map((task) => task.id)
}

const bansRoute: Route = {
  method: 'GET',
  path: '/revocations/bans',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'Bans in force',
  answers: {
    200: { description: 'Bans', schema: z.object({ bans: z.array(revocationSchema) }) },
    ...errorAnswers(401, 403, 429, 503),
  },
  async handle({ deps }) {
    return Response.json({ bans: (await deps.revocations.bans(deps.now())).map(revocationView) })
  },
}

const showRoute: Route = {
  method: 'GET',
  path: '/revocations/:id',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'A revocation, and which verifiers have said that they applied it',
  answers: { 200: { description: 'The entry', schema: revocationSchema }, ...errorAnswers(401, 403, 404, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const id = c.req.param('id')
    const entry = isId('rev', id) ? await deps.revocations.get(id) : undefined
    if (!entry) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    return Response.json({ ...revocationView(entry), acknowledged: deps.acks.reached(entry.epoch) })
  },
}

const readmitSchema = z.strictObject({ reason: z.string().min(3).max(500) })

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
    const body = await jsonOf(c, deps.snapshot().settings.bounds.maxBodyBytes, readmitSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const id = c.req.param('id')
    const done = isId('rev', id) && (await deps.revoke.readmit(id, adminOf(call), body.value.reason, wire.correlation))
    const entry = done ? await deps.revocations.get(id) : undefined
    if (!entry) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    return Response.json(revocationView(entry))
  },
}

const frameSchema = z.object({ frame: z.string().describe('Compact JWS, typ errand-frame+jwt') })
/** Longest long-poll, seconds. */
const LONGEST_WAIT = 30

const snapshotRoute: Route = {
  method: 'GET',
  path: '/revocations',
  access: 'public',
  tag: 'Feed',
  summary: 'The signed state of the revocation log: a snapshot, or what came after an epoch',
  query: { after: 'epoch: only what came after it', wait: 'seconds, at most 30: until something comes after `after`' },
  answers: { 200: { description: 'A signed frame', schema: frameSchema }, ...errorAnswers(400, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const { after, wait } = c.req.query()
    if (after === undefined && wait === undefined) {
      const { frame } = await deps.feed.snapshot()
      const etag = `"${createHash('sha256').update(frame).digest('base64url').slice(0, 22)}"`
      const headers = { 'Cache-Control': 'public, max-age=1', ETag: etag }
      if (c.req.header('if-none-match') === etag) return new Response(null, { status: 304, headers })
      return Response.json({ frame }, { headers })
    }
    const epoch = parseEpoch(after)
    if (!epoch || (wait !== undefined && !/^[1-9][0-9]?$/.test(wait))) {
      return refused(
        call,
        refuse('bad_param', 'request', { detail: 'after is an epoch, wait a number of seconds' }).refusal,
      )
    }
    const headers = { 'Cache-Control': 'no-store' }
    const { frame } =
      wait === undefined
        ? await deps.feed.delta(epoch)
        : await deps.feed.wait(epoch, Math.min(Number(wait), LONGEST_WAIT), c.req.raw.signal)
    return Response.json({ frame }, { headers })
  },
}

const nowRoute: Route = {
  method: 'GET',
  path: '/revocations/now',
  access: 'public',
  tag: 'Feed',
  summary: "Signed over the caller's nonce: the service's run, monotonic time and epoch",
  query: { nonce: '16 to 64 base64url characters' },
  answers: {
    200: { description: 'A signed statement', schema: z.object({ statement: z.string() }) },
    ...errorAnswers(400, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const nonce = c.req.query('nonce')
    const statement = isNonce(nonce) ? await deps.feed.statement(nonce) : undefined
    if (statement === undefined) {
      return refused(
        call,
        refuse('bad_param', 'request', { detail: 'nonce must be 16 to 64 base64url characters' }).refusal,
      )
    }
    return Response.json({ statement }, { headers: { 'Cache-Control': 'no-store' } })
  },
}

const streamRoute: Route = {
  method: 'GET',
  path: '/revocations/stream',
  access: 'public',
  tag: 'Feed',
  summary: 'Server-sent events: each frame as it is made, a heartbeat each second',
  answers: {
    200: { description: 'event: frame, id: epoch, data: compact JWS', contentType: 'text/event-stream' },
    ...errorAnswers(429, 503),
  },
  handle({ deps, c }) {
    const encoder = new TextEncoder()
    let leave: (() => void) | undefined
    const body = new ReadableStream<Uint8Array>(
      {
        start(controller) {
          controller.enqueue(encoder.encode(': errand revocations\n\n'))
          const end = () => {
            leave?.()
            try {
              controller.close()
            } catch {
              // The reader left first.
            }
          }
          leave = deps.feed.subscribe(({ frame, epoch }) => {
            // A reader that does not keep up is cut off: it will ask for a snapshot, and nothing piles up here.
            if ((controller.desiredSize ?? 0) <= 0) return end()
            controller.enqueue(encoder.encode(`event: frame\nid: ${epoch}\ndata: ${frame}\n\n`))
          }, end)
          c.req.raw.signal.addEventListener('abort', end, { once: true })
        },
        cancel: () => leave?.(),
      },
      new CountQueuingStrategy({ highWaterMark: 64 }),
    )
    return new Response(body, {
      headers: { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' },
    })
  },
}

const keyRoute: Route = {
  method: 'GET',
  path: '/revocations/key',
  access: ['tool', 'admin'],
  tag: 'Feed',
  summary: 'The key under which values travel in the feed, for registered verifiers',
  answers: {
    200: { description: 'The key', schema: z.object({ key: z.string(), kid: z.string() }) },
    ...errorAnswers(401, 403, 429, 503),
  },
  handle({ deps }) {
    const kid = createHash('sha256').update('feed-key').update(deps.feedKey).digest('base64url').slice(0, 16)
    return Response.json(
      { key: Buffer.from(deps.feedKey).toString('base64url'), kid },
      { headers: { 'Cache-Control': 'no-store' } },
    )
  },
}

const ackSchema = z.strictObject({ epoch: z.string().max(40) })

const ackRoute: Route = {
  method: 'POST',
  path: '/revocations/acks',
  access: ['tool'],
  tag: 'Feed',
  summary: 'A verifier says up to which epoch it has applied the log',
  json: ackSchema,
  answers: { 204: { description: 'Noted' }, ...errorAnswers(400, 401, 403, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c, caller } = call
    const body = await jsonOf(c, deps.snapshot().settings.bounds.maxBodyBytes, ackSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const epoch = parseEpoch(body.value.epoch)
    if (!epoch || caller?.kind !== 'tool') {
      return refused(call, refuse('bad_body', 'request', { proven: true, detail: 'epoch is not an epoch' }).refusal)
    }
    deps.acks.note(caller.client.clientId, epoch, deps.now())
    return new Response(null, { status: 204 })
  },
}

// Fixed paths before the one with a parameter.
export const revocationRoutes: readonly Route[] = [
  addRoute,
  snapshotRoute,
  nowRoute,
  streamRoute,
  keyRoute,
  bansRoute,
  ackRoute,
  showRoute,
  readmitRoute,
]
