/** From a few answers to the files of a first configuration: what `errand init` writes. Touches nothing. */
import { EFFECTS, type Effect } from '@errand/verifier/claims.ts'
import { Document, isScalar } from 'yaml'
import { stageAllows } from '../policy/stage.ts'
import type { Answers } from './answers.ts'
import type { ImportedOperation } from './import-operations.ts'
import type { KeyAlgorithm } from './jwks.ts'
import { renderConfigSchemas } from './json-schemas.ts'

/** What the answers come to, with everything fetched and read that they name. */
export interface Starter {
  readonly issuer: string
  readonly mode: 'development' | 'production'
  readonly users:
    | { readonly kind: 'development' }
    | {
        readonly kind: 'idp'
        readonly name: string
        readonly issuer: string
        readonly audience: string
        readonly groupsClaim: string
        readonly algorithms: readonly KeyAlgorithm[]
        readonly keys: { readonly jwks_uri: string } | { readonly jwks_file: string }
      }
  /** Whose members may use the tools; `*` is every user. */
  readonly group: string
  readonly trustDomain: string
  /** By path inside the keys folder, where agents attest by SPIFFE. */
  readonly bundleFile?: string
  readonly agents: Answers['agents']
  readonly tools: readonly {
    readonly name: string
    readonly audience: string
    readonly operations: ReadonlyMap<string, ImportedOperation>
  }[]
}

const DEVELOPMENT_PORT = 4460

/** Path inside the folder → text. */
export function starterFiles(starter: Starter): ReadonlyMap<string, string> {
  const files = new Map<string, string>(renderConfigSchemas())
  files.set('config/errand.yaml', errandFile(starter))
  const { users, agents, tools } = starter
  const issuer = users.kind === 'idp' ? users.name : 'dev'
  files.set(`config/issuers/${issuer}.yaml`, issuerFile(starter))
  if (starter.bundleFile !== undefined)
    files.set(
      // With a dot in it, which no issuer's name has.
      'config/issuers/workloads.spiffe.yaml',
      yaml('issuer', 'Whose SVIDs speak for agents.', {
        kind: 'workload',
        trust_domain: starter.trustDomain,
        bundle_file: starter.bundleFile,
      }),
    )
  for (const tool of tools) files.set(`config/tools/${tool.name}.yaml`, toolFile(tool))
  for (const agent of agents) files.set(`config/agents/${agent.client_id}.yaml`, agentFile(agent, starter))
  files.set('config/policies/base.cedar', policies(starter))
  return files
}

function errandFile({ issuer, mode }: Starter): string {
  const port = mode === 'development' ? Number(new URL(issuer).port || DEVELOPMENT_PORT) : DEVELOPMENT_PORT
  const about =
    mode === 'development'
      ? 'development admits loopback addresses over http; every token says so, and verifiers refuse it in production.'
      : `A proxy on this machine ends TLS for ${issuer} and passes requests on to the port below. Without one, give\n` +
        'listen.tls (cert_file and key_file, by path inside the keys folder) and an address that others reach.'
  return yaml('errand', about, {
    issuer,
    mode,
    listen: {
      host: '127.0.0.1',
      port,
      ...(mode === 'production' ? { trusted_proxies: ['127.0.0.1', '::1'] } : {}),
    },
    store: { kind: 'embedded' },
    administrators: [{ client_id: 'admin', keys_file: 'admin.pub.jwk' }],
  })
}

function issuerFile(starter: Starter): string {
  const { users, group, issuer } = starter
  const rights = { [group]: rightsOf(starter) }
  if (users.kind === 'development')
    return yaml(
      'issuer',
      'Stands for your identity provider until it is registered here: the key is made on first start, and\n' +
        '`errand token get --user` signs for the users below. Refused in production.',
      {
        kind: 'user',
        name: 'dev',
        issuer: `${issuer}/dev-issuer`,
        development: true,
        jwks_file: 'users/dev-issuer.jwks.json',
        algorithms: ['ES256'],
        audiences: [issuer],
        groups_claim: 'groups',
        development_users: { alice: { groups: group === '*' ? [] : [group] }, bob: { groups: [] } },
        rights,
      },
    )
  return yaml(
    'issuer',
    'Your identity provider. `rights` is what members of a group may do at most; an agent working for them never\n' +
      'holds more. "*" is every user; other groups are those that its tokens name.',
    {
      kind: 'user',
      name: users.name,
      issuer: users.issuer,
      ...users.keys,
      algorithms: users.algorithms,
      audiences: [users.audience],
      token_types: ['id_token', 'access_token'],
      groups_claim: users.groupsClaim,
      rights,
    },
  )
}

