/** The decision point: facts in, decision with its reasons out. Touches nothing: no clock, no store, no network. */
import type { Constraint, Grant } from '@errand/verifier/claims.ts'
import { meetGrants, normalGrants } from '@errand/verifier/grants.ts'
import { platformPrincipal } from '../attest/platform.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import type { NextAction } from '../oauth/refusals/words.ts'
import { type Authority, type Narrowing, narrow } from './authority.ts'
import type { CedarValueJson } from './cedar.ts'
import {
  type Decide,
  type DecisionFacts,
  type DecisionQuestion,
  type Loss,
  OPERANDS,
  type Operand,
  type OperationVerdict,
} from './decision.ts'
import { operationId } from './identifier.ts'
import { actionFor, changeFor, missingOperation } from './least-change.ts'
import type { PolicySet } from './policy-set.ts'
import { rememberDecisions } from './remembered-decisions.ts'
import { stageAllows } from './stage.ts'
import type { Operation } from './tool.ts'

interface Judged {
  readonly verdict: OperationVerdict
  readonly kept: readonly Grant[]
}

/** Operations of one question that are judged at every operand; of the others the first loss is known. */
const MOST_WHOLE = 32

export const createDecide = (policies: PolicySet): Decide => {
  const decide: Decide = (question) => {
    const context = contextOf(question.facts)
    const signs = signsOf(question)
    const { whole: _, ...short } = question
    const judged = candidatesOf(question).map((asked, at) =>
      judge(asked, at < MOST_WHOLE ? question : short, context, policies, signs),
    )
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

    const allowed = question.requested
      ? verdicts.length > 0 && verdicts.every((verdict) => verdict.permitted)
      : permitted.length > 0
    const narrower = question.whole && question.requested && !allowed ? narrowed(question, judged, decide) : undefined

    return {
      permitted,
      verdicts,
      allowed,
      ...(narrower ? { narrower } : {}),
      obligations: {
        ...(maxLifetimeSeconds === undefined ? {} : { maxLifetimeSeconds }),
        ...(senderConstraint === undefined ? {} : { senderConstraint }),
      },
      policies: determining,
      policyDigest: policies.digest,
    }
  }
  return rememberDecisions(decide, ({ facts, tools }) =>
    tools
      .map(({ name }) => policies.timesRead(principalOf(facts.agent), name, facts.now, facts.attestation.issuedAt))
      .join(),
  )
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
  { facts, tools, operands, whole }: DecisionQuestion,
  context: Readonly<Record<string, CedarValueJson>>,
  policies: PolicySet,
  signs: string,
): Judged {
  const { tool: toolName, operation: operationName } = asked[0]!
  const named = { tool: toolName, operation: operationName }
  const tool = tools.find(({ name }) => name === toolName)
  const operation = tool?.operations.get(operationName)
  const lost = (losses: readonly [Loss, ...Loss[]], determining: readonly string[] = []): Judged => ({
    kept: [],
    verdict: {
      ...named,
      ...(operation ? { effect: operation.effect } : {}),
      permitted: false,
      lostAt: losses[0].operand,
      policies: determining,
      reasons: reasonsOf(determining, policies),
      leastChange: losses[0].leastChange,
      passed: passedBut(signs, losses, whole === true && operation !== undefined),
      losses,
    },
  })
  if (!tool || !operation) {
    return lost([{ operand: 'tool', leastChange: missingOperation(named, tool), action: 'fix_request' }])
  }

  const own = (grants: readonly Grant[]) =>
    grants.filter((grant) => grant.tool === toolName && grant.operation === operationName)
  const narrowings: Narrowing[] = [{ operand: 'tool', grants: [grantOf(toolName, operation)] }]
  if (operands.subject) narrowings.push({ operand: 'subject', grants: own(operands.subject) })
  narrowings.push({ operand: 'ceiling', grants: own(operands.ceiling) })
  narrowings.push({ operand: 'stage', grants: stageAllows(facts.agent.stage, operation.effect) ? [named] : [] })
  if (operands.task) narrowings.push({ operand: 'task', grants: own(operands.task) })
  if (operands.parent) narrowings.push({ operand: 'parent', grants: own(operands.parent) })
  const lossIn = (authority: Authority): Loss | undefined =>
    'kept' in authority
      ? undefined
      : {
          operand: authority.lostAt,
          ...hadAt(authority, narrowings, facts.agent),
          leastChange: changeFor(authority, named, { effect: operation.effect, file: tool.file }, facts),
          action: actionFor(authority),
        }

  const authority = narrow(asked, narrowings)
  const first = lossIn(authority)
  if (first && !whole) return lost([first])
  const answer = policyOn(named, operation, facts, context, policies)
  const constraints = whole ? { constraints: constraintsIn(narrowings) } : {}
  if ('kept' in authority && !answer.loss) {
    return {
      kept: authority.kept,
      verdict: {
        ...named,
        effect: operation.effect,
        permitted: true,
        policies: answer.determining,
        reasons: reasonsOf(answer.determining, policies),
        passed: signs,
        losses: [],
        ...constraints,
      },
    }
  }
  // Where it was lost first is where all operands up to there together leave nothing; the others each for itself.
  const others = whole
    ? narrowings.flatMap((narrowing) =>
        narrowing.operand === first?.operand ? [] : (lossIn(narrow(asked, [narrowing])) ?? []),
      )
    : []
  const losses = [...(first ? [first] : []), ...others, ...(answer.loss ? [answer.loss] : [])]
  losses.sort((a, b) => OPERANDS.indexOf(a.operand) - OPERANDS.indexOf(b.operand))
  const { kept, verdict } = lost(losses as [Loss, ...Loss[]], first ? [] : answer.determining)
  return { kept, verdict: { ...verdict, ...constraints } }
}

