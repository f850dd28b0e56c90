/**
 * Constraints on the arguments of an operation: a closed subset of JSON Schema whose conjunction is again in the
 * subset, so authority is intersected exactly. A keyword implies its type (`maximum` admits numbers only), and the
 * normal form says the type, so that any JSON Schema validator agrees with this file.
 */
import { type Checked, fail, pass } from './checked.ts'
import type { Constraint } from './claims.ts'
import { isInheritedName } from './strict-json.ts'

type Type = NonNullable<Constraint['type']>
type Primitive = string | number | boolean | null

const TYPES: readonly string[] = ['object', 'array', 'string', 'integer', 'number', 'boolean', 'null']
const KEYWORD_TYPE: ReadonlyMap<string, Type> = new Map([
  ['minimum', 'number'],
  ['maximum', 'number'],
  ['minLength', 'string'],
  ['maxLength', 'string'],
  ['minItems', 'array'],
  ['maxItems', 'array'],
  ['items', 'array'],
  ['properties', 'object'],
  ['required', 'object'],
  ['additionalProperties', 'object'],
])

/** Bounds of one constraint as it is read: its nesting, its keywords' members in all, one name, one text. */
const MAX_DEPTH = 6
const MAX_NODES = 128
const MAX_NAME = 64
const MAX_TEXT = 256

/** Admits nothing: in place of a property that must be absent. */
const NEVER: Constraint = { enum: [] }
const isNever = (constraint: Constraint): boolean => constraint.enum?.length === 0

/** Reads a constraint, from a request, a token or a file, into its normal form. */
export function readConstraint(value: unknown): Checked<Constraint> {
  const room = { nodes: MAX_NODES }
  const problem = shapeProblem(value, '$', 0, room)
  if (problem !== undefined) return fail('bad_authorization_details', problem)
  const normal = normalConstraint(value as Constraint)
  return normal === 'none' ? fail('bad_authorization_details', 'the constraint admits nothing') : pass(normal)
}

/** What is wrong with the shape of a constraint, as a sentence, or undefined. */
function shapeProblem(value: unknown, path: string, depth: number, room: { nodes: number }): string | undefined {
  if (!isRecord(value)) return `${path} is not an object`
  if (depth >= MAX_DEPTH) return `${path} is nested too deeply`
  if (--room.nodes < 0) return 'the constraint is too large'
  for (const [keyword, member] of Object.entries(value)) {
    const at = step(path, keyword)
    if (member === undefined) continue
    switch (keyword) {
      case 'type':
        if (typeof member !== 'string' || !TYPES.includes(member)) return `${at} is not a type`
        break
      case 'enum':
        if (!Array.isArray(member)) return `${at} is not a list`
        room.nodes -= member.length
        if (room.nodes < 0) return 'the constraint is too large'
        if (!member.every(isPrimitive)) return `${at} may hold text, integers, true, false and null`
        break
      case 'minimum':
      case 'maximum':
        if (!Number.isSafeInteger(member)) return `${at} is not an integer`
        break
      case 'minLength':
      case 'maxLength':
      case 'minItems':
      case 'maxItems':
        if (!Number.isSafeInteger(member) || (member as number) < 0) return `${at} is not a length`
        break
      case 'items': {
        const problem = shapeProblem(member, at, depth + 1, room)
        if (problem !== undefined) return problem
        break
      }
      case 'properties': {
        if (!isRecord(member)) return `${at} is not an object`
        for (const [name, property] of Object.entries(member)) {
          if (!isName(name)) return `${at} holds a name that cannot be used`
          const problem = shapeProblem(property, step(at, name), depth + 1, room)
          if (problem !== undefined) return problem
        }
        break
      }
      case 'required':
        if (!Array.isArray(member) || !member.every(isName)) return `${at} is not a list of names`
        room.nodes -= member.length
        if (room.nodes < 0) return 'the constraint is too large'
        break
      case 'additionalProperties':
        if (member !== false) return `${at} can only be false`
        break
      default:
        // What is not understood cannot be enforced.
        return `${at} is not a keyword that can be enforced`
    }
  }
  return typesOf(value as Constraint) === 'none' ? `${path} mixes keywords of different types` : undefined
}

// Paths are shown and stand in headers: a name that is not plain is not repeated.
const PLAIN_NAME = /^[A-Za-z0-9_-]{1,64}$/
const step = (path: string, name: string): string => `${path}.${PLAIN_NAME.test(name) ? name : '*'}`

const isRecord = (value: unknown): value is { readonly [name: string]: unknown } =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const WELL_FORMED = /^\P{Surrogate}*$/u
const isText = (value: unknown, longest: number): value is string =>
  typeof value === 'string' && value.length <= longest && WELL_FORMED.test(value)
