/**
 * Issuing for others: a target that takes ID-JAGs or transaction tokens is a tool like any other to policy, ceiling and
 * task. This file reads what such a request says in the words of its draft, and says what was granted in those words.
 */
import { createHash } from 'node:crypto'
import { callViolation } from '@errand/verifier/grants.ts'
import { type JsonObject, parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { TOKEN_TYPE } from '../oauth/words.ts'
import type { Decision } from '../policy/decision.ts'
import type { Takes, Tool } from '../policy/tool.ts'
import { draftIdJag, draftTxnToken, type ForeignClaims, isTxnToken } from '../tokens/foreign.ts'
import type { TokenFacts } from '../tokens/issue.ts'
import type { Directory } from './directory.ts'
import { reachOf } from './reach.ts'
import type { Standing } from './standing.ts'
import type { TokenRequest } from './token-request.ts'

/** What a transaction token is asked to carry. */
export interface TxnContext {
  readonly tctx?: JsonObject
  readonly rctx?: JsonObject
}

export interface ForeignRequest {
  /** As for any tool: its audience, and our scope values. */
  readonly request: TokenRequest
  readonly context: TxnContext
}

const MAX_CONTEXT = 2048

const foreignKind = ({ requestedTokenType }: TokenRequest): Takes['kind'] | undefined =>
  requestedTokenType === TOKEN_TYPE.idJag
    ? 'id_jag'
    : requestedTokenType === TOKEN_TYPE.txnToken
      ? 'txn_token'
      : undefined

/** `audience` names the authorization server or the trust domain, `resource` the tool behind it. */
export function readForeign(
  request: TokenRequest,
  directory: Directory,
  agent: AgentRegistration,
): Result<ForeignRequest> {
  const kind = foreignKind(request)
  if (kind === undefined) return ok({ request, context: {} })
  const [audience] = request.audiences
  if (audience === undefined) return refuse('param_missing', 'request', { detail: 'audience is missing' })
  const reach = reachOf(directory.tools, agent.ceiling)
  const served = directory.tools.all.filter(
    ({ name, takes }) => takes?.kind === kind && isAudience(takes, audience) && reach.byName(name) !== undefined,
  )
  const named =
    request.resources.length === 0 ? served : served.filter((tool) => request.resources.includes(tool.audience))
  if (request.audiences.length > 1 || request.resources.length > 1 || named.length > 1) {
    return refuse('one_target', 'request', { detail: 'name one audience and, where it has several, one resource' })
  }
  const [tool] = named
  if (!tool) return refuse('audience_denied', 'request')
  const context = kind === 'txn_token' ? readContext(request, tool) : ok({})
  if (!context.ok) return context
  const { scope, requestDetails, ...rest } = request
  return ok({
    request: {
      ...rest,
      audiences: [],
      resources: [tool.audience],
      ...(scope === undefined ? {} : { scope: ownScope(scope, tool) }),
      // draft-ietf-oauth-transaction-tokens gives the parameter another meaning: there the call, not the task.
      ...(requestDetails === undefined || kind === 'txn_token' ? {} : { requestDetails }),
    },
    context: context.value,
  })
}

/** Clients read issuers as URLs, and then write an empty path as a slash; what goes into `aud` is what we know. */
const isAudience = (takes: Takes, audience: string): boolean =>
  takes.kind === 'id_jag'
    ? audience === takes.authorizationServer ||
      (audience === `${takes.authorizationServer}/` && new URL(audience).pathname === '/')
    : audience === takes.trustDomain

/** Either spelling is understood: the other side's, or ours. */
function ownScope(scope: string, { name, takes }: Tool): string {
  const byForeign = new Map([...(takes?.scopes ?? [])].map(([operation, value]) => [value, `${name}:${operation}`]))
  return scope
    .split(' ')
    .map((value) => byForeign.get(value) ?? value)
    .join(' ')
}

export function foreignScope({ permitted }: Decision, { takes }: Tool): string {
  const values = permitted.map(({ tool, operation }) => takes?.scopes.get(operation) ?? `${tool}:${operation}`)
  return [...new Set(values)].join(' ')
}

function readContext({ requestDetails, requestContext }: TokenRequest, { takes }: Tool): Result<TxnContext> {
  const tctx = readObject(requestDetails)
  const rctx = readObject(requestContext)
  if (tctx === 'bad' || rctx === 'bad') {
    return refuse('bad_param', 'request', {
      detail: `request_details and request_context are JSON objects of ${MAX_CONTEXT} characters at most`,
    })
  }
  const known = takes?.kind === 'txn_token' ? takes.requestContext : []
  const unknown = Object.keys(rctx ?? {}).find((name) => !known.includes(name))
  if (unknown !== undefined) {
    return refuse('bad_param', 'request', { detail: 'request_context holds a member that is not passed on there' })
  }
  return ok({ ...(tctx ? { tctx } : {}), ...(rctx ? { rctx } : {}) })
}

function readObject(text: string | undefined): JsonObject | undefined | 'bad' {
  if (text === undefined) return undefined
  if (text.length > MAX_CONTEXT) return 'bad'
  const json = parseStrictJson(text, { maxDepth: 6 })
  if (!json.ok || typeof json.value !== 'object' || json.value === null || Array.isArray(json.value)) return 'bad'
  return json.value as JsonObject
}

/** Whether the target takes this kind of token, and the kind can say all that was decided. */
export function checkForeign(
  request: TokenRequest,
  { tool }: { readonly tool: Tool },
  standing: Standing,
  agent: AgentRegistration,
): Result<void> {
  const kind = foreignKind(request)
  const { takes } = tool
  if (takes?.kind !== kind) {
    return refuse('token_type_unsupported', 'request', {
      detail: takes ? `this target takes tokens of type ${TYPE_OF[takes.kind]}` : 'this target takes access tokens',
    })
  }
  if (takes?.kind !== 'id_jag') return ok(undefined)
  // An ID-JAG says what a user lets a client do; who works for itself has no such user.
  if (standing.subject.autonomous) return refuse('grant_not_allowed', 'request')
  if (takes.clients.has(agent.clientId)) return ok(undefined)
  return refuse('audience_denied', 'request', {
    explanation: { rule: 'clients', next: `name the agent's client there in takes.clients in ${tool.file}` },
  })
}

/** Bounds on arguments go along, or are checked here: a scope value alone would say more than was decided. */
export function checkArguments({ takes }: Tool, { permitted }: Decision, { tctx }: TxnContext): Result<void> {
  if (!takes || (takes.kind === 'id_jag' && takes.details)) return ok(undefined)
  const beyond = permitted.filter(({ tool, operation, constraints }) =>
    takes.kind === 'id_jag'
      ? constraints !== undefined
      : callViolation(permitted, { tool, operation, arguments: tctx ?? {} }) !== undefined,
  )
  if (beyond.length === 0) return ok(undefined)
  return refuse('scope_not_granted', 'request', {
    explanation: {
      rule: 'constraints',
      missing: [...new Set(beyond.map(({ tool, operation }) => `${tool}:${operation}`))],
      next:
        takes.kind === 'id_jag'
          ? 'it is granted with bounds on its arguments only, which an ID-JAG for this server cannot say'
          : 'send request_details that are within the bounds on its arguments',
    },
  })
}

const TYPE_OF: Readonly<Record<Takes['kind'], string>> = { id_jag: TOKEN_TYPE.idJag, txn_token: TOKEN_TYPE.txnToken }

export const foreignTokenType = ({ takes }: Tool): string | undefined => takes && TYPE_OF[takes.kind]

export function draftForeign(
  issuer: string,
  facts: TokenFacts,
  { tool }: { readonly tool: Tool },
  decision: Decision,
  agent: AgentRegistration,
  context: TxnContext,
): ForeignClaims | undefined {
  const { takes } = tool
  if (!takes) return undefined
  const scope = foreignScope(decision, tool)
  return takes.kind === 'id_jag'
    ? draftIdJag(issuer, facts, takes, { scope, clientId: takes.clients.get(agent.clientId)! })
    : draftTxnToken(issuer, facts, takes, { scope, workload: agent.spiffeId, ...context })
}

/** What the record keeps: of a call's context, which may speak of people, a digest. */
export function recordedClaims<C extends object>(claims: C): object {
  if (!isTxnToken(claims)) return claims
  const { tctx, rctx, ...rest } = claims
  const digest = (value: JsonObject) => createHash('sha256').update(JSON.stringify(value)).digest('base64url')
  return {
    ...rest,
    ...(tctx === undefined ? {} : { tctx_sha256: digest(tctx) }),
    ...(rctx === undefined ? {} : { rctx_sha256: digest(rctx) }),
  }
}
