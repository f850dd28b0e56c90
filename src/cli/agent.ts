/** `errand agent`: the registered agents. */
import { EXIT } from './cli.ts'
import { find, noAgent, REASON, reasonOf } from './known.ts'
import type { Json } from './client.ts'
import { adminClient } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { object, objects, operationsOf, texts } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

export const list = verb({
  description: 'Lists the registered agents: how each proves what it is, and how far it may go.',
  args: { ...JSON_FLAG },
  examples: ['errand agent list', 'errand agent list --json | jq -r .agents[].client_id'],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).get('/agents')
    if (args.json) cli.out(json(answer))
    else
      for (const line of table(cli, objects(answer['agents']), [
        { title: 'AGENT', cell: (agent) => agent['client_id'] },
        { title: 'STAGE', cell: (agent) => agent['stage'] },
        { title: 'EVIDENCE', cell: (agent) => texts(agent['evidence']).join(' ') },
        {
          title: 'STATE',
          cell: (agent) => (agent['disabled'] === true ? 'disabled' : agent['autonomous'] === true ? 'autonomous' : ''),
          paint: (cell, agent) => (agent['disabled'] === true ? cli.colors.red(cell) : cell),
        },
        { title: 'NAME', cell: (agent) => agent['display_name'] },
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

export const show = verb({
  description: 'Shows one agent: its identity, its ceiling and to whom it may hand over.',
  args: { client_id: { type: 'positional', description: 'the agent', required: true }, ...JSON_FLAG },
  examples: ['errand agent show research'],
  async run(args, cli) {
    const client = await adminClient(cli)
    const agent = await find(client, `/agents/${encodeURIComponent(args.client_id)}`, () =>
      noAgent(client, args.client_id),
    )
    if (args.json) {
      cli.out(json(agent))
      return EXIT.ok
    }
    for (const line of facts(cli, [
      ['agent', agent['client_id']],
      ['name', agent['display_name']],
      ['owner', agent['owner']],
      ['spiffe id', agent['spiffe_id']],
      ['state', agent['disabled'] === true ? 'disabled' : 'enabled'],
      ['stage', agent['stage']],
      ['evidence', texts(agent['evidence']).join(' ')],
      ['minimum tier', agent['minimum_tier']],
      ['releases', texts(object(agent['release'])['registered']).join(' ')],
      ['autonomous', agent['autonomous'] === true ? 'yes' : 'no'],
      ['hands over to', texts(agent['delegates_to']).join(' ')],
      ['ceiling', operationsOf(agent['ceiling']).join(' ')],
      ['joined keys', objects(agent['joined_keys']).map(joinedKey).join(', ')],
      ['file', agent['file']],
    ]))
      cli.out(line)
    return EXIT.ok
  },
})

const joinedKey = (key: Json): string => `${safe(key['kid'])} (since ${time(key['joined_at'])}, by ${safe(key['by'])})`

const agentPath = (clientId: string, rest: string): string => `/agents/${encodeURIComponent(clientId)}${rest}`

export const joinToken = verb({
  description:
    'Makes a join token for the first start of an agent that has nothing else: one use, ten minutes at most. It is printed once, and only its digest is kept.',
  args: {
    client_id: { type: 'positional', description: 'the agent', required: true },
    lifetime: { type: 'string', valueHint: 'seconds', description: 'how long it may wait to be used', default: '600' },
    ...JSON_FLAG,
  },
  examples: ['errand agent join-token research > join-token', 'errand agent join-token research --lifetime 60'],
  async run(args, cli) {
    const lifetime_seconds = count('lifetime', args.lifetime, 600)
    const client = await adminClient(cli)
    const answer = await client.post(agentPath(args.client_id, '/join-tokens'), { lifetime_seconds })
    if (args.json) cli.out(json(answer))
    else {
      cli.out(String(answer['join_token']))
      cli.err(
        `good until ${time(answer['expires_at'])}, for one use: errand agent join ${safe(args.client_id)} < join-token`,
      )
    }
    return EXIT.ok
  },
})

export const removeKey = verb({
  description:
    'Removes a key that an agent registered with a join token: it proves nothing from now on. Tokens it got live on until they end; errand revoke ends them.',
  args: {
    client_id: { type: 'positional', description: 'the agent', required: true },
    kid: { type: 'positional', description: 'the key, as errand agent show shows it', required: true },
    reason: REASON,
    ...JSON_FLAG,
  },
  examples: ['errand agent remove-key research 3nQ… --reason "the host was lost"'],
  async run(args, cli) {
    reasonOf(args.reason)
    const client = await adminClient(cli)
    const answer = await client.post(agentPath(args.client_id, '/keys/remove'), { kid: args.kid, reason: args.reason })
    if (args.json) cli.out(json(answer))
    else cli.out(`removed ${safe(answer['kid'])}`)
    return EXIT.ok
  },
})
