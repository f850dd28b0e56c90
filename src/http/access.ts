/** AuthZEN 1.0: `POST /access/v1/evaluation` and `/access/v1/evaluations`; asks policy, issues nothing. */
import { z } from 'zod'
import type { AgentRegistration } from '../attest/registration.ts'
import { newDecisionId } from '../audit/ids.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { verdictRows } from '../exchange/record.ts'
import { refuse } from '../oauth/refusal.ts'
import type { DecisionFacts } from '../policy/decision.ts'
import type { Tool } from '../policy/tool.ts'
import { isId } from '../tasks/ids.ts'
import { CLASSIFICATIONS, ENVIRONMENTS, stateAt, type Task } from '../tasks/task.ts'
import { jsonOf } from './body.ts'
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
  groups: z.array(z.string().max(256)).max(100).optional(),
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
  const { deps, wire } = call
  const snapshot = deps.snapshot()
  const decisionId = newDecisionId(deps.audit.logId, deps.nowMs())
  const agent = question.subject.type === 'agent' ? snapshot.agents.byClientId(question.subject.id) : undefined
  const tool =
    question.resource.type === 'tool'
      ? (snapshot.tools.byName(question.resource.id) ?? snapshot.tools.byAudience(question.resource.id))
      : undefined
  // What does not exist and what one may not know of are one answer (D21).
  if (!agent || agent.disabled || !tool || !mayAsk(call, question)) {
    return { decision: false, context: { id: decisionId, reason: 'not_permitted' } }
  }
  const task = isId('task', question.context?.task_id) ? await deps.tasks.get(question.context.task_id) : undefined
  if (
    question.context?.task_id !== undefined &&
    (task?.agent !== agent.clientId || stateAt(task, deps.now()) !== 'active')
  ) {
    return { decision: false, context: { id: decisionId, reason: 'task_not_active' } }
  }
  const decision = snapshot.decide({
    tools: [tool],
    requested: [{ tool: tool.name, operation: question.action.name.replace(`${tool.name}:`, '') }],
    operands: operands(snapshot, agent, task),
    facts: {
      agent,
      // Asked in general, without evidence: as the registration lets it attest at best.
      attestation: bestEvidence(agent, call),
      subject: task?.subject ?? {
        id: agent.spiffeId,
        issuer: '',
        groups: question.context?.groups ?? [],
        claims: {},
        autonomous: true,
      },
      task: {
        environment: task?.context.environment ?? question.context?.environment ?? 'production',
        dataClassification: task?.context.dataClassification ?? question.context?.data_classification ?? 'internal',
        depth: task?.depth ?? 1,
      },
      senderConstraint: 'dpop',
      now: deps.now(),
    },
  })
  const [verdict] = decision.verdicts
  await deps.audit.append({
    type: 'decision.evaluated',
    decision: decision.allowed ? 'permit' : 'refuse',
    decisionId,
    agent: agent.clientId,
    ...(task ? { task: task.id, subject: task.subject.id } : {}),
    tool: (tool as Tool).name,
    operations: decision.verdicts.map((each) => each.operation),
    rules: decision.policies,
    correlation: wire.correlation,
    details: { verdicts: verdictRows(decision) },
  })
  return {
    decision: decision.allowed,
    context: {
      id: decisionId,
      policies: decision.policies,
      ...(verdict?.lostAt === undefined ? {} : { lost_at: verdict.lostAt }),
      ...(verdict?.leastChange === undefined ? {} : { reason_admin: { en: verdict.leastChange } }),
      ...(verdict && verdict.reasons.length > 0 ? { reason_user: { en: verdict.reasons.join('; ') } } : {}),
    },
  }
}

function operands(snapshot: Snapshot, agent: AgentRegistration, task: Task | undefined) {
  if (!task) return { ceiling: agent.ceiling }
  const issuer = snapshot.issuers.all.find((each) => each.name === task.subject.issuer)
  const sub = task.subject.id.slice(task.subject.issuer.length + 1)
  return {
    ceiling: agent.ceiling,
    task: task.authority,
    ...(task.subject.autonomous ? {} : { subject: issuer?.rights({ sub, groups: task.subject.groups }) ?? [] }),
  }
}

function bestEvidence(agent: AgentRegistration, { caller }: Call): DecisionFacts['attestation'] {
  if (caller?.kind === 'agent') return { kind: caller.proven.attested.kind, tier: caller.proven.attested.tier }
  const kind = agent.evidence.find((each) => each !== 'private_key_jwt') ?? 'private_key_jwt'
  return { kind, tier: kind === 'private_key_jwt' ? 'key' : 'platform' }
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
