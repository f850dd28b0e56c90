/** `errand init`: a working configuration of one's own, from a few answers. */
import { join, resolve } from 'node:path'
import { isLoopbackHttp, urlProblem } from '../config/addresses.ts'
import { discoverIssuer, usableAlgorithms } from '../config/discover-issuer.ts'
import { createFetchJwks } from '../config/fetch-jwks.ts'
import { type ImportedOperation, importMcpTools, importOpenApi } from '../config/import-operations.ts'
import type { Answers } from '../config/answers.ts'
import { type Starter, starterFiles } from '../config/starter.ts'
import { STAGES } from '../attest/registration.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { answersOf, textOf } from './init-answers.ts'
import { refuseOverwriting, writeStarter } from './init-write.ts'
import { facts, safe } from './print.ts'
import { verb } from './verb.ts'

export const init = verb({
  description:
    'Makes a working configuration of your own: asks a few questions, or takes the answers from flags or a file. Overwrites nothing.',
  args: {
    folder: {
      type: 'positional',
      description: 'where config/ and keys/ are made (default: here)',
      required: false,
    },
    answers: {
      type: 'string',
      valueHint: 'file',
      description: 'all answers as YAML (docs/configuration.md), instead of the flags below',
    },
    yes: { type: 'boolean', description: 'ask nothing: what no flag says is taken by default' },
    url: {
      type: 'string',
      valueHint: 'url',
      description: 'where the service is reached: its issuer (default http://127.0.0.1:4460)',
    },
    mode: {
      type: 'enum',
      options: ['development', 'production'],
      description: 'default: development on a loopback address, else production',
    },
    idp: {
      type: 'string',
      valueHint: 'url',
      description: 'issuer of your identity provider; without it users for trying out',
    },
    'idp-audience': { type: 'string', valueHint: 'aud', description: 'the audience of its tokens (default: --url)' },
    'idp-jwks-file': {
      type: 'string',
      valueHint: 'path',
      description: 'a copy of its keys, where they cannot be fetched',
    },
    'groups-claim': {
      type: 'string',
      valueHint: 'claim',
      description: 'where its tokens name groups (default groups)',
    },
    group: {
      type: 'string',
      valueHint: 'name',
      description: 'whose members may use the tool (default: every user, to read)',
    },
    agent: { type: 'string', valueHint: 'client_id', description: 'the first agent (default assistant)' },
    stage: { type: 'enum', options: [...STAGES], description: 'its autonomy (default read)' },
    tool: { type: 'string', valueHint: 'name', description: 'the first tool (default notes)' },
    audience: { type: 'string', valueHint: 'uri', description: 'its audience (default http://127.0.0.1:4470/)' },
    operations: {
      type: 'string',
      valueHint: '"name=effect …"',
      description: 'its operations (default: read_note, add_note and delete_note)',
    },
    openapi: { type: 'string', valueHint: 'path', description: 'take the operations from an OpenAPI document' },
    'mcp-tools': {
      type: 'string',
      valueHint: 'path',
      description: 'take the operations from an MCP server’s answer to tools/list',
    },
  },
  examples: [
    'errand init my-company',
    'errand init my-company --yes --agent librarian --tool notes --operations "read_note=read add_note=reversible_write"',
    'errand init /etc/errand --yes --url https://errand.example.com --idp https://login.example.com --idp-audience errand \\\n    --group support --agent research --tool tickets --audience https://tickets.example.com/ --openapi tickets.yaml',
    'errand init my-company --answers answers.yaml',
  ],
  async run(args, cli) {
    const folder = args.folder ?? '.'
    await refuseOverwriting(folder)
    const answers = await answersOf(cli, args)
    const { starter, copies, notes } = await resolved(answers)
    const snapshot = await writeStarter(cli, {
      folder,
      files: starterFiles(starter),
      pairs: [
        ...starter.tools.map(({ name }) => `tools/${name}`),
        ...starter.agents.flatMap(({ client_id: id, evidence }) =>
          evidence.includes('private_key_jwt') ? [`agents/${id}`] : [],
        ),
      ],
      copies,
    })
    cli.out(
      `${cli.colors.green('made')} ${safe(join(folder, 'config'))} and ${safe(join(folder, 'keys'))}, ${snapshot.settings.mode} mode`,
    )
    for (const line of told(cli, starter)) cli.out(line)
    for (const note of notes) cli.err(cli.colors.yellow(`note: ${safe(note)}`))
    for (const line of next(starter, folder)) cli.err(line)
    return EXIT.ok
  },
})

