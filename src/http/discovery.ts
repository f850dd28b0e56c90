/** What others read to find us: metadata of RFC 8414 with its OpenID alias, the JWKS, AuthZEN metadata. */
import { z } from 'zod'
import { ATTESTATION_ALGS, HOLDER_ALGS } from '../attest/client-attestation.ts'
import { createTrustedProxies } from '../attest/client-certificate.ts'
import { ALGORITHM } from '../keys/key-store.ts'
import { ASSERTION_TYPE, GRANT, GRANT_PROFILE, TOKEN_TYPE } from '../oauth/words.ts'
import { refuse } from '../oauth/refusal.ts'
import type { HttpDeps } from './deps.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'
import { STATUS_LISTS } from './status-lists.ts'

/** draft-ietf-oauth-attestation-based-client-auth §9: by a proof of its own, or combined with DPoP. */
const ATTESTATION_METHODS = ['attest_jwt_client_auth', 'attest_jwt_client_auth_dpop']
/** draft-ietf-oauth-spiffe-client-auth; RFC 8705 §2.1.1, §2.2.1. */
const MTLS_METHODS = ['spiffe_x509', 'tls_client_auth', 'self_signed_tls_client_auth']
const MTLS_ENDPOINTS = {
  token_endpoint: '/token',
  introspection_endpoint: '/introspect',
  revocation_endpoint: '/revoke',
}

function metadata(deps: Pick<HttpDeps, 'snapshot' | 'mtlsBase'>) {
  const { issuer } = deps.snapshot().settings
  const base = issuer.replace(/\/$/, '')
  const authentication = {
    methods: [
      'private_key_jwt',
      'spiffe_jwt',
      ...ATTESTATION_METHODS,
      ...(deps.mtlsBase === undefined ? [] : MTLS_METHODS),
    ],
    algorithms: ['ES256', 'EdDSA'],
  }
  return {
    issuer,
    token_endpoint: `${base}/token`,
    // Common clients insist on the member; it answers unsupported_response_type.
    authorization_endpoint: `${base}/authorize`,
    response_types_supported: [],
    jwks_uri: `${base}/.well-known/jwks.json`,
    introspection_endpoint: `${base}/introspect`,
    revocation_endpoint: `${base}/revoke`,
    grant_types_supported: [GRANT.exchange, GRANT.clientCredentials, GRANT.jwtBearer],
    // draft-ietf-oauth-identity-assertion-authz-grant, *Authorization Server Metadata*.
    authorization_grant_profiles_supported: [GRANT_PROFILE.idJag],
    identity_chaining_requested_token_types_supported: [TOKEN_TYPE.idJag],
    token_endpoint_auth_methods_supported: authentication.methods,
    token_endpoint_auth_signing_alg_values_supported: authentication.algorithms,
    // draft-parecki-oauth-global-token-revocation, *Authorization Server Metadata*: a JWT of the provider, or of an administrator.
    global_token_revocation_endpoint: `${base}/global-token-revocation`,
    global_token_revocation_endpoint_auth_methods_supported: ['Bearer', 'private_key_jwt'],
    introspection_endpoint_auth_methods_supported: authentication.methods,
    introspection_endpoint_auth_signing_alg_values_supported: authentication.algorithms,
    introspection_signing_alg_values_supported: [ALGORITHM.status], // RFC 9701 §7
    // draft-ietf-oauth-status-list §9.1.
    ...(deps.snapshot().tools.all.some(({ statusList }) => statusList)
      ? { status_list_aggregation_endpoint: `${base}${STATUS_LISTS}` }
      : {}),
    revocation_endpoint_auth_methods_supported: authentication.methods,
    revocation_endpoint_auth_signing_alg_values_supported: authentication.algorithms,
    client_assertion_types_supported: [ASSERTION_TYPE.jwtBearer, ASSERTION_TYPE.jwtSpiffe],
    challenge_endpoint: `${base}/challenge`,
    client_attestation_signing_alg_values_supported: ATTESTATION_ALGS,
    client_attestation_pop_signing_alg_values_supported: HOLDER_ALGS,
    dpop_signing_alg_values_supported: ['ES256', 'EdDSA'], // RFC 9449 §5.1
    authorization_details_types_supported: ['tool'], // RFC 9396 §10
    tls_client_certificate_bound_access_tokens: deps.mtlsBase !== undefined, // RFC 8705 §3.3
    ...(deps.mtlsBase === undefined
      ? {}
      : {
          mtls_endpoint_aliases: Object.fromEntries(
            Object.entries(MTLS_ENDPOINTS).map(([name, path]) => [name, `${deps.mtlsBase}${path}`]),
          ),
        }),
    subject_types_supported: ['public'],
    id_token_signing_alg_values_supported: ['ES256'],
    errand_tasks_endpoint: `${base}/tasks`,
    errand_revocations_endpoint: `${base}/revocations`,
  }
}

