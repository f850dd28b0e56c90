/** All endpoints behind one gate: what comes in is bounded, named, authenticated as its route says, and answered once. */
import { Hono } from 'hono'
import type { HeldToken } from '../attest/held-token.ts'
import { sourceBlock } from '../audit/source.ts'
import type { Wire } from '../exchange/authenticate.ts'
import { ok, refuse, type Refusal, type Result, Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import { evaluationRoute, evaluationsRoute } from './access.ts'
import { adminRoutes } from './admin.ts'
import { admit, charge, giveBack, hopeless } from './admission.ts'
import { readBody } from './body.ts'
import { challengeRoute } from './challenge.ts'
import { callerOf, nameOf, presentedInHeaders, recognised } from './caller.ts'
import type { HttpDeps } from './deps.ts'
import { discoveryRoutes } from './discovery.ts'
import { drillRoutes } from './drills.ts'
import { evidenceRoute } from './evidence.ts'
import { explanationRoute } from './explanations.ts'
import { globalRevocationRoute } from './global-revocation.ts'
import { isKeptFree } from './gate.ts'
import { introspectRoute, revokeRoute } from './introspection.ts'
import { joinRoutes } from './join.ts'
import { keyRoutes } from './keys.ts'
import { logRoutes } from './log.ts'
import { refusalPageRoutes } from './refusal-pages.ts'
import { refusalResponse } from './refusal-response.ts'
import { refused } from './refused.ts'
import { releasesRoute } from './releases.ts'
import { revocationRoutes } from './revocations.ts'
import type { Call, Env, Knock, Route } from './route.ts'
import { sealRoutes } from './seal.ts'
import { receiveRoute } from './signals.ts'
import { ssfRoutes } from './ssf.ts'
import { statsRoute } from './stats.ts'
import { statusListRoutes } from './status-lists.ts'
import { taskRoutes } from './tasks.ts'
import { tenantsRoute } from './tenants.ts'
import type { Note } from './tracing.ts'
import { tokenRoute } from './token.ts'
import { createTokenDoor, type TokenDoor } from './token-door.ts'

export const ROUTES: readonly Route[] = [
  ...discoveryRoutes,
  tokenRoute,
  challengeRoute,
  introspectRoute,
  revokeRoute,
  globalRevocationRoute,
  receiveRoute,
  ...ssfRoutes,
  ...taskRoutes,
  explanationRoute,
  evaluationRoute,
  evaluationsRoute,
  ...refusalPageRoutes,
  ...revocationRoutes,
  ...drillRoutes,
  ...sealRoutes,
  ...adminRoutes,
  ...keyRoutes,
  ...logRoutes,
  evidenceRoute,
  releasesRoute,
  ...joinRoutes,
  tenantsRoute,
  statsRoute,
  ...statusListRoutes,
]

/** Every path of ours is made of these; another spelling of one is not one (G10). */
const PLAIN_PATH = /^(\/[A-Za-z0-9._:-]+)+$/
/** Whoever watches the process must hear of it when it is overloaded. */
const PROBES: readonly string[] = ['/health', '/ready']

const ATTESTATION = 'oauth-client-attestation'
const IDEMPOTENCY_KEY = /^[\x21-\x7e]{8,255}$/
/** What is counted by name; a client may send any word as its method. */
const METHODS: readonly string[] = ['GET', 'HEAD', 'POST', 'PUT', 'PATCH', 'DELETE', 'OPTIONS']

const WITH_BODY: readonly string[] = ['POST', 'PUT', 'PATCH']

export interface RequestLine {
  readonly correlation: string
  readonly method: string
  readonly route: string
  readonly status: number
  readonly ms: number
  readonly reason?: string
}

export type App = Hono<Env> & {
  /** The short way of `POST /token`, past everything that this one request does not need. */
  readonly door: TokenDoor
  /**
   * Whether a request for a token is turned away by its first line, because too much is worked on: the cheaper a no is,
   * the more are served beside a flood. Counted here; whoever asks answers. `peer` is asked for where there is a no.
   */
  sheds(method: string | undefined, target: string, peer: () => string): boolean
  /** Whether too much is worked on, or waits to be. */
  full(): boolean
}

export function createApp(deps: HttpDeps, log: (line: RequestLine) => void): App {
  const app = new Hono<Env>({ strict: true, getPath: (request) => pathIn(request.url) })

  app.use(async (c, next) => {
    const correlation = newId('req')
    const { tracing } = deps
    if (!tracing) return pass(c, next, correlation)
    const { method } = c.req
    const known = METHODS.includes(method) ? method : 'other'
    return tracing.request({ method: known, correlation, header: (name) => c.req.header(name) }, (note) =>
      pass(c, next, correlation, note),
    )
  })

  async function pass(c: Call['c'], next: () => Promise<void>, correlation: string, note?: Note): Promise<void> {
    const started = performance.now()
    const source = sourceBlock(c.env.peer)
    c.set('correlation', correlation)
    c.set('source', source)
    const kind = kindOf(c)
    const refusal = await turnedAway(deps, c, kind, () => readBody(c, deps.snapshot().settings.bounds.maxBodyBytes))
    if (refusal) {
      noted(deps, c, refusal)
      c.res = refusalResponse(refusal)
    } else {
      try {
        await next()
      } finally {
        if (kind === 'work') deps.limits.leave()
      }
    }
    c.header('X-Request-Id', correlation)
    // draft-ietf-oauth-attestation-based-client-auth §6.2: with any answer, so that the next proof needs no journey.
    if (c.req.header(ATTESTATION) !== undefined) c.header('OAuth-Client-Attestation-Challenge', deps.challenges.fresh())
    const ms = performance.now() - started
    const reason = c.get('reason')
    const route = ROUTES.some((each) => each.path === c.req.routePath) ? c.req.routePath : 'none'
    const method = METHODS.includes(c.req.method) ? c.req.method : 'other'
    deps.metrics.request(route, method, c.res.status, ms / 1000)
    note?.({ route, status: c.res.status, ...(reason === undefined ? {} : { reason }) })
    log({
      correlation,
      method,
      route,
      status: c.res.status,
      ms: Math.round(ms * 100) / 100,
      ...(reason === undefined ? {} : { reason }),
    })
  }

  for (const route of ROUTES) {
    app.on(route.method, route.path, async (c) => {
      const call: Call = { c, deps, wire: wireOf(c.env.base, c) }
      const duplicate = commaIn(route, c.req.header('authorization'), c.req.header('dpop'))
      if (duplicate) return refused(call, duplicate)
      const key = c.req.header('idempotency-key')
      // Ignored, a retry would be a second effect, and its sender would not know.
      if (key !== undefined && !IDEMPOTENCY_KEY.test(key)) {
        const detail = 'Idempotency-Key is 8 to 255 visible ASCII characters, once'
        return refused(call, refuse('bad_param', 'request', { detail }).refusal)
      }
      if (route.access === 'public') {
        const met = route.recognises ? await recognised(call, kindOf(c) === 'open') : ok(call)
        return met.ok ? route.handle(met.value) : refused(call, met.refusal)
      }
      if (route.access === 'form' || route.access === 'provider') return route.handle(call)
      const presented = presentedInHeaders(call)
      if (!presented.ok) return refused(call, presented.refusal)
      const caller = await callerOf(call, presented.value, route.access, 'api')
      if (caller.ok || caller.refusal.proven) giveBack(c)
      if (!caller.ok) return refused(call, caller.refusal)
      const answer = await route.handle({ ...call, caller: caller.value })
      return withNonce(answer, deps.dpop.freshNonce(nameOf(caller.value)))
    })
  }

  app.notFound((c) => {
    const known = ROUTES.some((route) => route.path === pathIn(c.req.url))
    const { refusal } = refuse(known ? 'method_not_allowed' : 'not_found', 'request')
    noted(deps, c, refusal)
    return refusalResponse(refusal)
  })

  app.onError((error, c) => faulted(deps, error, c))
  const sheds: App['sheds'] = (method, target, peer) => {
    if (method !== 'POST' || target !== tokenRoute.path || deps.stopping() || !deps.limits.full()) return false
    deps.metrics.request(tokenRoute.path, method, 503, 0)
    deps.metrics.refused('overloaded')
    deps.audit.countStranger(peer(), 'overloaded')
    return true
  }
  return Object.assign(app, { door: createTokenDoor(deps, log), sheds, full: () => deps.limits.full() })
}

/** What was thrown: a dependency that is away, or a bug. */
export function faulted(deps: HttpDeps, error: unknown, c: Knock): Response {
  if (error instanceof Unavailable) {
    c.set('reason', error.reason)
    deps.metrics.refused(error.reason)
    deps.onUnavailable(error, c.get('correlation'))
    return refusalResponse({ reason: error.reason, slot: 'request', retryAfterSeconds: error.retryAfterSeconds })
  }
  deps.onBug(error, c.get('correlation'))
  return Response.json(
    {
      error: 'server_error',
      error_description: 'an unexpected fault; it has been logged',
      correlation: c.get('correlation'),
    },
    { status: 500, headers: { 'Cache-Control': 'no-store' } },
  )
}

/** Probes are always answered; what waits for news is not work, and has bounds of its own. */
function kindOf(c: Knock): 'probe' | 'open' | 'work' {
  const path = pathIn(c.req.url)
  if (PROBES.includes(path)) return 'probe'
  const waits = path === '/revocations/stream' || (path === '/revocations' && c.req.query('wait') !== undefined)
  return waits ? 'open' : 'work'
}

export async function turnedAway(
  deps: HttpDeps,
  c: Knock,
  kind: 'probe' | 'open' | 'work',
  read: () => Promise<Result<string>>,
): Promise<Refusal | undefined> {
  const asked = pathIn(c.req.url)
  if (asked === '/health') return undefined
  if (kind !== 'probe' && deps.stopping()) return refuse('stopping', 'request').refusal
  // Before its body: no share of its address is taken for what is not looked at.
  if (kind === 'work' && !isKeptFree(asked) && deps.limits.full()) return refuse('overloaded', 'request').refusal
  const wait = hopeless(deps, c, asked)
  if (wait > 0) return refuse('rate_limited', 'request', { retryAfterSeconds: wait }).refusal
  // The path as it was sent: what a client spelt otherwise is somewhere else, whatever a parser made of it.
  const path = c.env.target === undefined ? asked : pathIn(c.env.target)
  // RFC 9112 §3.2: a target has no fragment.
  if (!PLAIN_PATH.test(path) || path !== asked || c.env.target?.includes('#')) {
    charge(deps, c)
    return refuse('not_found', 'request').refusal
  }
  // Before a place is taken: who sends slowly holds a connection, and no place of those that work.
  const reads = kind === 'work' && WITH_BODY.includes(c.req.method)
  if (reads) c.set('body', await read())
  // After the body: however many were held back to be ended in one moment, so many are worked on as there are shares.
  const admitted = admit(deps, c, path)
  if (!admitted.ok) return admitted.refusal
  if (kind !== 'work' || deps.limits.enter(isKeptFree(path))) return undefined
  giveBack(c)
  return refuse('overloaded', 'request').refusal
}

/** A refusal before any endpoint was reached. */
export function noted(deps: HttpDeps, c: Knock, { reason }: Refusal): void {
  c.set('reason', reason)
  deps.metrics.refused(reason)
  deps.audit.countStranger(c.get('source'), reason)
}

/** Path of an absolute URL or of a request target, without query, as it is spelt. */
function pathIn(url: string): string {
  const scheme = url.startsWith('/') ? -1 : url.indexOf('://')
  const start = url.indexOf('/', scheme < 0 ? 0 : scheme + 3)
  const path = start < 0 ? '/' : url.slice(start)
  const end = path.search(/[?#]/)
  return end < 0 ? path : path.slice(0, end)
}

export function wireOf(base: string, c: Knock): Wire {
  const dpop = c.req.header('dpop')
  const key = c.req.header('idempotency-key')
  const certificate = c.env.certificate?.()
  const url = `${base}${pathIn(c.req.url)}`
  return {
    method: c.req.method,
    url,
    ...(dpop === undefined ? {} : { dpop }),
    ...heldIn(c, url),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key === undefined ? {} : { idempotencyKey: key }),
    correlation: c.get('correlation'),
    source: c.get('source'),
  }
}

/** Client attestations come with all their own headers, workload identity tokens with theirs; never both. */
function heldIn(c: Knock, url: string): { readonly held?: HeldToken } {
  const attestation = c.req.header(ATTESTATION)
  if (attestation !== undefined) {
    const proof = c.req.header(`${ATTESTATION}-pop`)
    return { held: { field: 'attestation', token: attestation, url, ...(proof === undefined ? {} : { proof }) } }
  }
  const workload = c.req.header('workload-identity-token')
  if (workload === undefined) return {}
  const proof = c.req.header('workload-proof-token')
  return { held: { field: 'workload', token: workload, url, ...(proof === undefined ? {} : { proof }) } }
}

/** Two headers of one name arrive joined by a comma, and no credential of ours holds one. */
function commaIn({ access }: Route, authorization: string | undefined, dpop: string | undefined): Refusal | undefined {
  if (dpop?.includes(',')) return refuse('proof_duplicate', access === 'form' ? 'dpop' : 'api').refusal
  if (authorization?.includes(',')) return refuse('bad_auth_scheme', 'api').refusal
  return undefined
}

function withNonce(answer: Response, nonce: string): Response {
  answer.headers.set('DPoP-Nonce', nonce)
  // What only a proven caller may read is kept by nobody on the way.
  if (!answer.headers.has('Cache-Control')) answer.headers.set('Cache-Control', 'no-store')
  return answer
}
