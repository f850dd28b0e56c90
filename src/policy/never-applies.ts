/** What Cedar's validator cannot know: which operations a tool has, which values an attribute can hold. */
import type { Expr, PolicyJson } from './cedar.ts'
import { attributePath, contradictions } from './contradictions.ts'
import { effectGroup, operationId } from './identifier.ts'
import { expressionsOf, scopeEntity } from './policy-set.ts'
import type { ProblemCode } from './problem.ts'
import { closedAttributes, type Vocabulary } from './schema.ts'
import { didYouMean } from './suggest.ts'

interface Never {
  readonly code: ProblemCode
  readonly message: string
  readonly suggestion?: string
  /** Where to look for it in the text: a word in quotes, or an attribute. */
  readonly word?: string
  readonly attribute?: string
}

export function* neverApplies(json: PolicyJson, vocabulary: Vocabulary): Generator<Never> {
  const agent = scopeEntity(json.principal)
  if (agent !== undefined && !vocabulary.agents.includes(agent)) {
    yield {
      code: 'policy_rejected',
      message: `there is no agent "${agent}" in the configuration`,
      word: agent,
      ...didYouMean(agent, vocabulary.agents),
    }
  }

  const tool = scopeEntity(json.resource)
  const inScope = vocabulary.tools.filter(({ name }) => tool === undefined || tool === name)
  const actions = scopeActions(json.action)
  if (actions) {
    for (const action of actions) {
      const reached = inScope.some(({ name, operations }) =>
        [...operations.values()].some(
          (operation) => action === operationId(name, operation.name) || action === effectGroup(operation.effect),
        ),
      )
      if (reached) continue
      yield {
        code: 'policy_rejected',
        message: `the policy can never apply to Action::"${action}": ${tool === undefined ? 'no tool has such an operation' : `the tool "${tool}" has no such operation`}`,
        word: action,
        ...didYouMean(
          action,
          inScope.flatMap(({ name, operations }) =>
            [...operations.keys()].map((operation) => operationId(name, operation)),
          ),
        ),
      }
    }
  } else if (tool !== undefined && inScope.every(({ operations }) => operations.size === 0)) {
    yield {
      code: 'policy_rejected',
      message: `the policy can never apply: the tool "${tool}" has no operations`,
      word: tool,
    }
  }

  const closed = closedAttributes(vocabulary)
  for (const node of expressionsOf(json)) {
    for (const { attribute, words } of comparisons(node)) {
      const admitted = closed[attribute]
      if (!admitted) continue
      for (const word of words) {
        if (admitted.includes(word)) continue
        yield {
          code: 'policy_rejected',
          message: `${attribute} is never ${JSON.stringify(word)}`,
          word,
          ...didYouMean(word, admitted),
        }
      }
    }
    for (const word of literals(node)) {
      if (/^[\u0020-\u007e]*$/.test(word)) continue
      yield {
        code: 'bad_identifier',
        message: `${JSON.stringify(word)} is compared with identifiers, which are ASCII`,
        word,
        suggestion: 'letters that look alike are different letters: type it anew',
      }
    }
  }

  for (const { attribute, message } of contradictions(json, closed))
    yield { code: 'policy_rejected', message: `the policy can never apply: ${message}`, attribute }
}

/** The actions a scope names; undefined where it admits all. */
function scopeActions(scope: PolicyJson['action']): readonly string[] | undefined {
  if (scope.op === 'All') return undefined
  const entities = 'entities' in scope ? scope.entities : 'entity' in scope ? [scope.entity] : []
  return entities.map((entity) => ('__entity' in entity ? entity.__entity.id : entity.id))
}

// A record literal may have members named like operators, so an operand is looked at before it is used.
/** Comparisons of one attribute of the context with literal words. */
function* comparisons(node: Expr): Generator<{ attribute: string; words: readonly string[] }> {
  const equal = '==' in node ? node['=='] : '!=' in node ? node['!='] : undefined
  if (equal && !Array.isArray(equal)) {
    for (const [one, other] of [
      [equal.left, equal.right],
      [equal.right, equal.left],
    ] as const) {
      const attribute = attributePath(one)
      if (attribute !== undefined && other && 'Value' in other && typeof other.Value === 'string')
        yield { attribute, words: [other.Value] }
    }
  }
  if ('contains' in node && !Array.isArray(node.contains)) {
    const attribute = attributePath(node.contains.right)
    const elements = node.contains.left && 'Set' in node.contains.left ? node.contains.left.Set : undefined
    if (attribute !== undefined && Array.isArray(elements))
      yield { attribute, words: elements.flatMap((element) => [...literals(element)]) }
  }
}

function* literals(node: Expr): Generator<string> {
  if ('Value' in node && typeof node.Value === 'string') yield node.Value
  if ('like' in node && !Array.isArray(node.like) && Array.isArray(node.like.pattern)) {
    for (const part of node.like.pattern) if (typeof part === 'object') yield part.Literal
  }
}
