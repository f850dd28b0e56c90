/** What administrators look at and turn: agents, tools, configuration, the audit log. */
import { z } from 'zod'
import { EVENT_TYPES } from '../audit/log.ts'
import type { AgentRegistration } from '../attest/registration.ts'
import { reachOf } from '../exchange/reach.ts'
import { refuse } from '../oauth/refusal.ts'
import { toAuthorizationDetails } from '@errand/verifier/grants.ts'
import { joinedKeyView } from './join.ts'
import { seenAgent, seenAgents } from './platform-agents.ts'
import { badParam, numbersIn } from './query.ts'
import { refused } from './refused.ts'
import type { Call, Route } from './route.ts'
import { detailSchema, errorAnswers } from './schemas.ts'

const problems = errorAnswers(400, 401, 403, 404, 429, 503)

const agentSchema = z
  .looseObject({
    client_id: z.string(),
    spiffe_id: z.string(),
    stage: z.string(),
    evidence: z.array(z.string()),
    ceiling: z.array(detailSchema),
  })
  .meta({ id: 'Agent' })

function agentView({ deps }: Call, agent: AgentRegistration) {
  const snapshot = deps.snapshot()
  return {
    client_id: agent.clientId,
    spiffe_id: agent.spiffeId,
    display_name: agent.displayName,
    ...(agent.owner === undefined ? {} : { owner: agent.owner }),
    disabled: agent.disabled,
    stage: agent.stage,
    evidence: agent.evidence,
    autonomous: agent.autonomous,
    ...(agent.drill ? { drill: true } : {}),
    delegates_to: agent.delegatesTo,
    ceiling: toAuthorizationDetails(
      agent.ceiling,
      (tool, operation) => snapshot.tools.byName(tool)?.operations.get(operation)?.effect ?? 'privileged',
    ),
    ...(agent.minimumTier === undefined ? {} : { minimum_tier: agent.minimumTier }),
    ...(agent.release === undefined
      ? {}
      : { release: { required: agent.release.required, registered: [...agent.release.registered.keys()] } }),
    file: agent.file,
  }
}

const agentsRoute: Route = {
  method: 'GET',
  path: '/agents',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Registered agents, and those of platforms that came',
  answers: { 200: { description: 'Agents', schema: z.object({ agents: z.array(agentSchema) }) }, ...problems },
  async handle(call) {
    const registered = call.deps.snapshot().agents.all.map((agent) => agentView(call, agent))
    const seen = await seenAgents(call.deps)
    return Response.json({
      agents: [...registered, ...seen.map(({ agent, more }) => ({ ...agentView(call, agent), ...more }))],
    })
  },
}

const agentRoute: Route = {
  method: 'GET',
  path: '/agents/:id',
  access: ['admin', 'agent'],
  tag: 'Administration',
  summary: 'One agent; an agent may look at itself',
  answers: { 200: { description: 'The agent', schema: agentSchema }, ...problems },
  async handle(call) {
    const { caller, c } = call
    const id = c.req.param('id') ?? ''
    const own = caller?.kind === 'agent' && caller.proven.attested.agent.clientId === id
    const agent = caller?.kind === 'admin' || own ? call.deps.snapshot().agents.byClientId(id) : undefined
    const seen = !agent && caller?.kind === 'admin' ? await seenAgent(call.deps, id) : undefined
    if (seen) return Response.json({ ...agentView(call, seen.agent), ...seen.more })
    const view = agent && agentView(call, agent)
    if (!view) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    const joined = await call.deps.join.keysOf(id)
    return Response.json({ ...view, ...(joined.length === 0 ? {} : { joined_keys: joined.map(joinedKeyView) }) })
  },
}

/** An agent sees what its ceiling reaches, a tool itself, an administrator everything (D21). */
function visibleTools({ deps, caller }: Call) {
  const { agents, tools } = deps.snapshot()
  const agent = caller?.kind === 'agent' ? agents.byClientId(caller.proven.attested.agent.clientId) : undefined
  const reach = reachOf(tools, agent?.ceiling ?? [])
  return tools.all.flatMap((tool) => {
    const operations = [...tool.operations.values()]
    if (caller?.kind === 'admin') return [{ tool, operations }]
    if (caller?.kind === 'tool') return caller.client.audience === tool.audience ? [{ tool, operations }] : []
    if (!reach.byName(tool.name)) return []
    return [{ tool, operations: operations.filter(({ name }) => reach.effectOf(tool.name, name) !== undefined) }]
  })
}

