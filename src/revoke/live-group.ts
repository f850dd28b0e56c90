/** Tokens that are alike in all that a revocation can match, but for their own id: counted, not kept. */
import type { Actor } from '@errand/verifier/claims.ts'
import { compareEpochs, type Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop, Dimension, HopFacts } from '@errand/verifier/shapes.ts'
import type { IssuedToken } from '../tokens/issued.ts'
import { clearExpiries, type Expiries, latestExpiry, newExpiries } from './expiries.ts'

export interface LiveGroup {
  /** The own hop first, without its jti; its epoch is that of the first token. */
  readonly hops: readonly CheckedHop[]
  readonly like: IssuedToken
  readonly expiries: Expiries
  /** The greatest epoch that one of them was checked at. */
  newest: Epoch
  /** How many of the broad revocations it has been held against. */
  seen: number
  /** Until when some of those counted may be dead already. */
  unsureUntil: number
}

/** What kills, of a revocation. */
export interface Kill {
  readonly match: HopFacts
  /** What was checked before it is dead. */
  readonly before: Epoch
  readonly epoch: Epoch
  readonly absolute: boolean
  readonly until: number
}

export function newGroup(token: IssuedToken, rev: Epoch, hops: readonly CheckedHop[], seen: number): LiveGroup {
  const { kid, audience, expiresAt, clientId, policyDigest, task, actor, attestation, hops: ancestors } = token
  const { sub, root } = hops[0]!.facts
  return {
    // The whole chain has one subject and one root, also where an actor was vouched for before there was a task.
    hops: hops.map((hop, at) => {
      const { jti, kid, ...facts } = hop.facts
      const known: HopFacts = { ...(at === 0 || !jti ? {} : { jti }), ...(kid ? { kid } : {}) }
      return { rev: hop.rev, facts: { ...facts, ...known, sub, root } as HopFacts }
    }),
    like: {
      kid,
      audience,
      expiresAt,
      clientId,
      policyDigest,
      task,
      attestation: attestation.release === undefined ? {} : { release: attestation.release },
      hops: ancestors.map(({ jti }) => ({ jti })),
      ...(actor === undefined ? {} : { actor }),
    },
    expiries: newExpiries(),
    newest: rev,
    seen,
    unsureUntil: 0,
  }
}

/** Whether the token is one of them; it is of the same task. */
export function alike({ like }: LiveGroup, token: IssuedToken): boolean {
  if (
    like.audience !== token.audience ||
    like.kid !== token.kid ||
    like.policyDigest !== token.policyDigest ||
    like.clientId !== token.clientId ||
    like.attestation.release !== token.attestation.release ||
    like.hops.length !== token.hops.length
  )
    return false
  for (let at = 0; at < like.hops.length; at++) if (like.hops[at]!.jti !== token.hops[at]!.jti) return false
  return sameActors(like.actor, token.actor)
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
function fitOf(facts: HopFacts, match: HopFacts, own: boolean): Fit {
  let fit: Fit = 'yes'
  for (const dimension in match) {
    const value = facts[dimension as Dimension]
    if (value === match[dimension as Dimension]) continue
    if (value !== undefined) return 'no'
    // An actor that somebody vouched for had no token of ours: no key signed it, and it has no id.
    if (dimension === 'jti' ? !own : dimension !== 'kid' || facts.client_id === undefined) return 'no'
    fit = 'perhaps'
  }
  return fit
}

/** A conjunction holds within one hop. */
export function fits({ hops }: LiveGroup, match: HopFacts): Fit {
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
  else if (fits(group, kill.match) !== 'no' && kill.match.jti === undefined) doubt(group)
}

export function doubt(group: LiveGroup): void {
  group.unsureUntil = latestExpiry(group.expiries) ?? 0
}
