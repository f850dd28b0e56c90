/** `POST /introspect` (RFC 7662, signed on request by RFC 9701) and `POST /revoke` (RFC 7009), for those whom a token concerns. */
import { z } from 'zod'
import { handOverTaskId } from '../tokens/hand-over.ts'
import type { OwnToken } from '../tokens/introspect.ts'
import { refuse, type Refusal } from '../oauth/refusal.ts'
import { TYP } from '../oauth/words.ts'
import { acceptanceOf } from './accepts.ts'
import { giveBack } from './admission.ts'
import { formOf } from './body.ts'
import { callerOf, nameOf, presentedInForm } from './caller.ts'
import { claimedName } from './claimed-name.ts'
import { refusalResponse } from './refusal-response.ts'
import type { Call, Caller, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const formSchema = z.object({
  token: z.string(),
  token_type_hint: z.string().optional(),
  client_assertion: z.string().optional(),
  client_assertion_type: z.string().optional(),
  client_id: z.string().optional(),
})

/** A tool may ask about tokens for its audience, an agent about its own, an administrator about any. */
function concerns(caller: Caller, { claims }: OwnToken): boolean {
  switch (caller.kind) {
    case 'admin':
      return true
    case 'receiver':
      return false
    case 'tool':
      return claims.aud === caller.client.audience
    case 'agent':
      return claims.client_id === caller.proven.attested.agent.clientId
  }
}

/** Client authentication and the token out of the form; a refusal becomes the answer. */
async function asked(
  call: Call,
): Promise<{ readonly answer: Response } | { readonly caller: Caller; readonly token: string }> {
  const { c, deps, wire } = call
  let hint = ''
  const refused = (refusal: Refusal) => {
    deps.audit.countStranger(wire.source, refusal.reason)
    deps.metrics.refused(refusal.reason)
    c.set('reason', refusal.reason)
    return {
      answer: refusalResponse(refusal, {
        dpopNonce: deps.dpop.freshNonce(hint),
        issuer: deps.snapshot().settings.issuer,
      }),
    }
  }
  const form = formOf(c)
  if (!form.ok) return refused(form.refusal)
  const presented = presentedInForm(form.value, call)
  if (!presented.ok) return refused(presented.refusal)
  hint = claimedName(deps, {
    ...(presented.value.clientId === undefined ? {} : { clientId: presented.value.clientId }),
    ...(presented.value.assertion ? { assertion: presented.value.assertion.token } : {}),
    ...(wire.held ? { held: wire.held.token } : {}),
  })
  const caller = await callerOf(call, presented.value, ['agent', 'tool', 'admin'], 'client')
  if (caller.ok || caller.refusal.proven) giveBack(c)
  if (!caller.ok) return refused(caller.refusal)
  const token = form.value.get('token')?.[0]
  if (token === undefined) {
    return refused(refuse('param_missing', 'request', { detail: 'token is missing', proven: true }).refusal)
  }
  return { caller: caller.value, token }
}

/** A caller whom the token does not concern learns nothing; the log learns of the caller. */
async function notTheirs(call: Call, caller: Caller, token: OwnToken, at: string): Promise<void> {
  await call.deps.audit.append({
    type: 'token.inspected_refused',
    decision: 'refuse',
    reason: 'caller_not_audience',
    by: nameOf(caller),
    jti: token.claims.jti,
    task: token.claims.task.id,
    correlation: call.wire.correlation,
    details: { at },
  })
}

/** Nothing of ours, or long expired: nothing to revoke, and the log still learns who tried (L14). */
async function nobodys(call: Call, caller: Caller): Promise<void> {
  await call.deps.audit.append({
    type: 'token.inspected_refused',
    decision: 'refuse',
    reason: 'not_a_token',
    by: nameOf(caller),
    correlation: call.wire.correlation,
    details: { at: 'revoke' },
  })
}

const SIGNED = `application/${TYP.introspection}`

/** RFC 9701 §4: who wants a signed answer says so in `Accept`. */
function wantsSigned({ c }: Call): boolean {
  const accept = c.req.header('accept')
  const signed = acceptanceOf(accept, SIGNED)
  const plain = acceptanceOf(accept, 'application/json')
  return signed.named && signed.quality > 0 && (!plain.named || signed.quality >= plain.quality)
}

/** As JSON, or in a JWT for this caller alone; without `sub` and `exp`, so that nobody takes it for a token (RFC 9701 §5). */
async function introspected(call: Call, caller: Caller, answer: { readonly active: boolean }): Promise<Response> {
  const headers = { 'Cache-Control': 'no-store', Vary: 'Accept' }
  if (!wantsSigned(call)) return Response.json(answer, { headers })
  const { deps } = call
  const jws = await deps.keys.sign(
    'status',
    { typ: TYP.introspection },
    { iss: deps.snapshot().settings.issuer, aud: nameOf(caller), iat: deps.now(), token_introspection: answer },
  )
  return new Response(jws, { headers: { ...headers, 'Content-Type': SIGNED } })
}

export const introspectRoute: Route = {
  method: 'POST',
  path: '/introspect',
  access: 'form',
  tag: 'OAuth',
  summary: 'Whether a token is good at this moment (RFC 7662); signed where Accept asks for it (RFC 9701)',
  form: formSchema,
  answers: {
    200: {
      description: 'active: false for everything bad, unknown, or not of the caller',
      schema: z.looseObject({ active: z.boolean() }),
      also: SIGNED,
    },
    ...errorAnswers(400, 401, 413, 415, 429, 503),
  },
  async handle(call) {
    const request = await asked(call)
    if ('answer' in request) return request.answer
    const { caller } = request
    const { active, token } = await call.deps.introspect(request.token)
    const concerned = token !== undefined && concerns(caller, token)
    if (token && !concerned) await notTheirs(call, caller, token, 'introspect')
    if (!active || !concerned) return introspected(call, caller, { active: false })
    const { claims } = token
    const bound = 'cnf' in claims && claims.cnf && 'jkt' in claims.cnf
    const answer = { active, token_type: token.kind === 'hand_over' ? 'N_A' : bound ? 'DPoP' : 'Bearer', ...claims }
    return introspected(call, caller, answer)
  },
}

export const revokeRoute: Route = {
  method: 'POST',
  path: '/revoke',
  access: 'form',
  tag: 'OAuth',
  summary: 'Revoke one token and everything made from it (RFC 7009)',
  form: formSchema,
  answers: {
    200: { description: 'Revoked, or there was nothing to revoke' },
    ...errorAnswers(400, 401, 413, 415, 429, 503),
  },
  async handle(call) {
    const request = await asked(call)
    if ('answer' in request) return request.answer
    const { deps, wire } = call
    const { token, active } = await deps.introspect(request.token)
    const headers = { 'Cache-Control': 'no-store' }
    if (token && !concerns(request.caller, token)) {
      await notTheirs(call, request.caller, token, 'revoke')
      return new Response(null, { status: 200, headers }) // RFC 7009 §2.2: no word on whose it is
    }
    if (token) {
      // Dead already is asked again: the same entry, and one more record (L14).
      const by = nameOf(request.caller)
      await deps.revoke.token(token.claims, by, wire.correlation)
      // What a hand-over was made into goes with it, also after it was spent.
      if (token.kind === 'hand_over') {
        await deps.revoke.endTask(
          handOverTaskId(token.claims),
          'revoked',
          'its hand-over was revoked',
          by,
          wire.correlation,
        )
      }
      if (active) deps.metrics.revoked('cut')
    } else await nobodys(call, request.caller)
    return new Response(null, { status: 200, headers })
  },
}
