/** The claims of an access token, member by member: what is not in the contract is refused, never ignored. */
import { type Checked, fail, type Fault, pass, type TokenFault } from './checked.ts'
import { type AccessTokenClaims, ATTESTATION_KINDS, MAX_ACTORS } from './claims.ts'
import { parseEpoch } from './epoch.ts'
import { readAuthorizationDetails, readScopeValues, scopeOfDetails } from './grants.ts'
import { hopsOf } from './shapes.ts'
import { isJsonObject, type JsonObject, type JsonValue } from './strict-json.ts'

/** RFC 7519 §2, narrowed: whole seconds since 1970. */
export const readNumericDate = (value: unknown): Checked<number> =>
  typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? pass(value) : fail('bad_numeric_date')

const PLAIN = /^[\x21-\x7e]+$/
// Controls, format characters (directional overrides among them), surrogates, private use, line separators: two
// subjects must never look the same.
const UNSEEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}]/u

/** A subject as a person can be shown it: 1 to `longest` UTF-16 units, nothing invisible, no space at its ends. */
export function readSubjectText(value: unknown, longest = 255): Checked<string> {
  if (typeof value !== 'string' || value.length === 0 || value.length > longest) return fail('bad_subject')
  if (!PLAIN.test(value) && (UNSEEN.test(value) || value.trim() !== value)) return fail('bad_subject')
  return pass(value)
}

/** Our own `sub` has the issuer's name and a bar before it. */
const MAX_OWN_SUBJECT = 320
const ID = /^[A-Za-z0-9._-]{1,64}$/
const TASK_ID = /^task_[A-Za-z0-9_-]{1,64}$/
const CLIENT_ID = /^[\x21-\x7e]{1,128}$/
const URI = /^[\x21-\x7e]{1,512}$/
const KID = /^[\x21-\x7e]{1,256}$/
const THUMBPRINT = /^[A-Za-z0-9_-]{43}$/
const SPIFFE_ID = /^spiffe:\/\/[a-z0-9._-]{1,255}(?:\/[A-Za-z0-9._-]+)+$/
const KINDS: readonly JsonValue[] = ATTESTATION_KINDS
const TIERS: readonly JsonValue[] = ['key', 'platform', 'measured']

const isText = (value: unknown, form: RegExp): value is string => typeof value === 'string' && form.test(value)

type Member = (value: JsonValue) => TokenFault | undefined
interface Shape {
  readonly names: ReadonlySet<string>
  /** The required ones first. */
  readonly members: readonly { readonly name: string; readonly check: Member; readonly required: boolean }[]
}
const shape = (required: Record<string, Member>, optional: Record<string, Member> = {}): Shape => {
  const all = [required, optional].flatMap((members) =>
    Object.entries(members).map(([name, check]) => ({ name, check, required: members === required })),
  )
  return { names: new Set(all.map(({ name }) => name)), members: all }
}

/** Unknown members first: a claim nobody understands is that, whatever else is wrong. */
function misfit(value: unknown, { names, members }: Shape): Fault | undefined {
  if (!isJsonObject(value)) return fail('bad_claim')
  for (const name of Object.keys(value)) if (!names.has(name)) return fail('unknown_claim')
  for (const { name, check, required } of members) {
    const member = value[name]
    const fault = member !== undefined ? check(member) : required ? missing(name) : undefined
    if (fault) return fail(fault, `member ${name}`)
  }
  return undefined
}

const missing = (name: string): TokenFault => (name === 'exp' || name === 'iat' ? 'bad_numeric_date' : 'bad_claim')
const text =
  (form: RegExp): Member =>
  (value) =>
    isText(value, form) ? undefined : 'bad_claim'
const date: Member = (value) => (readNumericDate(value).ok ? undefined : 'bad_numeric_date')
const epoch: Member = (value) => (parseEpoch(value) ? undefined : 'bad_claim')
const nested =
  (inner: Shape): Member =>
  (value) =>
    misfit(value, inner)?.fault

const ACTOR = shape({ sub: text(SPIFFE_ID) }, { act: () => undefined })
const actors: Member = (value) => {
  let depth = 0
  for (let actor: JsonValue | undefined = value; actor !== undefined; ) {
    if (++depth > MAX_ACTORS) return 'depth'
    const found = misfit(actor, ACTOR)
    if (found) return found.fault
    actor = (actor as JsonObject)['act']
  }
  return undefined
}