const metadataAnswers = {
  200: { description: 'Metadata', schema: z.looseObject({ issuer: z.string(), token_endpoint: z.string() }) },
  ...errorAnswers(429, 503),
}

const metadataRoute = (path: string): Route => ({
  method: 'GET',
  path,
  access: 'public',
  tag: 'Discovery',
  summary: 'Authorization server metadata (RFC 8414)',
  answers: metadataAnswers,
  handle: ({ deps }) => Response.json(metadata(deps), { headers: { 'Cache-Control': 'public, max-age=300' } }),
})

const jwksRoute: Route = {
  method: 'GET',
  path: '/.well-known/jwks.json',
  access: 'public',
  tag: 'Discovery',
  summary: 'Public keys (RFC 7517): published before they are used, kept while anything they signed lives',
  answers: {
    200: { description: 'The key set', schema: z.object({ keys: z.array(z.looseObject({ kid: z.string() })) }) },
    ...errorAnswers(429, 503),
  },
  handle({ deps, c }) {
    const document = deps.keys.jwks()
    const { jwksMaxAgeSeconds } = deps.snapshot().settings.keys
    // Jitter, so that caches filled together do not come back together; never longer than keys are published ahead.
    const maxAge = Math.floor(jwksMaxAgeSeconds * (0.75 + Math.random() / 4))
    const headers = {
      'Cache-Control': `public, max-age=${maxAge}`,
      ETag: document.etag,
      'Content-Type': 'application/json',
    }
    if (c.req.header('if-none-match') === document.etag) return new Response(null, { status: 304, headers })
    return new Response(document.text, { headers })
  },
}

const authzenRoute: Route = {
  method: 'GET',
  path: '/.well-known/authzen-configuration',
  access: 'public',
  tag: 'Discovery',
  summary: 'AuthZEN policy decision point metadata',
  answers: metadataAnswersOf(z.looseObject({ policy_decision_point: z.string() })),
  handle({ deps }) {
    const base = deps.snapshot().settings.issuer.replace(/\/$/, '')
    return Response.json({
      policy_decision_point: base,
      access_evaluation_endpoint: `${base}/access/v1/evaluation`,
      access_evaluations_endpoint: `${base}/access/v1/evaluations`,
    })
  },
}

function metadataAnswersOf(schema: z.ZodType): Route['answers'] {
  return { 200: { description: 'Metadata', schema }, ...errorAnswers(429, 503) }
}

const authorizeRoute: Route = {
  method: 'GET',
  path: '/authorize',
  access: 'public',
  tag: 'Discovery',
  summary: 'There is no authorization endpoint yet',
  answers: errorAnswers(400, 429, 503),
  handle: () =>
    Response.json(
      { error: 'unsupported_response_type', error_description: 'users sign in at their own identity provider' },
      { status: 400, headers: { 'Cache-Control': 'no-store' } },
    ),
}

const readiness = z.looseObject({ status: z.enum(['ok', 'degraded', 'unavailable']) })

const healthRoute: Route = {
  method: 'GET',
  path: '/health',
  access: 'public',
  tag: 'Operation',
  summary: 'The process answers',
  answers: { 200: { description: 'It does', schema: z.object({ status: z.literal('ok') }) } },
  handle: () => Response.json({ status: 'ok' }),
}

const readyRoute: Route = {
  method: 'GET',
  path: '/ready',
  access: 'public',
  tag: 'Operation',
  summary: 'Whether tokens can be issued, which parts are degraded, and which development shortcuts are on',
  answers: { 200: { description: 'Ready', schema: readiness }, 503: { description: 'Not ready', schema: readiness } },
  async handle({ deps }) {
    const { settings } = deps.snapshot()
    const checks = await readinessChecks(deps)
    const states = Object.values(checks)
    const unavailable = states.includes('unavailable') || deps.stopping()
    const status = unavailable ? 'unavailable' : states.includes('degraded') ? 'degraded' : 'ok'
    return Response.json(
      { status, mode: settings.mode, checks, development_shortcuts: settings.developmentShortcuts },
      { status: unavailable ? 503 : 200, headers: { 'Cache-Control': 'no-store' } },
    )
  },
}

