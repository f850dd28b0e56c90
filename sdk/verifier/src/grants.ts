/**
 * Authority as a set of grants, and its two spellings on the wire (`scope`, `authorization_details`). A set admits a
 * call where one of its grants does; two sets are met grant by grant, never joined.
 */
import { type Checked, fail, pass } from './checked.ts'
import { type Constraint, EFFECTS, type Effect, type Grant, type ToolAuthorization } from './claims.ts'
import { isWithin, meetConstraints, normalConstraint, readConstraint, violation } from './constraints.ts'

const SCOPE_VALUE = /^[a-z][a-z0-9_.-]{0,31}:[a-z][a-z0-9_.-]{0,63}$/
const TOOL = /^[a-z][a-z0-9_.-]{0,31}$/
const OPERATION = /^[a-z][a-z0-9_.-]{0,63}$/

const MAX_SCOPE_ITEMS = 200
const MAX_DETAILS = 32
/** Operations in all objects together, and different constraints on one of them: these multiply when sets are met. */
const MAX_GRANTS = 200
const MAX_ALTERNATIVES = 4

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)
const scopeValue = ({ tool, operation }: Pick<Grant, 'tool' | 'operation'>): string => `${tool}:${operation}`

const FREE: Constraint = {}
const grantOf = (tool: string, operation: string, constraints: Constraint): Grant =>
  Object.keys(constraints).length === 0 ? { tool, operation } : { tool, operation, constraints }

/** Operations of one object share their constraints, so most questions about them come again: asked once per pair. */
function remembered<T>(ask: (constraint: Constraint) => T): (constraint: Constraint) => T {
  const answers = new Map<Constraint, T>()
  return (constraint) => {
    const known = answers.get(constraint)
    if (known !== undefined) return known
    const answer = ask(constraint)
    answers.set(constraint, answer)
    return answer
  }
}

/** Sorted, each constraint in normal form, and nothing that another grant of the set covers. */
export function normalGrants(grants: readonly Grant[]): readonly Grant[] {
  const settled = remembered((constraints) => {
    const normal = normalConstraint(constraints)
    return { normal, text: JSON.stringify(normal) }
  })
  const byOperation = new Map<string, Map<string, Grant>>()
  for (const { tool, operation, constraints } of grants) {
    const { normal, text } = settled(constraints ?? FREE)
    if (normal === 'none') continue
    const key = scopeValue({ tool, operation })
    const alternatives = byOperation.get(key) ?? new Map<string, Grant>()
    byOperation.set(key, alternatives)
    alternatives.set(text, grantOf(tool, operation, normal))
  }
  const within = remembered((narrow) => remembered((wide) => isWithin(narrow, wide)))
  return [...byOperation.keys()].sort(byText).flatMap((key) => {
    const alternatives = byOperation.get(key)!
    const sorted = [...alternatives.keys()].sort(byText).map((text) => alternatives.get(text)!)
    return sorted.filter(
      (grant) =>
        !sorted.some((other) => other !== grant && within(grant.constraints ?? FREE)(other.constraints ?? FREE)),
    )
  })
}

/** What both sets admit. */
export function meetGrants(a: readonly Grant[], b: readonly Grant[]): readonly Grant[] {
  const others = new Map<string, Grant[]>()
  for (const grant of b) {
    const known = others.get(scopeValue(grant))
    if (known) known.push(grant)
    else others.set(scopeValue(grant), [grant])
  }
  const meet = remembered((one) => remembered((other) => meetConstraints(one, other)))
  const met: Grant[] = []
  for (const grant of a)
    for (const other of others.get(scopeValue(grant)) ?? []) {
      const constraints = meet(grant.constraints ?? FREE)(other.constraints ?? FREE)
      if (constraints !== 'none') met.push(grantOf(grant.tool, grant.operation, constraints))
    }
  return normalGrants(met)
}

/** True where each grant of `narrow` lies within one of `wide`. */
export const grantsWithin = (narrow: readonly Grant[], wide: readonly Grant[]): boolean =>
  narrow.every((grant) => isGranted(grant, wide))

