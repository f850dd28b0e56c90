/** All endpoints behind one gate: what comes in is bounded, named, authenticated as its route says, and answered once. */
import { Hono } from 'hono'
import { sourceBlock } from '../audit/source.ts'
import type { Wire } from '../exchange/authenticate.ts'
import { refuse, type Refusal, Unavailable } from '../oauth/refusal.ts'
import { newId } from '../tasks/ids.ts'
import { evaluationRoute, evaluationsRoute } from './access.ts'
import { adminRoutes } from './admin.ts'
import { callerOf, presentedInHeaders } from './caller.ts'
import type { HttpDeps } from './deps.ts'
import { discoveryRoutes } from './discovery.ts'
import { explanationRoute } from './explanations.ts'
import { introspectRoute, revokeRoute } from './introspection.ts'
import { refusalResponse } from './refusal-response.ts'
import { refused } from './refused.ts'
import { revocationRoutes } from './revocations.ts'
import type { Call, Env, Route } from './route.ts'
import { taskRoutes } from './tasks.ts'
import { tokenRoute } from './token.ts'

export const ROUTES: readonly Route[] = [
  ...discoveryRoutes,
  tokenRoute,
  introspectRoute,
  revokeRoute,
  ...taskRoutes,
  explanationRoute,
  evaluationRoute,
  evaluationsRoute,
  ...revocationRoutes,
  ...adminRoutes,
]

/** Every path of ours is made of these; another spelling of one is not one (G10). */
const PLAIN_PATH = /^(\/[A-Za-z0-9._-]+)+$/
/** Probes and long-lived streams are not work that can be shed or rationed. */
const UNMETERED: readonly string[] = ['/health', '/ready', '/revocations/stream']

export interface RequestLine {
  readonly correlation: string
  readonly method: string
  readonly route: string
  readonly status: number
  readonly ms: number
  readonly reason?: string
}

export function createApp(deps: HttpDeps, log: (line: RequestLine) => void): Hono<Env> {
  // The path as it was sent: what a client spelt otherwise is somewhere else.
  const app = new Hono<Env>({ strict: true, getPath: (request) => pathAsSent(request.url) })

  app.use(async (c, next) => {
    const started = performance.now()
    const correlation = newId('req')
    c.set('correlation', correlation)
    c.set('source', sourceBlock(c.env.peer))
    c.header('X-Request-Id', correlation)
    const path = pathAsSent(c.req.url)
    const metered = !UNMETERED.includes(path)
    const refusal = shed(deps, metered, c.get('source'))
    if (refusal) {
      c.set('reason', refusal.reason)
      deps.metrics.refused(refusal.reason)
      c.res = refusalResponse(refusal)
    } else if (!PLAIN_PATH.test(path)) {
      if (metered) deps.limits.leave()
      c.res = refusalResponse(refuse('not_found', 'request').refusal)
    } else {
      try {
        await next()
      } finally {
        if (metered) deps.limits.leave()
      }
    }
    const ms = performance.now() - started
    const reason = c.get('reason')
    const route = ROUTES.some((each) => each.path === c.req.routePath) ? c.req.routePath : 'none'
    deps.metrics.request(route, c.req.method, c.res.status, ms / 1000)
    log({
      correlation,
      method: c.req.method,
      route,
      status: c.res.status,
      ms: Math.round(ms * 100) / 100,
      ...(reason === undefined ? {} : { reason }),
    })
  })

  for (const route of ROUTES) {
    app.on(route.method, route.path, async (c) => {
      const call: Call = { c, deps, wire: wireOf(c.env.base, c) }
      const duplicate = commaIn(c.req.header('authorization'), c.req.header('dpop'))
      if (duplicate) return refused(call, duplicate)
      if (route.access === 'public' || route.access === 'form') return route.handle(call)
      const presented = presentedInHeaders(call)
      if (!presented.ok) return refused(call, presented.refusal)
      const caller = await callerOf(call, presented.value, route.access, 'api')
      if (!caller.ok) return refused(call, caller.refusal)
      const answer = await route.handle({ ...call, caller: caller.value })
      return withNonce(answer, deps.dpop.freshNonce(nameOf(caller.value)))
    })
  }

  app.notFound((c) => {
    const known = ROUTES.some((route) => route.path === pathAsSent(c.req.url))
    return refusalResponse(refuse(known ? 'method_not_allowed' : 'not_found', 'request').refusal)
  })

  app.onError((error, c) => {
    if (error instanceof Unavailable) {
      c.set('reason', error.reason)
      deps.metrics.refused(error.reason)
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
  })
  return app
}

function shed(deps: HttpDeps, metered: boolean, source: string): Refusal | undefined {
  if (!metered) return undefined
  if (deps.stopping()) return refuse('stopping', 'request').refusal
  const { bounds } = deps.snapshot().settings
  const wait = deps.limits.take(`source:${source}`, bounds.strangersPerSecondPerSource)
  if (wait > 0) return refuse('rate_limited', 'request', { retryAfterSeconds: wait }).refusal
  return deps.limits.enter() ? undefined : refuse('overloaded', 'request').refusal
}

function pathAsSent(url: string): string {
  const start = url.indexOf('/', url.indexOf('://') + 3)
  const path = start < 0 ? '/' : url.slice(start)
  const end = path.search(/[?#]/)
  return end < 0 ? path : path.slice(0, end)
}

function wireOf(base: string, c: Call['c']): Wire {
  const dpop = c.req.header('dpop')
  const key = c.req.header('idempotency-key')
  const certificate = c.env.certificate?.()
  return {
    method: c.req.method,
    url: `${base}${pathAsSent(c.req.url)}`,
    ...(dpop === undefined ? {} : { dpop }),
    ...(certificate === undefined ? {} : { certificate }),
    ...(key !== undefined && /^[\x21-\x7e]{8,255}$/.test(key) ? { idempotencyKey: key } : {}),
    correlation: c.get('correlation'),
    source: c.get('source'),
  }
}

/** Two headers of one name arrive joined by a comma, and no credential of ours holds one. */
function commaIn(authorization: string | undefined, dpop: string | undefined): Refusal | undefined {
  if (dpop?.includes(',')) return refuse('proof_duplicate', 'dpop').refusal
  if (authorization?.includes(',')) return refuse('bad_auth_scheme', 'api').refusal
  return undefined
}

const nameOf = (caller: NonNullable<Call['caller']>): string =>
  caller.kind === 'agent' ? caller.proven.attested.agent.clientId : caller.client.clientId

function withNonce(answer: Response, nonce: string): Response {
  answer.headers.set('DPoP-Nonce', nonce)
  return answer
}
