/**
 * Finds conditions that no request can satisfy: what is said of one attribute in a conjunction, against the values that
 * the attribute can have and against the rest of what is said of it. Alternatives within it (`||`, `if`) are not looked
 * into, nor are two attributes compared: what is found is never wrong, and not all that is wrong is found.
 */
import type { Expr, PolicyJson } from './cedar.ts'

type Literal = string | number | boolean
type Comparison = '==' | '!=' | '<' | '<=' | '>' | '>='

/** What one part of a conjunction says of one attribute. */
interface Said {
  readonly attribute: string
  readonly holds: (value: Literal) => boolean
  /** Values at which it may change from false to true: to try all of them is to try everything. */
  readonly about: readonly Literal[]
}

interface Contradiction {
  readonly attribute: string
  readonly message: string
}

/** Whole numbers that an attribute can be: a chain has four agents at most. */
const RANGES: Readonly<Record<string, readonly [least: number, greatest: number]>> = {
  'context.depth': [1, 4],
  'context.hour_utc': [0, 23],
  'context.weekday_utc': [1, 7],
}

const NEGATED = { '==': '!=', '!=': '==', '<': '>=', '<=': '>', '>': '<=', '>=': '<' } as const
const MIRRORED = { '==': '==', '!=': '!=', '<': '>', '<=': '>=', '>': '<', '>=': '<=' } as const
const COMPARISONS = Object.keys(NEGATED) as readonly Comparison[]

export function* contradictions(
  json: PolicyJson,
  words: Readonly<Record<string, readonly string[]>>,
): Generator<Contradiction> {
  const said = new Map<string, Said[]>()
  for (const { kind, body } of json.conditions)
    for (const one of conjuncts(body, kind === 'when'))
      said.set(one.attribute, [...(said.get(one.attribute) ?? []), one])
  for (const [attribute, all] of said) {
    const range = RANGES[attribute]
    // A word that an attribute never holds is told by itself: here it counts as one that it might.
    const values = range
      ? Array.from({ length: range[1] - range[0] + 1 }, (_, index) => range[0] + index)
      : words[attribute]
        ? [...words[attribute], ...all.flatMap(({ about }) => about)]
        : candidates(all)
    if (values.some((value) => all.every(({ holds }) => holds(value)))) continue
    const alone = range && all.some(({ holds }) => !values.some(holds))
    yield {
      attribute,
      message: alone ? `${attribute} is ${range[0]} to ${range[1]}` : `what it says of ${attribute} contradicts itself`,
    }
  }
}

/** One value of each kind that the comparisons can tell apart, where the attribute may be anything of its type. */
function candidates(all: readonly Said[]): readonly Literal[] {
  const about = all.flatMap((one) => one.about)
  const [first] = about
  if (typeof first === 'boolean') return [true, false]
  if (typeof first === 'number')
    return about.flatMap((value) => (typeof value === 'number' ? [value - 1, value, value + 1] : []))
  // Longer than all of them, so none of them.
  return [...about, `${about.join('')}?`]
}

/** The parts that must all hold for `node` to be `wanted`, as far as they speak of one attribute each. */
function* conjuncts(node: Expr | undefined, wanted: boolean): Generator<Said> {
  if (!node) return
  const both = wanted ? '&&' : '||'
  const pair = operands(node, both)
  if (pair) {
    yield* conjuncts(pair.left, wanted)
    yield* conjuncts(pair.right, wanted)
    return
  }
  if ('!' in node && !Array.isArray(node['!'])) {
    yield* conjuncts(node['!'].arg, !wanted)
    return
  }
  const itself = attributePath(node)
  if (itself !== undefined) {
    yield { attribute: itself, holds: (value) => value === wanted, about: [wanted] }
    return
  }
  const list = operands(node, 'contains')
  const elements = list?.left && 'Set' in list.left ? list.left.Set : undefined
  if (list && Array.isArray(elements)) {
    const attribute = attributePath(list.right)
    const among = elements.map(literalOf)
    if (attribute !== undefined && among.every((one) => one !== undefined))
      yield { attribute, holds: (value) => among.includes(value) === wanted, about: among }
    return
  }
  for (const operator of COMPARISONS) {
    const compared = operands(node, operator)
    if (!compared) continue
    for (const [one, other, as] of [
      [compared.left, compared.right, operator],
      [compared.right, compared.left, MIRRORED[operator]],
    ] as const) {
      const attribute = attributePath(one)
      const literal = literalOf(other)
      if (attribute === undefined || literal === undefined) continue
      const meant = wanted ? as : NEGATED[as]
      yield { attribute, holds: (value) => compare(value, meant, literal), about: [literal] }
    }
  }
}

function compare(value: Literal, operator: Comparison, literal: Literal): boolean {
  switch (operator) {
    case '==':
      return value === literal
    case '!=':
      return value !== literal
    case '<':
      return value < literal
    case '<=':
      return value <= literal
    case '>':
      return value > literal
    case '>=':
      return value >= literal
  }
}

// A record literal may have members named like operators, so an operand is looked at before it is used.
function operands(node: Expr, operator: Comparison | '&&' | '||' | 'contains') {
  const found = (node as Readonly<Record<string, unknown>>)[operator]
  return found !== undefined && !Array.isArray(found)
    ? (found as { readonly left?: Expr; readonly right?: Expr })
    : undefined
}

function literalOf(node: Expr | undefined): Literal | undefined {
  const value = node && 'Value' in node ? node.Value : undefined
  return typeof value === 'string' || typeof value === 'boolean' || Number.isSafeInteger(value)
    ? (value as Literal)
    : undefined
}

/** `context.subject.issuer` of nested accesses that begin at a variable. */
export function attributePath(node: Expr | undefined): string | undefined {
  const names: string[] = []
  let at = node
  while (at && '.' in at && !Array.isArray(at['.'])) {
    names.unshift(at['.'].attr)
    at = at['.'].left
  }
  return names.length > 0 && at && 'Var' in at ? [at.Var, ...names].join('.') : undefined
}
