/** The signed feed of revocations that verifiers follow: snapshot, delta, long-poll, stream, nonce, acknowledgements. */
import { createHash } from 'node:crypto'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import type { FeedFrame } from '../revoke/feed.ts'
import { MAX_NONCES } from '../revoke/statement.ts'
import { ackRoutes, INSTANCE } from './acks.ts'
import { nameOf } from './caller.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const frameSchema = z.object({ frame: z.string().describe('Compact JWS, typ errand-frame+jwt') })
/** Longest long-poll, seconds. */
export const LONGEST_WAIT = 30

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
  query: { nonce: '16 to 64 base64url characters; up to 256 of them, separated by commas' },
  answers: {
    200: { description: 'A signed statement', schema: z.object({ statement: z.string() }) },
    ...errorAnswers(400, 429, 503),
  },
  async handle(call) {
    const { deps, c } = call
    const statement = await deps.feed.statement(...(c.req.query('nonce') ?? '').split(',', MAX_NONCES + 1))
    if (statement === undefined) {
      return refused(
        call,
        refuse('bad_param', 'request', {
          detail: 'nonce must be 16 to 64 base64url characters, or up to 256 such separated by commas',
        }).refusal,
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
          let begun = false
          const send = ({ event }: FeedFrame) => {
            // A reader that does not keep up is cut off: it comes back for what it missed, and nothing piles up here.
            if ((controller.desiredSize ?? 0) <= 0) return end()
            controller.enqueue(event)
          }
          const unsubscribe = deps.feed.subscribe(
            (frame) => {
              if (begun) return send(frame)
              return caughtUp.then(() => send(frame))
            },
            () => end(),
          )
          // Asked for after subscribing: nothing lies between it and the first frame of the stream.
          const last = parseEpoch(c.req.header('last-event-id'))
          const caughtUp = (last ? deps.feed.delta(last) : deps.feed.snapshot()).then((first) => {
            send(first)
            begun = true
          })
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

/** As a verifier names each of its processes. */

const keyRoute: Route = {
  method: 'GET',
  path: '/revocations/key',
  access: ['tool', 'admin'],
  tag: 'Feed',
  summary: 'The key under which values travel in the feed, for registered verifiers',
  query: { instance: 'which process of the tool begins: a revocation waits for its first word' },
  answers: {
    200: { description: 'The key', schema: z.object({ key: z.string(), kid: z.string() }) },
    ...errorAnswers(400, 401, 403, 429, 503),
  },
  handle(call) {
    const { deps, c, caller } = call
    const instance = c.req.query('instance')
    if (instance !== undefined && !INSTANCE.test(instance)) {
      const detail = 'instance is up to 64 letters, digits, _ and -'
      return refused(call, refuse('bad_param', 'request', { proven: true, detail }).refusal)
    }
    if (caller?.kind === 'tool' && instance !== undefined) deps.hearing.begun(caller.client.clientId, instance)
    return Response.json(
      { key: Buffer.from(deps.feedKey).toString('base64url'), kid: feedKeyId(deps.feedKey) },
      { headers: { 'Cache-Control': 'no-store' } },
    )
  },
}

export const feedRoutes: readonly Route[] = [snapshotRoute, nowRoute, streamRoute, keyRoute, ...ackRoutes]
