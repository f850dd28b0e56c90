/** Authenticated requests to the service: fresh evidence and proof for each try, bounded retries, typed refusals. */
import { randomUUID } from 'node:crypto'
import type { Dpop } from './dpop.ts'
import { ErrandError, type ErrandErrorFields, type Lost, NEXT_ACTIONS } from './errors.ts'
import type { Evidence } from './evidence.ts'
import { type Endpoints, endpointsOf, metadataUrl, secureUrl } from './metadata.ts'
import type { ToolAuthorization } from './token.ts'
import { boundedText, retryAfterSeconds, type Transport } from './transport.ts'

export interface ServiceDeps {
  readonly issuer: string
  readonly evidence: Evidence
  readonly dpop: Dpop
  readonly fetch: typeof fetch
  readonly now: () => number
  readonly wait: (milliseconds: number) => Promise<void>
  readonly timeoutSeconds: number
}

export type Json = { readonly [name: string]: unknown }

export interface Service {
  /** `POST /token`. */
  exchange(form: { readonly [name: string]: string | undefined }): Promise<Json>
  /** One of the JSON endpoints. */
  api(method: 'GET' | 'POST', path: string, body?: Json): Promise<Json>
}

const MAX_TRIES = 4
const FIRST_PAUSE_MS = 200
const LONGEST_PAUSE_MS = 5000

/** Full jitter, so that agents that failed together do not come back together. */
const pauseMs = (tries: number): number => Math.random() * Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (tries - 1))

export function createService(deps: ServiceDeps): Service {
  const { issuer, evidence, dpop } = deps
  const overMtls = evidence.transport !== undefined
  const plain: Transport = (url, init) => deps.fetch(url, init)
  let located: Promise<Endpoints> | undefined

  /** Tries until there is an answer worth keeping; the same request each time, proven anew. */
  async function send(
    transport: Transport,
    build: () => Promise<{ url: string; method: string; headers: Record<string, string>; body?: string }>,
  ): Promise<Json> {
    let challenged = false
    for (let tries = 1; ; tries++) {
      const { url, ...request } = await build()
      let response: Response
      let text: string
      try {
        response = await transport(url, {
          ...request,
          redirect: 'manual',
          signal: AbortSignal.timeout(deps.timeoutSeconds * 1000),
        })
        dpop.remember(url, response.headers)
        text = await boundedText(response)
      } catch (error) {
        if (tries >= MAX_TRIES) throw unreachable(url, error)
        await deps.wait(pauseMs(tries))
        continue
      }
      if (response.status >= 200 && response.status < 300) return readObject(text, response.status)
      const refusal = readRefusal(text, response, deps.now())
      // RFC 9449 §8: the one 4xx that is a question and no answer. Asked a second time, it is an answer.
      if (refusal.code === 'use_dpop_nonce' && !challenged) {
        challenged = true
        tries--
        continue
      }
      if (response.status < 500 || tries >= MAX_TRIES) throw refusal
      const asked = (refusal.retryAfter ?? 0) * 1000
      if (asked > LONGEST_PAUSE_MS) throw refusal
      await deps.wait(asked + pauseMs(tries))
    }
  }

  async function locate(): Promise<Endpoints> {
    if (evidence.mtlsEndpoint !== undefined) {
      const base = evidence.mtlsEndpoint.replace(/\/$/, '')
      return { token: `${base}/token`, api: base }
    }
    const url = metadataUrl(issuer)
    return endpointsOf(await send(plain, async () => ({ url, method: 'GET', headers: {} })), issuer, overMtls)
  }

  /** Found once; one failed search is not kept. */
  function endpoints(): Promise<Endpoints> {
    located ??= locate().catch((error: unknown) => {
      located = undefined
      throw error
    })
    return located
  }

  const transport = evidence.transport ?? plain

  return {
    async exchange(form) {
      const { token: url } = await endpoints()
      const idempotencyKey = randomUUID()
      return send(transport, async () => {
        const { assertion, headers, clientId } = await evidence.present({ issuer, now: deps.now(), url })
        const body = new URLSearchParams()
        for (const [name, value] of Object.entries(form)) if (value !== undefined) body.set(name, value)
        if (clientId !== undefined) body.set('client_id', clientId)
        if (assertion) {
          body.set('client_assertion_type', assertion.type)
          body.set('client_assertion', assertion.jwt)
        }
        return {
          url,
          method: 'POST',
          headers: {
            accept: 'application/json',
            'content-type': 'application/x-www-form-urlencoded',
            'idempotency-key': idempotencyKey,
            dpop: dpop.proof({ method: 'POST', url }),
            ...headers,
          },
          body: body.toString(),
        }
      })
    },

    async api(method, path, body) {
      const { api } = await endpoints()
      const url = `${api}${path}`
      const idempotencyKey = randomUUID()
      return send(transport, async () => {
        const { assertion, headers, clientId } = await evidence.present({ issuer, now: deps.now(), url })
        return {
          url,
          method,
          headers: {
            accept: 'application/json',
            dpop: dpop.proof({ method, url }),
            ...headers,
            ...(assertion ? { authorization: `ClientAssertion ${assertion.jwt}` } : {}),
            ...(clientId === undefined ? {} : { 'client-id': clientId }),
            ...(method === 'POST' ? { 'idempotency-key': idempotencyKey } : {}),
            ...(body === undefined ? {} : { 'content-type': 'application/json' }),
          },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        }
      })
    },
  }
}

