/** The decision point: facts in, decision with its reasons out. Touches nothing: no clock, no store, no network. */
import type { Effect, Grant } from '@errand/verifier/claims.ts'
import { normalGrants } from '@errand/verifier/grants.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { type Authority, type Narrowing, narrow } from './authority.ts'
import type { CedarValueJson } from './cedar.ts'
import type { Decide, DecisionFacts, DecisionQuestion, Operand, OperationVerdict } from './decision.ts'
import { operationId } from './identifier.ts'
import type { PolicySet } from './policy-set.ts'
import { stageAllows, stageFor } from './stage.ts'
import { didYouMean } from './suggest.ts'
import type { Operation, Tool } from './tool.ts'

interface Judged {
  readonly verdict: OperationVerdict
  readonly kept: readonly Grant[]
}

export const createDecide =
  (policies: PolicySet): Decide =>
  (question) => {
    const context = contextOf(question.facts)
    const judged = candidatesOf(question).map((asked) => judge(asked, question, context, policies))
    const verdicts = judged.map(({ verdict }) => verdict)
    const permitted = normalGrants(judged.flatMap(({ kept }) => kept))

    const determining = [...new Set(verdicts.flatMap((verdict) => verdict.policies))].sort()
    // Only permits that something permitted rests on oblige.
    const obliging = new Set(verdicts.filter(({ permitted }) => permitted).flatMap((verdict) => verdict.policies))
    let maxLifetimeSeconds: number | undefined
    let senderConstraint: 'dpop' | 'mtls' | undefined
    for (const id of obliging) {
      const annotations = policies.policies.get(id)?.annotations
      if (annotations?.ttlSeconds !== undefined)
        maxLifetimeSeconds = Math.min(maxLifetimeSeconds ?? annotations.ttlSeconds, annotations.ttlSeconds)
      senderConstraint ??= annotations?.senderConstraint
    }

    return {
      permitted,
      verdicts,
      allowed: question.requested
        ? verdicts.length > 0 && verdicts.every((verdict) => verdict.permitted)
        : permitted.length > 0,
      obligations: {
        ...(maxLifetimeSeconds === undefined ? {} : { maxLifetimeSeconds }),
        ...(senderConstraint === undefined ? {} : { senderConstraint }),
      },
      policies: determining,
      policyDigest: policies.digest,
    }
  }

/** What is asked, by operation: several constraints on one operation are one question. */
function candidatesOf({ requested, tools }: DecisionQuestion): readonly (readonly Grant[])[] {
  if (!requested) {
    return tools.flatMap((tool) => [...tool.operations.keys()].map((operation) => [{ tool: tool.name, operation }]))
  }
  const byOperation = new Map<string, Grant[]>()
  for (const grant of requested) {
    const key = operationId(grant.tool, grant.operation)
    byOperation.set(key, [...(byOperation.get(key) ?? []), grant])
  }
  return [...byOperation.values()]
}

function judge(
  asked: readonly Grant[],
  { facts, tools, operands }: DecisionQuestion,
  context: Readonly<Record<string, CedarValueJson>>,
  policies: PolicySet,
): Judged {
  const { tool: toolName, operation: operationName } = asked[0]!
  const named = { tool: toolName, operation: operationName }
  const tool = tools.find(({ name }) => name === toolName)
  const operation = tool?.operations.get(operationName)
  const lost = (lostAt: Operand, leastChange: string, determining: readonly string[] = []): Judged => ({
    kept: [],
    verdict: {
      ...named,
      ...(operation ? { effect: operation.effect } : {}),
      permitted: false,
      lostAt,
      policies: determining,
      reasons: reasonsOf(determining, policies),
      leastChange,
    },
  })
  if (!tool || !operation) return lost('tool', missingOperation(named, tool))

  const own = (grants: readonly Grant[]) =>
    grants.filter((grant) => grant.tool === toolName && grant.operation === operationName)
  const narrowings: Narrowing[] = [{ operand: 'tool', grants: [grantOf(toolName, operation)] }]
  if (operands.subject) narrowings.push({ operand: 'subject', grants: own(operands.subject) })
  narrowings.push({ operand: 'ceiling', grants: own(operands.ceiling) })
  narrowings.push({ operand: 'stage', grants: stageAllows(facts.agent.stage, operation.effect) ? [named] : [] })
  if (operands.task) narrowings.push({ operand: 'task', grants: own(operands.task) })
  if (operands.parent) narrowings.push({ operand: 'parent', grants: own(operands.parent) })
  const authority = narrow(asked, narrowings)
  if ('lostAt' in authority) return lost(authority.lostAt, changeFor(authority, named, operation.effect, facts, tool))

  const answer = policies.evaluate({
    agent: facts.agent.clientId,
    tool: toolName,
    operation: operationName,
    effect: operation.effect,
    context: { ...context, effect: operation.effect },
    now: facts.now,
  })
  if (answer.errors.length > 0) {
    return lost(
      'policy',
      `mend ${quoted(answer.errors)}: it could not be evaluated, and what cannot be evaluated is denied`,
      answer.errors,
    )
  }
  if (!answer.allowed) {
    return answer.determining.length > 0
      ? lost(
          'policy',
          `forbid ${quoted(answer.determining)} decided: its conditions must no longer hold, or it must change`,
          answer.determining,
        )
      : lost(
          'policy',
          `add a permit policy for principal Agent::"${facts.agent.clientId}", action Action::"${operationId(toolName, operationName)}", resource Tool::"${toolName}" in this context`,
        )
  }
  const unmet = answer.determining.filter((id) => {
    const required = policies.policies.get(id)?.annotations.senderConstraint
    return required !== undefined && required !== facts.senderConstraint
  })
  if (unmet.length > 0) {
    const required = policies.policies.get(unmet[0]!)!.annotations.senderConstraint
    return lost(
      'policy',
      `ask with ${required === 'mtls' ? 'a client certificate (mTLS)' : 'a DPoP proof'}: ${quoted(unmet)} requires it`,
      unmet,
    )
  }
  return {
    kept: authority.kept,
    verdict: {
      ...named,
      effect: operation.effect,
      permitted: true,
      policies: answer.determining,
      reasons: reasonsOf(answer.determining, policies),
    },
  }
}

