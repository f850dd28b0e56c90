/** createVerifier: from an HTTP request to a verified caller, or a typed refusal. */
import type { JsonWebKey, X509Certificate } from 'node:crypto'
import type { Checked } from './checked.ts'
import {
  type AccessTokenClaims,
  CLOCK_LEEWAY_SECONDS,
  type Effect,
  type Grant,
  MAX_TOKEN_LIFETIME_SECONDS,
  MAX_UNFOLLOWED_LIFETIME_SECONDS,
} from './claims.ts'
import { createServiceClient, type ServiceClient } from './client.ts'
import { violation } from './constraints.ts'
import { randomBase64url } from './crypto.ts'
import { accessTokenHash, createProofKeys, DPOP_ALGS, type DpopProof, readDpopProofAnywhere } from './dpop.ts'
import { compareEpochs, type Epoch } from './epoch.ts'
import { BadRequestError } from './errors.ts'
import { createFollower, type Follower, type FollowerStatus } from './follower.ts'
import { fromAuthorizationDetails } from './grants.ts'
import { checkFeedUrl, checkServiceUrl, endpoint, type Fetch, ServiceUnavailable } from './http.ts'
import { createJwks } from './jwks.ts'
import { fileStore, type StateStore } from './kept-state.ts'
import { metadataUrl, type ResourceMetadata } from './metadata.ts'
import { createRefusals } from './refusals.ts'
import { createReplayGuard, type ReplayGuard } from './replay.ts'
import {
  certificateThumbprint,
  headerValue,
  isCurrent,
  type Presented,
  readAuthorization,
  type VerifyRequest,
} from './request.ts'
import { createRouter, type Route, type RoutedRequest } from './routes.ts'
import type { CheckedHop } from './shapes.ts'
import type { VerifyKey } from './signature.ts'
import { createTokenReader, type HeldToken } from './token-reader.ts'
import type { Regression } from './witness.ts'

export interface VerifierOptions {
  /** The service's issuer identifier, exactly. */
  readonly issuer: string
  /** This tool's audience URI, exactly. */
  readonly audience: string
  /** This tool's name at the service. Required with `key`; with it only grants on this tool count. */
  readonly tool?: string
  /**
   * Private P-256 JWK registered for this tool. Without it the verifier is offline-only: it knows of no revocation,
   * and accepts tokens of 60 s at most.
   */
  readonly key?: JsonWebKey
  /** Where the service is reached, where that is not the issuer. */
  readonly serviceUrl?: string
  /**
   * A relay of the revocation feed (`errand relay`), which needs no trust: snapshots, the stream and statements of now
   * are read there, and it carries acknowledgements, signed. Keys, introspection and reservations stay with the service.
   */
  readonly feed?: string
  /** Where the files of `errand relay --write` are served: a verifier that knows nothing yet begins with them. */
  readonly files?: string
  /** Origin under which clients reach this tool, where that is not what requests say (behind a proxy). */
  readonly publicUrl?: string
  /** Shown in the metadata. */
  readonly name?: string
  /** Accept tokens that are bound to no key (they live 60 s at most). */
  readonly acceptBearer?: boolean
  /** Accept tokens that a service in development mode issued by its shortcuts. */
  readonly acceptDevelopmentTokens?: boolean
  /** The verified client certificate, for tokens bound by mTLS. */
  readonly clientCertificate?: (
    request: VerifyRequest,
  ) => X509Certificate | undefined | Promise<X509Certificate | undefined>
  /** How old revocation state may be, by effect; 0 introspects each time. */
  readonly stalenessSeconds?: Partial<Readonly<Record<Effect, number>>>
  readonly maxTokenLifetimeSeconds?: number
  readonly proofMaxAgeSeconds?: number
  /** Shared by the processes of a tool; by default each remembers for itself. */
  readonly replayGuard?: ReplayGuard
  /**
   * Where what is known of revocations outlives this process, so that a restarted verifier never goes back in time: a
   * file, which only its owner may read, or functions of your own.
   */
  readonly state?: string | StateStore
  /** Told of an audit log of the service that shrank or was rewritten: both signed checkpoints are the evidence. */
  readonly onRegression?: (regression: Regression) => void
  /** Put around each step, for spans: `(name, run) => tracer.startActiveSpan(name, …)`. Names no caller and no token. */
  readonly trace?: <T>(step: string, run: () => Promise<T>) => Promise<T>
  /** Which operation a request is; what matches no route is refused. */
  readonly routes?: readonly Route[]
  /** MCP tool name → operation. */
  readonly mcpTools?: Readonly<Record<string, string>>
  /** Operations whose calls reserve from the task's budget first. */
  readonly budgeted?: Readonly<Record<string, { readonly cost?: number }>>
  /** Told of what went wrong in the background. */
  readonly onProblem?: (problem: unknown) => void
  readonly fetch?: Fetch
  /** Unix seconds. */
  readonly now?: () => number
  /** Milliseconds of a clock that is never set. */
  readonly monotonic?: () => number
  readonly random?: () => number
}

