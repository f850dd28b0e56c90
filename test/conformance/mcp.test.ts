/** MCP authorization and RFC 9728, as the official client understands them, at a server that the verifier protects. */
import { createAgent, ErrandError, privateKeyJwt, type Task, type ToolAuthorization } from '@errand/agent'
import { createMcpAuth, createVerifier, type Verifier } from '@errand/verifier'
import { serve } from '@hono/node-server'
import {
  Client,
  discoverAuthorizationServerMetadata,
  discoverOAuthProtectedResourceMetadata,
  discoverOAuthServerInfo,
  extractWWWAuthenticateParams,
  StreamableHTTPClientTransport,
  type StreamableHTTPClientTransportOptions,
} from '@modelcontextprotocol/client'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import type { Server } from 'node:http'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { freePort, openRunning, type Running } from '../running.ts'

let running: Running
let verifier: Verifier
let server: Server
let mcpUrl: string
const clients: Client[] = []

beforeAll(async () => {
  const port = await freePort()
  mcpUrl = `http://127.0.0.1:${port}/mcp`
  // MCP: the resource is the server's own URL, so the tool is registered under it.
  running = await openRunning((file, text) =>
    file === 'tools/tickets.yaml' ? text.replace('https://tickets.example.com/', mcpUrl) : text,
  )
  verifier = createVerifier({
    issuer: running.issuer,
    audience: mcpUrl,
    tool: 'tickets',
    key: { ...(await running.jwk('tools/tickets.jwk')) },
    acceptDevelopmentTokens: true,
    mcpTools: { read_ticket: 'read_ticket', add_comment: 'add_comment' },
  })
  await verifier.ready()
  const auth = createMcpAuth(verifier)
  const handler = createMcpHandler(() => {
    const tickets = new McpServer({ name: 'tickets', version: '1.0.0' })
    const schema = z.object({ ticket_id: z.string(), text: z.string().optional() })
    for (const name of ['read_ticket', 'add_comment'])
      tickets.registerTool(
        name,
        { inputSchema: schema },
        auth.guard(name, async ({ ticket_id }: z.infer<typeof schema>, _context, caller) => ({
          content: [{ type: 'text' as const, text: `${caller.operation} ${ticket_id} for ${caller.subject}` }],
        })),
      )
    return tickets
  })
  const fetch = async (request: Request): Promise<Response> => {
    const info = await auth.authenticate(request)
    return info instanceof Response ? info : handler.fetch(request, { authInfo: info })
  }
  server = (await new Promise((resolve) => {
    const listening = serve({ fetch, hostname: '127.0.0.1', port }, () => resolve(listening))
  })) as unknown as Server
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
})
afterAll(async () => {
  verifier.close()
  server.closeAllConnections()
  await new Promise((resolve) => server.close(resolve))
  await running.close()
})

/** May read two tickets, and nothing else. */
const TWO_TICKETS: readonly ToolAuthorization[] = [
  {
    type: 'tool',
    tool: 'tickets',
    operations: ['read_ticket'],
    constraints: { type: 'object', properties: { ticket_id: { enum: ['7', '8'] } } },
  },
]

/** Two handles on one task: what the second holds, the first does not end by forgetting it. */
async function openTask(): Promise<{ readonly task: Task; readonly elsewhere: Task }> {
  const key = JSON.stringify(await running.jwk('agents/research.jwk'))
  const agent = createAgent({ issuer: running.issuer, evidence: privateKeyJwt({ clientId: 'research', key }) })
  const subjectToken = await running.userToken('alice', ['support', 'finance'])
  const task = await agent.task({
    subjectToken,
    purpose: 'Read what the customer wrote',
    environment: 'staging',
    dataClassification: 'internal',
    deadlineSeconds: 600,
  })
  return { task, elsewhere: await agent.task({ id: task.id, subjectToken }) }
}

async function connect(options: StreamableHTTPClientTransportOptions): Promise<Client> {
  const client = new Client({ name: 'research', version: '1.0.0' })
  clients.push(client)
  await client.connect(new StreamableHTTPClientTransport(new URL(mcpUrl), options))
  return client
}
/** The task's token and a proof for each request of the transport. */
const by =
  (task: Task): NonNullable<StreamableHTTPClientTransportOptions['fetch']> =>
  (url, init) =>
    task.fetch('tickets', url, init, { authorizationDetails: TWO_TICKETS })

