/**
 * Where a revocation is in force, and by when it must be everywhere: each audience holds by the word of its verifier,
 * by the bound past which a verifier that has not asked refuses, or by the life of its tokens. Facts in, judgement out.
 */
import { CLOCK_LEEWAY_SECONDS, MAX_UNFOLLOWED_LIFETIME_SECONDS } from '@errand/verifier/claims.ts'
import type { Tool } from '../policy/tool.ts'

/** What a verifier has said of itself. */
export interface Applied {
  readonly epoch: string
  /** Unix seconds, as all times here: when the last of its processes said so. */
  readonly at: number
  readonly processes: number
}

export interface Bounded {
  readonly tool: string
  readonly audience: string
  /** How it comes to refuse by itself. `token_life`: it has no verifier that is registered, or takes tokens elsewhere. */
  readonly by: 'feed' | 'token_life'
  readonly boundSeconds: number
}

export interface Audience extends Bounded {
  readonly applied?: Applied | undefined
}

export interface ContainmentFacts {
  readonly now: number
  readonly revokedAt: number
  /** When the entry was durable, at the latest: bounds are counted from here. */
  readonly durableAt: number
  readonly audiences: readonly Audience[]
  /**
   * Since when each process that talks to the service is heard of. One that was told something before, and has said
   * nothing since, refuses by itself past its bound counted from here.
   */
  readonly listeningSince: number
}

export interface AudienceState {
  readonly tool: string
  readonly audience: string
  readonly state: 'acknowledged' | 'bound_passed' | 'waiting'
  readonly by: Audience['by']
  readonly bound_seconds: number
  /** Since when it holds; where it waits, by when at the latest. */
  readonly until: number
  readonly acknowledged_at?: number
  readonly epoch?: string
  readonly processes?: number
}

export interface Containment {
  readonly contained: boolean
  /** Where it is. */
  readonly contained_at?: number
  /** At the latest, known from the first moment; it comes nearer as verifiers acknowledge. */
  readonly contained_by: number
  readonly verifiers: readonly AudienceState[]
  /** Where something that was revoked may still be taken, and until when. */
  readonly residual: readonly { readonly audience: string; readonly until: number; readonly by: Audience['by'] }[]
  /** Leases that are still to be revoked. */
  readonly pending_downstream: number
}

export function judgeContainment(facts: ContainmentFacts): Containment {
  const verifiers = facts.audiences.map((audience) => stateOf(audience, facts))
  const waiting = verifiers.filter(({ state }) => state === 'waiting')
  const last = Math.max(facts.revokedAt, ...verifiers.map(({ until }) => until))
  const contained = waiting.length === 0
  return {
    contained,
    ...(contained ? { contained_at: last } : {}),
    contained_by: last,
    verifiers,
    residual: waiting.map(({ audience, until, by }) => ({ audience, until, by })),
    // No secret is leased by this service; the broker's queue is counted here.
    pending_downstream: 0,
  }
}

function stateOf(
  { tool, audience, by, boundSeconds, applied }: Audience,
  { now, durableAt, listeningSince }: ContainmentFacts,
): AudienceState {
  const bound = durableAt + boundSeconds
  // A word counts once nobody can be left who was not heard.
  const heard = applied === undefined ? Number.POSITIVE_INFINITY : Math.max(applied.at, listeningSince + boundSeconds)
  const until = Math.min(bound, heard)
  return {
    tool,
    audience,
    state: until > now ? 'waiting' : heard <= bound ? 'acknowledged' : 'bound_passed',
    by,
    bound_seconds: boundSeconds,
    until,
    ...(applied === undefined
      ? {}
      : { acknowledged_at: applied.at, epoch: applied.epoch, processes: applied.processes }),
  }
}

/** How a tool's audience comes to refuse: what its operations may be late by, or how long its tokens live. */
export function boundOf(tool: Tool, maxLifetimeSeconds: number): Bounded {
  const { name, audience, takes, followsFeed, keys, operations, stalenessSeconds } = tool
  const place = { tool: name, audience }
  if (!takes && followsFeed && keys.length > 0) {
    const bounds = [...operations.values()].map(({ effect }) => stalenessSeconds[effect])
    return { ...place, by: 'feed', boundSeconds: Math.max(0, ...bounds) }
  }
  const longest = takes?.lifetimeSeconds ?? tool.maxTokenLifetimeSeconds
  const life = Math.min(
    longest,
    maxLifetimeSeconds,
    takes || followsFeed ? Number.POSITIVE_INFINITY : MAX_UNFOLLOWED_LIFETIME_SECONDS,
  )
  return { ...place, by: 'token_life', boundSeconds: life + CLOCK_LEEWAY_SECONDS }
}
