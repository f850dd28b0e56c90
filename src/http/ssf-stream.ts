/** `/ssf/streams`: a receiver creates, reads, changes and deletes its one stream (SSF 1.0 §8.1.1). */
import { z } from 'zod'
import { type Result, ok, refuse } from '../oauth/refusal.ts'
import { EVENTS_SUPPORTED } from '../revoke/signals/events-of.ts'
import type { SignalStream, StreamSettings } from '../revoke/signals/streams.ts'
import { MIN_VERIFICATION_SECONDS, settingsOf } from '../revoke/signals/transmit.ts'
import { newId } from '../tasks/ids.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'
import { bad, baseOf, METHOD, NO_STORE, noted, notFound, receiverOf, streamId, streamOf, text } from './ssf-receiver.ts'

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

const configuration = z
  .looseObject({ stream_id: z.string(), iss: z.string(), aud: z.string(), events_delivered: z.array(z.string()) })
  .meta({ id: 'EventStream' })

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

export const ssfStreamRoutes: readonly Route[] = [
  createRoute,
  readRoute,
  changeRoute('PATCH', 'Change what is sent of the configuration of the stream'),
  changeRoute('PUT', 'Replace the configuration of the stream'),
  deleteRoute,
]
