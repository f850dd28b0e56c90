/**
 * The Shared Signals Framework 1.0, our side as transmitter: its metadata, and the management of a receiver's one stream
 * (SSF §7, §8). A receiver is registered in the configuration, which also says where its events may be pushed.
 */
import { z } from 'zod'
import { type Result, ok, refuse } from '../oauth/refusal.ts'
import { EVENTS_SUPPORTED } from '../revoke/signals/events-of.ts'
import { type SignalStream, STREAM_STATUSES, type StreamSettings } from '../revoke/signals/streams.ts'
import { canonicalSubject, MIN_VERIFICATION_SECONDS, type Receiver, settingsOf } from '../revoke/signals/transmit.ts'
import { newId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const METHOD = { push: 'urn:ietf:rfc:8935', poll: 'urn:ietf:rfc:8936' } as const
const MOST_REMOVED = 1_000
const NO_STORE = { 'Cache-Control': 'no-store' }

const streamId = z.string().max(64)
const text = z.string().max(1024)
/** What a receiver supplies; what we supply may stand beside it, and must then be what it is. */
const supplied = {
  events_requested: z.array(z.string().max(512)).max(64).optional(),
  delivery: z
    .looseObject({
      method: z.enum(Object.values(METHOD) as [string, ...string[]]),
      endpoint_url: z.string().max(2048).optional(),
      authorization_header: z
        .string()
        .regex(/^[\x20-\x7e]{1,1024}$/)
        .optional(),
    })
    .optional(),
  description: text.optional(),
}
const createSchema = z.looseObject(supplied)
const changeSchema = z.looseObject({ stream_id: streamId, ...supplied })
const statusSchema = z.object({ stream_id: streamId, status: z.enum(STREAM_STATUSES), reason: text.optional() })
const subjectSchema = z.object({
  stream_id: streamId,
  subject: z.looseObject({ format: z.string().max(64) }),
  verified: z.boolean().optional(),
})
const verifySchema = z.object({ stream_id: streamId, state: text.optional() })

const configuration = z
  .looseObject({ stream_id: z.string(), iss: z.string(), aud: z.string(), events_delivered: z.array(z.string()) })
  .meta({ id: 'EventStream' })
const statusView = z.object({ stream_id: z.string(), status: z.enum(STREAM_STATUSES), reason: z.string().optional() })

const baseOf = ({ deps }: Call): string => deps.snapshot().settings.issuer.replace(/\/$/, '')

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

function view(call: Call, stream: SignalStream): object {
  const { receiver } = receiverOf(call)
  const { id, delivery, eventsRequested, description } = stream
  return {
    stream_id: id,
    iss: call.deps.snapshot().settings.issuer,
    aud: receiver.audience,
    events_supported: EVENTS_SUPPORTED,
    ...(eventsRequested === undefined ? {} : { events_requested: eventsRequested }),
    events_delivered: EVENTS_SUPPORTED.filter((event) => eventsRequested?.includes(event) ?? true),
    delivery: {
      method: METHOD[delivery],
      endpoint_url: delivery === 'push' ? receiver.pushUrl : `${baseOf(call)}/ssf/poll/${id}`,
    },
    min_verification_interval: MIN_VERIFICATION_SECONDS,
    ...(description === undefined ? {} : { description }),
  }
}

/** Every route below is for receivers alone. */
function receiverOf({ caller }: Call): Receiver {
  if (caller?.kind !== 'receiver') throw new Error('a route of receivers without one')
  return caller.client
}

const notFound = refuse('not_found', 'request', { proven: true })

async function streamOf(call: Call, id: string | undefined): Promise<Result<SignalStream>> {
  const stream = id === undefined ? undefined : await call.deps.signalStreams.get(id)
  return stream?.receiver === receiverOf(call).clientId ? ok(stream) : notFound
}

const bad = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })

/** What the receiver asked for, as it is kept. */
function settingsFrom(call: Call, id: string, body: z.infer<typeof createSchema>): Result<Partial<StreamSettings>> {
  const { delivery, events_requested: eventsRequested, description } = body
  const { receiver } = receiverOf(call)
  if (delivery?.method === METHOD.push) {
    // The destination is the operator's to choose (SECURITY-CASES I): a receiver only agrees to it.
    if (receiver.pushUrl === undefined || delivery.endpoint_url !== receiver.pushUrl)
      return bad('delivery.endpoint_url is not where the configuration lets events of this receiver be pushed')
  }
  const header = delivery?.authorization_header
  return ok({
    ...(delivery === undefined ? {} : { delivery: delivery.method === METHOD.push ? 'push' : 'poll' }),
    ...(header === undefined ? {} : { authorization: call.deps.sealForStream(id, header) }),
    ...(eventsRequested === undefined ? {} : { eventsRequested }),
    ...(description === undefined ? {} : { description }),
  })
}

