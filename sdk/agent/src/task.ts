/** One task as its agent holds it: tokens kept and renewed, calls made with them, parts handed over, its end. */
import type { Dpop } from './dpop.ts'
import { badArgument, ErrandError } from './errors.ts'
import type { Provided } from './evidence.ts'
import { peek } from './jws.ts'
import { opaque } from './opaque.ts'
import type { Json, Service } from './service.ts'
import {
  readTokenAnswer,
  readTokenRequest,
  type TaskToken,
  type TokenRequest,
  type ToolAuthorization,
} from './token.ts'
import { retryAfterSeconds } from './transport.ts'

/** A task as the service shows it to its agent, in the wire's own names. */
export interface TaskView {
  readonly id: string
  readonly parent?: string
  readonly root: string
  readonly depth: number
  readonly agent: string
  readonly subject: string
  readonly purpose: string
  readonly environment: string
  readonly data_classification: string
  readonly state: 'active' | 'suspended' | 'completed' | 'cancelled' | 'revoked' | 'expired'
  /** Unix seconds, as all times here. */
  readonly created_at: number
  readonly deadline: number
  readonly heartbeat_by?: number
  readonly budget: Json
  readonly spent: Json
  readonly ended_at?: number
  readonly ended_reason?: string
  readonly authority: readonly ToolAuthorization[]
  /** These three are there in the answer of `state()`. */
  readonly children?: readonly TaskView[]
  readonly tokens?: readonly Json[]
  readonly refusals?: readonly Json[]
}

export interface Task {
  /** `task_…` */
  readonly id: string
  /** What would be granted and why; issues nothing, changes nothing. */
  token(request: TokenRequest & { readonly dryRun: true }): Promise<Json>
  /**
   * A token for a tool, from memory until four fifths of its life are over. Parallel calls share one exchange.
   *
   * @example
   * ```ts
   * const token = await task.token({ tool: 'tickets', scope: 'tickets:read' })
   * console.log(token.scope, token.expiresAt)
   * ```
   */
  token(request: TokenRequest): Promise<TaskToken>
  /**
   * Calls a tool API: adds the token and a proof of possession made for this request. A nonce the tool asks for, a
   * token it no longer takes and a short `revocation_state_stale` are met once each; anything else is returned as it
   * is. Redirects are not followed, since a proof is for one URL. `tool` is a name or an audience URI.
   *
   * @example
   * ```ts
   * const response = await task.fetch('tickets', 'https://tickets.example.com/tickets/42', {}, { scope: 'tickets:read' })
   * if (!response.ok) throw new Error(`tickets answered ${response.status}`)
   * ```
   */
  fetch(tool: string, url: string | URL, init?: RequestInit, ask?: Ask): Promise<Response>
  /**
   * A one-use token (60 s at most) with which the agent `to`, and no other, may open a child task with this part of
   * the authority. It is worth nothing to anybody else, and no tool accepts it.
   *
   * @example
   * ```ts
   * const handOver = await task.handOver({ to: 'payments', tool: 'payments', scope: 'payments:read' })
   * await fetch('https://payments-agent.example.com/work', { method: 'POST', body: handOver })
   * ```
   */
  handOver(request: TokenRequest & { readonly to: string }): Promise<string>
  /** Says that the agent is alive; by itself where the task was given `heartbeatSeconds`. */
  heartbeat(): Promise<TaskView>
  /** Ends the task: its tokens and those of its children stop working. */
  complete(): Promise<TaskView>
  /** Ends the task as given up; the same consequences. */
  cancel(): Promise<TaskView>
  /** The task with its children, tokens and refusals as the service sees it now. */
  state(): Promise<TaskView>
}

export type Ask = Pick<TokenRequest, 'scope' | 'authorizationDetails'>

/** Where the authority of a task's exchanges comes from. */
export type Source =
  | { readonly kind: 'user'; readonly subjectToken: Provided<string> }
  | { readonly kind: 'autonomous' }
  /** A hand-over token was spent for it, so what was got for it carries on. */
  | { readonly kind: 'handed'; readonly request: TokenRequest; readonly token: Held }

