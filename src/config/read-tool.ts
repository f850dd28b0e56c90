/** tools/*.yaml → Tool. */
import type { Constraint } from '@errand/verifier/claims.ts'
import { EFFECTS } from '@errand/verifier/claims.ts'
import { readConstraint } from '@errand/verifier/constraints.ts'
import { didYouMean } from '../policy/suggest.ts'
import type { Operation, Takes, Tool } from '../policy/tool.ts'
import { audienceProblem, urlProblem } from './addresses.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import type { ToolFile } from './tool-file.ts'

/** DESIGN.md, *Revocation*: bounds of staleness by effect. */
const DEFAULT_STALENESS = {
  read: 30,
  reversible_write: 5,
  irreversible_write: 2,
  external_communication: 2,
  privileged: 2,
} as const

export async function readTool(
  source: ToolFile,
  file: string,
  {
    keyFiles,
    development,
    report,
  }: { readonly keyFiles: KeyFiles; readonly development: boolean; readonly report: Reporter },
): Promise<Tool> {
  const problem = audienceProblem(source.audience, { development })
  if (problem !== undefined)
    report(['audience'], 'resource_not_canonical', `the audience ${source.audience} ${problem}`)

  const operations = new Map<string, Operation>()
  const routes = new Map<string, string>()
  const mcpNames = new Map<string, string>()
  for (const [name, operation] of Object.entries(source.operations)) {
    const here = ['operations', name]
    let schema: Constraint | undefined
    if (operation.arguments !== undefined) {
      const read = readConstraint(operation.arguments)
      if (read.ok) schema = read.value
      else report([...here, 'arguments'], 'bad_value', `arguments: ${read.detail ?? 'not a constraint'}`)
    }
    for (const [index, route] of operation.routes.entries()) {
      // Two routes that differ only in the names of their arguments match the same requests.
      const key = route.replace(/:[^/]+/g, ':')
      const other = routes.get(key)
      if (other !== undefined)
        report([...here, 'routes', index], 'duplicate', `the route ${route} already maps to "${other}"`)
      routes.set(key, name)
    }
    for (const [index, mcpName] of operation.mcp_tools.entries()) {
      const other = mcpNames.get(mcpName)
      if (other !== undefined)
        report([...here, 'mcp_tools', index], 'duplicate', `the MCP tool ${mcpName} already maps to "${other}"`)
      mcpNames.set(mcpName, name)
    }
    operations.set(name, {
      name,
      effect: operation.effect,
      ...(operation.description === undefined ? {} : { description: operation.description }),
      ...(schema === undefined ? {} : { arguments: schema }),
      routes: operation.routes.map((route) => {
        const [method, path] = route.split(' ', 2) as [string, string]
        return { method, path }
      }),
      mcpTools: operation.mcp_tools,
      ...(operation.budgeted === undefined ? {} : { budgeted: operation.budgeted }),
    })
  }

  if (source.status_list && source.takes)
    report(['status_list'], 'bad_value', 'the tool takes none of our access tokens, and no other kind has a status')

  const keys = await keyFiles.ownKeys(source)
  if (!keys.ok) report([source.keys === undefined ? 'keys_file' : 'keys'], keys.code, keys.message, keys.suggestion)

  return {
    name: source.name,
    displayName: source.display_name ?? source.name,
    audience: source.audience,
    operations,
    followsFeed: source.follows_feed,
    statusList: source.status_list,
    acceptsBearer: source.accepts_bearer,
    maxTokenLifetimeSeconds: source.max_token_lifetime_seconds,
    stalenessSeconds: Object.fromEntries(
      EFFECTS.map((effect) => [effect, source.staleness_seconds[effect] ?? DEFAULT_STALENESS[effect]]),
    ) as Tool['stalenessSeconds'],
    keys: keys.ok ? keys.value : [],
    ...(source.agent === undefined ? {} : { agent: source.agent }),
    ...(source.takes === undefined
      ? {}
      : { takes: readTakes(source.takes, source.name, operations, development, report) }),
    file,
  }
}

function readTakes(
  source: NonNullable<ToolFile['takes']>,
  name: string,
  operations: ReadonlyMap<string, Operation>,
  development: boolean,
  report: Reporter,
): Takes {
  for (const operation of Object.keys(source.scopes)) {
    if (operations.has(operation)) continue
    const { suggestion } = didYouMean(operation, operations.keys())
    report(['takes', 'scopes', operation], 'unknown_reference', `the tool has no operation "${operation}"`, suggestion)
  }
  // One value for two operations would give both to whoever is granted one.
  const seen = new Set<string>()
  for (const operation of operations.keys()) {
    const value = source.scopes[operation] ?? `${name}:${operation}`
    if (seen.has(value)) report(['takes', 'scopes'], 'duplicate', `the scope value ${value} stands for two operations`)
    seen.add(value)
  }
  const scopes = new Map(Object.entries(source.scopes))
  const lifetimeSeconds = source.lifetime_seconds
  if (source.kind === 'txn_token') {
    const { trust_domain: trustDomain, request_context: requestContext } = source
    return { kind: 'txn_token', trustDomain, scopes, requestContext, lifetimeSeconds }
  }
  const fault = urlProblem(source.authorization_server, { development })
  if (fault !== undefined)
    report(['takes', 'authorization_server'], 'url_forbidden', `the issuer ${source.authorization_server} ${fault}`)
  return {
    kind: 'id_jag',
    authorizationServer: source.authorization_server,
    clients: new Map(Object.entries(source.clients)),
    scopes,
    act: source.act,
    details: source.details,
    lifetimeSeconds,
  }
}
