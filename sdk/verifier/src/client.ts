/** What a tool with a key of its own asks the service: introspection, reservations, acknowledgements, the feed's key. */
import type { JsonWebKey } from 'node:crypto'
import { decodeBase64url } from './base64url.ts'
import { randomBase64url } from './crypto.ts'
import { endpoint, type Fetch, type Fetched, fetchText, jsonObject, ServiceUnavailable } from './http.ts'
import { es256Signer } from './signature.ts'

const ASSERTION_LIFE_SECONDS = 60
const MAX_ANSWER_BYTES = 65_536
/** What is longer, with a contradiction of two long checkpoints in it, goes to the service itself. */
const MAX_ACK_LENGTH = 16_384
const ASSERTION_TYPE = 'urn:ietf:params:oauth:client-assertion-type:jwt-bearer' // RFC 7523 §2.2

interface Reservation {
  readonly token: string
  readonly operation: string
  readonly calls: number
  readonly cost?: number
  /** The same id again reserves nothing more. */
  readonly operationId: string
}

export interface Acknowledgement {
  /** Up to here the log is applied. */
  readonly epoch: string
  /** Which process of the tool this is. */
  readonly instance: string
  /** The keys that it holds: a new one signs once every verifier holds it. */
  readonly kids?: readonly string[]
  /** It ends: nobody waits for what it would have applied. */
  readonly leaving?: true
  /** Two signed checkpoints of the audit log that contradict one another. */
  readonly regression?: { readonly before: string; readonly after: string }
}

export interface ServiceClient {
  /** RFC 7662: whether the service holds the token for good at this moment. Throws `ServiceUnavailable`. */
  introspect(token: string): Promise<{ readonly active: boolean }>
  /** `gone`: there is no such active task. Throws `ServiceUnavailable`. */
  reserve(task: string, reservation: Reservation): Promise<'reserved' | 'exhausted' | 'gone'>
  acknowledge(said: Acknowledgement): Promise<void>
  /** The key of the feed's value digests. */
  /** `instance`: which process asks; whoever waits for a revocation to be everywhere then waits for its first word. */
  feedKey(instance?: string): Promise<Uint8Array>
  /** Who we are, for one request: the feed keeps places for verifiers that say so. */
  authorization(): Promise<string>
}

export interface ServiceClientDeps {
  readonly issuer: string
  /** Where the service is reached; most often the issuer itself. */
  readonly serviceUrl: string
  /** A relay that carries signed acknowledgements, where there is one. */
  readonly relayUrl?: string | undefined
  readonly clientId: string
  /** Private P-256 JWK. */
  readonly key: JsonWebKey
  readonly fetch: Fetch
  readonly now: () => number
  readonly timeoutMs: number
}

export function createServiceClient(deps: ServiceClientDeps): ServiceClient {
  const { issuer, clientId, fetch, timeoutMs } = deps
  const sign = es256Signer(deps.key)
  const kid = typeof deps.key['kid'] === 'string' ? { kid: deps.key['kid'] } : {}

  /** One use each; the audience is the issuer and nothing else (RFC 7523bis). */
  function assertion(): string | Promise<string> {
    const iat = Math.floor(deps.now())
    const claims = { iss: clientId, sub: clientId, aud: issuer, jti: randomBase64url(16), iat }
    const header = { typ: 'client-authentication+jwt', ...kid }
    return sign(header, { ...claims, exp: iat + ASSERTION_LIFE_SECONDS })
  }

  const authorization = async () => `ClientAssertion ${await assertion()}`

  const ask = async (path: string, method: 'GET' | 'POST', type?: string, body?: string, authenticated = true) =>
    fetchText(fetch, endpoint(deps.serviceUrl, path), {
      method,
      timeoutMs,
      maxBytes: MAX_ANSWER_BYTES,
      headers: {
        accept: 'application/json',
        ...(authenticated ? { authorization: await authorization() } : {}),
        ...(type ? { 'content-type': type } : {}),
      },
      ...(body === undefined ? {} : { body }),
    })
  const postJson = (path: string, body: object): Promise<Fetched> =>
    ask(path, 'POST', 'application/json', JSON.stringify(body))

  /** Signed for nothing else: whoever carries it can neither change it nor ask for anything in our name. */
  async function relayed(said: Acknowledgement): Promise<boolean> {
    if (deps.relayUrl === undefined || kid.kid === undefined) return false
    const claims = { iss: clientId, aud: issuer, iat: Math.floor(deps.now()), ...said }
    const ack = await sign({ typ: 'errand-ack+jwt', ...kid }, claims)
    if (ack.length > MAX_ACK_LENGTH) return false
    const { status } = await fetchText(fetch, endpoint(deps.relayUrl, '/revocations/acks'), {
      method: 'POST',
      timeoutMs,
      maxBytes: MAX_ANSWER_BYTES,
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ack }),
    }).catch(() => ({ status: 0 }))
    return status === 204
  }

  return {
    authorization,

    async introspect(token) {
      const form = new URLSearchParams({
        token,
        token_type_hint: 'access_token',
        client_assertion_type: ASSERTION_TYPE,
        client_assertion: await assertion(),
      })
      const type = 'application/x-www-form-urlencoded'
      return { active: jsonObject(await ask('/introspect', 'POST', type, form.toString(), false))['active'] === true }
    },

    async reserve(task, { token, operation, calls, cost, operationId }) {
      const body = { token, operation, calls, ...(cost === undefined ? {} : { cost }), operation_id: operationId }
      const answer = await postJson(`/tasks/${encodeURIComponent(task)}/reservations`, body)
      if (answer.status === 409) return 'exhausted'
      if (answer.status === 404) return 'gone'
      if (jsonObject(answer)['outcome'] !== 'reserved') throw new ServiceUnavailable('not an answer to a reservation')
      return 'reserved'
    },

    async acknowledge(said) {
      if (await relayed(said)) return
      const { status } = await postJson('/revocations/acks', said)
      if (status >= 300) throw new ServiceUnavailable(`the service answered ${status}`, { status })
    },

    async feedKey(instance) {
      const query = instance === undefined ? '' : `?instance=${encodeURIComponent(instance)}`
      const { key } = jsonObject(await ask(`/revocations/key${query}`, 'GET'))
      const bytes = typeof key === 'string' ? decodeBase64url(key) : undefined
      if (!bytes || bytes.length < 16) throw new ServiceUnavailable('not a feed key')
      return bytes
    },
  }
}