interface Resolved {
  readonly starter: Starter
  /** Path inside keys/ → the file to copy. */
  readonly copies: ReadonlyMap<string, string>
  readonly notes: readonly string[]
}

/** Fetches and reads what the answers name. */
async function resolved(answers: Answers): Promise<Resolved> {
  const copies = new Map<string, string>()
  const notes: string[] = []
  const issuer = answers.url.replace(/\/$/, '')
  const loopback = URL.canParse(issuer) && isLoopbackHttp(issuer)
  const mode = answers.mode ?? (loopback ? 'development' : 'production')
  const development = mode === 'development'
  const fault = urlProblem(issuer, { development })
  if (fault !== undefined)
    throw usage(
      `--url ${safe(issuer)} ${fault}`,
      'In production the service goes by an https URL: that of the proxy that ends TLS for it, or its own.',
      'To try it on this machine: --url http://127.0.0.1:4460 --mode development.',
    )
  if (!answers.idp && !development)
    throw usage(
      'production needs an identity provider: --idp is its issuer URL',
      'To try it without one: --url http://127.0.0.1:4460.',
    )
  if (development && answers.idp && !isLoopbackOf(answers.idp.issuer))
    notes.push(
      'Your identity provider is real, the service is on a loopback address: its tokens are for trying out (dev: true). For production, run init again with its https --url.',
    )
  const users: Starter['users'] = answers.idp
    ? await idpOf(answers.idp, { issuer, development, copies })
    : { kind: 'development' }

  const needsBundle = answers.agents.some(({ evidence }) => evidence.some((kind) => kind !== 'private_key_jwt'))
  const trustDomain = answers.trust_domain ?? domainOf(issuer)
  if (needsBundle && (answers.spiffe_bundle === undefined || answers.trust_domain === undefined))
    throw usage('agents with SVIDs need trust_domain, and spiffe_bundle: a file with the bundle of that domain (JWKS)')
  if (answers.spiffe_bundle !== undefined) copies.set('workloads/bundle.json', resolve(answers.spiffe_bundle))

  const tools: Starter['tools'][number][] = []
  for (const tool of answers.tools) {
    const { operations, left } = await operationsOf(tool)
    tools.push({ name: tool.name, audience: tool.audience, operations })
    for (const why of left) notes.push(`left out of ${tool.name}: ${why}`)
    const guesses = [...operations.values()].filter(({ guess }) => guess !== undefined).length
    if (guesses > 0)
      notes.push(`${guesses} effects in config/tools/${tool.name}.yaml are guesses, on the safe side: look at them`)
  }
  return {
    starter: {
      issuer,
      mode,
      users,
      group: answers.group ?? (users.kind === 'development' ? 'users' : '*'),
      trustDomain,
      ...(needsBundle ? { bundleFile: 'workloads/bundle.json' } : {}),
      agents: answers.agents,
      tools,
    },
    copies,
    notes,
  }
}

const isLoopbackOf = (url: string): boolean => URL.canParse(url) && isLoopbackHttp(url)

/** A name to form SPIFFE ids with, where nothing attests by them yet: the site the service belongs to. */
function domainOf(issuer: string): string {
  const { hostname } = new URL(issuer)
  const labels = hostname.split('.')
  return /[a-z]/.test(labels.at(-1)!) && labels.length > 1
    ? labels.slice(labels.length > 2 ? 1 : 0).join('.')
    : 'company.example'
}

