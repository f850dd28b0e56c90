/**
 * What an entry of the revocation log is to a receiver of security events: its subject by RFC 9493 and the Shared Signals
 * Framework (§3), and an event of CAEP 1.0. Facts in, claims out.
 */
import { createHash } from 'node:crypto'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { componentOf } from '../component-match.ts'
import type { Revocation } from '../revocation-log.ts'
import { EVENT } from './words.ts'

export const EVENTS_SUPPORTED: readonly string[] = [
  EVENT.sessionRevoked,
  EVENT.credentialChange,
  EVENT.tokenClaimsChange,
]

export type SubjectId = { readonly format: string } & { readonly [member: string]: unknown }

/** How what we know by our names is known to others. */
export interface Naming {
  /** Our own issuer identifier. */
  readonly issuer: string
  /** `iss` of a user issuer, by our name for it. */
  issOf(name: string): string | undefined
  spiffeIdOf(clientId: string): string | undefined
  isAdmin(clientId: string): boolean
}

export interface Told {
  readonly type: string
  readonly subjectId: SubjectId
  readonly event: { readonly [member: string]: unknown }
}

/** Undefined where a receiver has nothing to learn of it: a task that ended by itself took nothing from anybody. */
export function toldOf(entry: Revocation, naming: Naming): Told | undefined {
  const { match, closes, reason, by, at, taken } = entry
  if (match.task !== undefined && /^task (?:completed|expired):/.test(reason)) return undefined
  // What it closes was told.
  if (closes !== undefined) return undefined
  // It kills nothing: each release that it stands for is told by itself.
  if (componentOf(match) !== undefined) return undefined
  const subjectId = subjectOf(match, naming)
  const common = {
    event_timestamp: at,
    ...initiatorOf(by, naming),
    reason_admin: { en: reason },
  }
  // CAEP §3.3: of its types of credential none is a signing key; another may be agreed on.
  if (match.kid !== undefined)
    return {
      type: EVENT.credentialChange,
      subjectId,
      event: { ...common, credential_type: 'jwk', change_type: 'revoke', friendly_name: match.kid },
    }
  // CAEP §3.2: tokens of before are dead, and those of from now on say no more than what was left.
  if (taken)
    return {
      type: EVENT.tokenClaimsChange,
      subjectId,
      event: { ...common, claims: { errand_taken: { tools: taken.tools, operations: taken.operations } } },
    }
  return { type: EVENT.sessionRevoked, subjectId, event: common }
}

/** CAEP §2, where one of its words fits. */
function initiatorOf(by: string, { isAdmin }: Naming): { readonly initiating_entity?: string } {
  if (isAdmin(by)) return { initiating_entity: 'admin' }
  if (by.startsWith('issuer:')) return { initiating_entity: 'policy' }
  return by === 'system' ? { initiating_entity: 'system' } : {}
}

/**
 * One dimension by its own identifier; several, or one that is a part of something, as members of a complex subject. What
 * CAEP has no name for has ours (SSF §3.3 admits further members); everything is our whole tenant.
 */
function subjectOf(match: HopFacts, naming: Naming): SubjectId {
  const { issuer } = naming
  const { sub, task, root, jti, agent, client_id: clientId, aud, ...others } = match
  const spiffeId = agent ?? (clientId === undefined ? undefined : naming.spiffeIdOf(clientId))
  const members: Record<string, SubjectId> = {
    ...(sub === undefined ? {} : { user: userOf(sub, naming) }),
    ...(task === undefined && root === undefined ? {} : { session: opaque(task ?? root!) }),
    ...(spiffeId === undefined ? {} : { application: uri(spiffeId) }),
    ...(clientId === undefined || spiffeId !== undefined ? {} : { application: opaque(clientId) }),
    ...(jti === undefined ? {} : { token: { format: 'jwt_id', iss: issuer, jti } }), // SSF §3.5.1
    ...(aud === undefined ? {} : { audience: uri(aud) }),
    ...Object.fromEntries(Object.entries(others).map(([name, value]) => [name, opaque(String(value))])),
  }
  const names = Object.keys(members)
  if (names.length === 0) return { format: 'complex', tenant: uri(issuer) }
  const [only] = names
  const whole = names.length === 1 && ['user', 'application', 'token'].includes(only!)
  return whole ? members[only!]! : { format: 'complex', ...members }
}

function userOf(subject: string, { issOf }: Naming): SubjectId {
  if (subject.startsWith('spiffe://')) return uri(subject)
  const bar = subject.indexOf('|')
  const iss = issOf(subject.slice(0, Math.max(bar, 0)))
  return iss === undefined ? opaque(subject) : { format: 'iss_sub', iss, sub: subject.slice(bar + 1) }
}

const opaque = (id: string): SubjectId => ({ format: 'opaque', id })
const uri = (text: string): SubjectId => ({ format: 'uri', uri: text })

/** The same of one stream and entry at every replica, so that it is queued once. */
export const jtiOf = (stream: string, entry: Revocation): string =>
  createHash('sha256')
    .update(`${stream}\0${entry.id}\0${entry.epoch.generation}.${entry.epoch.sequence}`)
    .digest('base64url')
    .slice(0, 27)

/** RFC 8417 §2.2; SSF §4.1: no `sub`, no `exp`, one event, and `txn` for what caused it. */
export const claimsOf = (
  {
    issuer,
    audience,
    jti,
    now,
    txn,
  }: {
    readonly issuer: string
    readonly audience: string
    readonly jti: string
    readonly now: number
    readonly txn?: string
  },
  { type, subjectId, event }: Told,
): object => ({
  iss: issuer,
  aud: audience,
  iat: now,
  jti,
  ...(txn === undefined ? {} : { txn }),
  sub_id: subjectId,
  events: { [type]: event },
})
