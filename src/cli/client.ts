/** Requests to a running service, each with a fresh assertion and a proof of possession (RFC 7523, RFC 9449). */
import { randomUUID } from 'node:crypto'
import { checkServiceUrl, endpoint, type Fetched, fetchText, ServiceUnavailable } from '@errand/verifier/http.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import type { PrivateJwk } from '../keys/private-jwk.ts'
import { ASSERTION_TYPE, TYP } from '../oauth/words.ts'
import { type Cli, CliError, EXIT } from './cli.ts'
import { safe } from './print.ts'
import { object } from './rows.ts'

export type Json = { readonly [name: string]: unknown }

/** Who asks: a registered key for the assertion, and the key that proofs are made with (its own, unless said). */
export interface Caller {
  readonly clientId: string
  readonly key: PrivateJwk
  readonly proofKey?: PrivateJwk
}

/** What of the command line a request needs. */
type Reaching = Pick<Cli, 'fetch' | 'now' | 'signal'>

export interface Client {
  readonly issuer: string
  get(path: string, query?: { readonly [name: string]: string | undefined }): Promise<Json>
  post(path: string, body?: Json): Promise<Json>
  /** An OAuth endpoint: the assertion goes into the form (RFC 7521 §4.2). */
  form(path: string, parameters: { readonly [name: string]: string | undefined }): Promise<Json>
}

const TIMEOUT_MS = 15_000
const MAX_BYTES = 8_388_608
const ASSERTION_SECONDS = 60

/** Where the service is, and by which name it goes: assertions are made for that name alone. */
export interface Service {
  readonly url: string
  readonly issuer: string
}

export function createClient(cli: Reaching, { url, issuer }: Service, caller: Caller): Client {
  const proofKey = caller.proofKey ?? caller.key
  let nonce: string | undefined

  // One-use, so made anew for each try.
  const assertion = (): string => {
    const iat = Math.floor(cli.now())
    return signEs256(
      caller.key.privateKey,
      { typ: TYP.clientAuthentication, kid: caller.key.kid },
      // RFC 7523bis: the issuer is the sole audience, as a string.
      { iss: caller.clientId, sub: caller.clientId, aud: issuer, jti: randomUUID(), iat, exp: iat + ASSERTION_SECONDS },
    )
  }
  const proof = (method: string, path: string): string => {
    const { kty, crv, x, y } = proofKey.publicJwk
    return signEs256(
      proofKey.privateKey,
      { typ: TYP.dpop, jwk: { kty, crv, x, y } },
      {
        jti: randomUUID(),
        htm: method,
        // The service knows itself by its issuer, also where it is reached by another address.
        htu: endpoint(issuer, path),
        iat: Math.floor(cli.now()),
        ...(nonce === undefined ? {} : { nonce }),
      },
    )
  }

  async function send(
    method: 'GET' | 'POST',
    path: string,
    search: string,
    make: () => { readonly headers?: { readonly [name: string]: string }; readonly body?: string },
  ): Promise<Json> {
    for (let attempt = 1; ; attempt++) {
      const { headers, body } = make()
      const answer = await reach(cli, url, () =>
        fetchText(cli.fetch, endpoint(url, path) + search, {
          method,
          headers: { accept: 'application/json', dpop: proof(method, path), ...headers },
          ...(body === undefined ? {} : { body }),
          timeoutMs: TIMEOUT_MS,
          maxBytes: MAX_BYTES,
          signal: cli.signal,
        }),
      )
      const given = answer.headers.get('dpop-nonce')
      if (given !== null) nonce = given
      const json = objectOf(answer)
      if (answer.status >= 200 && answer.status < 300) return json
      // RFC 9449 §8: the first request learns the nonce.
      if (json['error'] === 'use_dpop_nonce' && given !== null && attempt === 1) continue
      throw refusal(answer, json)
    }
  }

  const bearing = () => ({ authorization: `ClientAssertion ${assertion()}` })
  return {
    issuer,
    get(path, query = {}) {
      const search = new URLSearchParams()
      for (const [name, value] of Object.entries(query)) if (value !== undefined) search.set(name, value)
      return send('GET', path, search.size > 0 ? `?${search}` : '', () => ({ headers: bearing() }))
    },
    post: (path, body) =>
      send('POST', path, '', () => ({
        headers: { ...bearing(), ...(body ? { 'content-type': 'application/json' } : {}) },
        ...(body ? { body: JSON.stringify(body) } : {}),
      })),
    form: (path, parameters) =>
      send('POST', path, '', () => {
        const body = new URLSearchParams()
        for (const [name, value] of Object.entries(parameters)) if (value !== undefined) body.set(name, value)
        body.set('client_assertion_type', ASSERTION_TYPE.jwtBearer)
        body.set('client_assertion', assertion())
        return { headers: { 'content-type': 'application/x-www-form-urlencoded' }, body: body.toString() }
      }),
  }
}

