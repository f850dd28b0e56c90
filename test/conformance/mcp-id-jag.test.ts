/**
 * MCP enterprise-managed authorization, as the official client performs it unchanged: an identity provider gives it an
 * ID-JAG, we give it a token for that, bound to its DPoP key, and a server that the verifier protects takes the token.
 */
import { createMcpAuth, createVerifier, type Verifier } from '@errand/verifier'
import { serve } from '@hono/node-server'
import {
  Client,
  CrossAppAccessProvider,
  createPrivateKeyJwtAuth,
  discoverAndRequestJwtAuthGrant,
  DpopSession,
  exchangeJwtAuthGrant,
  type OAuthClientProvider,
  requestJwtAuthorizationGrant,
  StreamableHTTPClientTransport,
} from '@modelcontextprotocol/client'
import { createMcpHandler, McpServer } from '@modelcontextprotocol/server'
import { Hono } from 'hono'
import { exportJWK, generateKeyPair, type JWK, SignJWT } from 'jose'
import { writeFile } from 'node:fs/promises'
import type { Server } from 'node:http'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { z } from 'zod'
import { freePort, openRunning, type Running } from '../running.ts'

const closing: (() => unknown)[] = []
const listen = async (fetch: (request: Request) => Response | Promise<Response>, port: number): Promise<void> => {
  const server = (await new Promise((resolve) => {
    const listening = serve({ fetch, hostname: '127.0.0.1', port, overrideGlobalObjects: false }, () =>
      resolve(listening),
    )
  })) as unknown as Server
  closing.push(() => {
    server.closeAllConnections()
    return new Promise((resolve) => server.close(resolve))
  })
}

/** An identity provider with one client, of whose secret and grants it knows; it has never heard of Errand. */
async function openIdp(port: number, resourceServer: () => { readonly issuer: string; readonly client: string }) {
  const issuer = `http://127.0.0.1:${port}`
  const { privateKey, publicKey } = await generateKeyPair('RS256')
  const app = new Hono()
  app.get('/.well-known/oauth-authorization-server', (c) =>
    c.json({
      issuer,
      authorization_endpoint: `${issuer}/authorize`,
      token_endpoint: `${issuer}/token`,
      jwks_uri: `${issuer}/jwks`,
      response_types_supported: ['code'],
      identity_chaining_requested_token_types_supported: ['urn:ietf:params:oauth:token-type:id-jag'],
    }),
  )
  app.get('/jwks', async (c) =>
    c.json({ keys: [{ ...(await exportJWK(publicKey)), kid: 'idp-1', use: 'sig', alg: 'RS256' }] }),
  )
  app.post('/token', async (c) => {
    const form = new URLSearchParams(await c.req.text())
    if (form.get('client_secret') !== 'secret at the idp') return c.json({ error: 'invalid_client' }, 401)
    const { issuer: aud, client } = resourceServer()
    if (form.get('audience') !== new URL(aud).href) return c.json({ error: 'invalid_target' }, 400)
    const access_token = await new SignJWT({
      client_id: client,
      resource: form.get('resource'),
      ...(form.has('scope') ? { scope: form.get('scope') } : {}),
      email: 'alice@company.example',
      groups: ['support'],
    })
      .setProtectedHeader({ alg: 'RS256', typ: 'oauth-id-jag+jwt', kid: 'idp-1' })
      .setIssuer(issuer)
      .setSubject('00u1alice')
      .setAudience(aud)
      .setJti(crypto.randomUUID())
      .setIssuedAt()
      .setExpirationTime('5m')
      .sign(privateKey)
    const issued_token_type = 'urn:ietf:params:oauth:token-type:id-jag'
    return c.json({ access_token, issued_token_type, token_type: 'N_A', expires_in: 300 })
  })
  await listen(app.fetch, port)
  return issuer
}

const DEFAULT_TASK =
  'default_task: { purpose: Help in the editor, environment: staging, data_classification: internal }\n'

/** `home` is the company's own Errand; `desk` that of whoever runs the ticket desk, before its MCP server. */
let home: Running
let desk: Running
let idp: string
let verifier: Verifier
let mcpUrl: string
let key: JWK
let homeKey: JWK
const clients: Client[] = []