const HOP = shape(
  { jti: text(ID), task: text(TASK_ID) },
  { aud: text(URI), client_id: text(CLIENT_ID), kid: text(KID), pol: text(ID), rev: epoch, rel: text(CLIENT_ID) },
)
const hops: Member = (value) => {
  if (!Array.isArray(value) || value.length === 0) return 'bad_claim'
  if (value.length >= MAX_ACTORS) return 'depth'
  for (const hop of value) {
    const found = misfit(hop, HOP)
    if (found) return found.fault
  }
  return undefined
}

const confirmation: Member = (value) => {
  if (!isJsonObject(value)) return 'bad_claim'
  const names = Object.keys(value)
  const unknown = names.some((name) => name !== 'jkt' && name !== 'x5t#S256')
  if (unknown) return 'unknown_claim'
  return names.length === 1 && isText(value[names[0]!], THUMBPRINT) ? undefined : 'bad_claim'
}

const TASK = shape({
  id: text(TASK_ID),
  root: text(TASK_ID),
  depth: (value) => (Number.isSafeInteger(value) && (value as number) >= 1 ? undefined : 'bad_claim'),
})
const ATTESTATION = shape(
  {
    kind: (value) => (KINDS.includes(value) ? undefined : 'bad_claim'),
    tier: (value) => (TIERS.includes(value) ? undefined : 'bad_claim'),
  },
  { release: text(CLIENT_ID) },
)

const STATUS = shape({
  status_list: nested(
    shape({
      idx: (value) => (Number.isSafeInteger(value) && (value as number) >= 0 ? undefined : 'bad_claim'),
      uri: text(URI),
    }),
  ),
})

const ACCESS_TOKEN = shape(
  {
    exp: date,
    iat: date,
    sub: (value) => (readSubjectText(value, MAX_OWN_SUBJECT).ok ? undefined : 'bad_subject'),
    iss: text(URI),
    aud: text(URI),
    jti: text(ID),
    client_id: text(CLIENT_ID),
    scope: (value) => (readScopeValues(value).ok ? undefined : 'bad_scope'),
    authorization_details: (value) => (readAuthorizationDetails(value).ok ? undefined : 'bad_claim'),
    task: nested(TASK),
    att: nested(ATTESTATION),
    rev: epoch,
    pol: text(ID),
  },
  {
    act: actors,
    cnf: confirmation,
    hops,
    status: nested(STATUS),
    dev: (value) => (value === true ? undefined : 'bad_claim'),
  },
)

const CHECKS: ReadonlyMap<string, Member> = new Map(ACCESS_TOKEN.members.map(({ name, check }) => [name, check]))
/** Whether a member of an access token may have this value. */
export const isGoodMember = (name: keyof AccessTokenClaims, value: JsonValue): boolean =>
  CHECKS.get(name)?.(value) === undefined

/** Forms of what is a member of its own in each token. Text of these holds no quote's escape and nothing invisible. */
export const TEXT_FORMS = {
  client_id: CLIENT_ID,
  jti: ID,
  pol: ID,
  // Other subjects are good as well: these are so at a glance.
  sub: /^[\x21-\x7e]{1,320}$/,
  'cnf.jkt': THUMBPRINT,
  'task.id': TASK_ID,
  'task.root': TASK_ID,
} as const satisfies Readonly<Record<string, RegExp>>

/** Reads the claims of docs/claims.md exactly; the payload must come from the strict reader. */
export function readAccessTokenClaims(payload: JsonObject): Checked<AccessTokenClaims> {
  const found = misfit(payload, ACCESS_TOKEN)
  if (found) return found
  // Each member has its type now; what is left is whether they agree.
  const claims = payload as unknown as AccessTokenClaims
  if (claims.scope !== scopeOfDetails(claims.authorization_details))
    return fail('bad_claim', 'scope and authorization_details differ')
  // Where there are no hops, there is nothing that could differ.
  if (claims.hops && hopsOf(claims, '') === undefined) return fail('bad_claim', 'hops and act differ')
  return pass(claims)
}

export interface TimeRule {
  /** Unix seconds. */
  readonly now: number
  /** How far `iat` and `nbf` may be ahead; `exp` has no leeway. */
  readonly leeway: number
  /** Upper bound of `exp - iat`. */
  readonly maxLifetime: number
}

export function checkTimes(
  claims: { readonly exp: number; readonly iat: number; readonly nbf?: number },
  { now, leeway, maxLifetime }: TimeRule,
): Checked<true> {
  const { exp, iat, nbf } = claims
  if (exp <= now) return fail('expired')
  if (iat > now + leeway || (nbf !== undefined && nbf > now + leeway)) return fail('not_yet_valid')
  if (exp <= iat || exp - iat > maxLifetime) return fail('bad_numeric_date', `lives longer than ${maxLifetime} s`)
  return pass(true)
}
