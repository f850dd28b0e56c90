/**
 * `POST /global-token-revocation` (draft-parecki-oauth-global-token-revocation): an identity provider, or an
 * administrator, has everything of a user ended. The user may sign in anew.
 */
import { z } from 'zod'
import { spendEvidence } from '../attest/attest.ts'
import { ok, type Refusal, type Result, refuse } from '../oauth/refusal.ts'
import { readRevocationOrder } from '../revoke/signals/revocation-order.ts'
import { subjectNamedBy } from '../revoke/signals/subject-id.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { giveBack } from './admission.ts'
import { jsonOf } from './body.ts'
import { callerOf, presentedInHeaders } from './caller.ts'
import { refused } from './refused.ts'
import type { Call, Caller, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const bodySchema = z.strictObject({
  sub_id: z
    .looseObject({ format: z.string().max(64) })
    .describe('RFC 9493: iss_sub, or opaque with the `sub` that our tokens have'),
})
const BEARER = /^Bearer ([A-Za-z0-9_.-]+)$/i

interface Orderer {
  readonly by: string
  /** Unix seconds. */
  readonly before: number
  /** Whose users alone it may name. */
  readonly issuer?: TrustedIssuer
  readonly caller?: Caller
}

async function ordererOf(call: Call): Promise<Result<Orderer>> {
  const { c, deps } = call
  const bearer = BEARER.exec(c.req.header('authorization') ?? '')?.[1]
  if (bearer === undefined) {
    const presented = presentedInHeaders(call)
    if (!presented.ok) return presented
    const caller = await callerOf(call, presented.value, ['admin'], 'api')
    if (caller.ok || caller.refusal.proven) giveBack(c)
    if (!caller.ok) return caller
    if (caller.value.kind !== 'admin') return refuse('not_permitted', 'api', { proven: true })
    return ok({ by: caller.value.client.clientId, before: deps.now(), caller: caller.value })
  }
  const { settings, issuers } = deps.snapshot()
  const order = await readRevocationOrder(bearer, {
    now: deps.now(),
    endpoint: `${settings.issuer.replace(/\/$/, '')}${PATH}`,
    byIss: (iss) => issuers.byIss(iss),
  })
  if (!order.ok) return order
  const spent = await spendEvidence(order.value, deps.replayGuard, 'api', true)
  if (!spent.ok) return spent
  giveBack(c)
  const { issuer, issuedAt } = order.value
  return ok({ by: `issuer:${issuer.name}`, before: Math.min(issuedAt, deps.now()), issuer })
}

const PATH = '/global-token-revocation'

export const globalRevocationRoute: Route = {
  method: 'POST',
  path: PATH,
  access: 'provider',
  tag: 'Revocation',
  summary: 'End everything of a user, who may sign in anew (draft-parecki-oauth-global-token-revocation)',
  json: bodySchema,
  answers: {
    204: { description: 'Ended, now or before: no older sign-in of the user opens anything' },
    ...errorAnswers(400, 401, 403, 404, 413, 415, 429, 503),
  },
  async handle(call) {
    const { c, deps, wire } = call
    const orderer = await ordererOf(call)
    if (!orderer.ok) return refused(call, orderer.refusal)
    const { by, before, issuer: own, caller } = orderer.value
    const no = async (refusal: Refusal) => {
      await deps.audit.append({
        type: 'signal.refused',
        decision: 'refuse',
        reason: refusal.reason,
        by,
        correlation: wire.correlation,
        details: { route: `POST ${PATH}` },
      })
      return refused(caller ? { ...call, caller } : call, { ...refusal, proven: true }, { recorded: true })
    }
    const body = jsonOf(c, bodySchema)
    if (!body.ok) return no(body.refusal)
    const named = subjectNamedBy(body.value.sub_id, deps.snapshot().issuers)
    if (named.found === 'unsupported') {
      const detail = 'sub_id must be an iss_sub, or an opaque id as our tokens have it in sub'
      return no(refuse('bad_body', 'request', { detail }).refusal)
    }
    // Of an issuer's own users alone: whether there are others is not for it to learn.
    if (named.found === 'nobody') return no(refuse(own ? 'not_permitted' : 'not_found', 'request').refusal)
    if (own && named.issuer !== own) return no(refuse('not_permitted', 'request').refusal)
    await deps.signOut({
      subject: named.subject,
      before,
      tokensLiveSeconds: named.issuer.maxTokenLifetimeSeconds,
      reason: 'ordered by global token revocation',
      by,
      correlation: wire.correlation,
    })
    deps.metrics.revoked('ban')
    return new Response(null, { status: 204, headers: { 'Cache-Control': 'no-store' } })
  },
}