const isName = (value: unknown): value is string => isText(value, MAX_NAME) && value !== '' && !isInheritedName(value)
const isPrimitive = (value: unknown): value is Primitive =>
  value === null || typeof value === 'boolean' || Number.isSafeInteger(value) || isText(value, MAX_TEXT)

const meetTypes = (a: Type | undefined, b: Type | undefined): Type | undefined | 'none' => {
  if (a === undefined || a === b) return b
  if (b === undefined) return a
  const pair = [a, b]
  return pair.includes('integer') && pair.includes('number') ? 'integer' : 'none'
}

/** The type that a constraint names or its keywords imply. */
function typesOf(constraint: Constraint): Type | undefined | 'none' {
  let type: Type | undefined | 'none' = constraint.type
  for (const [keyword, implied] of KEYWORD_TYPE) {
    if (constraint[keyword as keyof Constraint] === undefined) continue
    type = meetTypes(type, implied)
    if (type === 'none') return 'none'
  }
  return type
}

const largest = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.max(a, b)
const smallest = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined ? b : b === undefined ? a : Math.min(a, b)

const byText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0)

/** Exactly what both admit, in normal form; 'none' where that is nothing. */
export function meetConstraints(a: Constraint, b: Constraint): Constraint | 'none' {
  const first = typesOf(a)
  const second = typesOf(b)
  if (first === 'none' || second === 'none') return 'none'
  const type = meetTypes(first, second)
  if (type === 'none') return 'none'

  if (a.enum || b.enum) {
    const admitted = new Map<string, Primitive>()
    for (const value of a.enum ?? b.enum ?? [])
      if (violation(a, value) === undefined && violation(b, value) === undefined)
        admitted.set(JSON.stringify(value), value === 0 ? 0 : value)
    return settleEnum(admitted)
  }
  switch (type) {
    case undefined:
      return {}
    case 'null':
    case 'boolean':
      return { type }
    case 'integer':
    case 'number':
      return settleRange({ type, minimum: largest(a.minimum, b.minimum), maximum: smallest(a.maximum, b.maximum) })
    case 'string': {
      const minLength = largest(a.minLength, b.minLength) ?? 0
      const maxLength = smallest(a.maxLength, b.maxLength)
      if (maxLength !== undefined && minLength > maxLength) return 'none'
      if (maxLength === 0) return { enum: [''] }
      return { type, ...(minLength > 0 ? { minLength } : {}), ...(maxLength === undefined ? {} : { maxLength }) }
    }
    case 'array':
      return meetArrays(a, b)
    case 'object':
      return meetObjects(a, b)
  }
}

function settleEnum(admitted: ReadonlyMap<string, Primitive>): Constraint | 'none' {
  if (admitted.size === 0) return 'none'
  const texts = [...admitted.keys()].sort(byText)
  const all = texts.join()
  if (all === 'null') return { type: 'null' }
  if (all === 'false,true') return { type: 'boolean' }
  return { enum: texts.map((text) => admitted.get(text)!) }
}

function settleRange(range: {
  type: 'integer' | 'number'
  minimum: number | undefined
  maximum: number | undefined
}): Constraint | 'none' {
  const { type, minimum, maximum } = range
  if (minimum !== undefined && maximum !== undefined) {
    if (minimum > maximum) return 'none'
    if (minimum === maximum) return { enum: [minimum === 0 ? 0 : minimum] }
  }
  return {
    type,
    ...(minimum === undefined ? {} : { minimum: minimum === 0 ? 0 : minimum }),
    ...(maximum === undefined ? {} : { maximum: maximum === 0 ? 0 : maximum }),
  }
}

const orNever = (constraint: Constraint | 'none'): Constraint => (constraint === 'none' ? NEVER : constraint)

function meetArrays(a: Constraint, b: Constraint): Constraint | 'none' {
  const minItems = largest(a.minItems, b.minItems) ?? 0
  let maxItems = smallest(a.maxItems, b.maxItems)
  const items = orNever(meetConstraints(a.items ?? {}, b.items ?? {}))
  if (isNever(items)) maxItems = 0
  if (maxItems !== undefined && minItems > maxItems) return 'none'
  return {
    type: 'array',
    ...(minItems > 0 ? { minItems } : {}),
    ...(maxItems === undefined ? {} : { maxItems }),
    ...(maxItems === 0 || isFree(items) ? {} : { items }),
  }
}

const isFree = (constraint: Constraint): boolean => Object.keys(constraint).length === 0

/** Own members only: a property may have any name. */
const propertyOf = (constraint: Constraint, name: string): Constraint | undefined =>
  constraint.properties && Object.hasOwn(constraint.properties, name) ? constraint.properties[name] : undefined