/** True where one grant of `wide` covers this one. */
export const isGranted = (grant: Grant, wide: readonly Grant[]): boolean =>
  wide.some(
    (other) =>
      other.tool === grant.tool &&
      other.operation === grant.operation &&
      isWithin(grant.constraints ?? FREE, other.constraints ?? FREE),
  )

/**
 * Whether a call is admitted: `not_granted` where no grant names the operation, the path of the argument at which
 * the last one failed where none admits the arguments, undefined where it is admitted.
 */
export function callViolation(
  grants: readonly Grant[],
  call: { readonly tool: string; readonly operation: string; readonly arguments: unknown },
): { readonly path?: string } | undefined {
  let refused: { readonly path?: string } = {}
  for (const { tool, operation, constraints } of grants) {
    if (tool !== call.tool || operation !== call.operation) continue
    const path = violation(constraints ?? FREE, call.arguments)
    if (path === undefined) return undefined
    refused = { path }
  }
  return refused
}

/** One object per tool, effect and constraints, in one order: the same authority is always the same text. */
export function toAuthorizationDetails(
  grants: readonly Grant[],
  effectOf: (tool: string, operation: string) => Effect,
): readonly ToolAuthorization[] {
  const groups = new Map<string, { tool: string; effect: Effect; constraints?: Constraint; operations: string[] }>()
  for (const { tool, operation, constraints } of normalGrants(grants)) {
    const effect = effectOf(tool, operation)
    const key = JSON.stringify([tool, EFFECTS.indexOf(effect), constraints ? JSON.stringify(constraints) : ''])
    const group = groups.get(key)
    if (group) group.operations.push(operation)
    else groups.set(key, { tool, effect, operations: [operation], ...(constraints ? { constraints } : {}) })
  }
  return [...groups.keys()].sort(byText).map((key) => {
    const { tool, effect, operations, constraints } = groups.get(key)!
    return { type: 'tool', tool, effect, operations, ...(constraints ? { constraints } : {}) }
  })
}

export const fromAuthorizationDetails = (details: readonly ToolAuthorization[]): readonly Grant[] =>
  normalGrants(
    details.flatMap(({ tool, operations, constraints }) =>
      operations.map((operation) => grantOf(tool, operation, constraints ?? FREE)),
    ),
  )

/** The scope values of a set, sorted. */
export const scopeOf = (grants: readonly Grant[]): string => [...new Set(grants.map(scopeValue))].sort(byText).join(' ')

/** The scope values of checked details, sorted: as scopeOf. */
export function scopeOfDetails(details: readonly Pick<ToolAuthorization, 'tool' | 'operations'>[]): string {
  const values: string[] = []
  for (const { tool, operations } of details) for (const operation of operations) values.push(`${tool}:${operation}`)
  // Without a function it sorts by UTF-16 units, as byText does. A few are in order sooner than a sort begins.
  if (values.length > FEW) values.sort()
  else
    for (let index = 1; index < values.length; index++) {
      const value = values[index]!
      let at = index
      for (; at > 0 && values[at - 1]! > value; at--) values[at] = values[at - 1]!
      values[at] = value
    }
  return (isAscending(values) ? values : [...new Set(values)]).join(' ')
}

const FEW = 16

/** Each greater than the one before it: then none stands twice. */
function isAscending(values: readonly string[]): boolean {
  for (let index = 1; index < values.length; index++) if (values[index - 1]! >= values[index]!) return false
  return true
}
const standsTwice = (values: readonly string[]): boolean =>
  !isAscending(values) && new Set(values).size !== values.length

/** RFC 6749 §3.3, in our form `<tool>:<operation>`. Never mended into a valid one. */
export function readScope(text: unknown): Checked<readonly { readonly tool: string; readonly operation: string }[]> {
  const values = readScopeValues(text)
  if (!values.ok) return values
  return pass(
    values.value.map((value) => {
      const colon = value.indexOf(':')
      return { tool: value.slice(0, colon), operation: value.slice(colon + 1) }
    }),
  )
}

