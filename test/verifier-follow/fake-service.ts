/** A token service small enough to see through: real signatures and the real feed, over a log in memory. */
import { createHash, createPublicKey, type KeyObject, randomBytes } from 'node:crypto'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { feedKeyId } from '@errand/verifier/feed-frame.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import {
  importVerifyKey,
  jwkThumbprint,
  type PublicJwk,
  signEs256,
  verifySignature,
} from '@errand/verifier/signature.ts'
import { createFeed, type Feed } from '../../src/revoke/feed.ts'
import { createFakeLog, type FakeLog } from './fake-log.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

export const ISSUER = 'https://errand.example'
export const AUDIENCE = 'https://tickets.example.com/'
export const START = 1_800_000_000

export interface Clock {
  /** Unix seconds. */
  now: number
  /** The verifier's monotonic clock, ms. */
  local: number
  /** The service's. */
  service: number
  pass(seconds: number): void
}
export function createClock(): Clock {
  const clock: Clock = {
    now: START,
    local: 1_000,
    service: 77_000,
    pass(seconds) {
      clock.now += seconds
      clock.local += seconds * 1000
      clock.service += seconds * 1000
    },
  }
  return clock
}

export interface KeyPair {
  readonly privateKey: KeyObject
  readonly jwk: PublicJwk
  readonly jkt: string
}
export function keyPair(): KeyPair {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwk = createPublicKey(privateKey).export({ format: 'jwk' }) as unknown as PublicJwk
  return { privateKey, jwk, jkt: jwkThumbprint(jwk) }
}

export interface FakeService {
  readonly log: FakeLog
  readonly fetch: (url: string, init?: RequestInit) => Promise<Response>
  readonly handle: (request: Request) => Promise<Response>
  /** What the service itself answers, whatever `intercept` says. */
  readonly answer: (request: Request) => Promise<Response>
  readonly toolKey: Record<string, unknown>
  /** Paths asked for, in order. */
  readonly asked: string[]
  readonly acks: string[]
  /** Of those, how many a relay brought. */
  relayed: number
  /** Streams that are open now. */
  streaming: number
  readonly reservations: Record<string, unknown>[]
  /** Answers instead of the service where it returns one; throws where the network is away. */
  intercept: (path: string, request: Request) => Response | undefined | Promise<Response | undefined>
  active: boolean
  budget: number
  token(claims?: Partial<AccessTokenClaims>, header?: Record<string, unknown>, key?: KeyObject): Promise<string>
  jwks(): { keys: Record<string, unknown>[] }
  /** A new process of the service: another run, another clock. */
  restart(): void
  signFeed(typ: string, payload: object): string
  close(): void
}

export const AGENT = 'spiffe://company.example/agents/research'
const holder = keyPair()