type Readiness = 'ok' | 'degraded' | 'unavailable'

/** Each part on its own; `/ready` and `errand top` show the same. */
export async function readinessChecks(deps: HttpDeps): Promise<Readonly<Record<string, Readiness>>> {
  return {
    store: (await deps.storeHealthy()) ? 'ok' : 'unavailable',
    ...(await sealCheck(deps)),
    audit: deps.audit.healthy() ? 'ok' : 'unavailable',
    checkpoints: deps.checkpoints.damage() === undefined ? 'ok' : 'degraded',
    // Who has the keys being away stops tokens, and not what ends them: that must go on finding its way here.
    keys: !deps.keys.healthy() ? 'unavailable' : deps.keys.signersAnswer() ? 'ok' : 'degraded',
    config: deps.configFailure() === undefined ? 'ok' : 'degraded',
    ...mirrorsCheck(deps),
    ...bundlesCheck(deps),
    ...drillCheck(deps),
    ...tenantsCheck(deps),
  }
}

/** Where one that may hold issuing does, nothing is issued. */
function mirrorsCheck({ mirrors }: HttpDeps): { readonly mirrors?: Readiness } {
  const states = mirrors()
  if (states.length === 0) return {}
  if (states.some(({ holds }) => holds)) return { mirrors: 'unavailable' }
  return { mirrors: states.every(({ problem, overdue }) => problem === undefined && !overdue) ? 'ok' : 'degraded' }
}

/** Nothing where no bundle is fetched. */
function bundlesCheck({ bundles }: HttpDeps): { readonly bundles?: 'ok' | 'degraded' } {
  const states = bundles()
  if (states.length === 0) return {}
  return { bundles: states.every(({ problem }) => problem === undefined) ? 'ok' : 'degraded' }
}

/** Nothing where no drill is carried out by the clock. */
function drillCheck({ drillTimer }: HttpDeps): { readonly drill?: Readiness } {
  const failing = drillTimer.failing()
  return failing === undefined ? {} : { drill: failing ? 'degraded' : 'ok' }
}

/** Not a word of tenants where there are none; and no name of one, since anybody may ask. */
function tenantsCheck({ tenants }: HttpDeps): { readonly tenants?: 'ok' | 'degraded' } {
  const all = tenants?.() ?? []
  if (all.length === 0) return {}
  return { tenants: all.every(({ state }) => state === 'serving') ? 'ok' : 'degraded' }
}

/** Under an administrator's seal it must be found, too: by whoever revokes, and lifts it. */
async function sealCheck({ sealing, seals }: HttpDeps): Promise<{ readonly seal?: Readiness }> {
  if (sealing.current()) return { seal: 'unavailable' }
  return (await seals.current().catch(() => undefined)) ? { seal: 'degraded' } : {}
}

const metricsRoute: Route = {
  method: 'GET',
  path: '/metrics',
  access: 'public',
  tag: 'Operation',
  summary: 'Prometheus metrics, for callers from this machine',
  answers: { 200: { description: 'Metrics', contentType: 'text/plain' }, ...errorAnswers(404, 429, 503) },
  async handle(call) {
    const { deps, c } = call
    // They tell of load and of tools: for this machine, and for those that the configuration names. So may a proxy that
    // nobody named there: what it passes on says so, and does not come from this machine.
    const passedOn = ['forwarded', 'x-forwarded-for', 'x-real-ip', 'via'].some(
      (name) => c.req.header(name) !== undefined,
    )
    const here = !passedOn && ['127.0.0.1', '::1', '::ffff:127.0.0.1'].includes(c.env.peer)
    const { metricsFrom } = deps.snapshot().settings.listen
    if (!here && !createTrustedProxies(metricsFrom)(c.env.peer)) {
      return refused(call, refuse('not_found', 'request').refusal)
    }
    const { text, contentType } = await deps.metrics.render()
    return new Response(text, { headers: { 'Content-Type': contentType } })
  },
}

export const discoveryRoutes: readonly Route[] = [
  metadataRoute('/.well-known/oauth-authorization-server'),
  metadataRoute('/.well-known/openid-configuration'),
  jwksRoute,
  authzenRoute,
  authorizeRoute,
  healthRoute,
  readyRoute,
  metricsRoute,
]
