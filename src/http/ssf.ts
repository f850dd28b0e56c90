/**
 * The Shared Signals Framework 1.0, our side as transmitter: its metadata, and what a receiver does with its one stream
 * (SSF §7, §8). A receiver is registered in the configuration, which also says where its events may be pushed.
 */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { type SignalStream, STREAM_STATUSES } from '../revoke/signals/streams.ts'
import { canonicalSubject, settingsOf } from '../revoke/signals/transmit.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'
import { bad, baseOf, METHOD, NO_STORE, noted, notFound, streamId, streamOf, text } from './ssf-receiver.ts'
import { ssfStreamRoutes } from './ssf-stream.ts'

const MOST_REMOVED = 1_000

const statusSchema = z.object({ stream_id: streamId, status: z.enum(STREAM_STATUSES), reason: text.optional() })
const subjectSchema = z.object({
  stream_id: streamId,
  subject: z.looseObject({ format: z.string().max(64) }),
  verified: z.boolean().optional(),
})
const verifySchema = z.object({ stream_id: streamId, state: text.optional() })
const statusView = z.object({ stream_id: z.string(), status: z.enum(STREAM_STATUSES), reason: z.string().optional() })

const metadataRoute: Route = {
  method: 'GET',
  path: '/.well-known/ssf-configuration',
  access: 'public',
  tag: 'Discovery',
  summary: 'Transmitter metadata (Shared Signals Framework 1.0)',
  answers: {
    200: { description: 'Metadata', schema: z.looseObject({ issuer: z.string() }) },
    ...errorAnswers(429, 503),
  },
  handle(call) {
    const base = baseOf(call)
    return Response.json(
      {
        spec_version: '1_0',
        issuer: call.deps.snapshot().settings.issuer,
        jwks_uri: `${base}/.well-known/jwks.json`,
        delivery_methods_supported: [METHOD.push, METHOD.poll],
        configuration_endpoint: `${base}/ssf/streams`,
        status_endpoint: `${base}/ssf/status`,
        add_subject_endpoint: `${base}/ssf/subjects/add`,
        remove_subject_endpoint: `${base}/ssf/subjects/remove`,
        verification_endpoint: `${base}/ssf/verify`,
        authorization_schemes: [{ spec_urn: 'urn:ietf:rfc:7523' }],
        default_subjects: 'ALL',
      },
      { headers: { 'Cache-Control': 'public, max-age=300' } },
    )
  },
}

const statusOf = ({ id, status, statusReason }: Pick<SignalStream, 'id' | 'status' | 'statusReason'>) => ({
  stream_id: id,
  status,
  ...(statusReason === undefined ? {} : { reason: statusReason }),
})

const readStatusRoute: Route = {
  method: 'GET',
  path: '/ssf/status',
  access: ['receiver'],
  tag: 'Signals',
  summary: 'Whether the stream is enabled, paused or disabled',
  query: { stream_id: 'Which' },
  answers: { 200: { description: 'Its status', schema: statusView }, ...errorAnswers(401, 403, 404, 429, 503) },
  async handle(call) {
    const stream = await streamOf(call, call.c.req.query('stream_id'))
    if (!stream.ok) return refused(call, stream.refusal)
    return Response.json(statusOf(stream.value), { headers: NO_STORE })
  },
}

const changeStatusRoute: Route = {
  method: 'POST',
  path: '/ssf/status',
  access: ['receiver'],
  tag: 'Signals',
  summary: 'Enable the stream, pause it (events wait) or disable it (they are lost)',
  json: statusSchema,
  answers: {
    200: { description: 'Its status', schema: statusView },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, statusSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const found = await streamOf(call, body.value.stream_id)
    if (!found.ok) return refused(call, found.refusal)
    const stream = found.value
    const { status, reason } = body.value
    const { statusReason: _, ...settings } = settingsOf(stream)
    const after = { ...settings, status, ...(reason === undefined ? {} : { statusReason: reason }) }
    await noted(call, { stream: stream.id, what: status })
    // From here on: neither what came meanwhile nor what a disabled stream was told last.
    if (status === 'disabled' || stream.status === 'disabled') await deps.transmitter.begin(stream.id)
    if (!(await deps.signalStreams.change(stream.id, after))) return refused(call, notFound.refusal)
    return Response.json(statusOf({ ...after, id: stream.id }), { headers: NO_STORE })
  },
}

