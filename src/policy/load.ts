/** Policy files in, a policy set out, or every problem with its place: a set that does not load changes nothing. */
import { readAnnotations } from './annotations.ts'
import type { Cedar, CedarFault, Expr, PolicyJson } from './cedar.ts'
import { effectGroup, operationId } from './identifier.ts'
import { createPolicySet, expressionsOf, type LoadedPolicy, type PolicySet, scopeEntity } from './policy-set.ts'
import { cutPolicies, POLICY_BOUNDS, placeOf } from './policy-text.ts'
import type { Problem, ProblemCode } from './problem.ts'
import { closedAttributes, renderPolicySchema, type Vocabulary } from './schema.ts'
import { didYouMean } from './suggest.ts'

export interface PolicyFile {
  readonly file: string
  readonly text: string
}

export type PolicyLoading =
  | { readonly ok: true; readonly set: PolicySet }
  | { readonly ok: false; readonly problems: readonly Problem[] }

export function loadPolicies(files: readonly PolicyFile[], vocabulary: Vocabulary, cedar: Cedar): PolicyLoading {
  const problems: Problem[] = []
  const policies: (LoadedPolicy & { readonly source: PolicyFile; readonly start: number })[] = []

  const report = (source: PolicyFile, offset: number, code: ProblemCode, message: string, suggestion?: string) =>
    problems.push({
      file: source.file,
      ...placeOf(source.text, offset),
      code,
      message,
      ...(suggestion === undefined ? {} : { suggestion }),
    })

  const totalBytes = files.reduce((sum, { text }) => sum + Buffer.byteLength(text), 0)
  if (totalBytes > POLICY_BOUNDS.totalBytes) {
    return {
      ok: false,
      problems: [tooLarge(files[0]!, `all policies together are above ${POLICY_BOUNDS.totalBytes} bytes`)],
    }
  }

  for (const source of files) {
    const cut = cutPolicies(source.text)
    if (!cut.ok) {
      report(source, cut.at, 'policy_too_large', cut.what, 'split it: several policies may decide together')
      continue
    }
    for (const { text, start } of cut.policies) {
      const parsed = cedar.parse(text)
      if (!parsed.ok) {
        report(source, start + parsed.fault.offset, 'policy_rejected', parsed.fault.message, parsed.fault.help)
        continue
      }
      const { json } = parsed
      const { annotations, faults } = readAnnotations(json.annotations ?? {}, json.effect)
      for (const fault of faults) {
        const at = fault.annotation === undefined ? 0 : Math.max(0, text.indexOf(`@${fault.annotation}`))
        report(source, start + at, fault.code, fault.message, fault.suggestion)
      }
      if (!annotations) continue
      const place = placeOf(source.text, start)
      policies.push({
        annotations,
        effect: json.effect,
        text,
        json,
        file: source.file,
        line: place.line,
        source,
        start,
      })
    }
  }
  if (policies.length > POLICY_BOUNDS.policies) {
    problems.push(tooLarge(files[0]!, `more than ${POLICY_BOUNDS.policies} policies`))
    return { ok: false, problems }
  }

  const byId = new Map<string, (typeof policies)[number]>()
  for (const policy of policies) {
    const { id } = policy.annotations
    const first = byId.get(id)
    if (first) {
      report(
        policy.source,
        policy.start,
        'duplicate',
        `the policy id "${id}" is already taken at ${first.file}:${first.line}`,
      )
    } else {
      byId.set(id, policy)
    }
  }

  const schema = renderPolicySchema(vocabulary)
  const texts = Object.fromEntries([...byId].map(([id, { text }]) => [id, text]))
  const refused = new Set<string>()
  for (const fault of cedar.check(schema, texts)) {
    const policy = byId.get(fault.policyId)
    // Only a schema that does not parse is nobody's fault in particular, and we wrote that one.
    if (!policy) throw new Error(`the derived policy schema is refused: ${fault.message}`)
    refused.add(fault.policyId)
    const { message, suggestion } = inOurWords(fault, policy.text, vocabulary)
    report(policy.source, policy.start + fault.offset, 'policy_rejected', message, suggestion)
  }
  for (const [id, policy] of byId) {
    if (refused.has(id)) continue
    for (const { code, message, suggestion, word } of neverApplies(policy.json, vocabulary)) {
      const at = word === undefined ? 0 : Math.max(0, policy.text.indexOf(JSON.stringify(word)))
      report(policy.source, policy.start + at, code, message, suggestion)
    }
  }

  return problems.length > 0 ? { ok: false, problems } : { ok: true, set: createPolicySet([...byId.values()], cedar) }
}

const tooLarge = ({ file }: PolicyFile, message: string): Problem => ({ file, code: 'policy_too_large', message })

function inOurWords(fault: CedarFault, text: string, vocabulary: Vocabulary): { message: string; suggestion?: string } {
  const unknown = /entity `(Agent|Tool)::"(.*)"` is of an enumerated entity type/.exec(fault.message)
  if (unknown) {
    const [, type, name] = unknown
    const known = type === 'Agent' ? vocabulary.agents : vocabulary.tools.map((tool) => tool.name)
    return { message: `there is no ${type!.toLowerCase()} "${name}" in the configuration`, ...didYouMean(name!, known) }
  }
  const action = /unrecognized action `Action::"(.*)"`/.exec(fault.message)
  if (action) {
    const known = vocabulary.tools
      .flatMap((tool) => [...tool.operations.values()])
      .map((operation) => effectGroup(operation.effect))
    for (const tool of vocabulary.tools)
      for (const name of tool.operations.keys()) known.push(operationId(tool.name, name))
    return {
      message: `there is no operation or effect "${action[1]}" in the configuration`,
      ...didYouMean(action[1]!, known),
    }
  }
  if (/policy is impossible|unable to find an applicable action/.test(fault.message)) {
    return {
      message: 'the policy can never apply: no request can satisfy it',
      suggestion: text.includes('Action::')
        ? 'compare its action and resource with config/tools/'
        : 'compare its conditions with one another',
    }
  }
  return { message: fault.message, ...(fault.help === undefined ? {} : { suggestion: fault.help }) }
}

interface Never {
  readonly code: ProblemCode
  readonly message: string
  readonly suggestion?: string
  readonly word?: string
}

/** What Cedar's validator cannot know: which operations a tool has, and which words an attribute can hold. */
function* neverApplies(json: PolicyJson, vocabulary: Vocabulary): Generator<Never> {
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

/** `context.subject.issuer` of nested accesses that begin at a variable. */
function attributePath(node: Expr | undefined): string | undefined {
  const names: string[] = []
  let at = node
  while (at && '.' in at && !Array.isArray(at['.'])) {
    names.unshift(at['.'].attr)
    at = at['.'].left
  }
  return names.length > 0 && at && 'Var' in at ? [at.Var, ...names].join('.') : undefined
}

function* literals(node: Expr): Generator<string> {
  if ('Value' in node && typeof node.Value === 'string') yield node.Value
  if ('like' in node && !Array.isArray(node.like) && Array.isArray(node.like.pattern)) {
    for (const part of node.like.pattern) if (typeof part === 'object') yield part.Literal
  }
}
