/** Intersection of the operands of authority, with the first operand at which something was lost. */
import type { Constraint, Grant } from '@errand/verifier/claims.ts'
import { isWithin, normalConstraint } from '@errand/verifier/constraints.ts'
import { meetGrants } from '@errand/verifier/grants.ts'
import type { Operand } from './decision.ts'

export interface Narrowing {
  readonly operand: Operand
  readonly grants: readonly Grant[]
}

export type Authority =
  | { readonly kept: readonly Grant[] }
  /** `arguments`: the operation is allowed there, but not with all the arguments that were asked for. */
  | { readonly lostAt: Operand; readonly part: 'operation' | 'arguments' }

/**
 * Meets what was asked of one operation with each operand in turn. What the question does not state (an argument it
 * says nothing of) is narrowed to what is allowed; what it states is granted whole or lost (RFC 9396 §6).
 */
export function narrow(asked: readonly Grant[], operands: readonly Narrowing[]): Authority {
  const stated = asked.flatMap(({ constraints }) => {
    const normal = constraints ? normalConstraint(constraints) : {}
    return normal === 'none' ? [] : [normal]
  })
  let kept = asked
  for (const { operand, grants } of operands) {
    kept = meetGrants(kept, grants)
    if (kept.length === 0) {
      const named = grants.some((grant) =>
        asked.some((one) => one.tool === grant.tool && one.operation === grant.operation),
      )
      return { lostAt: operand, part: named ? 'arguments' : 'operation' }
    }
    const whole = stated.every((constraint) => kept.some((grant) => keeps(constraint, grant.constraints ?? {})))
    if (!whole) return { lostAt: operand, part: 'arguments' }
  }
  return { kept }
}

const NOTHING: Constraint = { enum: [] }

const BOUNDS = ['minimum', 'maximum', 'minLength', 'maxLength', 'minItems', 'maxItems'] as const

/** Whether every part that `stated` speaks of is as wide in `met`; what it says nothing of may have become narrower. */
function keeps(stated: Constraint, met: Constraint): boolean {
  if (stated.enum || stated.type === 'boolean' || stated.type === 'null') return isWithin(stated, met)
  if (met.enum?.length === 0) return false
  if (Object.keys(stated).length === 0) return true
  if (met.enum) {
    // A range that shrank to one value: kept where the question's own bound is that value.
    const bounds = BOUNDS.flatMap((keyword) => stated[keyword] ?? [])
    return met.enum.length === 1 && bounds.every((bound) => bound === met.enum![0])
  }
  if (BOUNDS.some((keyword) => stated[keyword] !== undefined && stated[keyword] !== met[keyword])) return false
  if (stated.items && !keeps(stated.items, met.items ?? {})) return false
  return Object.entries(stated.properties ?? {}).every(([name, property]) => {
    const own = met.properties && Object.hasOwn(met.properties, name) ? met.properties[name] : undefined
    return keeps(property, own ?? (met.additionalProperties === false ? NOTHING : {}))
  })
}
