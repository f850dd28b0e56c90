/** `errand agent`: the registered agents. */
import { EXIT } from './cli.ts'
import { find, noAgent } from './known.ts'
import { adminClient } from './places.ts'
import { facts, json, table } from './print.ts'
import { objects, operationsOf, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

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
      ['autonomous', agent['autonomous'] === true ? 'yes' : 'no'],
      ['hands over to', texts(agent['delegates_to']).join(' ')],
      ['ceiling', operationsOf(agent['ceiling']).join(' ')],
      ['file', agent['file']],
    ]))
      cli.out(line)
    return EXIT.ok
  },
})
