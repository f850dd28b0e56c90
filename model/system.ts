/** The transition system: where it begins, and all that can happen next within a scope. */
import {
  approvals,
  checks,
  deadBy,
  failovers,
  type Emit,
  firstOf,
  revocations,
  signatures,
  storeOf,
  thefts,
} from './issuing.ts'
import { deliveries, restarts, unknown, verdict, waited } from './following.ts'
import { leases, ticked } from './leasing.ts'
import { type Design, MATCHES, NOWHERE, type Scope, type State } from './state.ts'

export const initial = (scope: Scope): State => ({
  now: 0,
  generation: 0,
  entries: [],
  visible: 0,
  views: [{ epoch: firstOf(0), has: MATCHES.map(() => NOWHERE), since: 0, until: -1 }],
  sealed: false,
  failovers: 0,
  keyStolen: false,
  // Its clock reads something already: no two runs begin alike.
  runs: [{ start: -1, end: -1 }],
  exchanges: Array.from({ length: scope.issuers }, () => null),
  tokens: [],
  refused: 0,
  verifiers: Array.from({ length: scope.verifiers }, () => unknown(scope.serviceRuns)),
  approval: { state: 'none', digest: 0 },
  leases: [],
  serviceUp: true,
  vaultUp: true,
})

export function next(state: State, scope: Scope, design: Design, emit: Emit): void {
  const seen: Emit = (label, after) => emit(label, remembering(after, scope, design))
  if (state.now < scope.ticks)
    seen('a tick', { ...state, now: state.now + 1, leases: ticked(state, design), verifiers: waited(state, design) })
  checks(state, scope, design, seen)
  signatures(state, scope, design, seen)
  thefts(state, scope, seen)
  revocations(state, scope, design, seen)
  failovers(state, scope, design, seen)
  approvals(state, scope, seen)
  restarts(state, scope, seen)
  deliveries(state, scope, design, seen)
  leases(state, scope, design, seen)
}

/** Everybody is asked about every token in every state: who refused one as revoked must do so for ever. */
function remembering(state: State, scope: Scope, design: Design): State {
  const { tokens, verifiers, now } = state
  if (tokens.length === 0) return state
  const has = state.sealed ? undefined : storeOf(state).has
  let { refused } = state
  if (has)
    for (const [index, token] of tokens.entries())
      if (token.exp > now && deadBy(has, token, design)) refused |= 1 << index
  let changed = refused !== state.refused
  const after = verifiers.map((verifier) => {
    let mine = verifier.refused
    for (const [index, token] of tokens.entries())
      if (verdict(verifier, token, now, scope, design) === 'dead') mine |= 1 << index
    if (mine === verifier.refused) return verifier
    changed = true
    return { ...verifier, refused: mine }
  })
  return changed ? { ...state, refused, verifiers: after } : state
}