describe('the MCP client', () => {
  it('calls the tools that its token grants, with the arguments that it grants, until the task ends', async () => {
    const { task, elsewhere } = await openTask()
    const client = await connect({ fetch: by(elsewhere) })
    expect((await client.listTools()).tools.map(({ name }) => name)).toEqual(['read_ticket', 'add_comment'])
    const call = (name: string, args: Record<string, unknown>) => client.callTool({ name, arguments: args })

    expect(await call('read_ticket', { ticket_id: '7' })).toMatchObject({
      content: [{ text: 'read_ticket 7 for dev|alice' }],
    })
    expect(await call('add_comment', { ticket_id: '7', text: 'hello' })).toMatchObject({
      isError: true,
      structuredContent: {
        error: 'insufficient_scope',
        error_description: 'operation add_comment is not granted',
      },
    })
    expect(await call('read_ticket', { ticket_id: '9' })).toMatchObject({
      isError: true,
      structuredContent: {
        error: 'insufficient_scope',
        error_description: expect.stringContaining('ticket_id'),
      },
    })
    expect((await call('read_ticket', { ticket_id: '8' })).isError).toBeUndefined()

    await task.complete()
    // The feed brings it; the agent then asks for another token, and is told why there is none.
    const refusal = await (async () => {
      for (;;) await call('read_ticket', { ticket_id: '7' })
    })().catch((error: unknown) => error)
    expect(refusal).toBeInstanceOf(ErrandError)
    expect(refusal).toMatchObject({ reason: 'task_not_active' })
  })

  it('RFC 9728 §5.1 finds the token service from the challenge, and comes back with a token of it', async () => {
    const { task } = await openTask()
    let authorized = false
    const challenges: ReturnType<typeof extractWWWAuthenticateParams>[] = []
    const client = await connect({
      fetch: (url, init) => (authorized ? by(task)(url, init) : fetch(url, init)),
      authProvider: {
        token: async () => undefined,
        async onUnauthorized({ response, serverUrl, fetchFn }) {
          const challenge = extractWWWAuthenticateParams(response)
          challenges.push(challenge)
          const { resourceMetadataUrl } = challenge
          const found = await discoverOAuthProtectedResourceMetadata(
            serverUrl,
            resourceMetadataUrl ? { resourceMetadataUrl } : {},
            fetchFn,
          )
          const [issuer = ''] = found.authorization_servers ?? []
          const metadata = await discoverAuthorizationServerMetadata(issuer, { fetchFn })
          authorized = metadata?.issuer === running.issuer
        },
      },
    })
    expect(challenges.map(({ resourceMetadataUrl, error }) => [resourceMetadataUrl?.href, error])).toEqual([
      [verifier.metadataUrl, undefined], // RFC 6750 §3.1: who brought no token did nothing wrong
    ])
    expect(await client.callTool({ name: 'read_ticket', arguments: { ticket_id: '7' } })).toMatchObject({
      content: [{ text: 'read_ticket 7 for dev|alice' }],
    })
  })

  it('RFC 9728 §3.1 finds the metadata where the standard puts it, and all of it fits', async () => {
    expect(verifier.metadataUrl).toBe(mcpUrl.replace('/mcp', '/.well-known/oauth-protected-resource/mcp'))
    const { authorizationServerUrl, authorizationServerMetadata, resourceMetadata } =
      await discoverOAuthServerInfo(mcpUrl)
    expect(new URL(authorizationServerUrl).origin).toBe(running.issuer)
    expect(authorizationServerMetadata).toMatchObject({
      issuer: running.issuer,
      token_endpoint: `${running.issuer}/token`,
    })
    expect(resourceMetadata).toMatchObject({
      resource: mcpUrl,
      authorization_servers: [running.issuer],
      scopes_supported: ['tickets:add_comment', 'tickets:read_ticket'],
      dpop_bound_access_tokens_required: true,
    })
  })

  it('is refused with a challenge for a token that is none, or that comes without its proof', async () => {
    const { task } = await openTask()
    const { accessToken } = await task.token({ tool: 'tickets', authorizationDetails: TWO_TICKETS })
    const refused = async (authorization: string) => {
      const response = await fetch(mcpUrl, { method: 'POST', headers: { authorization }, body: '{}' })
      return [response.status, extractWWWAuthenticateParams(response).error]
    }
    expect(await refused(`DPoP ${accessToken}`)).toEqual([401, 'invalid_dpop_proof'])
    expect(await refused(`Bearer ${accessToken}`)).toEqual([401, 'invalid_token'])
    expect(await refused('Bearer none')).toEqual([401, 'invalid_token'])
  })
})
