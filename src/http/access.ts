/** AuthZEN 1.0: `POST /access/v1/evaluation` and `/access/v1/evaluations`; asks policy, issues nothing. */
import { EVIDENCE_TIERS, type Grant } from '@errand/verifier/claims.ts'
import { trustDomainOf } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import type { AgentRegistration } from '../attest/registration.ts'
import { newDecisionId } from '../audit/ids.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { explainDecision } from '../exchange/explain.ts'
import { wholeRowsOf } from '../exchange/intersection.ts'
import { reachOf, withinReach } from '../exchange/reach.ts'
import { explanationDetails } from '../exchange/record.ts'
import { explained } from '../oauth/explanation.ts'
import { type Reason, refuse } from '../oauth/refusal.ts'
import { stepFor } from '../oauth/refusals/all.ts'
import type { Decision, DecisionFacts, DecisionQuestion } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { isId } from '../tasks/ids.ts'
import { CLASSIFICATIONS, ENVIRONMENTS, type SubjectFacts, stateAt, type Task } from '../tasks/task.ts'
import type { RevocationAnswer } from '../tokens/revocations.ts'
import { jsonOf } from './body.ts'
import { pageOf } from './refusal-response.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const name = z.string().min(1).max(256)
const subject = z.looseObject({ type: name, id: name })
const action = z.looseObject({ name })
const resource = z.looseObject({ type: name, id: name })
const context = z.looseObject({
  task_id: z.string().max(64).optional(),
  environment: z.enum(ENVIRONMENTS).optional(),
  data_classification: z.enum(CLASSIFICATIONS).optional(),
  on_behalf_of: z
    .strictObject({
      issuer: name.describe('Our name of the user issuer'),
      id: name.describe("The user's sub").optional(),
      groups: z.array(z.string().max(256)).max(100).optional(),
    })
    .describe('The user, as its token would describe it; without it and task_id the agent is asked about for itself')
    .optional(),
})
const evaluation = z.looseObject({ subject, action, resource, context: context.optional() })
const evaluations = z.looseObject({
  subject: subject.optional(),
  action: action.optional(),
  resource: resource.optional(),
  context: context.optional(),
  evaluations: z
    .array(
      z.looseObject({
        subject: subject.optional(),
        action: action.optional(),
        resource: resource.optional(),
        context: context.optional(),
      }),
    )
    .max(100)
    .optional(),
  options: z
    .looseObject({
      evaluations_semantic: z.enum(['execute_all', 'deny_on_first_deny', 'permit_on_first_permit']).optional(),
    })
    .optional(),
})

type Evaluation = z.infer<typeof evaluation>

const answerSchema = z.looseObject({ decision: z.boolean(), context: z.looseObject({}).optional() })

/** An agent may ask about itself, a tool about itself as a resource, an administrator about anybody. */
function mayAsk({ caller }: Call, question: Evaluation): boolean {
  switch (caller?.kind) {
    case 'admin':
      return true
    case 'agent':
      return question.subject.id === caller.proven.attested.agent.clientId
    case 'tool':
      return (
        `tool:${question.resource.id}` === caller.client.clientId || question.resource.id === caller.client.audience
      )
    default:
      return false
  }
}