const toolsRoute: Route = {
  method: 'GET',
  path: '/tools',
  access: ['admin', 'agent', 'tool'],
  tag: 'Administration',
  summary: 'Tools with their operations and effects, as far as the caller may know of them',
  answers: {
    200: {
      description: 'Tools',
      schema: z.object({ tools: z.array(z.looseObject({ name: z.string(), audience: z.string() })) }),
    },
    ...problems,
  },
  handle: (call) =>
    Response.json({
      tools: visibleTools(call).map(({ tool, operations }) => ({
        name: tool.name,
        display_name: tool.displayName,
        audience: tool.audience,
        follows_feed: tool.followsFeed,
        status_list: tool.statusList,
        accepts_bearer: tool.acceptsBearer,
        ...(tool.takes === undefined ? {} : { takes: tool.takes.kind }),
        max_token_lifetime_seconds: tool.maxTokenLifetimeSeconds,
        staleness_seconds: tool.stalenessSeconds,
        operations: operations.map((operation) => ({
          name: operation.name,
          effect: operation.effect,
          ...(operation.description === undefined ? {} : { description: operation.description }),
          ...(operation.arguments === undefined ? {} : { arguments: operation.arguments }),
          ...(operation.budgeted === undefined ? {} : { budgeted: operation.budgeted }),
          routes: operation.routes,
          mcp_tools: operation.mcpTools,
        })),
      })),
    }),
}

const configRoute: Route = {
  method: 'GET',
  path: '/config',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Which configuration is in force, and what is wrong with the one that is not',
  answers: { 200: { description: 'State', schema: z.looseObject({ digest: z.string() }) }, ...problems },
  handle({ deps }) {
    const snapshot = deps.snapshot()
    const failure = deps.configFailure()
    const bundles = deps.bundles()
    const mirrors = deps.mirrors()
    return Response.json({
      digest: snapshot.digest,
      policy_digest: snapshot.policyDigest,
      loaded_at: snapshot.loadedAt,
      mode: snapshot.settings.mode,
      issuer: snapshot.settings.issuer,
      development_shortcuts: snapshot.settings.developmentShortcuts,
      ...(failure === undefined ? {} : { failure: { at: failure.at, problems: failure.problems } }),
      ...(mirrors.length === 0 ? {} : { mirrors }),
      ...(bundles.length === 0
        ? {}
        : {
            bundle_endpoints: bundles.map(({ trustDomain, url, sequence, confirmedAt, problem }) => ({
              trust_domain: trustDomain,
              url,
              ...(sequence === undefined ? {} : { spiffe_sequence: sequence }),
              ...(confirmedAt === undefined ? {} : { confirmed_at: confirmedAt }),
              ...(problem === undefined ? {} : { problem }),
            })),
          }),
    })
  },
}

const recordsRoute: Route = {
  method: 'GET',
  path: '/audit/records',
  access: ['admin'],
  tag: 'Administration',
  summary: 'Records of the audit log: from an index on, or those that match, newest first',
  query: {
    from: 'index: oldest first from there',
    since: 'Unix seconds',
    until: 'Unix seconds',
    type: 'event type',
    agent: 'client_id',
    subject: 'issuer|sub',
    task: 'task id',
    jti: 'token id',
    reason: 'refusal reason',
    limit: 'at most 1000',
  },
  answers: {
    200: {
      description: 'Records',
      schema: z.object({ log: z.string(), size: z.number().int(), records: z.array(z.looseObject({})) }),
    },
    ...problems,
  },
  async handle(call) {
    const { deps, c } = call
    const { type, agent, subject, task, jti, reason } = c.req.query()
    const numbers = numbersIn(call, 'from', 'since', 'until', 'limit')
    if (!numbers.ok) return refused(call, numbers.refusal)
    const { from, since, until, limit = 100 } = numbers.value
    const known = EVENT_TYPES.find((each) => each === type)
    if (limit > 1000 || (type !== undefined && !known))
      return refused(call, badParam('limit is at most 1000, type one of those that records have').refusal)
    const records =
      from === undefined
        ? await deps.reader.search({
            ...(since === undefined ? {} : { since: since * 1000 }),
            ...(until === undefined ? {} : { until: until * 1000 }),
            ...(known === undefined ? {} : { type: known }),
            ...(agent === undefined ? {} : { agent }),
            ...(subject === undefined ? {} : { subject }),
            ...(task === undefined ? {} : { task }),
            ...(jti === undefined ? {} : { jti }),
            ...(reason === undefined ? {} : { reason }),
            limit,
          })
        : await deps.reader.from(from, limit)
    return Response.json({ log: deps.audit.logId, size: deps.reader.size, records })
  },
}

export const adminRoutes: readonly Route[] = [agentsRoute, agentRoute, toolsRoute, configRoute, recordsRoute]