/** What policy says of it: the policies that determined the answer, and what would have to change where it is no. */
function policyOn(
  { tool, operation: name }: Pick<Grant, 'tool' | 'operation'>,
  { effect }: Operation,
  facts: DecisionFacts,
  context: Readonly<Record<string, CedarValueJson>>,
  policies: PolicySet,
): { readonly determining: readonly string[]; readonly loss?: Loss } {
  const principal = principalOf(facts.agent)
  const answer = policies.evaluate({
    agent: principal,
    tool,
    operation: name,
    effect,
    context: { ...context, effect },
    now: facts.now,
    ...releaseOf(facts),
  })
  const no = (determining: readonly string[], leastChange: string, action: NextAction = 'ask_person') => ({
    determining,
    loss: { operand: 'policy' as const, leastChange, action },
  })
  if (answer.errors.length > 0) {
    return no(
      answer.errors,
      `mend ${quoted(answer.errors)}: it could not be evaluated, and what cannot be evaluated is denied`,
    )
  }
  if (!answer.allowed) {
    return answer.determining.length > 0
      ? no(
          answer.determining,
          `forbid ${quoted(answer.determining)} decided: its conditions must no longer hold, or it must change`,
        )
      : no(
          [],
          `add a permit policy for principal Agent::"${principal}", action Action::"${operationId(tool, name)}", resource Tool::"${tool}" in this context`,
        )
  }
  const unmet = answer.determining.filter((id) => {
    const required = policies.policies.get(id)?.annotations.senderConstraint
    return required !== undefined && required !== facts.senderConstraint
  })
  if (unmet.length === 0) return { determining: answer.determining }
  const required = policies.policies.get(unmet[0]!)!.annotations.senderConstraint
  return required === 'mtls'
    ? no(unmet, `ask with a client certificate (mTLS): ${quoted(unmet)} requires it`, 'fix_request')
    : no(unmet, `ask with a DPoP proof: ${quoted(unmet)} requires it`, 'prove_again')
}