async function idpOf(
  idp: NonNullable<Answers['idp']>,
  {
    issuer,
    development,
    copies,
  }: { readonly issuer: string; readonly development: boolean; readonly copies: Map<string, string> },
): Promise<Starter['users']> {
  const common = {
    kind: 'idp' as const,
    name: idp.name,
    issuer: idp.issuer,
    audience: idp.audience ?? issuer,
    groupsClaim: idp.groups_claim,
  }
  if (idp.jwks_file !== undefined) {
    const usable = usableAlgorithms(await textOf(idp.jwks_file, 'the copy of your identity provider’s keys'))
    if (!usable.ok) throw usage(`${safe(idp.jwks_file)}: ${usable.why}`)
    const file = `users/${idp.name}.jwks.json`
    copies.set(file, resolve(idp.jwks_file))
    return { ...common, algorithms: usable.algorithms, keys: { jwks_file: file } }
  }
  const found = await discoverIssuer(idp.issuer, { fetch: createFetchJwks({ development }), development })
  if (!found.ok)
    throw new CliError(
      EXIT.unreachable,
      `the identity provider ${safe(idp.issuer)}: ${safe(found.why)}; nothing was written`,
      [
        ...(found.callsItself === undefined
          ? []
          : [`It calls itself ${safe(found.callsItself)}: give exactly that, slash or no slash, as the issuer.`]),
        'Its keys must be on the public internet. Elsewhere, give a copy of them: --idp-jwks-file.',
      ],
    )
  return { ...common, algorithms: found.value.algorithms, keys: { jwks_uri: found.value.jwksUri } }
}

async function operationsOf(
  tool: Answers['tools'][number],
): Promise<{ readonly operations: ReadonlyMap<string, ImportedOperation>; readonly left: readonly string[] }> {
  const sources = [tool.operations, tool.openapi, tool.mcp_tools].filter((source) => source !== undefined)
  if (sources.length !== 1)
    throw usage(
      `the operations of ${tool.name} come from one place: named, from an OpenAPI document, or from MCP tools`,
    )
  if (tool.operations)
    return {
      left: [],
      operations: new Map(
        Object.entries(tool.operations).map(([name, said]) => {
          const given = typeof said === 'string' ? { effect: said, routes: [], mcp_tools: [] } : said
          const { effect, description, routes, mcp_tools: mcpTools } = given as Exclude<typeof said, string>
          return [name, { effect, routes, mcpTools, ...(description === undefined ? {} : { description }) }]
        }),
      ),
    }
  const file = (tool.openapi ?? tool.mcp_tools)!
  const text = await textOf(file, `the description of ${tool.name}`)
  const imported = tool.openapi === undefined ? importMcpTools(text) : importOpenApi(text)
  if (!imported.ok) throw usage(`${safe(file)}: ${imported.why}`)
  return imported
}

function told(cli: Cli, { issuer, users, agents, tools, group }: Starter): string[] {
  return facts(cli, [
    ['service', issuer],
    ['users', users.kind === 'development' ? 'alice and bob, for trying out' : `of ${users.issuer}`],
    ['rights', group === '*' ? 'every user: to read' : `members of ${group}`],
    ...agents.map(({ client_id: id, stage, evidence }): [string, string] => [
      'agent',
      `${id}, stage ${stage}, ${evidence.includes('private_key_jwt') ? `key in keys/agents/${id}.jwk` : evidence.join(' ')}`,
    ]),
    ...tools.map(({ name, audience, operations }): [string, string] => [
      'tool',
      `${name} at ${audience}, ${operations.size} operation${operations.size === 1 ? '' : 's'}, key in keys/tools/${name}.jwk`,
    ]),
  ])
}

function next({ issuer, mode, users, agents, tools }: Starter, folder: string): string[] {
  const [agent, tool] = [agents[0]!, tools[0]!]
  const ask = `errand token get --agent ${agent.client_id} --tool ${tool.name}`
  return [
    '',
    'Next:',
    ...(resolve(folder) === process.cwd() ? [] : [`  cd ${/^[\w./-]+$/.test(folder) ? folder : 'into it'}`]),
    '  errand serve',
    ...(mode === 'production'
      ? [
          `  (TLS for ${issuer} ends at a proxy on this machine, or in errand.yaml: listen.tls)`,
          '  errand doctor                    # what is weak, unreachable or wrong, each with its mend',
          `  ${ask} --subject-token-file token   # a user’s token, of your identity provider`,
          '  Move each private key to whom it belongs: keys/agents/ to the agents, keys/tools/ to the tools.',
        ]
      : [
          `  ${ask} ${users.kind === 'development' ? '--user alice' : '--subject-token-file token'}`,
          '  errand doctor',
        ]),
  ]
}
