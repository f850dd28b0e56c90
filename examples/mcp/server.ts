/** An MCP server over HTTP: whoever connects is authenticated, and each tool call is authorized. */
import { createMcpAuth, createVerifier } from '@errand/verifier'
import { serve } from '@hono/node-server'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { z } from 'zod'
import { ISSUER, key } from '../here.ts'

const port = Number(process.env['PORT'] ?? 4473)

const verifier = createVerifier({
  issuer: ISSUER,
  audience: 'https://tickets.example.com/',
  tool: 'tickets',
  key: JSON.parse(key('tools/tickets.jwk')),
  acceptDevelopmentTokens: true, // `npm start` runs in development mode; never in production
  // MCP tool → operation at Errand: `mcp_tools` in config/tools/tickets.yaml.
  mcpTools: { read_ticket: 'read_ticket', add_comment: 'add_comment', close_ticket: 'close_ticket' },
})
const auth = createMcpAuth(verifier)

const handler = createMcpHandler(() => {
  const server = new McpServer({ name: 'tickets', version: '1.0.0' })
  const inputSchema = z.object({ ticket_id: z.string(), text: z.string().optional() })
  type Input = z.infer<typeof inputSchema>
  for (const name of ['read_ticket', 'add_comment', 'close_ticket'])
    server.registerTool(
      name,
      { inputSchema },
      // The callback runs for verified calls only; a refusal is the tool's error result, which a model can read.
      auth.guard(name, async ({ ticket_id }: Input, _context, caller) => ({
        content: [{ type: 'text' as const, text: `${caller.operation} of ticket ${ticket_id} for ${caller.subject}` }],
      })),
    )
  return server
})

async function answer(request: Request): Promise<Response> {
  const info = await auth.authenticate(request)
  return info instanceof Response ? info : handler.fetch(request, { authInfo: info })
}

await verifier.ready()
serve({ fetch: answer, hostname: '127.0.0.1', port }, () => console.log(`tickets: listening on port ${port}`))
