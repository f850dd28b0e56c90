/** An agent with the official MCP client, whose every request carries a task token and a proof of its key. */
import { createAgent, privateKeyJwt } from '@errand/agent'
import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import { ISSUER, key, userToken } from '../here.ts'

const SERVER = process.env['TOOL_URL'] ?? 'http://127.0.0.1:4473/mcp'

const agent = createAgent({
  issuer: ISSUER,
  evidence: privateKeyJwt({ clientId: 'research', key: key('agents/research.jwk') }),
})
const task = await agent.task({
  subjectToken: () => userToken('alice', ['support']),
  purpose: 'Find out why ticket 7 was charged twice',
  environment: 'development',
  dataClassification: 'internal',
  deadlineSeconds: 300,
})

// One ticket and nothing else, whatever a model that reads it is talked into.
const onlyTicket7 = {
  type: 'tool',
  tool: 'tickets',
  operations: ['read_ticket'],
  constraints: { type: 'object', properties: { ticket_id: { enum: ['7'] } } },
} as const

const client = new Client({ name: 'research', version: '1.0.0' })
await client.connect(
  new StreamableHTTPClientTransport(new URL(SERVER), {
    fetch: (url, init) => task.fetch('tickets', url, init, { authorizationDetails: [onlyTicket7] }),
  }),
)
console.log((await client.listTools()).tools.map(({ name }) => name).join(' '))
for (const [name, ticket_id] of [
  ['read_ticket', '7'],
  ['read_ticket', '8'],
  ['close_ticket', '7'],
] as const) {
  const { content } = await client.callTool({ name, arguments: { ticket_id } })
  console.log(name, ticket_id, JSON.stringify(content))
}
await client.close()
await task.complete()