const grantOf = (tool: string, { name, arguments: constraints }: Operation): Grant =>
  constraints === undefined ? { tool, operation: name } : { tool, operation: name, constraints }

const quoted = (ids: readonly string[]): string => ids.map((id) => `\`${id}\``).join(', ')

const reasonsOf = (ids: readonly string[], policies: PolicySet): readonly string[] =>
  ids.flatMap((id) => policies.policies.get(id)?.annotations.reason ?? [])

function contextOf(facts: DecisionFacts): Readonly<Record<string, CedarValueJson>> {
  const { agent, attestation, subject, task } = facts
  return {
    stage: agent.stage,
    tier: attestation.tier,
    attestation: attestation.kind,
    ...(attestation.release === undefined ? {} : { release: attestation.release }),
    environment: task.environment,
    data_classification: task.dataClassification,
    autonomous: subject.autonomous,
    depth: task.depth,
    sender_constraint: facts.senderConstraint,
    subject: {
      id: subject.id,
      issuer: subject.issuer,
      groups: [...subject.groups],
      claims: Object.fromEntries(
        // Cedar has no fractions: a claim with one is no fact that a policy could read.
        Object.entries(subject.claims).flatMap(([name, value]): [string, CedarValueJson][] => {
          if (typeof value === 'object') return [[name, [...value]]]
          return typeof value === 'number' && !Number.isSafeInteger(value) ? [] : [[name, value]]
        }),
      ),
    },
  }
}

function missingOperation({ tool: toolName, operation }: Grant, tool: Tool | undefined): string {
  if (!tool) return `\`${toolName}\` is not the tool that this token is for: ask with its own resource`
  const meant = didYouMean(operation, tool.operations.keys()).suggestion
  return `\`${operationId(toolName, operation)}\` is not an operation of ${tool.file}${meant === undefined ? '' : `: ${meant}`}`
}

/**
 * The least change that would permit it, as a sentence. It is told to agents that never saw the user's token, and stands
 * in the audit log in clear: who the user is, and in which groups, is not for them.
 */
function changeFor(
  { lostAt, part }: Extract<Authority, { lostAt: Operand }>,
  { tool: toolName, operation }: Grant,
  effect: Effect,
  { agent, subject }: DecisionFacts,
  tool: Tool,
): string {
  const scope = `\`${operationId(toolName, operation)}\``
  const asksLess = part === 'arguments' ? `ask for fewer arguments of ${scope}, or ` : ''
  switch (lostAt) {
    case 'tool':
      return `ask for arguments of ${scope} that its schema in ${tool.file} admits`
    case 'subject':
      return part === 'arguments'
        ? `${asksLess}widen its constraints in the rights of the user's groups at issuer \`${subject.issuer}\``
        : `give ${scope} to one of the user's groups in the rights of issuer \`${subject.issuer}\` in config/issuers/`
    case 'ceiling':
      return part === 'arguments'
        ? `${asksLess}widen its constraints in the ceiling in ${agent.file}`
        : `add ${scope} to the ceiling in ${agent.file}`
    case 'stage':
      return stageChange(scope, effect, agent)
    case 'task':
      return `${asksLess}open a task whose authority includes ${scope}`
    case 'parent':
      return `${asksLess}have the hand-over include ${scope}: a child never holds more than its parent`
    case 'policy':
      return `add a permit policy for ${scope}`
  }
}

function stageChange(scope: string, effect: Effect, agent: AgentRegistration): string {
  const stage = stageFor(effect)
  return stage === undefined
    ? `${scope} is \`${effect}\`, which no stage permits: it needs an approval`
    : `raise \`stage\` from \`${agent.stage}\` to \`${stage}\` in ${agent.file}: ${scope} is \`${effect}\``
}
