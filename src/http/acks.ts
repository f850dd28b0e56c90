/** What verifiers have applied of the revocation log, as each says itself: to us, or signed, through whoever carries it. */
import { compareEpochs, parseEpoch } from '@errand/verifier/epoch.ts'
import { z } from 'zod'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { readSignedAck } from '../revoke/signed-ack.ts'
import { giveBack } from './admission.ts'
import { jsonOf } from './body.ts'
import type { HttpDeps } from './deps.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const INSTANCE = /^[A-Za-z0-9_-]{1,64}$/

const note = z.string().max(4096)
const ackSchema = z.strictObject({
  epoch: z.string().max(40),
  instance: z.string().regex(INSTANCE).describe('Which process of the tool this is').optional(),
  kids: z
    .array(z.string().max(128))
    .max(1024)
    .describe('Keys of the service that it holds: a new one signs once every registered verifier holds it')
    .optional(),
  leaving: z.literal(true).describe('This process ends').optional(),
  regression: z
    .strictObject({ before: note, after: note })
    .describe('Two checkpoints that contradict one another: the log shrank or was rewritten')
    .optional(),
})

async function take(deps: HttpDeps, tool: string, ack: z.infer<typeof ackSchema>): Promise<Result<true>> {
  const bad = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  const epoch = parseEpoch(ack.epoch)
  if (!epoch) return bad('epoch is not an epoch')
  // Nobody has applied what is not written yet: a verifier that says so is broken, or not what it says.
  if (compareEpochs(epoch, await deps.revocations.epoch()) > 0) return bad('epoch lies ahead')
  const { instance, kids = [], leaving, regression } = ack
  const said = { epoch, ...(instance === undefined ? {} : { instance }), ...(regression ? { regression } : {}), kids }
  if (leaving) deps.hearing.left(tool, instance)
  else deps.hearing.said(tool, said)
  return ok(true)
}

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
    if (caller?.kind !== 'tool') throw new Error('a route of tools without one')
    const noted = await take(deps, caller.client.clientId, body.value)
    return noted.ok ? new Response(null, { status: 204 }) : refused(call, noted.refusal)
  },
}

const relayedSchema = z.strictObject({ ack: z.string().min(1).max(16_384).describe('Compact JWS, typ errand-ack+jwt') })

const relayedRoute: Route = {
  method: 'POST',
  path: '/revocations/acks/relayed',
  access: 'public',
  tag: 'Feed',
  summary: 'The same, signed by the verifier and brought by a relay; whose it is its signature tells',
  json: relayedSchema,
  answers: { 204: { description: 'Noted' }, ...errorAnswers(400, 413, 415, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    const body = jsonOf(c, relayedSchema)
    if (!body.ok) return refused(call, body.refusal)
    const { settings, machines } = deps.snapshot()
    const signed = await readSignedAck(body.value.ack, {
      now: deps.now(),
      issuer: settings.issuer,
      machineOf: (clientId) => machines.byClientId(clientId),
    })
    if (!signed.ok) return refused(call, signed.refusal)
    const { tool, said } = signed.value
    const limited = deps.limits.take(`acks:${tool.clientId}`, settings.bounds.requestsPerSecondPerClient)
    if (limited > 0) return refused(call, refuse('rate_limited', 'request', { retryAfterSeconds: limited }).refusal)
    giveBack(c)
    const ack = ackSchema.safeParse(said)
    const noted = ack.success
      ? await take(deps, tool.clientId, ack.data)
      : refuse('bad_body', 'request', { proven: true, detail: 'what is signed is no acknowledgement' })
    return noted.ok ? new Response(null, { status: 204 }) : refused(call, noted.refusal)
  },
}

export const ackRoutes: readonly Route[] = [ackRoute, relayedRoute]