/** Every user reads; who may change things is named by group. */
function rightsOf({ group, tools }: Starter): readonly string[] {
  return tools.flatMap(({ name: tool, operations }) =>
    group === '*'
      ? [...operations].flatMap(([operation, { effect }]) => (effect === 'read' ? [`${tool}:${operation}`] : []))
      : operations.size === 0
        ? []
        : [`${tool}:*`],
  )
}

function toolFile({ name: tool, audience, operations }: Starter['tools'][number]): string {
  const document = new Document({
    name: tool,
    audience,
    keys_file: `tools/${tool}.pub.jwk`,
    operations: Object.fromEntries(
      [...operations].map(([operation, { effect, description, routes, mcpTools }]) => [
        operation,
        {
          effect,
          ...(description === undefined ? {} : { description }),
          ...(routes.length === 0 ? {} : { routes }),
          ...(mcpTools.length === 0 ? {} : { mcp_tools: mcpTools }),
        },
      ]),
    ),
  })
  for (const [operation, { guess }] of operations) {
    const effect = document.getIn(['operations', operation, 'effect'], true)
    if (guess !== undefined && isScalar(effect)) effect.comment = ` ${guess}`
  }
  return render(
    'tool',
    `Each operation has one effect, which says how bad a mistake would be:\n${EFFECTS.join(' < ')}.`,
    document,
  )
}

function agentFile(agent: Answers['agents'][number], { trustDomain, tools }: Starter): string {
  const byKey = agent.evidence.includes('private_key_jwt')
  return yaml(
    'agent',
    'The ceiling is what it may do at most; the stage caps the effects, whatever the ceiling says.',
    {
      client_id: agent.client_id,
      spiffe_id: `spiffe://${trustDomain}/agents/${agent.client_id}`,
      ...(agent.display_name === undefined ? {} : { display_name: agent.display_name }),
      evidence: agent.evidence,
      ...(byKey ? { keys_file: `agents/${agent.client_id}.pub.jwk` } : {}),
      stage: agent.stage,
      // Named one by one: an operation that the tool gets later is not granted by that.
      ceiling: tools.flatMap(({ name: tool, operations }) =>
        [...operations].flatMap(([operation, { effect }]) =>
          stageAllows(agent.stage, effect) ? [`${tool}:${operation}`] : [],
        ),
      ),
    },
  )
}

const PERMITS: readonly { readonly effect: Effect; readonly reason: string; readonly ttlSeconds?: number }[] = [
  { effect: 'read', reason: 'agents may read what the user they work for may read' },
  { effect: 'reversible_write', reason: 'agents may make changes that can be taken back, for a user', ttlSeconds: 120 },
  { effect: 'irreversible_write', reason: 'agents may do what cannot be undone, for a user', ttlSeconds: 60 },
  { effect: 'external_communication', reason: 'agents may speak to the outside, for a user', ttlSeconds: 60 },
]

function policies({ agents, tools }: Starter): string {
  const effects = new Set(tools.flatMap(({ operations }) => [...operations.values()].map(({ effect }) => effect)))
  // A policy for what no tool does would be refused. Stages are raised in a day; a permit for what harms is written then.
  const permits = PERMITS.filter(
    ({ effect }) =>
      effects.has(effect) &&
      (stageAllows('reversible_write', effect) || agents.some(({ stage }) => stageAllows(stage, effect))),
  )
  const undoable = permits.some(({ effect }) => effect === 'irreversible_write')
  return [
    '// What agents may do when a user asks. The user’s rights, the agent’s ceiling and its stage bound it already; policies\n' +
      '// say under which circumstances. Nothing is permitted that no policy permits, and a forbid always wins.',
    ...permits.map(
      ({ effect, reason, ttlSeconds }) =>
        `@id("${effect}_for_users")\n@reason("${reason}")\n${ttlSeconds === undefined ? '' : `@ttl_seconds("${ttlSeconds}")\n`}` +
        `permit (\n  principal,\n  action in Action::"effect:${effect}",\n  resource\n)\nunless { context.autonomous };`,
    ),
    ...(undoable
      ? [
          '@id("no_irreversible_in_production_by_key")\n' +
            '@reason("in production, what cannot be undone needs an agent that its platform attests, not one that holds a key")\n' +
            'forbid (\n  principal,\n  action in Action::"effect:irreversible_write",\n  resource\n)\n' +
            'when { context.environment == "production" && context.tier == "key" };',
        ]
      : []),
  ]
    .join('\n\n')
    .concat('\n')
}

const yaml = (schema: string, about: string, value: object): string => render(schema, about, new Document(value))

function render(schema: string, about: string, document: Document): string {
  const up = schema === 'errand' ? '.' : '..'
  const comments = [`yaml-language-server: $schema=${up}/schemas/${schema}.json`, ...about.split('\n')]
  return `${comments.map((line) => `# ${line}`).join('\n')}\n${document.toString({ lineWidth: 120, flowCollectionPadding: false })}`
}
