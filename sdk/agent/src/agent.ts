/** The agent: its evidence, its proof key, and the tasks it opens. */
import { createDpop } from './dpop.ts'
import { badArgument, ErrandError } from './errors.ts'
import { type Evidence, type Provided, provided } from './evidence.ts'
import { opaque } from './opaque.ts'
import { createService, isIssuer, type Json, type Service } from './service.ts'
import { createTask, EXCHANGE, handOverForm, type Source, subjectForm, type Task } from './task.ts'
import { readTokenAnswer, readTokenRequest, type TokenRequest, type ToolAuthorization } from './token.ts'

/** What a task may spend; integers, absent is unlimited. */
export interface Budget {
  readonly maxCalls?: number
  readonly maxExchanges?: number
  readonly maxDurationSeconds?: number
  readonly maxCost?: number
}

/** What a task is for, and its bounds. */
export interface TaskDetails {
  readonly purpose: string
  readonly environment: 'production' | 'staging' | 'development'
  readonly dataClassification: 'public' | 'internal' | 'confidential' | 'restricted'
  readonly deadlineSeconds?: number
  /** The task ends where no heartbeat came for so long; they are sent while this process lives. */
  readonly heartbeatSeconds?: number
  readonly budget?: Budget
}

/** Narrows what the whole task may do. */
export interface TaskAuthority {
  readonly scope?: string | readonly string[]
  readonly authorizationDetails?: readonly ToolAuthorization[]
}

export type TaskRequest =
  /** For a user: with the user's token, or a function that gives a fresh one. */
  | (TaskDetails & TaskAuthority & { readonly subjectToken: Provided<string>; readonly autonomous?: false })
  /** For the agent itself, where policy allows it. */
  | (TaskDetails & TaskAuthority & { readonly autonomous: true })
  /** One that exists already. */
  | { readonly id: string; readonly subjectToken: Provided<string>; readonly heartbeatSeconds?: number }
  | { readonly id: string; readonly autonomous: true; readonly heartbeatSeconds?: number }

export interface Agent {
  readonly issuer: string
  /** Thumbprint of the proof key, the `cnf.jkt` of this agent's tokens. */
  readonly thumbprint: string
  /**
   * Opens a task, or takes up one that exists.
   *
   * @example
   * ```ts
   * const task = await agent.task({
   *   subjectToken: () => session.accessToken(),
   *   purpose: 'Find out why order 4711 was refunded twice',
   *   environment: 'production',
   *   dataClassification: 'internal',
   *   deadlineSeconds: 900,
   * })
   * ```
   */
  task(request: TaskRequest): Promise<Task>
  /**
   * Takes over a part of another agent's task: spends the hand-over token, opens a child task and keeps its first
   * token. What the child may do is at most what was handed over, for the tool it was handed over for.
   *
   * @example
   * ```ts
   * const child = await agent.accept(handOverToken, { tool: 'payments' })
   * const response = await child.fetch('payments', 'https://payments.example.com/charges/ch_1')
   * ```
   */
  accept(handOverToken: string, request: TokenRequest & Partial<TaskDetails>): Promise<Task>
  /** Stops the heartbeats of all tasks; ends none of them. */
  close(): void
}

export interface Measurements {
  readonly model?: string
  /** All tools of the agent: the definition, or `sha256:` and the digest of its canonical JSON (RFC 8785). */
  readonly tools?: { readonly [name: string]: Json | string }
  /** All prompts: `sha256:` and the digest of the file. */
  readonly prompts?: { readonly [name: string]: string }
}

export interface AgentOptions {
  /** The service's issuer identifier, exactly. https, or http on this machine. */
  readonly issuer: string
  readonly evidence: Evidence
  /** Id of the registered release that this agent is; sent with each exchange. */
  readonly release?: string
  /**
   * What the agent sees of itself, compared with its release at each exchange. Tools are given as the model gets them,
   * by name: where one changed since it was released, the refusal names the byte.
   */
  readonly measurements?: Provided<Measurements>
  /** A bound on each try, 10 by default. */
  readonly timeoutSeconds?: number
  /** Instead of the global fetch. */
  readonly fetch?: typeof fetch
  /** The clock, in Unix seconds. */
  readonly now?: () => number
  /** How to wait between tries. */
  readonly wait?: (milliseconds: number) => Promise<void>
}

