/** `POST /ssf/events` (RFC 8935): identity providers push security event tokens, each of which is its own credential. */
import { z } from 'zod'
import { setErrorOf } from '../revoke/signals/security-event.ts'
import { giveBack } from './admission.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const CONTENT_TYPE = 'application/secevent+jwt'

export const receiveRoute: Route = {
  method: 'POST',
  path: '/ssf/events',
  access: 'public',
  tag: 'Signals',
  summary: 'A security event token of an identity provider (RFC 8935); whose it is its signature tells',
  answers: {
    202: { description: 'Carried out, or noted' },
    400: {
      description: 'Not taken (RFC 8935 §2.4)',
      schema: z.object({ err: z.string(), description: z.string() }),
    },
    ...errorAnswers(413, 429, 503),
  },
  async handle(call) {
    const { c, deps, wire } = call
    const body = c.get('body')
    const isSet = (c.req.header('content-type') ?? '').split(';', 1)[0]!.trim().toLowerCase() === CONTENT_TYPE
    const answer = isSet && body?.ok ? await deps.receive(body.value, 'push', wire.correlation) : undefined
    // What comes again is paid for, whosever it was.
    if (answer?.first) giveBack(c)
    if (answer?.ok) return new Response(null, { status: 202, headers: { 'Cache-Control': 'no-store' } })
    if (answer?.refusal.reason === 'rate_limited') return refused(call, answer.refusal, { recorded: true })
    const reason = answer?.refusal.reason ?? 'media_type'
    c.set('reason', reason)
    deps.metrics.refused(reason)
    if (!answer?.first) deps.audit.countStranger(wire.source, reason)
    const description = answer ? 'the token cannot be taken' : `send a token as ${CONTENT_TYPE}`
    return Response.json(
      { err: setErrorOf(reason), description: answer?.known ? reason : description },
      { status: 400, headers: { 'Cache-Control': 'no-store', 'Content-Language': 'en' } },
    )
  },
}