/** Who calls, for whom, for which task, and what it may do: all of it verified. */
export interface Caller {
  readonly subject: string
  /** SPIFFE id of the agent that calls. */
  readonly agent: string
  readonly clientId: string
  readonly task: AccessTokenClaims['task']
  /** SPIFFE ids of the agents, the caller first, then who handed over to it. */
  readonly chain: readonly string[]
  readonly scope: readonly string[]
  readonly grants: readonly Grant[]
  readonly expiresAt: number
  readonly claims: AccessTokenClaims
}

export interface VerifiedCall extends Caller {
  readonly operation: string
  readonly effect: Effect
  /** What was judged: use these and not another reading of the request. */
  readonly arguments: Readonly<Record<string, unknown>> | undefined
}

export interface Call {
  readonly operation: string
  readonly arguments?: Readonly<Record<string, unknown>>
}

declare const authenticated: unique symbol
/** A caller whose token and binding held; whether a call is allowed is asked call by call. */
export interface Authenticated extends Caller {
  readonly [authenticated]: true
}

export interface Verifier {
  /**
   * Verifies the request and the call it makes; throws a `VerificationError`.
   * @example
   * const caller = await verifier.verify(request, { operation: 'ticket.read', arguments: { id: '7' } })
   */
  verify(request: VerifyRequest, call: Call): Promise<VerifiedCall>
  /** Token, binding and revocation, once per request; a proof counts once. */
  authenticate(request: VerifyRequest): Promise<Authenticated>
  /** A bare token, where nothing but the token is to be had: refuses whatever is bound to a key. */
  authenticateToken(token: string): Promise<Authenticated>
  /** Operation, arguments, revocation, freshness and budget, at this moment. */
  authorize(caller: Authenticated, call: Call): Promise<VerifiedCall>
  /** The call that a request makes by the routes; throws a `VerificationError`. */
  route(request: RoutedRequest): Promise<Call>
  operationOfMcpTool(name: string): string
  /** RFC 9728, to be served at `metadataUrl`. */
  readonly metadata: ResourceMetadata
  readonly metadataUrl: string
  /** Resolves when the first synchronisation is over, well or not. */
  ready(): Promise<void>
  status(): FollowerStatus | undefined
  /** Ends timers and connections. */
  close(): void
}

const DEFAULT_STALENESS: Readonly<Record<Effect, number>> = {
  read: 30,
  reversible_write: 5,
  irreversible_write: 2,
  external_communication: 2,
  privileged: 2,
}
const TIMEOUT_MS = 5_000
const SETTLE_CLOCKS_EVERY_MS = 5_000

type Remembered = HeldToken<Authenticated>