beforeAll(async () => {
  const [mcpPort, idpPort] = [await freePort(), await freePort()]
  mcpUrl = `http://127.0.0.1:${mcpPort}/mcp`
  idp = await openIdp(idpPort, () => ({ issuer: desk.issuer, client: 'research' }))
  const trusted = (name: string, issuer: string, jwks: string, algorithm: string) =>
    [
      'kind: user',
      `name: ${name}`,
      `issuer: ${issuer}`,
      `jwks_uri: ${jwks}`,
      `algorithms: [${algorithm}]`,
      'audiences: [https://nobody.example]',
      'id_jag: {}',
      'may_delegate: true',
      'rights: { "*": [tickets:read_ticket, tickets:add_comment] }',
      '',
    ].join('\n')
  desk = await openRunning(
    (file, text) => (file === 'tools/tickets.yaml' ? text.replace('https://tickets.example.com/', mcpUrl) : text),
    {
      'agents/research.yaml': (text) => text + DEFAULT_TASK,
      'issuers/idp.yaml': trusted('idp', idp, `${idp}/jwks`, 'RS256'),
    },
  )
  home = await openRunning(
    (file, text) => (file === 'issuers/dev.yaml' ? text.replace('  support:\n', '  support:\n    - desk:*\n') : text),
    {
      'agents/research.yaml': (text) => text.replace('ceiling:\n', 'ceiling:\n  - desk:*\n') + DEFAULT_TASK,
      'tools/desk.yaml': [
        'name: desk',
        `audience: ${mcpUrl}`,
        'takes:',
        '  kind: id_jag',
        `  authorization_server: ${desk.issuer}`,
        '  clients: { research: research }',
        '  act: true',
        '  scopes: { read: tickets:read_ticket, comment: tickets:add_comment }',
        'operations: { read: { effect: read }, comment: { effect: reversible_write } }',
        '',
      ].join('\n'),
    },
  )
  // Each knows the other: the desk learns of home when that has a place.
  const jwks = `${home.issuer}/.well-known/jwks.json`
  await writeFile(join(desk.folder, 'config/issuers/home.yaml'), trusted('home', home.issuer, jwks, 'ES256'))
  expect(await desk.service.reload()).toBe(true)
  key = await desk.jwk('agents/research.jwk')
  homeKey = await home.jwk('agents/research.jwk')
  verifier = createVerifier({
    issuer: desk.issuer,
    audience: mcpUrl,
    tool: 'tickets',
    key: { ...(await desk.jwk('tools/tickets.jwk')) },
    acceptDevelopmentTokens: true,
    mcpTools: { read_ticket: 'read_ticket', add_comment: 'add_comment' },
  })
  await verifier.ready()
  const auth = createMcpAuth(verifier)
  const handler = createMcpHandler(() => {
    const tickets = new McpServer({ name: 'tickets', version: '1.0.0' })
    const schema = z.object({ ticket_id: z.string() })
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
  await listen(async (request) => {
    const info = await auth.authenticate(request)
    return info instanceof Response ? info : handler.fetch(request, { authInfo: info })
  }, mcpPort)
})
afterEach(async () => {
  for (const client of clients.splice(0)) await client.close()
})
afterAll(async () => {
  verifier.close()
  for (const close of closing) await close()
  await home.close()
  await desk.close()
})

const clientAuthentication = (jwk: JWK): NonNullable<OAuthClientProvider['addClientAuthentication']> =>
  createPrivateKeyJwtAuth({ issuer: 'research', subject: 'research', privateKey: { ...jwk }, alg: 'ES256' })

/** The client's own provider, with the key that the client library signs with, and its DPoP session. */
async function providerBy(
  assertion: ConstructorParameters<typeof CrossAppAccessProvider>[0]['assertion'],
): Promise<{ readonly provider: OAuthClientProvider; readonly session: DpopSession }> {
  const session = await DpopSession.create()
  const provider = Object.assign(
    new CrossAppAccessProvider({ assertion, clientId: 'research', clientSecret: 'none', expectedIssuer: desk.issuer }),
    { addClientAuthentication: clientAuthentication(key), dpop: () => session },
  )
  return { provider, session }
}

async function connect(authProvider: OAuthClientProvider): Promise<Client> {
  const client = new Client({ name: 'research', version: '1.0.0' })
  clients.push(client)
  await client.connect(new StreamableHTTPClientTransport(new URL(mcpUrl), { authProvider }))
  return client
}
const claimsOf = (token: string | undefined) =>
  JSON.parse(Buffer.from((token ?? '').split('.')[1] ?? '', 'base64url').toString('utf8')) as Record<string, unknown>

describe('the MCP client with an identity provider', () => {
  it('finds us from the server, brings its ID-JAG, answers our nonce, and calls the tool with a bound token', async () => {
    const { provider, session } = await providerBy(async ({ authorizationServerUrl, resourceUrl, scope, fetchFn }) => {
      const { jwtAuthGrant } = await discoverAndRequestJwtAuthGrant({
        idpUrl: idp,
        audience: new URL(authorizationServerUrl).href,
        resource: resourceUrl,
        idToken: 'an id token of its session there',
        clientId: 'editor-at-idp',
        clientSecret: 'secret at the idp',
        ...(scope === undefined ? {} : { scope }),
        fetchFn,
      })
      return jwtAuthGrant
    })
    const client = await connect(provider)
    expect(await client.callTool({ name: 'read_ticket', arguments: { ticket_id: '7' } })).toMatchObject({
      content: [{ text: 'read_ticket 7 for idp|00u1alice' }],
    })
    expect(await client.callTool({ name: 'add_comment', arguments: { ticket_id: '7' } })).toMatchObject({
      content: [{ text: 'add_comment 7 for idp|00u1alice' }],
    })
    const tokens = await provider.tokens()
    expect(tokens).toMatchObject({ token_type: 'DPoP', scope: 'tickets:add_comment tickets:read_ticket' })
    expect(claimsOf(tokens?.access_token)).toMatchObject({
      aud: mcpUrl,
      client_id: 'research',
      cnf: { jkt: session.thumbprint },
    })
  })

  it('reads why it gets nothing for an ID-JAG that is spent, or another client’s', async () => {
    const { jwtAuthGrant } = await requestJwtAuthorizationGrant({
      tokenEndpoint: `${idp}/token`,
      audience: new URL(desk.issuer).href,
      resource: mcpUrl,
      idToken: 'an id token',
      clientId: 'editor-at-idp',
      clientSecret: 'secret at the idp',
    })
    const asked = async () => (await connect((await providerBy(async () => jwtAuthGrant)).provider)).listTools()
    expect((await asked()).tools).toHaveLength(2)
    await expect(asked()).rejects.toThrow(/one-use token has been used/)
    // Without its key it is nobody: a secret is no evidence here.
    const unauthenticated = exchangeJwtAuthGrant({
      tokenEndpoint: `${desk.issuer}/token`,
      jwtAuthGrant,
      clientId: 'research',
      clientSecret: 'guessed',
    })
    await expect(unauthenticated).rejects.toThrow(/invalid_client/)
  })
})

describe('the MCP client between two houses', () => {
  it('gets an ID-JAG of ours by exchange, and at the other house a token for the tool, with who acted in it', async () => {
    const atHome = clientAuthentication(homeKey)
    /**
     * To an identity provider the client sends no evidence but a secret: its `fetchFn` adds what home asks for, by the
     * client's own hands, and so the ID-JAG is bound to the key that the desk is shown.
     */
    const authenticated: typeof fetch = async (url, init) => {
      if (init?.method !== 'POST') return fetch(url, init)
      const once = async () => {
        const headers = new Headers(init.headers)
        const params = new URLSearchParams(String(init.body))
        await atHome(headers, params, String(url), { issuer: home.issuer } as never)
        headers.set('dpop', await session.buildProof({ htm: 'POST', htu: String(url) }))
        const response = await fetch(url, { ...init, headers, body: params.toString() })
        session.observeNonce(response, String(url))
        return response
      }
      const first = await once()
      return first.status === 400 && /use_dpop_nonce/.test(await first.clone().text()) ? once() : first
    }
    const { provider, session } = await providerBy(async ({ authorizationServerUrl, resourceUrl, scope }) => {
      const { jwtAuthGrant } = await discoverAndRequestJwtAuthGrant({
        idpUrl: home.issuer,
        audience: new URL(authorizationServerUrl).href,
        resource: resourceUrl,
        idToken: await home.userToken('alice', ['support']),
        clientId: 'research',
        ...(scope === undefined ? {} : { scope }),
        fetchFn: authenticated,
      })
      return jwtAuthGrant
    })
    const client = await connect(provider)
    expect(await client.callTool({ name: 'read_ticket', arguments: { ticket_id: '7' } })).toMatchObject({
      content: [{ text: 'read_ticket 7 for home|dev|alice' }],
    })
    expect(claimsOf((await provider.tokens())?.access_token)).toMatchObject({
      iss: desk.issuer,
      sub: 'home|dev|alice',
      cnf: { jkt: session.thumbprint },
      act: {
        sub: 'spiffe://company.example/agents/research',
        act: { sub: 'spiffe://company.example/agents/research' },
      },
    })
  })
})