async function decideOne(call: Call, question: Evaluation) {
  const { deps } = call
  const snapshot = deps.snapshot()
  const decisionId = newDecisionId(deps.audit.logId, deps.nowMs())
  const no = async (reason: Reason, about?: { readonly agent: string; readonly rule?: string }) => {
    await deps.audit.append({
      type: 'decision.evaluated',
      decision: 'refuse',
      reason,
      decisionId,
      ...(about ? { agent: about.agent } : {}),
      ...(about?.rule === undefined ? {} : { rules: [about.rule] }),
      by: nameOf(call),
      correlation: call.wire.correlation,
    })
    const { action, next } = stepFor({ reason, slot: 'request' })
    return {
      decision: false,
      context: {
        id: decisionId,
        reason,
        error_uri: pageOf(snapshot.settings.issuer, reason),
        next_action: action,
        next,
      },
    }
  }
  const { subject, resource, context } = question
  const agent = subject.type === 'agent' ? snapshot.agents.byClientId(subject.id) : undefined
  // What does not exist and what one may not know of are one answer (D21).
  if (!agent || agent.disabled || resource.type !== 'tool' || !mayAsk(call, question)) return no('not_permitted')
  const byAgent = call.caller?.kind === 'agent'
  const tools = byAgent ? reachOf(snapshot.tools, agent.ceiling) : snapshot.tools
  const tool = tools.byName(resource.id) ?? tools.byAudience(resource.id)
  if (!tool && !byAgent) return no('not_permitted')

  const task = isId('task', context?.task_id) ? await deps.tasks.get(context.task_id) : undefined
  if (context?.task_id !== undefined && (task?.agent !== agent.clientId || stateAt(task, deps.now()) !== 'active')) {
    return no('task_not_active', { agent: agent.clientId })
  }
  const subjectFacts = task ? task.subject : asIfFor(snapshot, agent, context?.on_behalf_of)
  if (!subjectFacts) return no('untrusted_issuer', { agent: agent.clientId })
  if (subjectFacts.autonomous && !agent.autonomous) return no('grant_not_allowed', { agent: agent.clientId })
  const named = tool?.name ?? resource.id
  const asked: Grant = { tool: named, operation: question.action.name.replace(`${named}:`, '') }
  const banned = await banOn(call, agent, { task, tool, subject: subjectFacts.id })
  if (banned) return no(banned.suspended ? 'suspended' : 'banned', { agent: agent.clientId, rule: banned.entry })
  const whole = tool
    ? judge(call, question, { agent, tool, task, subject: subjectFacts, asked })
    : beyondReach(snapshot, asked)
  const decision = byAgent ? withinReach(whole, agent, true) : whole
  const explanation = explainDecision(decision, { askedIn: 'request' })
  await deps.audit.append({
    type: 'decision.evaluated',
    decision: decision.allowed ? 'permit' : 'refuse',
    decisionId,
    agent: agent.clientId,
    ...(task ? { task: task.id, subject: task.subject.id } : {}),
    ...(tool ? { tool: tool.name } : {}),
    operations: decision.verdicts.map((each) => each.operation),
    rules: decision.policies,
    correlation: call.wire.correlation,
    details: { ...explanationDetails({ explanation }), ...wholeRowsOf(decision) },
  })
  const [verdict] = decision.verdicts
  return {
    decision: decision.allowed,
    context: {
      id: decisionId,
      policies: decision.policies,
      ...explained(explanation),
      ...(verdict?.lostAt === undefined ? {} : { lost_at: verdict.lostAt }),
      ...(verdict?.leastChange === undefined ? {} : { reason_admin: { en: verdict.leastChange } }),
      ...(verdict && verdict.reasons.length > 0 ? { reason_user: { en: verdict.reasons.join('; ') } } : {}),
    },
  }
}

interface Asked {
  readonly agent: AgentRegistration
  readonly tool: Tool
  readonly task: Task | undefined
  readonly subject: SubjectFacts
  readonly asked: Grant
}

function judge(call: Call, { context }: Evaluation, { agent, tool, task, subject, asked }: Asked): Decision {
  const snapshot = call.deps.snapshot()
  const question: DecisionQuestion = {
    tools: [tool],
    requested: [asked],
    operands: operands(snapshot, agent, task, subject),
    facts: {
      agent,
      // Asked in general, without evidence: as the registration lets it attest at best.
      attestation: bestEvidence(agent, call),
      subject,
      task: {
        environment: task?.context.environment ?? context?.environment ?? 'production',
        dataClassification: task?.context.dataClassification ?? context?.data_classification ?? 'internal',
        depth: task?.depth ?? 1,
      },
      senderConstraint: 'dpop',
      now: call.deps.now(),
    },
  }
  const decision = snapshot.decide(question)
  return decision.allowed ? decision : snapshot.decide({ ...question, whole: true })
}

/** Of a tool that the agent may not know of, or that nobody has: `withinReach` finds the words. */
const beyondReach = ({ policyDigest }: Snapshot, asked: Grant): Decision => ({
  permitted: [],
  verdicts: [
    {
      tool: asked.tool,
      operation: asked.operation,
      permitted: false,
      policies: [],
      reasons: [],
      passed: '',
      losses: [],
    },
  ],
  allowed: false,
  obligations: {},
  policies: [],
  policyDigest,
})

function operands(snapshot: Snapshot, agent: AgentRegistration, task: Task | undefined, subject: SubjectFacts) {
  const issuer = snapshot.issuers.all.find((each) => each.name === subject.issuer)
  const sub = subject.id.slice(subject.issuer.length + 1)
  return {
    ceiling: agent.ceiling,
    ...(task ? { task: task.authority } : {}),
    ...(subject.autonomous ? {} : { subject: issuer?.rights({ sub, groups: subject.groups }) ?? [] }),
  }
}

