import { Client, StreamableHTTPClientTransport } from '@modelcontextprotocol/client'
import {
  createMcpHandler,
  McpServer,
  OAuthError,
  OAuthErrorCode,
  requireBearerAuth,
} from '@modelcontextprotocol/server'
import { serve } from '@hono/node-server'
import type { Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { z } from 'zod'
import { createMcpAuth, createVerifier, type Verifier } from '@errand/verifier'
import { revocation } from './fake-log.ts'
import {
  AGENT,
  AUDIENCE,
  type Clock,
  createClock,
  createFakeService,
  type FakeService,
  ISSUER,
  proof,
} from './fake-service.ts'

let clock: Clock
let service: FakeService
let verifier: Verifier
let closing: (() => void)[]

beforeEach(() => {
  closing = []
  clock = createClock()
  // The MCP SDK compares expiry with the real clock.
  clock.now = Math.floor(Date.now() / 1000)
  service = createFakeService(clock)
  service.intercept = (path) => (path === '/revocations/stream' ? new Response(null, { status: 503 }) : undefined)
})
afterEach(() => {
  verifier.close()
  service.close()
  for (const close of closing) close()
})

function make(acceptBearer: boolean): Verifier {
  verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    tool: 'tickets',
    key: service.toolKey,
    fetch: service.fetch,
    now: () => clock.now,
    monotonic: () => clock.local,
    acceptBearer,
    mcpTools: { read_ticket: 'ticket.read', update_ticket: 'ticket.update', delete_ticket: 'ticket.delete' },
  })
  return verifier
}

function tickets(auth: ReturnType<typeof createMcpAuth>): McpServer {
  const server = new McpServer({ name: 'tickets', version: '1.0.0' })
  for (const name of ['read_ticket', 'update_ticket', 'delete_ticket', 'unmapped'])
    server.registerTool(
      name,
      { inputSchema: z.object({ id: z.string(), priority: z.number().optional() }) },
      auth.guard(name, async ({ id }: { id: string }, _context, caller) => ({
        content: [{ type: 'text' as const, text: `${caller.operation} ${id} by ${caller.agent}` }],
      })),
    )
  return server
}

async function listen(fetch: (request: Request) => Promise<Response>): Promise<string> {
  return new Promise((resolve) => {
    const server = serve({ fetch, port: 0, hostname: '127.0.0.1' }, () => {
      closing.push(() => {
        ;(server as Server).closeAllConnections()
        server.close()
      })
      resolve(`http://127.0.0.1:${(server.address() as AddressInfo).port}/`)
    })
  })
}

describe('an MCP server, reached by the official client', () => {
  async function connect(): Promise<{ client: Client; token: string }> {
    const auth = createMcpAuth(make(false))
    const handler = createMcpHandler(() => tickets(auth))
    const url = await listen(async (request) => {
      const info = await auth.authenticate(request)
      return info instanceof Response ? info : handler.fetch(request, { authInfo: info })
    })
    const token = await service.token()
    const client = new Client({ name: 'agent', version: '1.0.0' })
    // What the agent SDK's fetch does: a new proof for each request.
    const withProof = (input: string | URL, init?: RequestInit) => {
      const headers = new Headers(init?.headers)
      headers.set('authorization', `DPoP ${token}`)
      headers.set('dpop', proof(token, { now: clock.now, method: init?.method ?? 'GET', url }))
      return fetch(input, { ...init, headers })
    }
    await client.connect(new StreamableHTTPClientTransport(new URL(url), { fetch: withProof }))
    closing.push(() => void client.close())
    return { client, token }
  }

  test('tool calls are operations: granted, constrained, refused, revoked', async () => {
    const { client } = await connect()
    const call = async (name: string, args: Record<string, unknown>) => {
      const { isError, content, structuredContent } = await client.callTool({ name, arguments: args })
      return { isError: isError === true, content, structuredContent }
    }
    expect(await call('read_ticket', { id: '7' })).toMatchObject({
      isError: false,
      content: [{ text: `ticket.read 7 by ${AGENT}` }],
    })
    expect((await call('update_ticket', { id: '7', priority: 3 })).isError).toBe(false)
    expect(await call('update_ticket', { id: '7', priority: 4 })).toMatchObject({
      isError: true,
      structuredContent: { error: 'insufficient_scope', code: 'insufficient_scope' },
    })
    expect(await call('delete_ticket', { id: '7' })).toMatchObject({
      isError: true,
      structuredContent: { code: 'insufficient_scope' },
    })
    expect(await call('unmapped', { id: '7' })).toMatchObject({
      isError: true,
      structuredContent: { code: 'operation_unknown' },
    })

    await service.log.add(revocation({ agent: AGENT }))
    clock.pass(31)
    await expect(call('read_ticket', { id: '7' })).rejects.toThrow()
  })

  test('a stranger gets a challenge that leads to the metadata', async () => {
    const auth = createMcpAuth(make(false))
    const answer = await auth.authenticate(new Request(AUDIENCE, { method: 'POST', body: '{}' }))
    expect(answer).toBeInstanceOf(Response)
    expect((answer as Response).status).toBe(401)
    expect((answer as Response).headers.get('www-authenticate')).toContain('resource_metadata=')
    const metadata = await auth.authenticate(new Request(verifier.metadataUrl))
    expect(await (metadata as Response).json()).toMatchObject({ resource: AUDIENCE, authorization_servers: [ISSUER] })
  })
})

describe('as OAuthTokenVerifier of the MCP SDK', () => {
  const gate = () => {
    const auth = createMcpAuth(verifier, {
      oauthError: (code, message) =>
        new OAuthError(
          code === 'invalid_token'
            ? OAuthErrorCode.InvalidToken
            : code === 'insufficient_scope'
              ? OAuthErrorCode.InsufficientScope
              : OAuthErrorCode.ServerError,
          message,
        ),
    })
    return requireBearerAuth({ verifier: auth, expectedResource: new URL(AUDIENCE) })
  }
  const ask = async (token: string) => gate()(new Request(AUDIENCE, { headers: { authorization: `Bearer ${token}` } }))

  test('accepts a token bound to no key where the tool does', async () => {
    make(true)
    const short = await service.token({ cnf: undefined as never, exp: clock.now + 60 })
    expect(await ask(short)).toMatchObject({
      clientId: 'research',
      scopes: ['tickets:ticket.read', 'tickets:ticket.update'],
      expiresAt: clock.now + 60,
    })
  })

  test('E6 refuses a bound token, whose proof it cannot see, and a bearer token where the tool wants none', async () => {
    make(true)
    const bound = (await ask(await service.token())) as Response
    expect(bound.status).toBe(401)
    expect(await bound.json()).toMatchObject({ error: 'invalid_token' })
    verifier.close()
    make(false)
    const bearer = (await ask(await service.token({ cnf: undefined as never, exp: clock.now + 60 }))) as Response
    expect(bearer.status).toBe(401)
  })
})