/** The issuer as it was given, where it is one: RFC 8414 §2, and http for this machine alone. */
export function isIssuer(issuer: string): boolean {
  return secureUrl(issuer)?.search === ''
}

function readObject(text: string, status: number): Json {
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch {
    value = undefined
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw new ErrandError({ status, code: 'bad_response', description: 'the answer is not a JSON object' })
  }
  return value as Json
}

const textOr = (value: unknown): string | undefined => (typeof value === 'string' ? value : undefined)

function readRefusal(text: string, response: Response, now: number): ErrandError {
  let body: Json = {}
  try {
    body = readObject(text, response.status)
  } catch {
    // A proxy's HTML page, say: the status is all there is.
  }
  const retryAfter = retryAfterSeconds(response.headers, now)
  const missing = body['missing']
  const fields = {
    reason: textOr(body['reason']),
    description: textOr(body['error_description']),
    rule: textOr(body['rule']),
    next: textOr(body['next']),
    errorUri: textOr(body['error_uri']),
    decisionId: textOr(body['decision_id']),
  }
  const lost = readLost(body['lost'])
  const narrower = readNarrower(body['narrower'])
  // A service that is newer may know of more; what this version does not know it does not hand on.
  const nextAction = NEXT_ACTIONS.find((action) => action === body['next_action'])
  return new ErrandError({
    status: response.status,
    code: textOr(body['error']) ?? (response.status >= 500 ? 'server_error' : 'bad_response'),
    ...(Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined)) as {
      [K in keyof typeof fields]?: string
    }),
    ...(Array.isArray(missing) && missing.every((each) => typeof each === 'string') ? { missing } : {}),
    ...(lost.length > 0 ? { lost } : {}),
    ...(narrower ? { narrower } : {}),
    ...(nextAction ? { nextAction } : {}),
    ...(retryAfter === undefined ? {} : { retryAfter }),
  })
}

const isObject = (value: unknown): value is Json => typeof value === 'object' && value !== null && !Array.isArray(value)

const readLost = (value: unknown): readonly Lost[] =>
  (Array.isArray(value) ? value.filter(isObject) : []).map((each) => ({
    tool: textOr(each['tool']) ?? '',
    operation: textOr(each['operation']) ?? '',
    operand: textOr(each['operand']) ?? '',
    ...(each['had'] === undefined ? {} : { had: each['had'] }),
    leastChange: textOr(each['least_change']) ?? '',
  }))

function readNarrower(value: unknown): ErrandErrorFields['narrower'] {
  if (!isObject(value)) return undefined
  const { scope, authorization_details: details } = value
  if (typeof scope === 'string') return { scope }
  return Array.isArray(details) ? { authorizationDetails: details as readonly ToolAuthorization[] } : undefined
}

/** Where it failed and how, but nothing of what was sent. */
function unreachable(url: string, error: unknown): ErrandError {
  const { origin } = new URL(url)
  const cause = error instanceof Error && error.cause instanceof Error ? error.cause : error
  const code = (cause as { code?: unknown } | undefined)?.code
  const why = typeof code === 'string' ? code : error instanceof Error ? error.name : 'no answer'
  return new ErrandError({ status: 0, code: 'network_error', description: `${origin} did not answer: ${why}` })
}
