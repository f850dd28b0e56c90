/** `POST /token`: RFC 8693 exchange and RFC 6749 §4.4 client credentials. */
import { z } from 'zod'
import type { Wire } from '../exchange/authenticate.ts'
import type { DryRunResponse } from '../exchange/dry-run.ts'
import type { TokenResponse } from '../exchange/prepared.ts'
import { readTokenRequest, type TokenRequest } from '../exchange/token-request.ts'
import { ok, type Refusal, type Result, refuse } from '../oauth/refusal.ts'
import { giveBack } from './admission.ts'
import { formOf } from './body.ts'
import { type Claim, type ClaimedNames, claimedName } from './claimed-name.ts'
import { refusalResponse } from './refusal-response.ts'
import type { HttpDeps } from './deps.ts'
import type { KnownForms } from './known-forms.ts'
import type { Knock, Route } from './route.ts'
import { errorAnswers, tokenSchema } from './schemas.ts'

const text = (description: string) => z.string().describe(description).optional()

export const tokenRoute: Route = {
  method: 'POST',
  path: '/token',
  access: 'form',
  tag: 'OAuth',
  summary: 'Exchange task context for a scoped token (RFC 8693), or open an autonomous task (client_credentials)',
  form: z.object({
    grant_type: z
      .string()
      .describe(
        'urn:ietf:params:oauth:grant-type:token-exchange, client_credentials, or urn:ietf:params:oauth:grant-type:jwt-bearer',
      ),
    assertion: text('With jwt-bearer: an ID-JAG, or the grant of an agent platform (RFC 7523)'),
    subject_token: text("The user's token, a hand-over token, or an own token"),
    subject_token_type: text('RFC 8693 §3'),
    actor_token: text("The agent's evidence, where it does not authenticate as client"),
    actor_token_type: text('urn:ietf:params:oauth:token-type:jwt'),
    requested_token_type: text('access_token (default), jwt, or urn:errand:params:oauth:token-type:hand-over'),
    resource: text("The tool's audience URI (RFC 8707)"),
    audience: text("The tool's audience URI or name"),
    scope: text('`<tool>:<operation>` values; absent asks for the largest permitted set'),
    authorization_details: text('RFC 9396, instead of scope: JSON list of objects of type tool'),
    task_id: text('An existing task'),
    request_details: text('JSON: opens a task; of a transaction token, the call that it is for'),
    request_context: text('JSON, with a transaction token: where the call comes from'),
    delegate_to: text('client_id of the agent to whom a hand-over token is made out'),
    release: text('Id of the registered release that the agent is'),
    measurements: text('JSON: what the agent sees of itself, compared with its release: model, tools, prompts'),
    dry_run: text('true: the full decision and what would be issued; nothing is changed'),
    client_id: text('Needed with mTLS'),
    client_assertion: text('private_key_jwt or JWT-SVID'),
    client_assertion_type: text(
      'urn:ietf:params:oauth:client-assertion-type:jwt-bearer, or urn:ietf:params:oauth:client-assertion-type:jwt-spiffe',
    ),
  }),
  answers: {
    200: { description: 'Issued (or, with dry_run, decided)', schema: tokenSchema },
    ...errorAnswers(400, 401, 413, 415, 422, 429, 503),
  },
  async handle(call) {
    const answer = await answerToken(call)
    if (answer instanceof Response) return answer
    return Response.json(answer.body, {
      headers: { 'Cache-Control': 'no-store', Pragma: 'no-cache', 'DPoP-Nonce': answer.nonce },
    })
  },
}

export interface TokenAnswer {
  readonly body: TokenResponse | DryRunResponse
  readonly nonce: string
}

/** A refusal is a response; RFC 6749 §5.1 says with which headers the rest goes out: `no-store` in both fields. */
export async function answerToken({
  c,
  deps,
  wire,
  names,
  forms,
}: {
  readonly c: Knock
  readonly deps: HttpDeps
  readonly wire: Wire
  readonly names?: ClaimedNames
  readonly forms?: KnownForms
}): Promise<Response | TokenAnswer> {
  const hint = { clientHint: '' }
  const refused = (refusal: Refusal, alreadyRecorded = false) => {
    if (!alreadyRecorded) deps.audit.countStranger(wire.source, refusal.reason)
    deps.metrics.refused(refusal.reason)
    c.set('reason', refusal.reason)
    return refusalResponse(refusal, {
      dpopNonce: deps.dpop.freshNonce(hint.clientHint),
      issuer: deps.snapshot().settings.issuer,
    })
  }
  const request = readRequest(c, forms)
  if (!request.ok) return refused(request.refusal)
  const evidence = request.value.clientAssertion ?? request.value.actorToken
  const grant = evidence === undefined ? request.value.assertion : undefined
  const claim: { -readonly [K in keyof Claim]: Claim[K] } = {}
  if (evidence !== undefined) claim.assertion = evidence
  if (grant !== undefined) claim.grant = grant
  if (request.value.clientId !== undefined) claim.clientId = request.value.clientId
  if (wire.held) claim.held = wire.held.token
  const known = names?.of(claim)
  hint.clientHint = known ?? claimedName(deps, claim)

  // Dropped in silence, it would leave a client believing that a retry changes nothing.
  if (c.req.header('idempotency-key') !== undefined && wire.idempotencyKey === undefined) {
    return refused(
      refuse('bad_param', 'request', { detail: 'Idempotency-Key must be 8 to 255 printable ASCII characters' }).refusal,
    )
  }
  const answer = await deps.exchange(request.value, wire)
  if (answer.ok || answer.refusal.proven) giveBack(c)
  if (!answer.ok) return refused(answer.refusal, true)
  if ('access_token' in answer.value) deps.metrics.issued(answer.value.issued_token_type)
  if (known === undefined) names?.proven(claim, hint.clientHint)
  else keep(c, forms, request.value)
  return { body: answer.value, nonce: deps.dpop.freshNonce(hint.clientHint) }
}

function readRequest(c: Knock, forms: KnownForms | undefined): Result<TokenRequest> {
  const body = c.get('body')
  const known = body?.ok ? forms?.of(body.value) : undefined
  if (known) return ok(known)
  const form = formOf(c)
  return form.ok ? readTokenRequest(form.value) : form
}

function keep(c: Knock, forms: KnownForms | undefined, request: TokenRequest): void {
  const body = c.get('body')
  if (body?.ok) forms?.keep(body.value, request)
}
