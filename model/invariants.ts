/** R1–R8 of DESIGN.md, and what a ban and a containment promise (its *Modes*), as questions about one state. */
import { verdict } from './following.ts'
import { contained, deadBy, kills, storeOf } from './issuing.ts'
import {
  CONTAINED,
  type Design,
  generationOf,
  LEASE_TTL,
  type Scope,
  type State,
  STOLEN_KEY,
  type Token,
} from './state.ts'

export type Invariant = (state: State, scope: Scope, design: Design) => string | undefined

/** What each verifier says of each token. */
function* verdicts(state: State, scope: Scope, design: Design) {
  for (const [v, verifier] of state.verifiers.entries())
    for (const [index, token] of state.tokens.entries())
      yield { v, verifier, index, token, said: verdict(verifier, token, state.now, scope, design) }
}

/** Dead by the log, and dead by it to whom it says so: the two of one generation must agree. */
function imprecise(state: State, token: Token, by: ReturnType<typeof deadBy>, design: Design): boolean {
  if (!by || by.match === STOLEN_KEY) return false
  if (design.order === 'epochs' && generationOf(by.epoch) !== generationOf(by.hop.rev)) return false
  return !state.entries.some((entry) => entry.match === by.match && entry.order >= 0 && kills(entry, token))
}

const R1: Invariant = (state, scope, design) => {
  const due = state.entries.filter(({ acked }) => acked >= 0)
  if (due.length === 0) return undefined
  for (const { v, index, token, said } of verdicts(state, scope, design)) {
    if (said !== 'live') continue
    const killer = due.find((entry) => state.now > entry.acked + scope.bound && kills(entry, token))
    if (killer) return `verifier ${v} accepts token ${index}, killed by an entry of tick ${killer.acked}`
  }
  if (state.sealed) return undefined
  // An issuer reads the log itself, and has no bound.
  for (const [index, token] of state.tokens.entries())
    if (token.exp > state.now && due.some((entry) => kills(entry, token)) && !deadBy(storeOf(state).has, token, design))
      return `an issuer accepts token ${index}, killed by an entry that stands`
  return undefined
}

const R2: Invariant = (state, scope, design) => {
  for (const { v, verifier, index, said } of verdicts(state, scope, design))
    if (said === 'live' && verifier.refused & (1 << index))
      return `verifier ${v} refused token ${index}, and accepts it`
  if (state.sealed) return undefined
  for (const [index, token] of state.tokens.entries())
    if (state.refused & (1 << index) && token.exp > state.now && !deadBy(storeOf(state).has, token, design))
      return `an issuer refused token ${index}, and accepts it`
  return undefined
}

const R3: Invariant = (state, scope, design) => {
  for (const { v, verifier, index, token, said } of verdicts(state, scope, design)) {
    if (said !== 'live') continue
    for (let at = token.parent; at >= 0; at = state.tokens[at]!.parent)
      if (verdict(verifier, state.tokens[at]!, state.now, scope, design) === 'dead')
        return `verifier ${v} holds token ${at} for dead, and accepts token ${index} made from it`
  }
  return undefined
}

const R4: Invariant = (state, scope, design) => {
  for (const { v, verifier, index, token } of verdicts(state, scope, design))
    if (imprecise(state, token, deadBy(verifier.known, token, design), design))
      return `verifier ${v} refuses token ${index}, checked after the entry`
  if (state.sealed) return undefined
  for (const [index, token] of state.tokens.entries())
    if (imprecise(state, token, deadBy(storeOf(state).has, token, design), design))
      return `an issuer refuses token ${index}, checked after the entry`
  return undefined
}

const R5: Invariant = ({ leases, now }) => {
  const at = leases.findIndex(
    ({ vault, late, endedAt }) => vault === 'secret' && (late > 0 || (endedAt >= 0 && now > endedAt + LEASE_TTL + 1)),
  )
  return at < 0 ? undefined : `lease ${at} outlives its task`
}

const R6: Invariant = ({ tokens }) => {
  const at = tokens.findIndex(({ forged, recorded }) => !forged && !recorded)
  return at < 0 ? undefined : `token ${at} has no record`
}

const R7: Invariant = ({ tokens }) => {
  const at = tokens.findIndex(
    ({ authority, parent, forged }) => !forged && parent >= 0 && (authority & ~tokens[parent]!.authority) !== 0,
  )
  return at < 0 ? undefined : `token ${at} may do what the one it was made from may not`
}

const R8: Invariant = ({ tokens, approval }) => {
  const with_ = tokens.filter((token) => token.approval !== 0)
  if (with_.length > 1) return 'one approval is in two tokens'
  return with_.some((token) => token.approval !== approval.digest)
    ? 'a token has an approval for something else'
    : undefined
}

const ban: Invariant = ({ tokens }) => {
  const at = tokens.findIndex(({ underBan }) => underBan)
  return at < 0 ? undefined : `token ${at} was checked under a ban in force`
}

const contain: Invariant = ({ tokens, entries }) => {
  const at = tokens.findIndex(
    ({ hops, authority, forged }) => !forged && authority !== CONTAINED && contained(entries, hops),
  )
  return at < 0 ? undefined : `token ${at} may do what was taken from its task before it was checked`
}

/** Whoever was given a token after an entry finds that entry applied where it uses the token. */
const L10: Invariant = (state, scope, design) => {
  // After a fail-over the same entry has another place: the old one does as well.
  if (state.failovers > 0) return undefined
  for (const { v, verifier, index, token, said } of verdicts(state, scope, design)) {
    if (said !== 'live' || token.forged) continue
    const missing = state.entries.some(
      ({ order, match, epoch, acked }) =>
        order >= 0 && order < token.hops[0]!.order && verifier.known[match]! < epoch && state.now <= acked + scope.life,
    )
    if (missing) return `verifier ${v} accepts token ${index} and has not what was revoked before it`
  }
  return undefined
}

export const INVARIANTS: Readonly<Record<string, Invariant>> = { R1, R2, R3, R4, R5, R6, R7, R8, L10, ban, contain }