/** As readScope, each value whole. */
export function readScopeValues(text: unknown): Checked<readonly string[]> {
  // The longest honest scope: so many values of the longest names.
  if (typeof text !== 'string' || text.length > MAX_SCOPE_ITEMS * 98) return fail('bad_scope')
  const values = text.split(' ')
  if (values.length > MAX_SCOPE_ITEMS) return fail('bad_scope', `a scope has at most ${MAX_SCOPE_ITEMS} values`)
  if (standsTwice(values)) return fail('bad_scope', 'a value stands twice')
  for (const value of values)
    if (!SCOPE_VALUE.test(value))
      return fail('bad_scope', 'a scope value is <tool>:<operation>, separated by one space')
  return pass(values)
}

const bad = (detail: string) => fail('bad_authorization_details', detail)

const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const EFFECT_NAMES: ReadonlySet<unknown> = new Set(EFFECTS)
const DETAIL_FIELDS: ReadonlySet<string> = new Set(['type', 'tool', 'effect', 'operations', 'constraints'])

type Detail = Omit<ToolAuthorization, 'effect'> & { readonly effect?: Effect }

function readDetails(value: unknown): Checked<readonly Detail[]> {
  if (!Array.isArray(value) || value.length === 0) return bad('not a list of objects')
  if (value.length > MAX_DETAILS) return bad(`at most ${MAX_DETAILS} objects`)
  const details: Detail[] = []
  let count = 0
  for (const entry of value as readonly unknown[]) {
    if (!isRecord(entry)) return bad('not a list of objects')
    const { type, tool, effect, operations, constraints } = entry
    // RFC 9396 §5: unknown types and fields are refused, not ignored.
    for (const name of Object.keys(entry)) if (!DETAIL_FIELDS.has(name)) return bad('an object holds an unknown field')
    if (type !== 'tool') return bad('the only type is tool')
    if (typeof tool !== 'string' || !TOOL.test(tool)) return bad('tool is not a name')
    if (effect !== undefined && !EFFECT_NAMES.has(effect)) return bad('effect is not one of ours')
    if (!Array.isArray(operations) || operations.length === 0 || operations.length > MAX_GRANTS)
      return bad('operations is not a list of names')
    for (const name of operations as readonly unknown[])
      if (typeof name !== 'string' || !OPERATION.test(name)) return bad('operations is not a list of names')
    if (standsTwice(operations as readonly string[])) return bad('an operation stands twice')
    count += operations.length
    if (count > MAX_GRANTS) return bad(`at most ${MAX_GRANTS} operations`)
    const read = constraints === undefined ? undefined : readConstraint(constraints)
    if (read && !read.ok) return read
    const detail: { -readonly [member in keyof Detail]: Detail[member] } = {
      type,
      tool,
      operations: operations as readonly string[],
    }
    if (effect !== undefined) detail.effect = effect as Effect
    if (read) detail.constraints = read.value
    details.push(detail)
  }
  return pass(details)
}

/** `authorization_details` of a token: each object names its effect. */
export function readAuthorizationDetails(value: unknown): Checked<readonly ToolAuthorization[]> {
  const read = readDetails(value)
  if (!read.ok) return read
  const isWhole = (details: readonly Detail[]): details is readonly ToolAuthorization[] =>
    details.every(({ effect }) => effect !== undefined)
  return isWhole(read.value) ? pass(read.value) : bad('effect is missing')
}

/**
 * `authorization_details` of a request. `effect` may be left out; where it stands it must be the operation's own,
 * so that nobody asks for a read and receives a write.
 */
export function readRequestedDetails(
  value: unknown,
  effectOf: (tool: string, operation: string) => Effect | undefined,
): Checked<readonly Grant[]> {
  const read = readDetails(value)
  if (!read.ok) return read
  const grants: Grant[] = []
  const alternatives = new Map<string, number>()
  for (const { tool, effect, operations, constraints } of read.value)
    for (const operation of operations) {
      const key = scopeValue({ tool, operation })
      const count = (alternatives.get(key) ?? 0) + 1
      if (count > MAX_ALTERNATIVES) return bad(`at most ${MAX_ALTERNATIVES} constraints on one operation`)
      alternatives.set(key, count)
      if (effect !== undefined && (effectOf(tool, operation) ?? effect) !== effect)
        return bad(`${key} has another effect`)
      grants.push(grantOf(tool, operation, constraints ?? FREE))
    }
  return pass(normalGrants(grants))
}