/**
 * An agent with a proof key that lives in this process alone.
 *
 * @example
 * ```ts
 * import { readFileSync } from 'node:fs'
 * import { createAgent, privateKeyJwt } from '@errand/agent'
 *
 * const agent = createAgent({
 *   issuer: 'http://127.0.0.1:4460',
 *   evidence: privateKeyJwt({ clientId: 'research', key: readFileSync('keys/agents/research.jwk', 'utf8') }),
 * })
 * const task = await agent.task({
 *   subjectToken: process.env.USER_TOKEN!,
 *   purpose: 'Summarise open tickets',
 *   environment: 'production',
 *   dataClassification: 'internal',
 *   deadlineSeconds: 600,
 * })
 * const response = await task.fetch('tickets', 'https://tickets.example.com/tickets?state=open')
 * console.log(await response.json())
 * await task.complete()
 * ```
 */
export function createAgent(options: AgentOptions): Agent {
  const { issuer, evidence } = options
  if (!isIssuer(issuer)) throw badArgument('issuer must be an https URL (http only on 127.0.0.1, ::1 or localhost)')
  const now = options.now ?? (() => Date.now() / 1000)
  const wait = options.wait ?? ((milliseconds: number) => new Promise<void>((done) => setTimeout(done, milliseconds)))
  const fetch = options.fetch ?? globalThis.fetch
  const dpop = createDpop({ now, ...(evidence.proofKey ? { key: evidence.proofKey } : {}) })
  const exchanging = createService({
    issuer,
    evidence,
    dpop,
    fetch,
    now,
    wait,
    timeoutSeconds: options.timeoutSeconds ?? 10,
  })
  const service: Service = {
    ...exchanging,
    async exchange(form) {
      const { release, measurements } = options
      const seen = measurements === undefined ? undefined : JSON.stringify(await provided(measurements))
      return exchanging.exchange({ ...form, release, measurements: seen })
    },
  }
  const heartbeats = new Set<ReturnType<typeof setInterval>>()

  const held = (id: string, source: Source, heartbeatSeconds: number | undefined): Task =>
    createTask(
      id,
      source,
      { service, dpop, fetch, now, wait, heartbeats },
      heartbeatSeconds === undefined ? {} : { heartbeatSeconds },
    )

  return opaque('Agent', () => ({ issuer, evidence: evidence.kind, thumbprint: dpop.thumbprint }), {
    issuer,
    thumbprint: dpop.thumbprint,

    async task(request: TaskRequest): Promise<Task> {
      const source: Source =
        'subjectToken' in request ? { kind: 'user', subjectToken: request.subjectToken } : { kind: 'autonomous' }
      if ('id' in request) return held(request.id, source, request.heartbeatSeconds)
      const { scope, authorizationDetails } = request
      const view = await service.api('POST', '/tasks', {
        ...(source.kind === 'user' ? await subjectForm(source.subjectToken) : {}),
        ...wireDetails(request),
        ...(scope === undefined ? {} : { scope: typeof scope === 'string' ? scope : scope.join(' ') }),
        ...(authorizationDetails === undefined ? {} : { authorization_details: authorizationDetails }),
      })
      if (typeof view['id'] !== 'string') {
        throw new ErrandError({ status: 201, code: 'bad_response', description: 'the answer holds no task' })
      }
      return held(view['id'], source, request.heartbeatSeconds)
    },

    async accept(handOverToken: string, request: TokenRequest & Partial<TaskDetails>): Promise<Task> {
      const details = wireDetails(request)
      const sentAt = now()
      const answer = await service.exchange({
        grant_type: EXCHANGE,
        ...handOverForm(handOverToken),
        ...readTokenRequest(request).form,
        request_details: Object.keys(details).length === 0 ? undefined : JSON.stringify(details),
      })
      const token = readTokenAnswer(answer, sentAt)
      return held(
        token.taskId,
        { kind: 'handed', request, token: { token, issuedAt: sentAt } },
        request.heartbeatSeconds,
      )
    },

    close(): void {
      for (const timer of heartbeats) clearInterval(timer)
      heartbeats.clear()
    },
  })
}

/** The members of `request_details`, in the wire's names. */
function wireDetails(details: Partial<TaskDetails>): Json {
  const { budget } = details
  const members = {
    purpose: details.purpose,
    environment: details.environment,
    data_classification: details.dataClassification,
    deadline_seconds: details.deadlineSeconds,
    heartbeat_seconds: details.heartbeatSeconds,
    budget: budget && {
      max_calls: budget.maxCalls,
      max_exchanges: budget.maxExchanges,
      max_duration_seconds: budget.maxDurationSeconds,
      max_cost: budget.maxCost,
    },
  }
  return Object.fromEntries(Object.entries(members).filter(([, value]) => value !== undefined))
}
