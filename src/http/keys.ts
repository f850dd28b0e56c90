/** The signing keys, for administrators: their states, their public halves, rotating them, giving one up. */
import { z } from 'zod'
import { MAX_ASKED_FOR_KEYS } from '../keys/jwks-document.ts'
import { refuse } from '../oauth/refusal.ts'
import { jsonOf } from './body.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const problems = errorAnswers(400, 401, 403, 404, 429, 503)

const adminOf = ({ caller }: Call): string => (caller?.kind === 'admin' ? caller.client.clientId : 'unknown')

/** Nothing where its private half is here. */
function signerOf({ keys }: Call['deps'], kid: string) {
  const found = keys.signerOf(kid)
  return found ? { signer: { kind: found.kind, ...found.ref } } : {}
}

const keysRoute: Route = {
  method: 'GET',
  path: '/keys',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Signing keys and their states',
  answers: {
    200: { description: 'Keys', schema: z.object({ keys: z.array(z.looseObject({ kid: z.string() })) }) },
    ...problems,
  },
  handle: ({ deps }) =>
    Response.json({
      keys: deps.keys.keys().map((key) => ({
        kid: key.kid,
        purpose: key.purpose,
        alg: key.alg,
        state: key.state,
        ...signerOf(deps, key.kid),
        prepared_at: key.preparedAt,
        ...(key.activatedAt === undefined ? {} : { activated_at: key.activatedAt }),
        ...(key.retiringAt === undefined ? {} : { retiring_at: key.retiringAt }),
        ...(key.retiredAt === undefined ? {} : { retired_at: key.retiredAt }),
      })),
    }),
}

const everRoute: Route = {
  method: 'GET',
  path: '/keys/jwks',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Every public key there ever was, with its state and times: for verifying old evidence, never for tokens',
  answers: {
    200: { description: 'The key set', schema: z.object({ keys: z.array(z.looseObject({ kid: z.string() })) }) },
    ...problems,
  },
  handle: ({ deps }) => Response.json({ keys: deps.keys.publicKeysEver() }),
}

const rotateSchema = z.strictObject({
  purpose: z.string().max(32).describe('One of those that `GET /keys` shows; `token` by default').optional(),
  immediately: z.boolean().describe('Do not wait until the new key is in every cache').optional(),
})

const rotateRoute: Route = {
  method: 'POST',
  path: '/keys/rotate',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Prepare a successor now; it signs once it has been published long enough',
  json: rotateSchema,
  answers: {
    200: {
      description: 'The successor',
      schema: z.looseObject({
        purpose: z.string(),
        kid: z.string(),
        state: z.string(),
        activates_at: z.number().int(),
      }),
    },
    ...errorAnswers(413, 415),
    ...problems,
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, rotateSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { purpose: asked = 'token', immediately = false } = body.value
    const purpose = deps.rotation.purposes.find((each) => each === asked)
    if (purpose === undefined)
      return refused(
        call,
        refuse('bad_param', 'request', { proven: true, detail: 'there are no keys for that purpose' }).refusal,
      )
    if (deps.keys.jwks().keys.length >= MAX_ASKED_FOR_KEYS)
      return refused(
        call,
        refuse('overloaded', 'request', { proven: true, detail: 'too many keys are published: let some retire first' })
          .refusal,
      )
    await deps.audit.append({
      type: 'admin.acted',
      by: adminOf(call),
      correlation: wire.correlation,
      details: { action: 'keys.rotate', purpose, immediately },
    })
    const answer = await deps.rotation.rotateNow(purpose, { immediately })
    return Response.json({
      purpose: answer.purpose,
      kid: answer.kid,
      state: answer.state,
      activates_at: answer.activatesAt,
    })
  },
}

const compromiseSchema = z.strictObject({ kid: z.string().min(1).max(128), reason: z.string().min(3).max(500) })

const compromiseRoute: Route = {
  method: 'POST',
  path: '/keys/compromise',
  access: ['admin'],
  tag: 'Administration',
  summary: 'A key is in other hands: rotate now, and everything it signed is dead whatever it claims',
  json: compromiseSchema,
  answers: {
    200: { description: 'Done', schema: z.looseObject({ kid: z.string() }) },
    ...errorAnswers(413, 415),
    ...problems,
  },
  async handle(call) {
    const { deps, c, wire } = call
    const body = jsonOf(c, compromiseSchema)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const done = await deps.rotation.compromise(body.value.kid)
    if (!done) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    const revoked =
      done.revocation &&
      (await deps.revoke.byMatch({
        match: done.revocation.match,
        mode: done.revocation.mode,
        absolute: true,
        reason: body.value.reason,
        by: adminOf(call),
        correlation: wire.correlation,
        keepUntil: done.revocation.expiresAt,
      }))
    // Renewed tokens have no trace of the key that signed what they were renewed from: all that was issued so far goes.
    if (revoked) {
      await deps.revoke.byMatch({
        match: {},
        mode: 'cut',
        reason: `after the compromise of key ${done.kid}`,
        by: adminOf(call),
        correlation: wire.correlation,
      })
    }
    return Response.json({
      kid: done.kid,
      purpose: done.purpose,
      ...(done.successor === undefined ? {} : { successor: done.successor }),
      ...(revoked ? { revocation: revoked.entry.id } : {}),
    })
  },
}

export const keyRoutes: readonly Route[] = [keysRoute, everRoute, rotateRoute, compromiseRoute]