/** A public document of the service. */
export async function getPublic(cli: Cli, url: string, path: string): Promise<Json> {
  const answer = await reach(cli, url, () =>
    fetchText(cli.fetch, endpoint(url, path), { timeoutMs: TIMEOUT_MS, maxBytes: MAX_BYTES, signal: cli.signal }),
  )
  if (answer.status !== 200) throw refusal(answer, objectOf(answer))
  return objectOf(answer)
}

async function reach(cli: Reaching, url: string, ask: () => Promise<Fetched>): Promise<Fetched> {
  try {
    checkServiceUrl(url)
  } catch (error) {
    throw new CliError(EXIT.usage, `${safe(url)} is no address of a service: ${(error as Error).message}`)
  }
  try {
    return await ask()
  } catch (error) {
    if (cli.signal.aborted) throw new CliError(EXIT.interrupted, 'interrupted')
    if (!(error instanceof ServiceUnavailable)) throw error
    const what = error.message.startsWith('no answer') ? `no answer from ${url}` : `${url}: ${error.message}`
    throw new CliError(EXIT.unreachable, what, [
      'Is the service running? In a clone: npm start. Elsewhere: errand serve.',
      'Is it somewhere else? Set ERRAND_URL.',
    ])
  }
}

function objectOf({ text, status }: Fetched): Json {
  try {
    const value: unknown = JSON.parse(text)
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Json
  } catch {
    // Told below: a proxy's HTML page, say.
  }
  if (status >= 400) return {}
  throw new CliError(EXIT.unreachable, 'the answer is not a JSON object: is that an Errand service?', [
    'Set ERRAND_URL to its address.',
  ])
}

/** A refusal in the service's own words: what, why, by which rule, what is missing, what to do. */
function refusal({ status, headers }: Pick<Fetched, 'status' | 'headers'>, json: Json): CliError {
  const { error, error_description: description, reason, rule, missing, next, decision_id: decisionId } = json
  const what = [error, reason].filter((part, at, all) => part !== undefined && all.indexOf(part) === at)
  const message = `refused: ${what.length > 0 ? what.map(safe).join(', ') : `status ${status}`}`
  const hints: string[] = []
  if (Array.isArray(missing) && missing.length > 0) hints.push(`missing: ${missing.map(safe).join(' ')}`)
  if (rule !== undefined) hints.push(`rule: ${safe(rule)}`)
  if (next !== undefined) hints.push(`next: ${safe(next)}`)
  const instead = json['narrower']
  if (instead !== undefined) {
    const { scope } = object(instead)
    hints.push(`ask for: ${safe(typeof scope === 'string' ? scope : instead)}`)
  }
  if (decisionId !== undefined) hints.push(`more: errand explain ${safe(decisionId)}`)
  const retryAfter = headers.get('retry-after')
  if (retryAfter !== null && /^[0-9]{1,5}$/.test(retryAfter)) hints.push(`try again in ${retryAfter} s`)
  return new CliError(
    status >= 500 ? EXIT.unreachable : EXIT.refused,
    description === undefined ? message : `${message}: ${safe(description)}`,
    hints,
    typeof reason === 'string' ? reason : undefined,
  )
}
