/**
 * What a revocation can match: conjunctions of dimensions within one hop of a token. Issuer and verifiers compute
 * the same values from the same claims here, so neither can see a token differently from the other.
 */
import { encodeBase64url } from './base64url.ts'
import type { AccessTokenClaims, Actor } from './claims.ts'
import { hmacSha256 } from './crypto.ts'
import { type Epoch, parseEpoch } from './epoch.ts'
import { unpackHops } from './hops.ts'

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
}

/** The sorted set of an entry's dimensions; the empty one matches everything. */
export type Shape = string
/** At most this many live shapes, so a check costs at most so many look-ups per hop. */
export const MAX_SHAPES = 32

export const shapeOf = (match: HopFacts): Shape =>
  DIMENSIONS.filter((dimension) => match[dimension] !== undefined).join('+')

/** Undefined where the hop lacks one of the shape's dimensions: then no entry of that shape can match it. */
export function shapeText(shape: Shape, facts: HopFacts): string | undefined {
  if (shape === '') return ''
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
  encodeBase64url(hmacSha256(key, `${shape}\0${text}`).subarray(0, 16))

/** What a hop says of an actor; one that is named otherwise than by a SPIFFE id has no trust domain. */
export const actorFacts = (agent: string): Pick<HopFacts, 'agent' | 'domain'> =>
  agent.startsWith('spiffe://') ? { agent, domain: trustDomainOf(agent) } : { agent }

export const trustDomainOf = (spiffeId: string): string => spiffeId.slice('spiffe://'.length).split('/', 1)[0] ?? ''

/**
 * All hops of a token, its own first, then its ancestors from the newest to the oldest, in the order of the nested
 * `act`, then the actors that a user issuer vouched for. Undefined where the claims contradict one another (an
 * unreadable epoch, more hops than earlier actors).
 */
export function hopsOf(claims: AccessTokenClaims, kid: string): readonly CheckedHop[] | undefined {
  const own = parseEpoch(claims.rev)
  if (!own) return undefined
  const agents: string[] = []
  for (let actor: Actor | undefined = claims.act; actor; actor = actor.act) agents.push(actor.sub)
  // A root autonomous token has no act: its subject is its agent.
  if (agents.length === 0) agents.push(claims.sub)
  const { aud, client_id, pol } = claims
  const ancestors = unpackHops({ aud, client_id, kid, pol, rev: claims.rev }, claims.hops ?? [])
  const earlier = agents.slice(1)
  // The first actor of an autonomous chain is the subject and stands in no act.
  if (earlier.length < ancestors.length) earlier.push(claims.sub)
  if (earlier.length < ancestors.length) return undefined
  const inherited = { sub: claims.sub, root: claims.task.root }
  const hops: CheckedHop[] = [
    {
      rev: own,
      facts: {
        ...inherited,
        jti: claims.jti,
        task: claims.task.id,
        aud: claims.aud,
        client_id: claims.client_id,
        ...actorFacts(agents[0]!),
        kid,
        policy: claims.pol,
        ...(claims.att.release === undefined ? {} : { release: claims.att.release }),
      },
    },
  ]
  for (const [index, hop] of ancestors.entries()) {
    const rev = parseEpoch(hop.rev)
    if (!rev) return undefined
    hops.push({
      rev,
      facts: {
        ...inherited,
        jti: hop.jti,
        task: hop.task,
        aud: hop.aud,
        client_id: hop.client_id,
        ...actorFacts(earlier[index]!),
        kid: hop.kid,
        policy: hop.pol,
        ...(hop.rel === undefined ? {} : { release: hop.rel }),
      },
    })
  }
  // Actors that a user issuer vouched for stand last and had no token of ours: they were checked with this one.
  for (const agent of earlier.slice(ancestors.length))
    hops.push({ rev: own, facts: { ...inherited, ...actorFacts(agent) } })
  return hops
}