export interface TaskDeps {
  readonly service: Service
  readonly dpop: Dpop
  readonly fetch: typeof fetch
  readonly now: () => number
  readonly wait: (milliseconds: number) => Promise<void>
  /** The heartbeats that are running; the agent stops them all when it is closed. */
  readonly heartbeats: Set<ReturnType<typeof setInterval>>
}

interface Held {
  readonly token: TaskToken
  readonly issuedAt: number
}

const TYPE = {
  jwt: 'urn:ietf:params:oauth:token-type:jwt',
  accessToken: 'urn:ietf:params:oauth:token-type:access_token',
  handOver: 'urn:errand:params:oauth:token-type:hand-over',
}
export const EXCHANGE = 'urn:ietf:params:oauth:grant-type:token-exchange'

const RENEW_AT = 0.8
/** A token with less life than this is not worth sending. */
const LEAST_LIFE_SECONDS = 2
const MAX_KEPT = 128
const MAX_STALE_WAITS = 2
const LONGEST_STALE_WAIT_SECONDS = 5
const FIRST_REFUSAL_PAUSE_SECONDS = 1
const LONGEST_REFUSAL_PAUSE_SECONDS = 60

export const subjectForm = async (
  subjectToken: Provided<string>,
): Promise<{ readonly subject_token: string; readonly subject_token_type: string }> => ({
  subject_token: typeof subjectToken === 'function' ? await subjectToken() : subjectToken,
  subject_token_type: TYPE.jwt,
})

export const handOverForm = (handOver: string) => ({ subject_token: handOver, subject_token_type: TYPE.handOver })
const ownForm = (held: Held) => ({ subject_token: held.token.accessToken, subject_token_type: TYPE.accessToken })

