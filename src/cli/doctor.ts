/** `errand doctor`: what is weak, unreachable or wrong, each with its mend; for the service, an agent or a tool. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { createFetchJwks } from '../config/fetch-jwks.ts'
import { loadConfig } from '../config/load.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { type Cli, EXIT, usage } from './cli.ts'
import { type AgentCase, agentFindings, agentKeyPath, ownKey } from './doctor-agent.ts'
import { weakSettings } from './doctor-config.ts'
import { type Examination, good, printed, weak, wrong } from './doctor-finding.ts'
import { issuerFindings, userTokenFindings } from './doctor-issuers.ts'
import { certificateFiles, dataFindings, keyFindings, nodeFinding } from './doctor-machine.ts'
import { reachService, serviceFindings } from './doctor-service.ts'
import { audienceFindings, boundFindings, toolFindings, toolKeyPath } from './doctor-tool.ts'
import { signingFindings } from './doctor-vault.ts'
import { issuersIn, placesOf } from './places.ts'
import { json } from './print.ts'
import { tokenText } from './token-get.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const doctor = verb({
  description:
    'Looks for what is weak, unreachable or wrong, and says how to mend each: at the service (with it running or not), with --agent from where an agent runs, with --tool from where a tool runs. Ends with 0 where nothing is wrong, with 1 where something is.',
  args: {
    agent: { type: 'string', valueHint: 'client_id', description: 'look from where this agent runs' },
    tool: {
      type: 'string',
      valueHint: 'name',
      description: 'look from where this tool runs; with --agent, what the agent would be given for it',
    },
    'key-file': { type: 'string', valueHint: 'path', description: 'the key of the agent or tool (default: in keys/)' },
    'tool-url': { type: 'string', valueHint: 'url', description: 'where the tool is reached, if not at its audience' },
    'subject-token-file': {
      type: 'string',
      valueHint: 'path|-',
      description: 'hold a user’s token of your identity provider against the configuration',
    },
    ...JSON_FLAG,
  },
  examples: [
    'errand doctor',
    'errand doctor --agent research --tool tickets --subject-token-file token',
    'errand doctor --tool tickets --tool-url http://127.0.0.1:4471',
    'errand doctor --json | jq ".findings[] | select(.level == \\"wrong\\")"',
  ],
  async run(args, cli) {
    if (args['tool-url'] !== undefined && (args.tool === undefined || args.agent !== undefined))
      throw usage('--tool-url says where --tool is reached')
    if (
      args['tool-url'] !== undefined &&
      !/^https?:$/.test(URL.canParse(args['tool-url']) ? new URL(args['tool-url']).protocol : '')
    )
      throw usage('--tool-url is an http or https URL')
    if (args['key-file'] !== undefined && args.agent === undefined && args.tool === undefined)
      throw usage('--key-file is of an agent or a tool: say --agent or --tool')
    const file = args['subject-token-file']
    const userToken = file === undefined ? undefined : await tokenText(cli, file)
    const examinations =
      args.agent !== undefined
        ? await ofAgent(cli, { agent: args.agent, keyFile: args['key-file'], tool: args.tool, userToken })
        : args.tool !== undefined
          ? await ofTool(cli, args.tool, { keyFile: args['key-file'], at: args['tool-url'] })
          : await ofService(cli, userToken)

    const findings = examinations.flatMap(({ about, findings: each }) => each.map((finding) => ({ about, ...finding })))
    const count = (level: string) => findings.filter((finding) => finding.level === level).length
    const [bad, poor] = [count('wrong'), count('weak')]
    if (args.json) cli.out(json({ wrong: bad, weak: poor, findings }))
    else for (const line of printed(cli, examinations)) cli.out(line)
    cli.err(bad + poor === 0 ? 'nothing to mend' : `${bad} wrong, ${poor} weak`)
    return bad === 0 ? EXIT.ok : EXIT.refused
  },
})

async function ofService(cli: Cli, userToken: string | undefined): Promise<readonly Examination[]> {
  const places = placesOf(cli)
  const { configuration, snapshot } = await ofConfiguration(cli)
  const mode = snapshot?.settings.mode
  const development = mode === 'development'
  const files = []
  for await (const file of issuersIn(places.configDir)) files.push(file)
  const reached = await reachService(cli)
  const service =
    reached.service === undefined
      ? // A configuration is looked at before its first start as well.
        reached.findings.map(({ code, message, mend }) =>
          weak(code, `${message}; the rest of this is from files`, mend!),
        )
      : [...reached.findings, ...(await serviceFindings(cli, reached.service, snapshot?.digest))]
  return [
    configuration,
    { about: 'machine', findings: [nodeFinding(cli.nodeVersion, cli.now())] },
    {
      about: 'keys',
      findings: [
        ...(await keyFindings(places, mode)),
        ...(snapshot ? await certificateFiles(snapshot.settings, cli.now()) : []),
        ...(snapshot?.settings.keys.signing ? await signingFindings(snapshot.settings.keys.signing, cli) : []),
      ],
    },
    { about: 'data', findings: await dataFindings(places, mode) },
    {
      about: 'identity providers',
      findings: await issuerFindings(files, { fetch: createFetchJwks({ development }), development, now: cli.now }),
    },
    ...(userToken !== undefined && snapshot
      ? [{ about: 'user’s token', findings: await userTokenFindings(userToken, snapshot, cli.now()) }]
      : []),
    { about: 'service', findings: service },
  ]
}

async function ofConfiguration(
  cli: Cli,
): Promise<{ readonly configuration: Examination; readonly snapshot?: Snapshot }> {
  const { configDir, keysDir } = placesOf(cli)
  const loaded = await loadConfig({
    dir: configDir,
    keysDir,
    now: cli.now,
    allowMissingKeys: !(await started(keysDir)),
  })
  if (!loaded.ok)
    return {
      configuration: {
        about: 'configuration',
        findings: loaded.problems.map(({ file, line, code, message, suggestion }) =>
          wrong(code, `${file}${line === undefined ? '' : `:${line}`} ${message}`, suggestion ?? 'errand config check'),
        ),
      },
    }
  const { agents, tools, issuers } = loaded.snapshot
  return {
    snapshot: loaded.snapshot,
    configuration: {
      about: 'configuration',
      findings: [
        good(
          'config_loads',
          `it loads: ${counted(agents.all.length, 'agent')}, ${counted(tools.all.length, 'tool')}, ${counted(issuers.all.length, 'issuer')} of users, ${loaded.policyCount} policies`,
        ),
        ...weakSettings(loaded.snapshot, { policyCount: loaded.policyCount, now: cli.now() }),
      ],
    },
  }
}

const counted = (count: number, what: string): string => `${count} ${what}${count === 1 ? '' : 's'}`

/** Before the first start the key files that it makes are not there yet. */
const started = (keysDir: string): Promise<boolean> =>
  access(join(keysDir, 'root.key')).then(
    () => true,
    () => false,
  )

