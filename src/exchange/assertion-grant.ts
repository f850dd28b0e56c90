/**
 * The JWT authorization grants (RFC 7523 §2.1): from the assertion to the ground on which the agent stands, and the
 * bound that the grant puts on the request. What they have in common with an exchange is left to the exchange.
 */
import type { Grant } from '@errand/verifier/claims.ts'
import { meetGrants, readRequestedDetails, readScope } from '@errand/verifier/grants.ts'
import { CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import { parseJws } from '@errand/verifier/jws.ts'
import { ok, type Refusal, type Result, refuse } from '../oauth/refusal.ts'
import { GRANT } from '../oauth/words.ts'
import {
  type AssertionGrant,
  assertionSpendId,
  checkKeyBinding,
  isIdJag,
  readIdJag,
  type UserGrant,
  type WorkloadGrant,
} from '../tokens/assertion.ts'
import type { Tool } from '../policy/tool.ts'
import type { SubjectToken } from '../tokens/subject.ts'
import type { ProvenAgent } from './authenticate.ts'
import type { Directory } from './directory.ts'
import type { Standing } from './standing.ts'
import type { Target } from './targets.ts'
import type { TokenRequest } from './token-request.ts'

/** Whether the assertion speaks for an agent that proves itself by nothing else. */
export function isWorkloadGrant({ grantType, assertion }: TokenRequest): Result<boolean> {
  if (grantType !== GRANT.jwtBearer || assertion === undefined) return ok(false)
  const jws = parseJws(assertion)
  if (!jws.ok) return refuse(jws.fault, 'assertion')
  const idJag = isIdJag(jws.value)
  return idJag.ok ? ok(!idJag.value) : idJag
}

export interface GrantedBy {
  /** Whose token it counts as; none where the agent works for itself. */
  readonly subject: SubjectToken | undefined
  /** The request, with the target that the grant names where the request names none. */
  readonly request: TokenRequest
  readonly stand: (standing: Standing) => Standing
  readonly permitsTarget: (target: Target) => Result<void>
}

export async function readAssertion(
  directory: Directory,
  proven: ProvenAgent,
  request: TokenRequest,
  now: number,
): Promise<Result<GrantedBy>> {
  const read = proven.workload ? ok(proven.workload) : await forUser(directory, proven, request, now)
  if (!read.ok) return read
  const { grant } = read.value
  const bound = boundOf(directory, grant)
  if (!bound.ok) return bound
  return ok({
    subject: 'platform' in read.value ? undefined : read.value,
    request: withTarget(request, grant, bound.value),
    stand: (standing) => ({
      ...standing,
      ...('platform' in read.value ? { subject: subjectOf(standing, read.value) } : {}),
      ...(bound.value ? { parentGrants: bound.value } : {}),
      oneUse: {
        id: assertionSpendId(grant),
        expiresAt: grant.expiresAt + CLOCK_LEEWAY_SECONDS,
        issuedAt: grant.issuedAt,
      },
      identity: assertionSpendId(grant),
      grant: { issuer: grant.iss, jti: grant.jti },
    }),
    permitsTarget: ({ tool }) =>
      grant.resources === undefined || grant.resources.includes(tool.audience)
        ? ok(undefined)
        : refuse('audience_denied', 'request', {
            explanation: {
              rule: 'grant',
              next: 'ask for a resource that the grant names, or get a grant for this one',
            },
          }),
  })
}

/** An ID-JAG: the client that presents it must be the one it was issued to, with the key it was bound to. */
async function forUser(
  directory: Directory,
  { attested, confirmation }: ProvenAgent,
  { assertion }: TokenRequest,
  now: number,
): Promise<Result<UserGrant>> {
  const jws = parseJws(assertion)
  if (!jws.ok) return refuse(jws.fault, 'assertion')
  const read = await readIdJag(jws.value, {
    issuer: directory.settings.issuer,
    now,
    byIss: (iss) => directory.issuers.byIss(iss),
  })
  if (!read.ok) return read
  const { clientId } = read.value
  if (clientId !== attested.agent.clientId) {
    return refuse('context_mismatch', 'assertion', { detail: 'the assertion was issued to another client' })
  }
  const bound = checkKeyBinding(read.value, confirmation)
  return bound.ok ? read : bound
}

/** The agent itself, with what its platform says of it for policies to read. */
const subjectOf = ({ subject }: Standing, { platform, groups, claims }: WorkloadGrant): Standing['subject'] => ({
  ...subject,
  issuer: platform.name,
  groups,
  claims,
})

/**
 * The authority beyond which the grant gives nothing, to the task that it opens neither: what the target asks of others
 * for it is bounded by that. Its issuer may name more than ours, and what is not of ours gives nothing; where it speaks
 * in several spellings, all must hold.
 */
function boundOf(
  { tools }: Directory,
  { resources, scope, details }: AssertionGrant,
): Result<readonly Grant[] | undefined> {
  const at = (tool: Tool) => [...tool.operations.keys()].map((operation) => ({ tool: tool.name, operation }))
  let bound: readonly Grant[] | undefined = resources?.flatMap((audience) => {
    const tool = tools.byAudience(audience)
    return tool ? at(tool) : []
  })
  if (scope !== undefined) {
    const said = scope.split(' ').flatMap((value) => {
      const one = readScope(value)
      return one.ok ? one.value : []
    })
    bound = bound ? meetGrants(bound, said) : said
  }
  if (details !== undefined) {
    const own = details.filter(
      (each) => typeof each === 'object' && each !== null && 'type' in each && each.type === 'tool',
    )
    const read = readRequestedDetails(own, (tool, operation) => tools.byName(tool)?.operations.get(operation)?.effect)
    // A list that holds nothing of ours is well-formed, and gives nothing.
    const grants = own.length === 0 ? [] : read.ok ? read.value : undefined
    if (!grants)
      return refuse('bad_claim', 'assertion', { detail: 'its authorization_details of type tool are malformed' })
    bound = bound ? meetGrants(bound, grants) : grants
  }
  return ok(bound)
}

/** Stock clients name the target to the issuer of the grant alone. */
function withTarget(
  request: TokenRequest,
  { resources }: AssertionGrant,
  bound: readonly Grant[] | undefined,
): TokenRequest {
  if (request.resources.length > 0 || request.audiences.length > 0) return request
  if (resources?.length === 1) return { ...request, resources }
  const tools = new Set(bound?.map(({ tool }) => tool))
  const named = request.scope !== undefined || request.authorizationDetails !== undefined
  return tools.size === 1 && !named ? { ...request, audiences: [...tools] } : request
}

/** What RFC 8693 calls a bad request because of a token is here a bad grant (RFC 7523 §3.1, RFC 6749 §5.2). */
const OF_THE_GRANT: readonly Refusal['reason'][] = [
  'replayed',
  'revoked',
  'banned',
  'suspended',
  'policy_denied',
  'stage_no_token',
  'depth',
  'may_act',
  'subject_disabled',
  'signed_out',
]

export const asGrant = (refusal: Refusal): Refusal =>
  OF_THE_GRANT.includes(refusal.reason) ? { ...refusal, slot: 'assertion' } : refusal
