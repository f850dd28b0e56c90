/** The form of `POST /token`, read by hand: repeated, empty and unknown spellings are refused, never guessed at. */
import { ok, type Result, refuse } from '../oauth/refusal.ts'

export interface TokenRequest {
  readonly grantType: string
  /** RFC 7523 §2.1 */
  readonly assertion?: string
  readonly subjectToken?: string
  readonly subjectTokenType?: string
  readonly actorToken?: string
  readonly actorTokenType?: string
  readonly requestedTokenType?: string
  /** RFC 8707 and RFC 8693 let these two repeat. */
  readonly resources: readonly string[]
  readonly audiences: readonly string[]
  readonly scope?: string
  readonly authorizationDetails?: string
  readonly taskId?: string
  readonly requestDetails?: string
  /** With a transaction token: JSON of where the call comes from. */
  readonly requestContext?: string
  readonly delegateTo?: string
  readonly dryRun: boolean
  readonly clientId?: string
  readonly clientAssertion?: string
  readonly clientAssertionType?: string
  /** Id of the release that the agent says it is. */
  readonly release?: string
  /** JSON: what the agent sees of itself. */
  readonly measurements?: string
}

const REPEATABLE = ['resource', 'audience']

/** Nothing that needs decoding but escapes of ASCII, and no pair without its sign: what every client of ours sends. */
const SIMPLE = /^(?:[A-Za-z0-9_]+=(?:[A-Za-z0-9._~*+:-]|%[2-7][0-9A-Fa-f])*(?:&|$))+$/

/** What `URLSearchParams` makes of it (WHATWG URL §5.1), in less time where the text is simple. */
export function pairsOf(body: string): Iterable<readonly [string, string]> {
  if (!SIMPLE.test(body) || body.endsWith('&')) return new URLSearchParams(body)
  return body.split('&').map((pair) => {
    const sign = pair.indexOf('=')
    const value = pair.slice(sign + 1)
    const spaced = value.includes('+') ? value.replaceAll('+', ' ') : value
    return [pair.slice(0, sign), spaced.includes('%') ? decodeURIComponent(spaced) : spaced]
  })
}

/**
 * Form parameters, each at most once (RFC 6749 §3.2) but for `resource` and `audience`. A parameter without a value
 * counts as left out (same section). Unknown ones are ignored, as the section says: they have no effect.
 */
export function readForm(body: string): Result<ReadonlyMap<string, readonly string[]>> {
  const form = new Map<string, string[]>()
  let count = 0
  for (const [name, value] of pairsOf(body)) {
    if (++count > 64) return refuse('bad_body', 'request', { detail: 'more than 64 parameters' })
    const known = form.get(name)
    if (known && !REPEATABLE.includes(name)) {
      return refuse('param_duplicate', 'request', { detail: `a parameter is there twice` })
    }
    if (value === '' && !known) {
      form.set(name, [])
      continue
    }
    if (known) known.push(value)
    else form.set(name, [value])
  }
  return ok(form)
}

export function readTokenRequest(form: ReadonlyMap<string, readonly string[]>): Result<TokenRequest> {
  const one = (name: string): string | undefined => form.get(name)?.[0]
  const grantType = one('grant_type')
  if (grantType === undefined) return refuse('param_missing', 'request', { detail: 'grant_type is missing' })
  const dryRun = one('dry_run')
  if (dryRun !== undefined && dryRun !== 'true' && dryRun !== 'false') {
    return refuse('bad_param', 'request', { detail: 'dry_run must be true or false' })
  }
  const optional = {
    assertion: one('assertion'),
    subjectToken: one('subject_token'),
    subjectTokenType: one('subject_token_type'),
    actorToken: one('actor_token'),
    actorTokenType: one('actor_token_type'),
    requestedTokenType: one('requested_token_type'),
    scope: one('scope'),
    authorizationDetails: one('authorization_details'),
    taskId: one('task_id'),
    requestDetails: one('request_details'),
    requestContext: one('request_context'),
    delegateTo: one('delegate_to'),
    clientId: one('client_id'),
    clientAssertion: one('client_assertion'),
    clientAssertionType: one('client_assertion_type'),
    release: one('release'),
    measurements: one('measurements'),
  }
  return ok({
    grantType,
    dryRun: dryRun === 'true',
    resources: form.get('resource') ?? [],
    audiences: form.get('audience') ?? [],
    ...(Object.fromEntries(Object.entries(optional).filter(([, value]) => value !== undefined)) as {
      [K in keyof typeof optional]?: string
    }),
  })
}
