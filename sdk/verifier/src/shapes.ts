/**
 * What a revocation can match: conjunctions of dimensions within one hop of a token. Issuer and verifiers compute
 * the same values from the same claims here, so neither can see a token differently from the other.
 */
import { encodeBase64url } from './base64url.ts'
import type { AccessTokenClaims, Actor } from './claims.ts'
import { hmacSha256, hmacSha256By } from './crypto.ts'
import { type Epoch, parseEpoch } from './epoch.ts'
import { unpackHops, type WholeHop } from './hops.ts'
import { createRecent } from './recent.ts'

export const DIMENSIONS = [
  'agent',
  'aud',
  'client_id',
  'domain',
  'jti',
  'kid',
  'policy',
  'release',
  'root',
  'sub',
  'task',
] as const
export type Dimension = (typeof DIMENSIONS)[number]

/** The values of one hop. `sub` and `root` are the token's own: they are inherited along the chain. */
export type HopFacts = { readonly [D in Dimension]?: string }

/** A hop with the epoch that was checked when it was issued. */
export interface CheckedHop {
  readonly facts: HopFacts
  readonly rev: Epoch
  /** Digests of what it says, kept by whoever compares them: a token is verified many times. */
  digests?: HopDigests | undefined
}
export interface HopDigests {
  /** Who made them, with its key. */
  readonly by: object
  readonly list: (string | undefined)[]
}

/** The sorted set of an entry's dimensions; the empty one matches everything. */
export type Shape = string
/** At most this many live shapes, so a check costs at most so many look-ups per hop. */
export const MAX_SHAPES = 32

export const shapeOf = (match: HopFacts): Shape =>
  DIMENSIONS.filter((dimension) => match[dimension] !== undefined).join('+')

/** What JSON writes as it is. */
const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/

/** Undefined where the hop lacks one of the shape's dimensions: then no entry of that shape can match it. */
export function shapeText(shape: Shape, facts: HopFacts): string | undefined {
  if (shape === '') return ''
  if (!shape.includes('+')) {
    const value = facts[shape as Dimension]
    return value === undefined ? undefined : PLAIN.test(value) ? `["${value}"]` : JSON.stringify([value])
  }
  const values: string[] = []
  for (const dimension of shape.split('+') as Dimension[]) {
    const value = facts[dimension]
    if (value === undefined) return undefined
    values.push(value)
  }
  // JSON keeps ["a","b|c"] and ["a|b","c"] apart.
  return JSON.stringify(values)
}

/** Truncated keyed hash under which a value travels in the feed: 16 bytes, base64url. */
export const valueDigest = (key: Uint8Array, shape: Shape, text: string): string =>
  truncated(hmacSha256(key, `${shape}\0${text}`))

/** What a hop says in one shape, digested under one key; undefined where it lacks a dimension. */
export type ShapeDigest = (facts: HopFacts) => string | undefined

/** The same for many hops under one key. What many of them say (their agent, their tool) is computed once. */
export function createShapeDigests(key: Uint8Array): (shape: Shape) => ShapeDigest {
  const hmac = hmacSha256By(key)
  return (shape) => {
    const dimensions = shape === '' ? [] : (shape.split('+') as Dimension[])
    const known = createRecent<string>(MAX_KNOWN_DIGESTS)
    let last: HopFacts | undefined
    let lastDigest = ''
    return (facts) => {
      let same = last !== undefined
      for (let index = 0; index < dimensions.length; index++) {
        const value = facts[dimensions[index]!]
        if (value === undefined) return undefined
        if (same && value !== last![dimensions[index]!]) same = false
      }
      if (same) return lastDigest
      const text = shapeText(shape, facts)!
      // One token says it, and its digests are kept with it.
      if (shape === 'jti') return truncated(hmac(`jti\0${text}`))
      last = facts
      const again = known.get(text)
      lastDigest = again ?? truncated(hmac(`${shape}\0${text}`))
      if (again === undefined) known.put(text, lastDigest)
      return lastDigest
    }
  }
}
const MAX_KNOWN_DIGESTS = 2048

const truncated = (code: Uint8Array): string => encodeBase64url(code.subarray(0, 16))

/** What a hop says of an actor; one that is named otherwise than by a SPIFFE id has no trust domain. */
export const actorFacts = (agent: string): Pick<HopFacts, 'agent' | 'domain'> =>
  agent.startsWith(SPIFFE) ? { agent, domain: trustDomainOf(agent) } : { agent }

const SPIFFE = 'spiffe://'
export function trustDomainOf(spiffeId: string): string {
  const end = spiffeId.indexOf('/', SPIFFE.length)
  return spiffeId.slice(SPIFFE.length, end < 0 ? undefined : end)
}

type Facts = { -readonly [D in Dimension]?: string }

/** Each written out: this runs for every token, and objects that grow or are spread are made slowly and kept in parts. */
function factsOf(
  { sub, task: { root } }: AccessTokenClaims,
  agent: string,
  hop: Omit<WholeHop, 'rev'>,
  release: string | undefined,
): HopFacts {
  const { jti, task, aud, client_id, kid, pol: policy } = hop
  const facts: Facts = agent.startsWith(SPIFFE)
    ? { sub, root, jti, task, aud, client_id, agent, kid, policy, domain: trustDomainOf(agent) }
    : { sub, root, jti, task, aud, client_id, agent, kid, policy }
  if (release !== undefined) facts.release = release
  return facts
}

/**
 * All hops of a token, its own first, then its ancestors from the newest to the oldest, in the order of the nested
 * `act`, then the actors that a user issuer vouched for. Undefined where the claims contradict one another (an
 * unreadable epoch, more hops than earlier actors).
 */
export function hopsOf(claims: AccessTokenClaims, kid: string): readonly CheckedHop[] | undefined {
  const own = parseEpoch(claims.rev)
  if (!own) return undefined
  const { act, jti, aud, client_id, pol, task, hops: said = [] } = claims
  const release = claims.att.release
  // A root autonomous token has no act: its subject is its agent.
  const facts = factsOf(claims, act?.sub ?? claims.sub, { jti, task: task.id, aud, client_id, kid, pol }, release)
  const hops: CheckedHop[] = [{ rev: own, facts, digests: undefined }]
  const earlier: string[] = []
  for (let actor: Actor | undefined = act?.act; actor; actor = actor.act) earlier.push(actor.sub)
  // The first actor of an autonomous chain is the subject and stands in no act.
  if (earlier.length < said.length) earlier.push(claims.sub)
  if (earlier.length < said.length) return undefined
  if (earlier.length === 0) return hops
  const ancestors = said.length === 0 ? [] : unpackHops({ aud, client_id, kid, pol, rev: claims.rev }, said)
  for (const [index, hop] of ancestors.entries()) {
    const rev = parseEpoch(hop.rev)
    if (!rev) return undefined
    hops.push({ rev, facts: factsOf(claims, earlier[index]!, hop, hop.rel) })
  }
  // Actors that a user issuer vouched for stand last and had no token of ours: they were checked with this one.
  for (const agent of earlier.slice(ancestors.length))
    hops.push({ rev: own, facts: { sub: claims.sub, root: task.root, ...actorFacts(agent) } })
  return hops
}
