/** Which tool a request speaks of: one exact audience, however it is named, and what it asks for there. */
import type { Grant } from '@errand/verifier/claims.ts'
import { readRequestedDetails, readScope } from '@errand/verifier/grants.ts'
import { parseStrictJson } from '@errand/verifier/strict-json.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import type { Tool } from '../policy/tool.ts'
import type { Directory } from './directory.ts'
import { explainBeyond } from './explain.ts'
import { type Reach, reachOf } from './reach.ts'
import type { TokenRequest } from './token-request.ts'

export interface Target {
  readonly tool: Tool
  /** What is asked for; absent asks for the largest permitted set. */
  readonly requested?: readonly Grant[]
  readonly askedIn: 'request' | 'authorization_details'
}

/** D5: what a resource indicator must look like, byte for byte; nothing is normalised into it. */
function isCanonicalResource(text: string): boolean {
  if (text.length > 512 || /[^\x21-\x7e]/.test(text)) return false
  let url: URL
  try {
    url = new URL(text)
  } catch {
    return false
  }
  if (url.username !== '' || url.password !== '' || text.includes('#') || text.includes('@')) return false
  // Needless escapes of unreserved characters, and escapes in lower case, are other spellings (RFC 3986 §6.2.2).
  for (const [triplet] of text.matchAll(/%../g)) {
    if (!/^%[0-9A-F]{2}$/.test(triplet)) return false
    if (/[A-Za-z0-9._~-]/.test(String.fromCharCode(Number.parseInt(triplet.slice(1), 16)))) return false
  }
  // The URL parser lower-cases hosts, drops default ports and resolves dot segments: a difference is a spelling.
  return url.href === text || url.href === `${text}/`
}

export type ReadTarget = typeof readTarget

/** Of a request that comes again as the same object, the target is read once while the configuration lasts. */
export function createReadTarget(): ReadTarget {
  const known = new WeakMap<
    TokenRequest,
    { readonly directory: Directory; readonly agent: AgentRegistration; readonly target: Result<Target> }
  >()
  return (request, directory, agent) => {
    const before = known.get(request)
    if (before?.directory === directory && before.agent === agent) return before.target
    const target = readTarget(request, directory, agent)
    // Only what is kept comes again, and what is kept is frozen.
    if (target.ok && Object.isFrozen(request)) known.set(request, { directory, agent, target })
    return target
  }
}

/** A tool of which the agent's ceiling holds nothing is, to this agent, no tool at all (D21). */
function readTarget(request: TokenRequest, directory: Directory, agent: AgentRegistration): Result<Target> {
  const reach = reachOf(directory.tools, agent.ceiling)
  const asked = readAsked(request, reach)
  if (!asked.ok) return asked
  const named = new Set<Tool | undefined>()
  for (const resource of request.resources) {
    if (!isCanonicalResource(resource)) return refuse('resource_not_canonical', 'request')
    named.add(reach.byAudience(resource))
  }
  for (const audience of request.audiences) {
    named.add(reach.byAudience(audience) ?? reach.byName(audience))
  }
  if (named.size > 1) return refuse('one_target', 'request', { detail: 'resource and audience name several targets' })
  const byTarget = named.size > 0
  for (const grant of asked.value.requested ?? []) named.add(reach.byName(grant.tool))
  if (named.size === 0) {
    return refuse('one_target', 'request', { detail: 'name a target by resource, audience or scope' })
  }
  const [tool] = named
  if (named.size > 1) return refuse('one_target', 'request', { detail: 'what is asked for is not all of one target' })
  if (!tool && byTarget) return refuse('audience_denied', 'request')
  if (!tool) {
    const missing = (asked.value.requested ?? []).map((grant) => `${grant.tool}:${grant.operation}`)
    return refuse('scope_not_granted', asked.value.askedIn, {
      explanation: explainBeyond(missing, agent),
    })
  }
  return ok({ tool, ...asked.value })
}

/** What is asked for in `scope` or `authorization_details`. Both together must be the same. */
export function readAsked(
  request: Pick<TokenRequest, 'scope' | 'authorizationDetails'>,
  reach: Reach,
): Result<Omit<Target, 'tool'>> {
  if (request.scope !== undefined && request.authorizationDetails !== undefined) {
    return refuse('bad_authorization_details', 'authorization_details', {
      detail: 'ask by scope or by authorization_details, not by both',
    })
  }
  if (request.authorizationDetails !== undefined) {
    const json =
      request.authorizationDetails.length > 16_384
        ? undefined
        : parseStrictJson(request.authorizationDetails, { maxDepth: 12 })
    const details = json?.ok ? readRequestedDetails(json.value, reach.effectOf) : undefined
    if (!details?.ok) {
      return refuse('bad_authorization_details', 'authorization_details', {
        ...(details && !details.ok && details.detail ? { detail: details.detail } : {}),
      })
    }
    return ok({ requested: details.value, askedIn: 'authorization_details' })
  }
  if (request.scope !== undefined) {
    const scope = readScope(request.scope)
    if (!scope.ok) return refuse('bad_scope', 'request', scope.detail ? { detail: scope.detail } : {})
    return ok({ requested: scope.value, askedIn: 'request' })
  }
  return ok({ askedIn: 'request' })
}
