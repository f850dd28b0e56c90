/** `errand drill`: containment, rehearsed with real tokens of an agent that is there for nothing else. */
import { createHash, randomUUID } from 'node:crypto'
import { join } from 'node:path'
import { fetchText } from '@errand/verifier/http.ts'
import { signEs256 } from '@errand/verifier/signature.ts'
import { generatePrivateJwk, type PrivateJwk } from '../keys/private-jwk.ts'
import { TYP } from '../oauth/words.ts'
import { type Cli, CliError, EXIT, type Exit, usage } from './cli.ts'
import { type Client, createClient, type Json } from './client.ts'
import { waitContained } from './containment-wait.ts'
import { tokensOf } from './drill-tokens.ts'
import { adminClient, keyAt, placesOf, serviceOf } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { number, object, objects, text } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

const PROBE_TIMEOUT_MS = 5_000

export const drill = verb({
  description:
    'Rehearses a containment: gets real tokens as an agent that is there for drills alone (drill: true in its file), revokes them, waits until every tool refuses them, and records how long it took. `errand drill history` shows earlier ones.',
  args: {
    what: { type: 'positional', description: 'history, or nothing to drill', required: false },
    agent: { type: 'string', valueHint: 'client_id', description: 'the agent to drill with' },
    tasks: { type: 'string', valueHint: 'n', description: 'tasks to open, with a token for each tool', default: '3' },
    probe: {
      type: 'string',
      valueHint: 'url',
      description: 'call it with a token of --tool, before and after: then the tool itself must refuse',
    },
    tool: { type: 'string', valueHint: 'name', description: 'tokens for this tool alone' },
    timeout: { type: 'string', valueHint: 'seconds', description: 'wait so long at most', default: '300' },
    'agent-key-file': {
      type: 'string',
      valueHint: 'path',
      description: 'the agent’s key (default keys/agents/<agent>.jwk)',
    },
    limit: { type: 'string', valueHint: 'n', description: 'of history: at most so many', default: '20' },
    ...JSON_FLAG,
  },
  examples: [
    'errand drill --agent fire-drill',
    'errand drill --agent fire-drill --tool tickets --probe https://tickets.example.com/tickets/0',
    'errand drill history',
  ],
  async run(args, cli) {
    if (args.what === 'history') return history(cli, count('limit', args.limit, 1000), args.json === true)
    if (args.what !== undefined) throw usage('errand drill, or errand drill history')
    if (args.agent === undefined) throw usage('say which agent is for drills: --agent')
    if (args.probe !== undefined && args.tool === undefined) throw usage('--probe needs --tool: whose token to send')
    if (args.probe !== undefined && !/^https?:\/\/./.test(args.probe)) throw usage('--probe is no URL')
    const tasks = count('tasks', args.tasks, 1000)
    const timeout = count('timeout', args.timeout, 86_400)
    const admin = await adminClient(cli)
    const tools = await toolsOf(admin, args.agent, args.tool)
    const agent = await agentOf(cli, args.agent, args['agent-key-file'])

    const tokens: string[] = []
    for (let at = 0; at < tasks; at += 1) tokens.push(...(await tokensOf(agent.client, tools)))
    cli.err(`${tokens.length} tokens in ${tasks} tasks, for ${tools.map(safe).join(', ')}`)
    const probe = async () => (args.probe === undefined ? undefined : await agent.call(args.probe, tokens.at(-1) ?? ''))
    const before = await probe()
    if (before !== undefined && (before < 200 || before > 299))
      throw new CliError(EXIT.refused, `${safe(args.probe)} answered ${before} to a good token: nothing was drilled`)

    const begun = await admin.post('/drills', { agent: args.agent })
    const id = text(begun['id']) ?? ''
    const began = cli.now()
    const { contained } = await waitContained(cli, admin, id, timeout)
    const milliseconds = Math.round((cli.now() - began) * 1000)
    const after = await probe()
    const probes = before === undefined || after === undefined ? [] : [{ url: args.probe, before, after }]
    const answer = await admin.post(`/drills/${id}/finish`, { tokens: tokens.length, milliseconds, probes })
    const held = contained && (after === undefined || after === 401)
    if (args.json) cli.out(json({ id, held, tokens: tokens.length, milliseconds, probes, ...answer }))
    else
      for (const line of facts(cli, [
        ['drill', held ? cli.colors.green('held') : cli.colors.red('did not hold')],
        ['revocation', id],
        ['tasks ended', begun['tasks_ended']],
        ['tokens', tokens.length],
        ['contained', contained ? `after ${(milliseconds / 1000).toFixed(2)} s` : `not within ${timeout} s`],
        ['probe', after === undefined ? undefined : `${before} before, ${after} after`],
      ]))
        cli.out(line)
    return held ? EXIT.ok : contained ? EXIT.refused : EXIT.late
  },
})

