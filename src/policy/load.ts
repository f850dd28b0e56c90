/** Policy files in, a policy set out, or every problem with its place: a set that does not load changes nothing. */
import { readAnnotations } from './annotations.ts'
import type { Cedar, CedarFault } from './cedar.ts'
import { effectGroup, operationId } from './identifier.ts'
import { neverApplies } from './never-applies.ts'
import { createPolicySet, type LoadedPolicy, type PolicySet } from './policy-set.ts'
import { cutPolicies, POLICY_BOUNDS, placeOf } from './policy-text.ts'
import type { Problem, ProblemCode } from './problem.ts'
import { renderPolicySchema, type Vocabulary } from './schema.ts'
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
  // Cedar tells them in no order.
  const order = [...byId.keys()]
  const faults = [...cedar.check(schema, texts)].sort((a, b) => order.indexOf(a.policyId) - order.indexOf(b.policyId))
  for (const fault of faults) {
    const policy = byId.get(fault.policyId)
    // Only a schema that does not parse is nobody's fault in particular, and we wrote that one.
    if (!policy) throw new Error(`the derived policy schema is refused: ${fault.message}`)
    refused.add(fault.policyId)
    const { message, suggestion } = inOurWords(fault, policy.text, vocabulary)
    report(policy.source, policy.start + fault.offset, 'policy_rejected', message, suggestion)
  }
  for (const [id, policy] of byId) {
    if (refused.has(id)) continue
    for (const { code, message, suggestion, word, attribute } of neverApplies(policy.json, vocabulary)) {
      const said = word === undefined ? attribute : JSON.stringify(word)
      const at = said === undefined ? 0 : Math.max(0, policy.text.indexOf(said))
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