/** One sign for each operand, of what is lost nowhere. */
function signsOf({ operands }: DecisionQuestion): string {
  const there = { subject: operands.subject, task: operands.task, parent: operands.parent }
  return OPERANDS.map((operand) => (operand in there && !there[operand as keyof typeof there] ? '-' : '1')).join('')
}

function passedBut(signs: string, losses: readonly [Loss, ...Loss[]], whole: boolean): string {
  const first = OPERANDS.indexOf(losses[0].operand)
  return OPERANDS.map((operand, at) => {
    if (losses.some((loss) => loss.operand === operand)) return '0'
    return at > first && !whole && signs[at] === '1' ? '.' : signs[at]!
  }).join('')
}

/** What is there instead of what was asked for. The user's rights are not told, nor is what was lost altogether. */
function hadAt(
  { lostAt, part }: Extract<Authority, { lostAt: Operand }>,
  narrowings: readonly Narrowing[],
  agent: AgentRegistration,
): Pick<Loss, 'had'> {
  if (lostAt === 'stage') return { had: agent.stage }
  if (part === 'operation' || lostAt === 'subject') return {}
  const had = constraintsIn(narrowings)[lostAt]
  return had ? { had } : {}
}

function constraintsIn(narrowings: readonly Narrowing[]): Partial<Record<Operand, readonly Constraint[]>> {
  const found: Partial<Record<Operand, readonly Constraint[]>> = {}
  for (const { operand, grants } of narrowings) {
    const own = grants.flatMap(({ constraints }) => constraints ?? [])
    if (own.length > 0) found[operand] = own
  }
  return found
}

/**
 * The most of what was asked for that would be granted if it were asked alone: operations as they are, and where only
 * arguments were lost, the arguments that are left.
 */
function narrowed(question: DecisionQuestion, judged: readonly Judged[], again: Decide): readonly Grant[] | undefined {
  const { requested = [], whole: _, ...rest } = question
  const kept = judged.flatMap(({ kept }) => kept)
  const bounded = new Set(
    judged.flatMap(({ verdict }) =>
      verdict.losses.every(({ action }) => action === 'ask_narrower')
        ? [operationId(verdict.tool, verdict.operation)]
        : [],
    ),
  )
  const free = requested.filter(({ tool, operation }) => bounded.has(operationId(tool, operation)))
  const wider = again({ ...rest, requested: free.map(({ tool, operation }) => ({ tool, operation })) }).permitted
  const left = normalGrants([
    ...requested.filter((grant) => kept.some((each) => each.tool === grant.tool && each.operation === grant.operation)),
    ...meetGrants(free, wider),
  ])
  return left.length > 0 && again({ ...rest, requested: left }).allowed ? left : undefined
}

/** Policies speak of agents that are registered, and of platforms: no file names the agents of these. */
const principalOf = ({ clientId, platform }: AgentRegistration): string =>
  platform === undefined ? clientId : platformPrincipal(platform)

const grantOf = (tool: string, { name, arguments: constraints }: Operation): Grant =>
  constraints === undefined ? { tool, operation: name } : { tool, operation: name, constraints }

const quoted = (ids: readonly string[]): string => ids.map((id) => `\`${id}\``).join(', ')

const reasonsOf = (ids: readonly string[], policies: PolicySet): readonly string[] =>
  ids.flatMap((id) => policies.policies.get(id)?.annotations.reason ?? [])

/** Only for policies that read them: a release has thousands of parts, and an age is another each second. */
function releaseOf({ agent, attestation }: DecisionFacts) {
  const release = attestation.release === undefined ? undefined : agent.release?.registered.get(attestation.release)
  return {
    ...(release === undefined ? {} : { release }),
    ...(attestation.issuedAt === undefined ? {} : { evidenceAt: attestation.issuedAt }),
  }
}

function contextOf(facts: DecisionFacts): Readonly<Record<string, CedarValueJson>> {
  const { agent, attestation, subject, task } = facts
  return {
    stage: agent.stage,
    tier: attestation.tier,
    attestation: attestation.kind,
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