const subjectRoute = (what: 'add' | 'remove', summary: string, done: 200 | 204): Route => ({
  method: 'POST',
  path: `/ssf/subjects/${what}`,
  access: ['receiver'],
  tag: 'Signals',
  summary,
  json: subjectSchema,
  answers: { [done]: { description: 'Done' }, ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, subjectSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const stream = await streamOf(call, body.value.stream_id)
    if (!stream.ok) return refused(call, stream.refusal)
    const { subject } = body.value
    if (subject.format === 'complex') return refused(call, bad('subject must be a simple subject').refusal)
    const named = canonicalSubject(subject)
    const others = stream.value.removed.filter((each) => each !== named)
    const removed = what === 'add' ? others : [...others, named]
    if (removed.length > MOST_REMOVED || named.length > 1024)
      return refused(call, bad(`no more than ${MOST_REMOVED} subjects can be removed`).refusal)
    await noted(call, { stream: stream.value.id, what: `subject ${what === 'add' ? 'added' : 'removed'}` })
    await deps.signalStreams.change(stream.value.id, { ...settingsOf(stream.value), removed })
    return new Response(null, { status: done, headers: NO_STORE })
  },
})

const verifyRoute: Route = {
  method: 'POST',
  path: '/ssf/verify',
  access: ['receiver'],
  tag: 'Signals',
  summary: 'Ask for a verification event in the stream',
  json: verifySchema,
  answers: { 204: { description: 'It will come' }, ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, verifySchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const stream = await streamOf(call, body.value.stream_id)
    if (!stream.ok) return refused(call, stream.refusal)
    const wait = await deps.transmitter.verify(stream.value, body.value.state)
    if (wait > 0)
      return refused(call, refuse('rate_limited', 'request', { proven: true, retryAfterSeconds: wait }).refusal)
    return new Response(null, { status: 204, headers: NO_STORE })
  },
}

const pollSchema = z.object({
  maxEvents: z.int().min(0).max(1_000_000).optional(),
  returnImmediately: z.boolean().optional(),
  ack: z.array(z.string().max(256)).max(1000).optional(),
  setErrs: z
    .record(
      z.string().max(256),
      z.looseObject({ err: z.string().max(64), description: z.string().max(1024).optional() }),
    )
    .optional(),
})
/** RFC 8936 §2.4: how long an answer waits for an event. */
const LONGEST_POLL_MS = 10_000

const pollRoute: Route = {
  method: 'POST',
  path: '/ssf/poll/:id',
  access: ['receiver'],
  tag: 'Signals',
  summary: 'Acknowledge events and fetch those that wait (RFC 8936); waits 10 s for one, unless returnImmediately',
  json: pollSchema,
  answers: {
    200: {
      description: 'Security event tokens by jti',
      schema: z.object({ sets: z.record(z.string(), z.string()), moreAvailable: z.boolean().optional() }),
    },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, pollSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const stream = await streamOf(call, c.req.param('id'))
    if (!stream.ok) return refused(call, stream.refusal)
    if (stream.value.delivery !== 'poll') return refused(call, notFound.refusal)
    const { maxEvents = 100, returnImmediately = false, ack = [], setErrs = {} } = body.value
    const faults = Object.fromEntries(
      Object.entries(setErrs).map(([jti, { err }]) => [jti, { err: err as 'invalid_request', description: '' }]),
    )
    await deps.transmitter.settle(stream.value, ack, faults)
    if (maxEvents === 0) return Response.json({ sets: {} }, { headers: NO_STORE })
    await deps.transmitter.run()
    let found = await deps.transmitter.take(stream.value, maxEvents)
    if (Object.keys(found.sets).length === 0 && !returnImmediately && !deps.stopping()) {
      const leave = deps.limits.hold({ client: stream.value.receiver })
      if (leave) await deps.transmitter.news(LONGEST_POLL_MS).finally(leave)
      found = await deps.transmitter.take(stream.value, maxEvents)
    }
    return Response.json({ sets: found.sets, ...(found.more ? { moreAvailable: true } : {}) }, { headers: NO_STORE })
  },
}

export const ssfRoutes: readonly Route[] = [
  metadataRoute,
  ...ssfStreamRoutes,
  readStatusRoute,
  changeStatusRoute,
  subjectRoute('add', 'Hear of a subject again; of all there are, at first', 200),
  subjectRoute('remove', 'Hear of a subject no more', 204),
  verifyRoute,
  pollRoute,
]
