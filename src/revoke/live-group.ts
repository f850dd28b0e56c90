/** Tokens that are alike in all that a revocation can match, but for their own id: counted, not kept. */
import type { Actor } from '@errand/verifier/claims.ts'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop, Dimension, HopFacts } from '@errand/verifier/shapes.ts'
import type { IssuedToken } from '../tokens/issued.ts'
import { clearExpiries, type Expiries, latestExpiry, newExpiries } from './expiries.ts'

export interface LiveGroup {
  /** The own hop first, without its jti; its epoch is that of the first token. */
  readonly hops: readonly CheckedHop[]
  readonly task: string
  readonly audience: string
  readonly kid: string
  /** Ids of the tokens that the task was handed on by. */
  readonly ancestors: readonly string[]
  readonly actor: Actor | undefined
  readonly expiries: Expiries
  /** The greatest epoch that one of them was checked at. */
  newest: Epoch
  /** How many of the broad revocations it has been held against. */
  seen: number
  /** Until when some of those counted may be dead already. */
  unsureUntil: number
}

/** A match, as it is held against many. */
export type Wanted = readonly (readonly [Dimension, string])[]
export const wantedBy = (match: HopFacts): Wanted => Object.entries(match) as [Dimension, string][]

/** What kills, of a revocation. */
export interface Kill {
  readonly match: Wanted
  /** What was checked before it is dead. */
  readonly before: Epoch
  readonly epoch: Epoch
  readonly absolute: boolean
  readonly until: number
}

const NO_ANCESTORS: readonly string[] = []

/** The group of one token. There are many of them: each object is written out whole, and no larger than it must be. */
export function newGroup(token: IssuedToken, rev: Epoch, hops: readonly CheckedHop[], seen: number): LiveGroup {
  const { sub, root } = hops[0]!.facts
  return {
    hops: hops.map((hop, at) => ({ rev: hop.rev, facts: factsOf(hop.facts, at === 0, sub, root) })),
    task: token.task.id,
    audience: token.audience,
    kid: token.kid,
    ancestors: token.hops.length === 0 ? NO_ANCESTORS : token.hops.map(({ jti }) => jti),
    actor: token.actor,
    expiries: newExpiries(token.expiresAt),
    newest: rev,
    seen,
    unsureUntil: 0,
  }
}

type Facts = { -readonly [D in Dimension]?: string }

/** The whole chain has one subject and one root, also where an actor was vouched for before there was a task. */
function factsOf(hop: HopFacts, own: boolean, sub: string | undefined, root: string | undefined): HopFacts {
  const { jti, kid, release, task, aud, client_id, agent, domain, policy } = hop
  const facts = { sub, root, task, aud, client_id, agent, domain, policy } as Facts
  if (kid) facts.kid = kid
  if (!own && jti !== undefined) facts.jti = jti
  if (release !== undefined) facts.release = release
  return facts
}

/** Whether the token is one of them; it is of the same task. */
export function alike(group: LiveGroup, token: IssuedToken): boolean {
  const { facts } = group.hops[0]!
  if (
    group.audience !== token.audience ||
    group.kid !== token.kid ||
    facts.policy !== token.policyDigest ||
    facts.client_id !== token.clientId ||
    facts.release !== token.attestation.release ||
    group.ancestors.length !== token.hops.length
  )
    return false
  for (let at = 0; at < token.hops.length; at++) if (group.ancestors[at] !== token.hops[at]!.jti) return false
  return sameActors(group.actor, token.actor)
}

function sameActors(one: Actor | undefined, other: Actor | undefined): boolean {
  let [a, b] = [one, other]
  while (a && b) {
    if (a.sub !== b.sub) return false
    a = a.act
    b = b.act
  }
  return a === b
}

type Fit = 'no' | 'perhaps' | 'yes'

/** Whether a match fits; `perhaps`: one of them at most (by its own id), or all or none (by a key that is not known). */
function fitOf(facts: HopFacts, match: Wanted, own: boolean): Fit {
  let fit: Fit = 'yes'
  for (let at = 0; at < match.length; at++) {
    const [dimension, wanted] = match[at]!
    const value = facts[dimension]
    if (value === wanted) continue
    if (value !== undefined) return 'no'
    // An actor that somebody vouched for had no token of ours: no key signed it, and it has no id.
    if (dimension === 'jti' ? !own : dimension !== 'kid' || facts.client_id === undefined) return 'no'
    fit = 'perhaps'
  }
  return fit
}

/** A conjunction holds within one hop. */
export function fits({ hops }: LiveGroup, match: Wanted): Fit {
  let best: Fit = 'no'
  for (let at = 0; at < hops.length; at++) {
    const fit = fitOf(hops[at]!.facts, match, at === 0)
    if (fit === 'yes') return fit
    if (fit === 'perhaps') best = fit
  }
  return best
}

/** Whether a token of this group that was checked at `rev` is dead by it. */
export function killsToken(group: LiveGroup, rev: Epoch, kill: Kill): Fit {
  let best: Fit = 'no'
  for (let at = 0; at < group.hops.length; at++) {
    const hop = group.hops[at]!
    if (!kill.absolute && compareEpochs(at === 0 ? rev : hop.rev, kill.before) >= 0) continue
    const fit = fitOf(hop.facts, kill.match, at === 0)
    if (fit === 'yes') return fit
    if (fit === 'perhaps') best = fit
  }
  return best
}

/** Counts out what it kills of those that were counted. */
export function applyKill(group: LiveGroup, kill: Kill): void {
  if (group.expiries.total === 0) return
  if (killsToken(group, group.newest, kill) === 'yes') clearExpiries(group.expiries)
  // Some were checked before it and some after, or their key is not known. One alone is doubted by whoever counts.
  else if (fits(group, kill.match) !== 'no' && !kill.match.some(([dimension]) => dimension === 'jti')) doubt(group)
}

export function doubt(group: LiveGroup): void {
  group.unsureUntil = latestExpiry(group.expiries) ?? 0
}