export function createTask(
  id: string,
  source: Source,
  deps: TaskDeps,
  options: { readonly heartbeatSeconds?: number } = {},
): Task {
  const { service, dpop, now } = deps
  const kept = new Map<string, Held>()
  const underWay = new Map<string, Promise<TaskToken>>()
  // How often in a row a tool refused what we hold for it, and before when we do not ask for another.
  const refused = new Map<string, { readonly times: number; readonly notBefore: number }>()
  const root = source.kind === 'handed' ? readTokenRequest(source.request) : undefined
  if (source.kind === 'handed' && root) kept.set(root.key, source.token)

  const isAlive = (held: Held): boolean => now() < held.token.expiresAt - LEAST_LIFE_SECONDS
  const isFresh = (held: Held): boolean =>
    isAlive(held) && now() < held.issuedAt + (held.token.expiresAt - held.issuedAt) * RENEW_AT

  function keep(key: string, held: Held): void {
    kept.delete(key)
    kept.set(key, held)
    for (const [other, each] of kept) if (other !== root?.key && !isAlive(each)) kept.delete(other)
    for (const other of kept.keys()) {
      if (kept.size <= MAX_KEPT) break
      if (other !== root?.key) kept.delete(other)
    }
  }

  /** The subject of an exchange for `key`. */
  async function subject(key: string): Promise<{ readonly [name: string]: string }> {
    if (source.kind === 'autonomous') return { grant_type: 'client_credentials' }
    if (source.kind === 'user') {
      const own = kept.get(key)
      const exp = typeof source.subjectToken === 'string' ? peek(source.subjectToken, 'payload')?.['exp'] : undefined
      // The user's token has run out and nobody can renew it: what it was exchanged for carries on.
      const carriesOn = own !== undefined && typeof exp === 'number' && now() >= exp && isAlive(own)
      return { grant_type: EXCHANGE, ...(carriesOn ? ownForm(own) : await subjectForm(source.subjectToken)) }
    }
    if (key !== root!.key) await get(source.request)
    const held = kept.get(root!.key)
    if (!held || !isAlive(held)) {
      throw new ErrandError({
        status: 0,
        code: 'invalid_request',
        reason: 'task_expired',
        description: 'the token that carries this child task has expired',
        next: 'ask the agent that handed over for a new hand-over token',
      })
    }
    return { grant_type: EXCHANGE, ...ownForm(held) }
  }

  async function exchange(key: string, form: { readonly [name: string]: string | undefined }): Promise<TaskToken> {
    const by = await subject(key)
    const sentAt = now()
    const token = readTokenAnswer(await service.exchange({ ...by, ...form, task_id: id }), sentAt)
    keep(key, { token, issuedAt: sentAt })
    return token
  }

  /** One exchange at a time for one thing, however many ask. */
  function renew(key: string, form: { readonly [name: string]: string | undefined }): Promise<TaskToken> {
    const running = underWay.get(key)
    if (running) return running
    const started = exchange(key, form).finally(() => underWay.delete(key))
    underWay.set(key, started)
    return started
  }

  async function get(request: TokenRequest): Promise<TaskToken> {
    const { key, form } = readTokenRequest(request)
    const held = kept.get(key)
    if (held && isFresh(held)) return held.token
    try {
      return await renew(key, form)
    } catch (error) {
      // Early renewal is for bad moments like this one. A refusal is final, though.
      if (error instanceof ErrandError && error.temporary && held && isAlive(held)) return held.token
      throw error
    }
  }

  /** Another token where a tool refused this one; undefined where we asked for one a moment ago. */
  async function replace(request: TokenRequest, dead: TaskToken): Promise<TaskToken | undefined> {
    const { key, form } = readTokenRequest(request)
    const held = kept.get(key)
    // Somebody was faster: the refused one is no longer what we hold.
    if (held && held.token !== dead && isFresh(held)) return held.token
    const running = underWay.get(key)
    if (running) return running
    const { times, notBefore } = refused.get(key) ?? { times: 0, notBefore: 0 }
    if (now() < notBefore) return undefined
    const pause = Math.min(LONGEST_REFUSAL_PAUSE_SECONDS, FIRST_REFUSAL_PAUSE_SECONDS * 2 ** times)
    refused.set(key, { times: times + 1, notBefore: now() + pause })
    return renew(key, form)
  }

  async function call(tool: string, to: string | URL, init: RequestInit = {}, ask: Ask = {}): Promise<Response> {
    const target = new URL(to)
    const url = target.href
    const method = (init.method ?? 'GET').toUpperCase()
    const request: TokenRequest = { ...(tool.includes('://') ? { resource: tool } : { tool }), ...ask }
    const { key } = readTokenRequest(request)
    let token = await get(request)
    let challenged = false
    let replaced = false
    let waits = 0
    for (;;) {
      const headers = new Headers(init.headers)
      headers.set('authorization', `${token.tokenType} ${token.accessToken}`)
      if (token.tokenType === 'DPoP') {
        headers.set('dpop', dpop.proof({ method, url, accessToken: token.accessToken }))
      }
      const response = await deps.fetch(url, { ...init, method, headers, redirect: 'manual' })
      dpop.remember(url, response.headers)
      if (response.status !== 401) refused.delete(key)
      if (!isReplayable(init.body)) return response
      if (response.status === 401) {
        const challenge = response.headers.get('www-authenticate') ?? ''
        if (challenge.includes('use_dpop_nonce') && !challenged) {
          challenged = true
        } else if (challenge.includes('invalid_token') && !replaced) {
          replaced = true
          const other = await replace(request, token)
          if (!other) return response
          token = other
        } else return response
      } else if (await isShortlyStale(response, now())) {
        if (++waits > MAX_STALE_WAITS) return response
        await deps.wait(1000 * retryAfterSeconds(response.headers, now())! + Math.random() * 200)
      } else return response
      await response.body?.cancel()
    }
  }

  async function handOver(request: TokenRequest & { readonly to: string }): Promise<string> {
    const { to, ...part } = request
    const { form, scope } = readTokenRequest(part)
    const wider = part.authorizationDetails === undefined ? coveringToken(part, scope) : undefined
    const token = wider ?? (await get(part))
    const answer = await service.exchange({
      grant_type: EXCHANGE,
      subject_token: token.accessToken,
      subject_token_type: TYPE.accessToken,
      requested_token_type: TYPE.handOver,
      delegate_to: to,
      ...form,
    })
    const text = answer['access_token']
    if (typeof text === 'string' && answer['issued_token_type'] === TYPE.handOver) return text
    throw new ErrandError({ status: 200, code: 'bad_response', description: 'the answer holds no hand-over token' })
  }

  /** What we hold for the same tool that includes `scope`: it saves an exchange. */
  function coveringToken(part: TokenRequest, scope: readonly string[]): TaskToken | undefined {
    if (scope.length === 0) return undefined
    const [tool, resource] = JSON.parse(readTokenRequest(part).key) as unknown[]
    for (const [key, held] of kept) {
      const [itsTool, itsResource] = JSON.parse(key) as unknown[]
      if (itsTool !== tool || itsResource !== resource || !isFresh(held)) continue
      if (scope.every((value) => held.token.scope.includes(value))) return held.token
    }
    return undefined
  }

  const path = `/tasks/${encodeURIComponent(id)}`
  let timer: ReturnType<typeof setInterval> | undefined
  const stop = (): void => {
    if (timer === undefined) return
    clearInterval(timer)
    deps.heartbeats.delete(timer)
  }
  const heartbeat = async (): Promise<TaskView> => {
    try {
      return (await service.api('POST', `${path}/heartbeat`)) as unknown as TaskView
    } catch (error) {
      // Refused is ended: there is nothing left to keep alive.
      if (error instanceof ErrandError && !error.temporary) stop()
      throw error
    }
  }
  const end = async (how: 'complete' | 'cancel'): Promise<TaskView> => {
    const view = (await service.api('POST', `${path}/${how}`)) as unknown as TaskView
    stop()
    kept.clear()
    return view
  }
  if (options.heartbeatSeconds !== undefined) {
    if (!(options.heartbeatSeconds > 0)) throw badArgument('heartbeatSeconds must be positive')
    // Three tries fit into one period. What goes wrong is told by the next thing asked of the task.
    timer = setInterval(() => void heartbeat().catch(() => undefined), (options.heartbeatSeconds * 1000) / 3)
    timer.unref()
    deps.heartbeats.add(timer)
  }

  function token(request: TokenRequest & { readonly dryRun: true }): Promise<Json>
  function token(request: TokenRequest): Promise<TaskToken>
  async function token(request: TokenRequest & { readonly dryRun?: boolean }): Promise<Json | TaskToken> {
    const { dryRun, ...asked } = request
    if (!dryRun) return get(asked)
    const { key, form } = readTokenRequest(asked)
    return service.exchange({ ...(await subject(key)), ...form, task_id: id, dry_run: 'true' })
  }

  return opaque('Task', () => ({ id }), {
    id,
    token,
    fetch: call,
    handOver,
    heartbeat,
    complete: () => end('complete'),
    cancel: () => end('cancel'),
    state: async () => (await service.api('GET', path)) as unknown as TaskView,
  })
}

/** A stream is gone once sent; text and bytes can be sent again. */
function isReplayable(body: RequestInit['body']): boolean {
  return (
    body === undefined ||
    body === null ||
    typeof body === 'string' ||
    body instanceof URLSearchParams ||
    body instanceof ArrayBuffer ||
    ArrayBuffer.isView(body) ||
    body instanceof Blob ||
    body instanceof FormData
  )
}

/** Whether a tool says that it does not know for a moment whether the token was revoked: it did nothing yet. */
async function isShortlyStale(response: Response, now: number): Promise<boolean> {
  if (response.status !== 503) return false
  const seconds = retryAfterSeconds(response.headers, now)
  if (seconds === undefined || seconds > LONGEST_STALE_WAIT_SECONDS) return false
  if (!(response.headers.get('content-type') ?? '').includes('json')) return false
  try {
    const body: unknown = await response.clone().json()
    const { error, code } = (body ?? {}) as { error?: unknown; code?: unknown }
    return error === 'revocation_state_stale' || code === 'revocation_state_stale'
  } catch {
    return false
  }
}
