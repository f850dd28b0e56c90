/** Checks a file against its schema, and says what is wrong with it as a person would. */
import type { z } from 'zod'
import type { Problem, ProblemCode } from '../policy/problem.ts'
import { didYouMean, nearest } from '../policy/suggest.ts'
import { CONFIG_SCHEMAS, jsonSchemaOf, type SchemaName } from './json-schemas.ts'
import type { YamlFile } from './yaml.ts'

type Issue = z.core.$ZodIssue

export type Shaped<N extends SchemaName> =
  | { readonly ok: true; readonly value: z.output<(typeof CONFIG_SCHEMAS)[N]> }
  | { readonly ok: false; readonly problems: readonly Problem[] }

export function shape<N extends SchemaName>(name: N, yaml: YamlFile): Shaped<N> {
  const parsed = CONFIG_SCHEMAS[name].safeParse(yaml.data ?? {})
  if (parsed.success) return { ok: true, value: parsed.data as z.output<(typeof CONFIG_SCHEMAS)[N]> }
  const { issues } = parsed.error
  // A key that is missing because it is misspelt is one mistake, told once.
  const meant = new Set(
    issues.flatMap((issue) => {
      if (issue.code !== 'unrecognized_keys') return []
      const known = keysAt(name, issue.path, yaml.data)
      return issue.keys.flatMap((key) => JSON.stringify([...issue.path, nearest(key, known)]))
    }),
  )
  const told = issues.filter(
    (issue) =>
      issue.code === 'unrecognized_keys' ||
      valueAt(yaml.data, issue.path) !== undefined ||
      !meant.has(JSON.stringify(issue.path)),
  )
  return { ok: false, problems: told.flatMap((issue) => problemsOf(issue, yaml, name)) }
}

function problemsOf(issue: Issue, yaml: YamlFile, name: SchemaName): readonly Problem[] {
  const { file } = yaml
  const path = issue.path
  const place = yaml.placeOf(path)
  const value = valueAt(yaml.data, path)
  const where = path.length === 0 ? '' : `${path.map(String).join('.')}: `
  const one = (code: ProblemCode, message: string, suggestion?: string): readonly Problem[] => [
    { file, ...place, code, message: `${where}${message}`, ...(suggestion === undefined ? {} : { suggestion }) },
  ]
  switch (issue.code) {
    case 'unrecognized_keys': {
      const known = keysAt(name, path, yaml.data)
      return issue.keys.map((key) => ({
        file,
        ...yaml.placeOfKey(path, key),
        code: 'unknown_key' as const,
        message: `${where}unknown key ${JSON.stringify(key)}`,
        ...didYouMean(key, known),
      }))
    }
    case 'invalid_value':
      return value === undefined
        ? one('missing_key', `is missing: one of ${issue.values.join(', ')}`)
        : one(
            'bad_value',
            `${shown(value)} is not one of ${issue.values.join(', ')}`,
            didYouMean(String(value), issue.values.map(String)).suggestion,
          )
    case 'invalid_type': {
      if (value === undefined) return one('missing_key', 'is missing')
      const numeric = issue.expected === 'number' || issue.expected === 'int'
      // G8: text that looks like a number is not one.
      return one(numeric ? 'bad_limit' : 'bad_value', `${shown(value)} is not ${wordFor(issue.expected)}`)
    }
    case 'too_small':
    case 'too_big': {
      const bound = issue.code === 'too_small' ? issue.minimum : issue.maximum
      const side = issue.code === 'too_small' ? 'at least' : 'at most'
      if (issue.origin === 'number' || issue.origin === 'int')
        return one('bad_limit', `${shown(value)} must be ${side} ${bound}`)
      const unit = issue.origin === 'string' ? 'characters' : 'entries'
      return one('bad_value', `must have ${side} ${bound} ${unit}`)
    }
    case 'invalid_format':
      return one(
        issue.format === 'regex' ? 'bad_identifier' : 'bad_value',
        `${shown(value)} is ${plain(issue.message)}`,
      )
    case 'invalid_union': {
      // Of several forms the one that came nearest is meant; where none was recognised, say what could stand there.
      const nearest = issue.errors
        .filter((errors) => !errors.some((inner) => inner.path.length === 0 && inner.code === 'invalid_type'))
        .sort((a, b) => a.length - b.length)[0]
      if (nearest)
        return nearest.flatMap((inner) => problemsOf({ ...inner, path: [...path, ...inner.path] } as Issue, yaml, name))
      if ('discriminator' in issue) {
        const options = discriminators(name, path.slice(0, -1))
        return value === undefined
          ? one('missing_key', `is missing: one of ${options.join(', ')}`)
          : one(
              'bad_value',
              `${shown(value)} is not one of ${options.join(', ')}`,
              didYouMean(String(value), options).suggestion,
            )
      }
      return one('bad_value', `${shown(value)} is not in a form that is understood here`)
    }
    case 'invalid_key': {
      const key = String(path.at(-1) ?? '')
      const inner = issue.issues[0]
      return [
        {
          file,
          ...yaml.placeOfKey(path.slice(0, -1), key),
          code: 'bad_identifier',
          message: `${JSON.stringify(key)} is ${plain(inner?.message ?? 'not an identifier')}`,
        },
      ]
    }
    default:
      return one('bad_value', issue.message)
  }
}