/** Whom the question is about where no task says it; undefined where its issuer is none of ours. */
function asIfFor(
  snapshot: Snapshot,
  agent: AgentRegistration,
  user:
    | { readonly issuer: string; readonly id?: string | undefined; readonly groups?: readonly string[] | undefined }
    | undefined,
): SubjectFacts | undefined {
  if (!user) return { id: agent.spiffeId, issuer: '', groups: [], claims: {}, autonomous: true }
  if (!snapshot.issuers.all.some((each) => each.name === user.issuer)) return undefined
  return {
    id: `${user.issuer}|${user.id ?? ''}`,
    issuer: user.issuer,
    groups: user.groups ?? [],
    claims: {},
    autonomous: false,
  }
}

/** A permit that a ban would turn into a refusal at /token is none: the ban in force. */
async function banOn(
  { deps }: Call,
  agent: AgentRegistration,
  {
    task,
    tool,
    subject,
  }: { readonly task: Task | undefined; readonly tool: Tool | undefined; readonly subject: string },
): Promise<RevocationAnswer['banned']> {
  const { banned } = await deps.revocations.check({
    hops: [],
    issuing: {
      agent: agent.spiffeId,
      domain: trustDomainOf(agent.spiffeId),
      client_id: agent.clientId,
      sub: subject,
      ...(tool ? { aud: tool.audience } : {}),
      ...(task ? { task: task.id, root: task.root } : {}),
    },
  })
  return banned
}

const nameOf = ({ caller }: Call): string =>
  caller?.kind === 'agent' ? caller.proven.attested.agent.clientId : (caller?.client.clientId ?? 'unknown')

function bestEvidence(agent: AgentRegistration, { caller }: Call): DecisionFacts['attestation'] {
  if (caller?.kind === 'agent') {
    const { kind, tier, release, issuedAt } = caller.proven.attested
    return {
      kind,
      tier,
      ...(release === undefined ? {} : { release }),
      ...(issuedAt === undefined ? {} : { issuedAt }),
    }
  }
  const kind = agent.evidence.find((each) => EVIDENCE_TIERS[each] !== 'key') ?? agent.evidence[0]!
  return { kind, tier: EVIDENCE_TIERS[kind] }
}

export const evaluationRoute: Route = {
  method: 'POST',
  path: '/access/v1/evaluation',
  access: ['agent', 'tool', 'admin'],
  tag: 'Decisions',
  summary: 'AuthZEN 1.0: may this agent do this with this tool?',
  json: evaluation,
  answers: {
    200: { description: 'The decision', schema: answerSchema },
    ...errorAnswers(400, 401, 403, 413, 415, 429, 503),
  },
  async handle(call) {
    const body = jsonOf(call.c, evaluation)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    return Response.json(await decideOne(call, body.value))
  },
}

export const evaluationsRoute: Route = {
  method: 'POST',
  path: '/access/v1/evaluations',
  access: ['agent', 'tool', 'admin'],
  tag: 'Decisions',
  summary: 'AuthZEN 1.0: several questions at once',
  json: evaluations,
  answers: {
    200: { description: 'The decisions, in order', schema: z.looseObject({}) },
    ...errorAnswers(400, 401, 403, 413, 415, 429, 503),
  },
  async handle(call) {
    const body = jsonOf(call.c, evaluations)
    if (!body.ok) return refused(call, { ...body.refusal, proven: true })
    const { evaluations: list, options, ...defaults } = body.value
    if (!list || list.length === 0) {
      const one = evaluation.safeParse(defaults)
      if (!one.success) {
        return refused(
          call,
          refuse('bad_body', 'request', { proven: true, detail: 'subject, action and resource are needed' }).refusal,
        )
      }
      return Response.json(await decideOne(call, one.data))
    }
    const semantic = options?.evaluations_semantic ?? 'execute_all'
    const answers: { decision: boolean; context: object }[] = []
    for (const each of list) {
      const question = evaluation.safeParse({ ...defaults, ...each })
      const answer = question.success
        ? await decideOne(call, question.data)
        : { decision: false, context: { reason: 'subject, action and resource are needed' } }
      answers.push(answer)
      if (semantic === 'deny_on_first_deny' && !answer.decision) break
      if (semantic === 'permit_on_first_permit' && answer.decision) break
    }
    return Response.json({ evaluations: answers })
  },
}
