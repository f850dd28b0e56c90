/** Finds arguments that a constraint bounds and that its operations do not have: misspelt, it would bound nothing. */
import type { Constraint } from '@errand/verifier/claims.ts'
import { readConstraint } from '@errand/verifier/constraints.ts'
import { didYouMean } from '../policy/suggest.ts'
import type { ToolFile } from './tool-file.ts'

/** By tool and operation, what it declares of its arguments; operations that declare nothing are not in it. */
export type Declared = ReadonlyMap<string, ReadonlyMap<string, Constraint>>

export function declaredArguments(tool: ToolFile): ReadonlyMap<string, Constraint> {
  return new Map(
    Object.entries(tool.operations).flatMap(([name, operation]): [string, Constraint][] => {
      // As written: the normal form forgets properties whose value is free.
      if (operation.arguments === undefined || !readConstraint(operation.arguments).ok) return []
      const schema = operation.arguments as Constraint
      if (namesOf([schema]) === undefined) return []
      const inPaths = operation.routes.flatMap((route) =>
        [...route.matchAll(/:([^/]+)/g)].map(([, segment]) => segment!),
      )
      return [
        [
          name,
          { ...schema, properties: { ...Object.fromEntries(inPaths.map((one) => [one, {}])), ...schema.properties } },
        ],
      ]
    }),
  )
}

interface Undeclared {
  readonly path: readonly PropertyKey[]
  readonly name: string
  readonly place: 'key' | 'value'
  readonly suggestion?: string
}

/** `constraint` was read before, so it has the shape of one. What none of `declared` has is told. */
export const undeclared = (constraint: unknown, declared: readonly Constraint[]): readonly Undeclared[] => [
  ...unknownIn(constraint as Constraint, declared, []),
]

function* unknownIn(
  { properties = {}, required = [], items }: Constraint,
  declared: readonly Constraint[],
  path: readonly PropertyKey[],
): Generator<Undeclared> {
  const known = namesOf(declared)
  if (known !== undefined) {
    const told = (name: string) => ({ name, ...didYouMean(name, known) })
    for (const name of Object.keys(properties))
      if (!known.has(name)) yield { path: [...path, 'properties', name], place: 'key', ...told(name) }
    for (const [index, name] of required.entries())
      if (!known.has(name) && !Object.hasOwn(properties, name))
        yield { path: [...path, 'required', index], place: 'value', ...told(name) }
  }
  for (const [name, property] of Object.entries(properties)) {
    const inner = declared.flatMap((one) =>
      one.properties && Object.hasOwn(one.properties, name) ? [one.properties[name]!] : [],
    )
    yield* unknownIn(property, inner, [...path, 'properties', name])
  }
  if (items !== undefined)
    yield* unknownIn(
      items,
      declared.flatMap((one) => one.items ?? []),
      [...path, 'items'],
    )
}

/** Undefined where nothing says which names there are. */
function namesOf(declared: readonly Constraint[]): ReadonlySet<string> | undefined {
  const naming = declared.filter(
    ({ properties, additionalProperties }) => properties !== undefined || additionalProperties === false,
  )
  return naming.length === 0
    ? undefined
    : new Set(naming.flatMap(({ properties = {}, required = [] }) => [...Object.keys(properties), ...required]))
}