const plain = (message: string): string => message.replace(/^Invalid /, 'not a valid ')

const shown = (value: unknown): string => {
  const text = JSON.stringify(value) ?? String(value)
  return text.length > 60 ? `${text.slice(0, 57)}…` : text
}

const wordFor = (expected: string): string =>
  ({
    int: 'a whole number',
    number: 'a number',
    string: 'text',
    boolean: 'true or false',
    object: 'a section',
    array: 'a list',
    record: 'a section',
  })[expected] ?? expected

function valueAt(data: unknown, path: readonly PropertyKey[]): unknown {
  let at = data
  for (const step of path) {
    if (typeof at !== 'object' || at === null || !Object.hasOwn(at, step)) return undefined
    at = (at as Record<PropertyKey, unknown>)[step]
  }
  return at
}

interface SchemaNode {
  readonly properties?: Readonly<Record<string, SchemaNode>>
  readonly additionalProperties?: SchemaNode | boolean
  readonly items?: SchemaNode
  readonly anyOf?: readonly SchemaNode[]
  readonly oneOf?: readonly SchemaNode[]
  readonly const?: unknown
}

/** The nodes of the JSON Schema that could describe what stands at `path`. */
function nodesAt(name: SchemaName, path: readonly PropertyKey[]): readonly SchemaNode[] {
  const branches = (node: SchemaNode): readonly SchemaNode[] => [
    node,
    ...[...(node.anyOf ?? []), ...(node.oneOf ?? [])].flatMap(branches),
  ]
  let nodes = branches(jsonSchemaOf(name) as SchemaNode)
  for (const step of path) {
    nodes = nodes.flatMap((node) => {
      const next =
        typeof step === 'number'
          ? node.items
          : (node.properties?.[String(step)] ??
            (typeof node.additionalProperties === 'object' ? node.additionalProperties : undefined))
      return next ? branches(next) : []
    })
  }
  return nodes
}

function keysAt(name: SchemaName, path: readonly PropertyKey[], data: unknown): readonly string[] {
  const value = valueAt(data, path)
  const kind = typeof value === 'object' && value !== null && 'kind' in value ? value.kind : undefined
  return nodesAt(name, path).flatMap((node) => {
    const fixed = node.properties?.['kind']?.const
    return fixed !== undefined && kind !== undefined && fixed !== kind ? [] : Object.keys(node.properties ?? {})
  })
}

const discriminators = (name: SchemaName, path: readonly PropertyKey[]): readonly string[] =>
  nodesAt(name, path).flatMap((node) =>
    typeof node.properties?.['kind']?.const === 'string' ? [node.properties['kind'].const] : [],
  )