/** Recorded: who changed what is told to whom. */
const noted = (call: Call, details: { readonly [name: string]: string }) =>
  call.deps.audit.append({
    type: 'signal.stream',
    by: receiverOf(call).clientId,
    correlation: call.wire.correlation,
    details,
  })

const common = { path: '/ssf/streams', access: ['receiver'], tag: 'Signals' } as const
const streamAnswer = { description: 'The stream', schema: configuration }

const createRoute: Route = {
  ...common,
  method: 'POST',
  summary: 'Create the stream of this receiver (SSF 1.0)',
  json: createSchema,
  answers: { 201: streamAnswer, ...errorAnswers(400, 401, 403, 409, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, createSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const exists = refuse('stream_exists', 'request', { proven: true })
    if (await deps.signalStreams.ofReceiver(receiverOf(call).clientId)) return refused(call, exists.refusal)
    const id = newId('stream')
    const settings = settingsFrom(call, id, body.value)
    if (!settings.ok) return refused(call, settings.refusal)
    const stream: SignalStream = {
      delivery: 'poll', // SSF §8.1.1.1: where nothing is said
      removed: [],
      ...settings.value,
      status: 'enabled',
      id,
      receiver: receiverOf(call).clientId,
      cursor: await deps.revocations.epoch(),
    }
    await noted(call, { stream: id, what: 'created', delivery: stream.delivery })
    if (!(await deps.signalStreams.create(stream))) return refused(call, exists.refusal)
    return Response.json(view(call, stream), { status: 201, headers: NO_STORE })
  },
}

const readRoute: Route = {
  ...common,
  method: 'GET',
  summary: 'The configuration of the stream, or without `stream_id` a list of those there are',
  query: { stream_id: 'Which' },
  answers: {
    200: { ...streamAnswer, schema: z.union([configuration, z.array(configuration)]) },
    ...errorAnswers(401, 403, 404, 429, 503),
  },
  async handle(call) {
    const id = call.c.req.query('stream_id')
    if (id === undefined) {
      const own = await call.deps.signalStreams.ofReceiver(receiverOf(call).clientId)
      return Response.json(own ? [view(call, own)] : [], { headers: NO_STORE })
    }
    const stream = await streamOf(call, id)
    if (!stream.ok) return refused(call, stream.refusal)
    return Response.json(view(call, stream.value), { headers: NO_STORE })
  },
}

/** What we supply may be sent back, unchanged. */
function contradicts(body: Readonly<Record<string, unknown>>, is: Readonly<Record<string, unknown>>): boolean {
  return ['iss', 'aud', 'events_supported', 'events_delivered', 'min_verification_interval'].some(
    (name) => body[name] !== undefined && JSON.stringify(body[name]) !== JSON.stringify(is[name]),
  )
}

const changeRoute = (method: 'PATCH' | 'PUT', summary: string): Route => ({
  ...common,
  method,
  summary,
  json: changeSchema,
  answers: { 200: streamAnswer, ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, changeSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const stream = await streamOf(call, body.value.stream_id)
    if (!stream.ok) return refused(call, stream.refusal)
    const before = stream.value
    if (contradicts(body.value, view(call, before) as Readonly<Record<string, unknown>>))
      return refused(call, bad('what the transmitter supplies may be left out, and not changed').refusal)
    const settings = settingsFrom(call, before.id, body.value)
    if (!settings.ok) return refused(call, settings.refusal)
    const { status, statusReason, removed } = before
    const kept: StreamSettings =
      method === 'PATCH'
        ? settingsOf(before)
        : { delivery: 'poll', status, removed, ...(statusReason === undefined ? {} : { statusReason }) }
    const after = { ...kept, ...settings.value }
    await noted(call, { stream: before.id, what: 'changed', delivery: after.delivery })
    if (!(await deps.signalStreams.change(before.id, after))) return refused(call, notFound.refusal)
    const { id, receiver, cursor } = before
    return Response.json(view(call, { ...after, id, receiver, cursor }), { headers: NO_STORE })
  },
})

const deleteRoute: Route = {
  ...common,
  method: 'DELETE',
  summary: 'Delete the stream, with what waits in it',
  query: { stream_id: 'Which' },
  answers: { 204: { description: 'Deleted' }, ...errorAnswers(401, 403, 404, 429, 503) },
  async handle(call) {
    const stream = await streamOf(call, call.c.req.query('stream_id'))
    if (!stream.ok) return refused(call, stream.refusal)
    await noted(call, { stream: stream.value.id, what: 'deleted' })
    await call.deps.signalStreams.remove(stream.value.id)
    return new Response(null, { status: 204, headers: NO_STORE })
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
  createRoute,
  readRoute,
  changeRoute('PATCH', 'Change what is sent of the configuration of the stream'),
  changeRoute('PUT', 'Replace the configuration of the stream'),
  deleteRoute,
  readStatusRoute,
  changeStatusRoute,
  subjectRoute('add', 'Hear of a subject again; of all there are, at first', 200),
  subjectRoute('remove', 'Hear of a subject no more', 204),
  verifyRoute,
  pollRoute,
]
