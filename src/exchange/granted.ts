/**
 * What a decision grants, in the words of tokens, answers and records. Decisions are remembered, so this is worked out
 * once for each; it is frozen, since it goes into many.
 */
import type { ToolAuthorization } from '@errand/verifier/claims.ts'
import { scopeOf, toAuthorizationDetails } from '@errand/verifier/grants.ts'
import type { Json } from '../audit/log.ts'
import type { Decision } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { rowsOf } from './intersection.ts'

export interface Granted {
  readonly details: readonly ToolAuthorization[]
  readonly scope: string
  readonly operations: readonly string[]
  /** What a record holds of it. */
  readonly rows: { readonly [name: string]: Json }
}

export type GrantedBy = (decision: Decision, tool: Tool) => Granted

export function createGranted(): GrantedBy {
  const known = new WeakMap<Decision, { readonly tool: Tool; readonly granted: Granted }>()
  return (decision, tool) => {
    const before = known.get(decision)
    if (before?.tool === tool) return before.granted
    const { permitted } = decision
    const granted = frozen({
      details: toAuthorizationDetails(permitted, (_, operation) => tool.operations.get(operation)!.effect),
      scope: scopeOf(permitted),
      operations: permitted.map(({ operation }) => operation),
      rows: rowsOf(decision),
    })
    known.set(decision, { tool, granted })
    return granted
  }
}

/** Constraints in it are those of ceilings and requests, which nobody changes either. */
function frozen<T>(value: T): T {
  if (typeof value !== 'object' || value === null || Object.isFrozen(value)) return value
  for (const each of Object.values(value)) frozen(each)
  return Object.freeze(value)
}