export function createFakeService(clock: Clock): FakeService {
  const log = createFakeLog()
  const signing = keyPair()
  const feedSigning = keyPair()
  const tool = generateKeyPairSync('ec', { namedCurve: 'P-256' }).privateKey
  const feedKey = new Uint8Array(32).fill(3)
  let runs = 0
  let feed: Feed
  const signFeed = (typ: string, payload: object) => signEs256(feedSigning.privateKey, { typ, kid: 'feed-1' }, payload)
  const start = () => {
    runs += 1
    feed = createFeed({
      log,
      feedKey,
      issuer: ISSUER,
      now: () => clock.now,
      monotonic: () => clock.service,
      newRunId: () => `run-${runs}`,
      sign: async (typ, payload) => ({ jws: signFeed(typ, payload) }),
    })
  }
  start()

  const json = (body: object, status = 200, headers: Record<string, string> = {}) =>
    new Response(JSON.stringify(body), { status, headers: { 'content-type': 'application/json', ...headers } })
  const proven = (request: Request) => request.headers.get('authorization')?.startsWith('ClientAssertion ') === true

  async function answer(request: Request, url: URL): Promise<Response> {
    const path = url.pathname
    const after = parseEpoch(url.searchParams.get('after'))
    if (path === '/.well-known/jwks.json') return json(service.jwks(), 200, { 'cache-control': 'max-age=300' })
    if (path === '/revocations/now')
      return json({ statement: await feed.statement(...(url.searchParams.get('nonce') ?? '').split(',')) })
    if (path === '/revocations/key')
      return proven(request)
        ? json({ key: Buffer.from(feedKey).toString('base64url'), kid: feedKeyId(feedKey) })
        : json({ error: 'invalid_client' }, 401)
    if (path === '/revocations/acks') {
      if (!proven(request)) return json({ error: 'invalid_client' }, 401)
      service.acks.push(((await request.json()) as { epoch: string }).epoch)
      return new Response(null, { status: 204 })
    }
    if (path === '/revocations/acks/relayed') {
      const { ack } = (await request.json()) as { ack: string }
      const jws = parseJws(ack)
      const pub = importVerifyKey(createPublicKey(tool).export({ format: 'jwk' }) as PublicJwk, { algs: ['ES256'] })
      if (!jws.ok || !pub.ok || !verifySignature(pub.value, jws.value.signingInput, jws.value.signature))
        return json({ error: 'invalid_request' }, 400)
      service.acks.push(String(jws.value.payload['epoch']))
      service.relayed += 1
      return new Response(null, { status: 204 })
    }
    if (path === '/revocations/stream') return stream(request)
    if (path === '/revocations') {
      const wait = url.searchParams.get('wait')
      if (after && wait) return json({ frame: (await feed.wait(after, Number(wait), request.signal)).frame })
      return json({ frame: (after ? await feed.delta(after) : await feed.snapshot()).frame })
    }
    if (path === '/introspect') {
      const form = new URLSearchParams(await request.text())
      return form.get('client_assertion') ? json({ active: service.active }) : json({ error: 'invalid_client' }, 401)
    }
    if (path.endsWith('/reservations')) {
      if (!proven(request)) return json({ error: 'invalid_client' }, 401)
      service.reservations.push({ path, ...((await request.json()) as object) })
      if (service.budget <= 0) return json({ error: 'budget_exhausted' }, 409)
      service.budget -= 1
      return json({ outcome: 'reserved', spent: {} })
    }
    return json({ error: 'not_found' }, 404)
  }

  function stream(request: Request): Response {
    const encoder = new TextEncoder()
    let unsubscribe = () => undefined as unknown
    const body = new ReadableStream<Uint8Array>({
      async start(controller) {
        const send = ({ frame, epoch }: { frame: string; epoch: string }) =>
          controller.enqueue(encoder.encode(`event: frame\nid: ${epoch}\ndata: ${frame}\n\n`))
        const held: { frame: string; epoch: string }[] = []
        let first = true
        unsubscribe = feed.subscribe(
          (frame) => {
            if (first) held.push(frame)
            else send(frame)
          },
          () => {
            try {
              controller.close()
            } catch {} // already cancelled by the reader
          },
        )
        service.streaming += 1
        const last = parseEpoch(request.headers.get('last-event-id'))
        send(last ? await feed.delta(last) : await feed.snapshot())
        first = false
        for (const frame of held) send(frame)
        request.signal.addEventListener('abort', () => {
          unsubscribe()
          service.streaming -= 1
          try {
            controller.close()
          } catch {} // already closed
        })
      },
      cancel() {
        unsubscribe()
      },
    })
    return new Response(body, { headers: { 'content-type': 'text/event-stream' } })
  }

  async function handle(request: Request): Promise<Response> {
    const url = new URL(request.url)
    service.asked.push(url.pathname)
    return (await service.intercept(url.pathname, request)) ?? answer(request, url)
  }

  const service: FakeService = {
    log,
    toolKey: { ...tool.export({ format: 'jwk' }), kid: 'tool-1' },
    asked: [],
    acks: [],
    relayed: 0,
    streaming: 0,
    reservations: [],
    intercept: () => undefined,
    active: true,
    budget: 1000,
    handle,
    answer: (request) => answer(request, new URL(request.url)),
    fetch: (url, init) => handle(new Request(url, init)),
    jwks: () => ({
      keys: [
        { ...signing.jwk, kid: 'token-1', alg: 'ES256', use: 'sig', errand_use: 'token' },
        { ...feedSigning.jwk, kid: 'feed-1', alg: 'ES256', use: 'sig', errand_use: 'feed' },
      ],
    }),
    async token(claims = {}, header = {}, key = signing.privateKey) {
      const epoch = await log.epoch()
      const whole = {
        iss: ISSUER,
        aud: AUDIENCE,
        exp: clock.now + 300,
        iat: clock.now,
        jti: randomBytes(20).toString('base64url'),
        client_id: 'research',
        sub: 'company|alice',
        act: { sub: AGENT },
        scope: 'tickets:ticket.read tickets:ticket.update',
        authorization_details: [
          { type: 'tool', tool: 'tickets', effect: 'read', operations: ['ticket.read'] },
          {
            type: 'tool',
            tool: 'tickets',
            effect: 'reversible_write',
            operations: ['ticket.update'],
            constraints: { type: 'object', properties: { priority: { type: 'integer', maximum: 3 } } },
          },
        ],
        cnf: { jkt: holder.jkt },
        task: { id: 'task_AAAAAAAAAAAAAAAAAAAAAA', root: 'task_AAAAAAAAAAAAAAAAAAAAAA', depth: 1 },
        att: { kind: 'private_key_jwt', tier: 'key' },
        rev: `${epoch.generation}.${epoch.sequence}`,
        pol: 'AbCdEf12',
        ...claims,
      }
      // A member given as undefined is left out.
      return signEs256(key, { typ: 'at+jwt', kid: 'token-1', ...header }, JSON.parse(JSON.stringify(whole)))
    },
    restart() {
      feed.close()
      clock.service = 100
      start()
    },
    signFeed,
    close: () => feed.close(),
  }
  return service
}

export interface ProofOptions {
  readonly method?: string
  readonly url?: string
  readonly key?: KeyPair
  readonly claims?: Record<string, unknown>
  readonly now: number
}
export function proof(
  token: string,
  { method = 'GET', url = `${AUDIENCE}tickets/7`, key = holder, claims, now }: ProofOptions,
) {
  const ath = createHash('sha256').update(token).digest('base64url')
  return signEs256(
    key.privateKey,
    { typ: 'dpop+jwt', jwk: key.jwk },
    { jti: randomBytes(16).toString('base64url'), htm: method, htu: url.split('?')[0], iat: now, ath, ...claims },
  )
}

export function request(token: string, options: ProofOptions & { readonly headers?: Record<string, string> }) {
  return {
    method: options.method ?? 'GET',
    url: options.url ?? `${AUDIENCE}tickets/7`,
    headers: { authorization: `DPoP ${token}`, dpop: proof(token, options), ...options.headers },
  }
}

/** Until something becomes true that happens in the background; the test's own time-out is the limit. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 5))
}