export function createVerifier(options: VerifierOptions): Verifier {
  const { issuer, audience, tool, key } = options
  const serviceUrl = options.serviceUrl ?? issuer
  checkServiceUrl(serviceUrl)
  if (key && tool === undefined)
    throw new TypeError('tool is required with key: it is the name the key is registered under')
  for (const name of ['feed', 'files', 'state'] as const)
    if (!key && options[name] !== undefined)
      throw new TypeError(`${name} needs key: without it the verifier knows of no revocation`)
  for (const url of [options.feed, options.files]) if (url !== undefined) checkFeedUrl(url)
  if (!key && options.budgeted)
    throw new TypeError('budgeted operations need key: reservations are made at the service')
  const staleness = { ...DEFAULT_STALENESS, ...options.stalenessSeconds }
  if (!key && Object.values(staleness).includes(0)) throw new TypeError('stalenessSeconds 0 needs key: it introspects')
  const fetch: Fetch = options.fetch ?? ((url, init) => globalThis.fetch(url, init))
  const now = options.now ?? (() => Date.now() / 1000)
  const monotonic = options.monotonic ?? (() => performance.now())
  const random = options.random ?? Math.random
  const maxLifetimeSeconds = options.maxTokenLifetimeSeconds ?? MAX_TOKEN_LIFETIME_SECONDS
  const proofMaxAgeSeconds = options.proofMaxAgeSeconds ?? 60
  // Where each call is introspected, the state only has to say who is dead.
  const loosest = Math.max(...Object.values(staleness)) || Number.POSITIVE_INFINITY
  const startedAt = Math.floor(now())

  const onProblem = options.onProblem ?? (() => undefined)
  const jwks = createJwks({
    url: endpoint(serviceUrl, '/.well-known/jwks.json'),
    fetch,
    monotonic,
    random,
    timeoutMs: TIMEOUT_MS,
    onProblem,
  })
  // Tools have client_ids of a form that agents cannot have: a tool and an agent may both be called payments.
  const clientId = `tool:${tool}`
  const client: ServiceClient | undefined =
    key &&
    createServiceClient({
      issuer,
      serviceUrl,
      relayUrl: options.feed,
      clientId,
      key,
      fetch,
      now,
      timeoutMs: TIMEOUT_MS,
    })
  const follower: Follower | undefined =
    client &&
    createFollower({
      issuer,
      serviceUrl,
      feedUrl: options.feed,
      filesUrl: options.files,
      fetch,
      jwks,
      client,
      now,
      monotonic,
      random,
      onProblem,
      store: typeof options.state === 'string' ? fileStore(options.state) : options.state,
      onRegression: (regression) => (options.onRegression ?? onProblem)(regression),
    })
  const router = createRouter(options.routes ?? [])
  const replays = options.replayGuard ?? createReplayGuard({ now: time, monotonic })

  const acceptsCertificates = options.clientCertificate !== undefined
  const operations = [
    ...new Set([...(options.routes ?? []).map(({ operation }) => operation), ...Object.values(options.mcpTools ?? {})]),
  ]
  const resourceMetadataUrl = metadataUrl(audience).href
  const metadata: ResourceMetadata = {
    resource: audience,
    authorization_servers: [issuer],
    bearer_methods_supported: ['header'],
    ...(tool && operations.length > 0 ? { scopes_supported: operations.map((name) => `${tool}:${name}`).sort() } : {}),
    ...(options.name === undefined ? {} : { resource_name: options.name }),
    authorization_details_types_supported: ['tool'],
    dpop_signing_alg_values_supported: DPOP_ALGS,
    dpop_bound_access_tokens_required: !options.acceptBearer && !acceptsCertificates,
    ...(acceptsCertificates ? { tls_client_certificate_bound_access_tokens: true } : {}),
  }

  /** For expiry the larger of two clocks: one that was set back must not make a token live longer. */
  function time(): number {
    return Math.max(now(), follower?.serviceTime() ?? 0)
  }

  /** A service far ahead of us may have been put right since it was asked: nobody is refused by what it said then. */
  function unsettledClocks(): Follower | undefined {
    const ahead = (follower?.serviceTime() ?? 0) - now()
    if (ahead <= CLOCK_LEEWAY_SECONDS || monotonic() - clocksSettledAt < SETTLE_CLOCKS_EVERY_MS) return undefined
    clocksSettledAt = monotonic()
    return follower
  }
  let clocksSettledAt = Number.NEGATIVE_INFINITY

  const { badToken, badProof, forbidden, unavailable, tokenFault } = createRefusals({
    issuer,
    resourceMetadataUrl,
    otherwiseThanDpop: options.acceptBearer === true || acceptsCertificates,
  })

  // The token itself

  const readToken = createTokenReader<Authenticated>({
    rule: { issuer, audience, maxLifetimeSeconds, dev: options.acceptDevelopmentTokens ? 'accept' : 'refuse' },
    jwks,
    findKey,
    time,
    refuse: tokenFault,
  })

  async function findKey(kid: string): Promise<VerifyKey> {
    try {
      const found = await jwks.find(kid, 'token')
      if (found.ok) return found.value
      throw badToken(found.fault, `the key of the token is refused: ${found.fault}`)
    } catch (error) {
      if (error instanceof ServiceUnavailable)
        throw unavailable('keys_unavailable', 'the keys of the token service are not to be had')
      throw error
    }
  }

  // Its binding

  const proofKeys = createProofKeys()

  /** Undefined where it is settled at once. */
  function checkBinding(
    request: VerifyRequest,
    scheme: Presented['scheme'],
    held: Remembered,
  ): Promise<void> | undefined {
    const { cnf } = held.claims
    if (!cnf) {
      if (!options.acceptBearer) throw badToken('bearer_not_accepted', 'this tool wants tokens that are bound to a key')
      if (scheme !== 'Bearer') throw badToken('cnf_mismatch', 'the token is bound to no key')
      return undefined
    }
    if ('jkt' in cnf) {
      if (scheme !== 'DPoP') throw badToken('binding_downgrade', 'the token is bound to a DPoP key')
      held.hash ??= accessTokenHash(held.token)
      return checkProof(request, held.hash, cnf.jkt)
    }
    if (scheme !== 'Bearer') throw badToken('cnf_mismatch', 'the token is bound to a client certificate') // RFC 8705 §3
    return checkCertificate(request, cnf)
  }

  async function checkCertificate(request: VerifyRequest, cnf: { readonly 'x5t#S256': string }): Promise<void> {
    const certificate = request.clientCertificate ?? (await options.clientCertificate?.(request))
    if (!certificate || certificateThumbprint(certificate) !== cnf['x5t#S256'])
      throw badToken('cnf_mismatch', 'the token is bound to another client certificate')
    // The connection may be older than the certificate's end.
    if (!isCurrent(certificate, now())) throw badToken('peer_invalid', 'the client certificate is not valid now')
  }

  function checkProof(request: VerifyRequest, accessTokenHash: string, jkt: string): Promise<void> | undefined {
    const header = headerValue(request.headers, 'dpop')
    if (header === undefined) throw badProof('proof_required', 'the DPoP header is missing')
    const expected = {
      method: request.method,
      url: asClientsSee(request.url),
      now: time(),
      maxAgeSeconds: proofMaxAgeSeconds,
      accessTokenHash,
    }
    const proof = readDpopProofAnywhere(header, expected, proofKeys)
    return 'ok' in proof ? spendProof(proof, jkt) : proof.then((read) => spendProof(read, jkt))
  }

  function spendProof(proof: Checked<DpopProof>, jkt: string): Promise<void> | undefined {
    if (!proof.ok) throw badProof(proof.fault, proof.detail ?? `the DPoP proof is refused: ${proof.fault}`)
    if (proof.value.jkt !== jkt) throw badToken('cnf_mismatch', 'the proof is made with another key')
    const { jti, iat } = proof.value
    // What was spent before this process started is not known to it.
    if (!options.replayGuard && iat < startedAt) throw badProof('proof_replayed', 'the proof is older than this server')
    const spent = replays.spend(jkt, jti, iat + proofMaxAgeSeconds + CLOCK_LEEWAY_SECONDS)
    if (typeof spent !== 'string') return spent.then(checkSpent)
    checkSpent(spent)
    return undefined
  }

  function checkSpent(spent: Awaited<ReturnType<ReplayGuard['spend']>>): void {
    if (spent === 'replayed') throw badProof('proof_replayed', 'the proof was used before')
    if (spent === 'full') throw unavailable('replay_guard_unavailable', 'too many proofs at once')
  }

  function asClientsSee(url: string): string {
    if (options.publicUrl === undefined) return url
    const { pathname, search } = new URL(url)
    return `${options.publicUrl.replace(/\/$/, '')}${pathname}${search}`
  }

  // Its revocation

  /** Undefined where it is settled at once, as it mostly is. */
  function checkRevocation(hops: readonly CheckedHop[], boundSeconds: number): Promise<void> | undefined {
    const verdict = follower?.verdict(hops, boundSeconds)
    return !follower || verdict?.kind === 'live' ? undefined : settleRevocation(follower, hops, boundSeconds)
  }

  async function settleRevocation(
    follower: Follower,
    hops: readonly CheckedHop[],
    boundSeconds: number,
  ): Promise<void> {
    let verdict = follower.verdict(hops, boundSeconds)
    if (verdict.kind === 'behind') {
      await follower.reached(newest(hops))
      verdict = follower.verdict(hops, boundSeconds)
    }
    if (verdict.kind === 'behind' || verdict.kind === 'stale') {
      await follower.refresh()
      verdict = follower.verdict(hops, boundSeconds) // computed now, after all waiting
    }
    if (verdict.kind === 'dead')
      throw verdict.hop === 0
        ? badToken('revoked', 'the token was revoked')
        : badToken('ancestor_revoked', 'a token that this one descends from was revoked')
    if (verdict.kind !== 'live')
      throw unavailable(
        'revocation_state_stale',
        follower.status().steppedBack
          ? 'the revocation log of the token service went back in time'
          : 'what is known here of revocations is too old',
      )
  }

  async function introspect(token: string): Promise<void> {
    let active: boolean
    try {
      active = (await client!.introspect(token)).active
    } catch (error) {
      if (error instanceof ServiceUnavailable)
        throw unavailable('service_unavailable', 'the token service could not be asked')
      throw error
    }
    if (!active) throw badToken('revoked', 'the token service holds the token for inactive')
  }

  // What it allows

  /** The first object of authorization_details that admits the call. */
  function admits(claims: AccessTokenClaims, call: Call): Effect {
    let path: string | undefined
    let named = false
    for (const detail of claims.authorization_details) {
      if ((tool !== undefined && detail.tool !== tool) || !detail.operations.includes(call.operation)) continue
      named = true
      if (detail.constraints === undefined) return detail.effect
      if (call.arguments === undefined) continue
      path = violation(detail.constraints, call.arguments)
      if (path === undefined) return detail.effect
    }
    const scope = `${tool ?? claims.authorization_details[0]!.tool}:${call.operation}`
    if (!named) throw forbidden('insufficient_scope', `operation ${call.operation} is not granted`, scope)
    if (path === undefined)
      throw forbidden('insufficient_scope', `${call.operation} is granted for certain arguments only`, scope)
    throw forbidden('insufficient_scope', `${call.operation} is not granted with this argument: ${path}`, scope)
  }

  async function reserve({ task }: AccessTokenClaims, token: string, operation: string, cost?: number): Promise<void> {
    const operationId = randomBase64url(16)
    const reservation = { token, operation, calls: 1, ...(cost === undefined ? {} : { cost }), operationId }
    let outcome: Awaited<ReturnType<ServiceClient['reserve']>>
    try {
      outcome = await client!.reserve(task.id, reservation)
    } catch (error) {
      if (error instanceof ServiceUnavailable)
        throw unavailable('service_unavailable', 'the budget of the task could not be asked for')
      throw error
    }
    if (outcome === 'exhausted') throw forbidden('budget_exhausted', 'the budget of the task is spent')
    if (outcome === 'gone') throw badToken('task_not_active', 'the task is over')
  }

  const madeGrants = new WeakMap<AccessTokenClaims['authorization_details'], readonly Grant[]>()
  /** Made when somebody asks, once for the same details. One getter for all: an object with its own is another shape each time. */
  const grantsProperty = {
    enumerable: true,
    get(this: { readonly claims: AccessTokenClaims }) {
      const { authorization_details: details } = this.claims
      const known = madeGrants.get(details)
      if (known) return known
      const made = frozen(fromAuthorizationDetails(details))
      madeGrants.set(details, made)
      return made
    },
  }
  const withGrants = <T extends Omit<Caller, 'grants'>>(caller: T): T & Pick<Caller, 'grants'> =>
    Object.defineProperty(caller, 'grants', grantsProperty) as T & Pick<Caller, 'grants'>

  /** Only what this verifier made itself counts as authenticated. */
  const evidence = new WeakMap<object, Remembered>()
  function callerOf(held: Remembered): Authenticated {
    if (held.caller) return held.caller
    const { claims, chain, scope } = held
    const { sub: subject, client_id: clientId, task, exp: expiresAt } = claims
    const agent = chain[0]!
    const caller = withGrants({ subject, agent, clientId, task, chain, scope, expiresAt, claims })
    held.caller = Object.freeze(caller) as Authenticated
    evidence.set(held.caller, held)
    return held.caller
  }

  /** A request, or nothing but its token. */
  async function admit<T>(
    request: VerifyRequest | undefined,
    bare: string,
    answer: (held: Remembered) => T,
  ): Promise<T> {
    const presented: Presented = request ? readPresented(request) : { scheme: 'Bearer', token: bare }
    // Nothing is waited for that is here already: each wait costs as much as a small check.
    const unsettled = unsettledClocks()
    if (unsettled) await unsettled.refresh()
    const found = readToken(presented.token)
    const held = found instanceof Promise ? await found : found
    const { claims, hops } = held
    if (!follower && claims.exp - claims.iat > MAX_UNFOLLOWED_LIFETIME_SECONDS)
      throw badToken(
        'feed_required',
        `this tool does not follow revocations (its verifier has no key), and accepts tokens of ${MAX_UNFOLLOWED_LIFETIME_SECONDS} s at most`,
      )
    const checking = request ? checkBinding(request, presented.scheme, held) : checkUnbound(claims)
    if (checking) await checking
    const settling = checkRevocation(hops, loosest)
    if (settling) await settling
    return answer(held)
  }

  function readPresented(request: VerifyRequest): Presented {
    const presented = readAuthorization(request)
    if (presented === 'token_required') throw badToken(presented, 'an access token is required')
    if (presented === 'bad_auth_scheme')
      throw badToken(presented, 'one Authorization header with the scheme DPoP or Bearer and one token is required')
    return presented
  }

  function checkUnbound({ cnf }: AccessTokenClaims): undefined {
    if (cnf) throw badToken('binding_downgrade', 'the token is bound to a key, and no proof can be seen here')
    if (!options.acceptBearer) throw badToken('bearer_not_accepted', 'this tool wants tokens that are bound to a key')
    return undefined
  }

  /** Undefined where it is settled at once. */
  function settleCall(held: Remembered, call: Call, bound: number): Promise<void> | undefined {
    const { operation } = call
    const budget =
      options.budgeted && Object.hasOwn(options.budgeted, operation) ? options.budgeted[operation] : undefined
    const settling = checkRevocation(held.hops, bound === 0 ? Number.POSITIVE_INFINITY : bound)
    if (!budget && bound !== 0) return settling
    return (async () => {
      if (settling) await settling
      if (bound === 0) await introspect(held.token)
      if (!budget) return
      await reserve(held.claims, held.token, operation, budget.cost)
      await checkRevocation(held.hops, bound === 0 ? Number.POSITIVE_INFINITY : bound) // the answer took its time
    })()
  }

  async function decide(held: Remembered, call: Call): Promise<VerifiedCall> {
    const { claims, chain, scope } = held
    const effect = admits(claims, call)
    if (claims.exp <= time()) throw badToken('expired', 'the access token has expired')
    const settling = settleCall(held, call, staleness[effect])
    if (settling) await settling
    const { sub: subject, client_id: clientId, task, exp: expiresAt } = claims
    const { operation, arguments: judged } = call
    const agent = chain[0]!
    return withGrants({
      subject,
      agent,
      clientId,
      task,
      chain,
      scope,
      expiresAt,
      claims,
      operation,
      effect,
      arguments: judged,
    })
  }

  const authenticate = (request: VerifyRequest): Promise<Authenticated> => admit(request, '', callerOf)
  async function authorize(caller: Authenticated, call: Call): Promise<VerifiedCall> {
    const held = evidence.get(caller)
    if (!held) throw new TypeError('authorize takes what authenticate of the same verifier returned')
    return decide(held, call)
  }

  const { trace } = options
  const steps = trace
    ? {
        authenticate: (request: VerifyRequest) => trace('errand.authenticate', () => authenticate(request)),
        authorize: (caller: Authenticated, call: Call) => trace('errand.authorize', () => authorize(caller, call)),
      }
    : { authenticate, authorize }

  return {
    ...steps,
    // Who is not handed a caller in between needs none made.
    verify: trace
      ? async (request, call) => steps.authorize(await steps.authenticate(request), call)
      : async (request, call) => decide(await admit(request, '', itself), call),
    authenticateToken: (token) => admit(undefined, token, callerOf),
    async route(request) {
      const found = await router(request)
      if ('operation' in found) return found
      const { refused, description } = found
      if (refused === 'operation_unknown') throw forbidden(refused, description)
      const status = refused === 'media_type' ? 415 : refused === 'body_too_large' ? 413 : 400
      throw new BadRequestError({ status, error: 'invalid_request', code: refused, description, issuer })
    },
    operationOfMcpTool(name) {
      const operation = options.mcpTools && Object.hasOwn(options.mcpTools, name) ? options.mcpTools[name] : undefined
      if (operation === undefined)
        throw forbidden('operation_unknown', 'no operation of this tool has this MCP tool name')
      return operation
    },
    metadata,
    metadataUrl: resourceMetadataUrl,
    ready: async () => follower?.refresh(),
    status: () => follower?.status(),
    close: () => follower?.close(),
  }
}

const itself = (held: Remembered): Remembered => held

function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null) return value
  for (const member of Object.values(value)) frozen(member)
  return Object.freeze(value)
}

const newest = (hops: readonly CheckedHop[]): Epoch =>
  hops.reduce((max, { rev }) => (compareEpochs(rev, max) > 0 ? rev : max), hops[0]!.rev)
