/** `/revocations`: add, look up, re-admit, and the signed feed that verifiers follow. */
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { compareEpochs, parseEpoch } from '@errand/verifier/epoch.ts'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { createHash } from 'node:crypto'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import type { FeedFrame } from '../revoke/feed.ts'
import type { Revocation } from '../revoke/revocation-log.ts'
import { isNonce } from '../revoke/statement.ts'
import { isId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { nameOf } from './caller.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
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
    .enum(['cut', 'ban'])
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
      return Response.json({ dry_run: true, match, mode, active_tasks: await deps.revoke.matching(match) })
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

/** Why a ban cannot be ended. */
function whyNot(entry: Revocation | undefined): string {
  if (!entry) return 'there is no such revocation'
  if (entry.absolute) return 'it is of a compromised key: what that key signed stays dead, and cannot be readmitted'
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

const frameSchema = z.object({ frame: z.string().describe('Compact JWS, typ errand-frame+jwt') })
/** Longest long-poll, seconds. */
const LONGEST_WAIT = 30

/** A verifier that has proven who it is has a place of its own, and beyond its share what strangers have. */
const placeFor = ({ caller, wire, deps: { limits } }: Call): (() => void) | undefined =>
  (caller && limits.hold({ client: nameOf(caller) })) ?? limits.hold({ source: wire.source })

const snapshotRoute: Route = {
  method: 'GET',
  path: '/revocations',
  access: 'public',
  recognises: true,
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
    if (wait === undefined) return Response.json({ frame: (await deps.feed.delta(epoch)).frame }, { headers })
    const leave = placeFor(call)
    if (!leave) return refused(call, refuse('overloaded', 'request').refusal)
    try {
      const { frame } = await deps.feed.wait(epoch, Math.min(Number(wait), LONGEST_WAIT), c.req.raw.signal)
      return Response.json({ frame }, { headers })
    } finally {
      leave()
    }
  },
}

const nowRoute: Route = {
  method: 'GET',
  path: '/revocations/now',
  access: 'public',
  recognises: true,
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
  recognises: true,
  tag: 'Feed',
  summary: 'Server-sent events: what came after Last-Event-ID, or a snapshot; then each frame, a heartbeat each second',
  answers: {
    200: { description: 'event: frame, id: epoch, data: compact JWS', contentType: 'text/event-stream' },
    ...errorAnswers(429, 503),
  },
  handle(call) {
    const { deps, c } = call
    const headers = { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-store', 'X-Accel-Buffering': 'no' }
    if (c.req.method === 'HEAD') return new Response(null, { headers })
    const leave = placeFor(call)
    if (!leave) return refused(call, refuse('overloaded', 'request').refusal)
    const encoder = new TextEncoder()
    const { signal } = c.req.raw
    let end: () => void = leave
    const body = new ReadableStream<Uint8Array>(
      {
        start(controller) {
          controller.enqueue(encoder.encode(': errand revocations\n\n'))
          const send = ({ frame, epoch }: FeedFrame) => {
            // A reader that does not keep up is cut off: it comes back for what it missed, and nothing piles up here.
            if ((controller.desiredSize ?? 0) <= 0) return end()
            controller.enqueue(encoder.encode(`event: frame\nid: ${epoch}\ndata: ${frame}\n\n`))
          }
          const unsubscribe = deps.feed.subscribe(
            async (frame) => {
              await caughtUp
              send(frame)
            },
            () => end(),
          )
          // Asked for after subscribing: nothing lies between it and the first frame of the stream.
          const last = parseEpoch(c.req.header('last-event-id'))
          const caughtUp = (last ? deps.feed.delta(last) : deps.feed.snapshot()).then(send)
          caughtUp.catch(() => end()) // its reader comes back
          end = () => {
            leave()
            unsubscribe()
            signal.removeEventListener('abort', end)
            try {
              controller.close()
            } catch {
              // The reader left first.
            }
          }
          signal.addEventListener('abort', end)
          if (signal.aborted || deps.stopping()) end()
        },
        cancel: () => end(),
      },
      new CountQueuingStrategy({ highWaterMark: 64 }),
    )
    return new Response(body, { headers })
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
    return Response.json(
      { key: Buffer.from(deps.feedKey).toString('base64url'), kid: feedKeyId(deps.feedKey) },
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
    const body = jsonOf(c, ackSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const epoch = parseEpoch(body.value.epoch)
    if (!epoch || caller?.kind !== 'tool') {
      return refused(call, refuse('bad_body', 'request', { proven: true, detail: 'epoch is not an epoch' }).refusal)
    }
    // Nobody has applied what is not written yet: a verifier that says so is broken, or not what it says.
    if (compareEpochs(epoch, await deps.revocations.epoch()) > 0) {
      return refused(call, refuse('bad_body', 'request', { proven: true, detail: 'epoch lies ahead' }).refusal)
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