/** What its tokens are for; nobody else is drilled with. */
async function toolsOf(admin: Client, agent: string, only: string | undefined): Promise<readonly string[]> {
  const found = await admin.get(`/agents/${encodeURIComponent(agent)}`)
  if (found['drill'] !== true)
    throw new CliError(EXIT.refused, `${safe(agent)} is an agent in earnest: drills are for one with drill: true`, [
      'docs/revocation.md shows the file of one.',
    ])
  const ceiling = objects(found['ceiling']).flatMap((each) => text(each['tool']) ?? [])
  const tools = [...new Set(ceiling)].filter((tool) => only === undefined || tool === only)
  if (tools.length === 0) throw usage(`${safe(agent)} has nothing at ${safe(only ?? 'any tool')}`)
  return tools
}

/** A client that asks as the agent, and calls with its tokens. */
async function agentOf(cli: Cli, clientId: string, file: string | undefined) {
  const key = await keyAt(
    file ?? join(placesOf(cli).keysDir, 'agents', `${clientId}.jwk`),
    'Name the key of the agent for drills with --agent-key-file.',
  )
  const proofKey = await generatePrivateJwk('')
  const client = createClient(cli, await serviceOf(cli), { clientId, key, proofKey })
  return { client, call: (url: string, token: string) => call(cli, proofKey, url, token) }
}

/** Calls as the holder of the token would (RFC 9449 §7); answers the status. */
async function call(cli: Cli, { privateKey, publicJwk }: PrivateJwk, url: string, token: string): Promise<number> {
  const { kty, crv, x, y } = publicJwk
  const { origin, pathname } = new URL(url)
  const send = (nonce: string | null) =>
    fetchText(cli.fetch, url, {
      headers: {
        authorization: `DPoP ${token}`,
        dpop: signEs256(
          privateKey,
          { typ: TYP.dpop, jwk: { kty, crv, x, y } },
          {
            jti: randomUUID(),
            htm: 'GET',
            htu: origin + pathname,
            iat: Math.floor(cli.now()),
            ath: createHash('sha256').update(token).digest('base64url'),
            ...(nonce === null ? {} : { nonce }),
          },
        ),
      },
      timeoutMs: PROBE_TIMEOUT_MS,
      maxBytes: 1 << 20,
      signal: cli.signal,
    })
  const first = await send(null)
  const nonce = first.headers.get('dpop-nonce')
  return first.status === 401 && nonce !== null ? (await send(nonce)).status : first.status
}

async function history(cli: Cli, limit: number, asJson: boolean): Promise<Exit> {
  const answer = await (await adminClient(cli)).get('/drills', { limit: String(limit) })
  const drills = objects(answer['drills'])
  if (asJson) cli.out(json(answer))
  else if (drills.length === 0) cli.err('no drills yet')
  else
    for (const line of table(cli, drills, [
      { title: 'WHEN', cell: ({ t }) => time((number(t) ?? 0) / 1000) },
      { title: 'AGENT', cell: ({ agent }) => agent },
      { title: 'TASKS', cell: ({ details }) => object(details)['tasks'] },
      { title: 'TOKENS', cell: ({ details }) => object(details)['tokens'] },
      { title: 'CONTAINED', cell: ({ details }) => containedText(object(details)) },
      { title: 'TOOLS', cell: ({ details }) => toolsText(object(details)) },
      {
        title: 'PROBE',
        cell: ({ details }) =>
          objects(object(details)['probes'])
            .map(({ after }) => after)
            .join(' '),
      },
      { title: 'REVOCATION', cell: ({ cause }) => cause },
    ]))
      cli.out(line)
  return EXIT.ok
}

const containedText = ({ contained, milliseconds, failed }: Json): string =>
  failed !== undefined
    ? `failed: ${safe(failed)}`
    : contained === true
      ? `after ${((number(milliseconds) ?? 0) / 1000).toFixed(2)} s`
      : 'not in time'
const toolsText = ({ acknowledged, verifiers }: Json): string =>
  `${safe(acknowledged)} of ${safe(verifiers)} acknowledged`