async function ofAgent(cli: Cli, it: AgentCase): Promise<readonly Examination[]> {
  const { key, finding } = await ownKey(cli, agentKeyPath(cli, it))
  const reached = await reachService(cli)
  return [
    { about: 'machine', findings: [nodeFinding(cli.nodeVersion, cli.now())] },
    { about: `agent ${it.agent}`, findings: [finding] },
    { about: 'service', findings: reached.findings },
    ...(key && reached.service
      ? [{ about: 'attestation', findings: await agentFindings(cli, reached.service, key, it) }]
      : []),
  ]
}

async function ofTool(
  cli: Cli,
  name: string,
  { keyFile, at }: { readonly keyFile: string | undefined; readonly at: string | undefined },
): Promise<readonly Examination[]> {
  const { configDir, keysDir } = placesOf(cli)
  const { key, finding } = await ownKey(cli, toolKeyPath(cli, name, keyFile))
  const reached = await reachService(cli)
  const loaded = await loadConfig({ dir: configDir, keysDir, now: cli.now, allowMissingKeys: true })
  const tool =
    loaded.ok && loaded.snapshot.settings.issuer === reached.service?.issuer
      ? loaded.snapshot.tools.byName(name)
      : undefined
  return [
    { about: 'machine', findings: [nodeFinding(cli.nodeVersion, cli.now())] },
    { about: `tool ${name}`, findings: [finding, ...(tool ? boundFindings(tool) : [])] },
    { about: 'service', findings: reached.findings },
    ...(reached.service && key ? [{ about: 'verifier', findings: await toolFindings(cli, reached, key, name) }] : []),
    ...(reached.service && tool
      ? [
          {
            about: 'audience',
            findings: await audienceFindings(cli, { audience: tool.audience, issuer: reached.service.issuer, at }),
          },
        ]
      : []),
  ]
}