function meetObjects(a: Constraint, b: Constraint): Constraint | 'none' {
  const closed = a.additionalProperties === false || b.additionalProperties === false
  const required = new Set([...(a.required ?? []), ...(b.required ?? [])])
  const names = new Set([...Object.keys(a.properties ?? {}), ...Object.keys(b.properties ?? {})])
  const properties: [string, Constraint][] = []
  for (const name of [...names].sort(byText)) {
    const property = orNever(meetConstraints(seenBy(a, name), seenBy(b, name)))
    // A closed object refuses what it does not name, an open one needs no word on what it leaves free.
    if (closed ? isNever(property) : isFree(property)) continue
    properties.push([name, property])
  }
  const named = new Map(properties)
  for (const name of required) {
    const property = named.get(name)
    if (property ? isNever(property) : closed) return 'none'
  }
  return {
    type: 'object',
    // fromEntries defines members, it never assigns: no name reaches a setter.
    ...(properties.length > 0 ? { properties: Object.fromEntries(properties) } : {}),
    ...(required.size > 0 ? { required: [...required].sort(byText) } : {}),
    ...(closed ? { additionalProperties: false } : {}),
  }
}

/** What an object constraint says of one member. */
const seenBy = (constraint: Constraint, name: string): Constraint =>
  propertyOf(constraint, name) ?? (constraint.additionalProperties === false ? NEVER : {})

export const normalConstraint = (constraint: Constraint): Constraint | 'none' => meetConstraints(constraint, {})

/** One text for each normal form: equal where two constraints are the same, fit for digests and sorting. */
export const canonicalConstraint = (constraint: Constraint): string => JSON.stringify(normalConstraint(constraint))

/** Sound, and complete for what meetConstraints makes: whatever `narrow` admits, `wide` admits. */
export function isWithin(narrow: Constraint, wide: Constraint): boolean {
  const normal = normalConstraint(narrow)
  return normal === 'none' || JSON.stringify(meetConstraints(normal, wide)) === JSON.stringify(normal)
}

/** The path (`$.amount`) of the first part of `value` that the constraint does not admit. */
export function violation(constraint: Constraint, value: unknown, path = '$'): string | undefined {
  const { type } = constraint
  if (type !== undefined && !isOfType(type, value)) return path
  if (constraint.enum && !constraint.enum.some((one) => one === value)) return path
  const { minimum, maximum, minLength, maxLength } = constraint
  if (minimum !== undefined && !(isOfType('number', value) && (value as number) >= minimum)) return path
  if (maximum !== undefined && !(isOfType('number', value) && (value as number) <= maximum)) return path
  if (minLength !== undefined || maxLength !== undefined) {
    if (typeof value !== 'string') return path
    const length = codePoints(value)
    if (length < (minLength ?? 0) || length > (maxLength ?? length)) return path
  }
  return arrayViolation(constraint, value, path) ?? objectViolation(constraint, value, path)
}

function arrayViolation({ minItems, maxItems, items }: Constraint, value: unknown, path: string): string | undefined {
  if (minItems === undefined && maxItems === undefined && items === undefined) return undefined
  if (!Array.isArray(value)) return path
  if (value.length < (minItems ?? 0) || value.length > (maxItems ?? value.length)) return path
  if (items === undefined) return undefined
  for (let index = 0; index < value.length; index++) {
    const found = violation(items, value[index], `${path}[${index}]`)
    if (found !== undefined) return found
  }
  return undefined
}

function objectViolation(constraint: Constraint, value: unknown, path: string): string | undefined {
  const { properties, required, additionalProperties } = constraint
  if (properties === undefined && required === undefined && additionalProperties === undefined) return undefined
  if (!isRecord(value)) return path
  for (const name of required ?? [])
    if (!Object.hasOwn(value, name) || value[name] === undefined) return step(path, name)
  for (const [name, member] of Object.entries(value)) {
    const property = propertyOf(constraint, name)
    if (property === undefined) {
      if (additionalProperties === false) return step(path, name)
      continue
    }
    const found = violation(property, member, step(path, name))
    if (found !== undefined) return found
  }
  return undefined
}

function isOfType(type: Type, value: unknown): boolean {
  switch (type) {
    case 'object':
      return isRecord(value)
    case 'array':
      return Array.isArray(value)
    case 'integer':
      return Number.isSafeInteger(value)
    case 'number':
      return Number.isFinite(value)
    case 'null':
      return value === null
    default:
      return typeof value === type
  }
}

/** JSON Schema counts characters as code points, not as UTF-16 units. */
function codePoints(text: string): number {
  let count = 0
  for (const _ of text) count++
  return count
}
