import { createServer, request as httpRequest, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import express from 'express'
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { honoMiddleware, nodeMiddleware, protectFetch, type NodeRequest } from '@errand/verifier'
import { createVerifier, type VerifiedCall, type Verifier } from '@errand/verifier/verifier.ts'
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
let closing: (() => void) | undefined

beforeEach(() => {
  clock = createClock()
  service = createFakeService(clock)
  service.intercept = (path) => (path === '/revocations/stream' ? new Response(null, { status: 503 }) : undefined)
  verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    tool: 'tickets',
    name: 'Tickets',
    key: service.toolKey,
    fetch: service.fetch,
    now: () => clock.now,
    monotonic: () => clock.local,
    routes: [
      { method: 'GET', path: '/tickets/:id', operation: 'ticket.read' },
      { method: 'PUT', path: '/tickets/:id', operation: 'ticket.update' },
      { method: 'DELETE', path: '/tickets/:id', operation: 'ticket.delete' },
    ],
  })
})
afterEach(() => {
  verifier.close()
  service.close()
  closing?.()
  closing = undefined
})

const listening = async (server: Server): Promise<string> => {
  if (!server.listening) await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
  closing = () => {
    server.closeAllConnections()
    server.close()
  }
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}`
}

/** What a handler answers: who it was called by, and the body that it can still read. */
const shown = (caller: VerifiedCall, body: unknown) => ({
  agent: caller.agent,
  operation: caller.operation,
  arguments: caller.arguments,
  body,
})

const frameworks: Record<string, () => Promise<string>> = {
  'a Fetch-style handler': async () => {
    const handle = protectFetch(verifier, async (request, caller) =>
      Response.json(shown(caller, request.method === 'PUT' ? await request.json() : null)),
    )
    return new Promise((resolve) => {
      const server = serve({ fetch: handle, port: 0, hostname: '127.0.0.1' }, () =>
        resolve(listening(server as Server)),
      )
    })
  },
  Hono: async () => {
    const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
    app.use(honoMiddleware(verifier))
    app.get('/tickets/:id', (c) => c.json(shown(c.get('caller'), null)))
    app.put('/tickets/:id', async (c) => c.json(shown(c.get('caller'), await c.req.json())))
    return new Promise((resolve) => {
      const server = serve({ fetch: app.fetch, port: 0, hostname: '127.0.0.1' }, () =>
        resolve(listening(server as Server)),
      )
    })
  },
  Express: async () => {
    const app = express()
    app.use(nodeMiddleware(verifier))
    app.use(express.json())
    app.all('/tickets/:id', (request, response) => {
      const { caller, body } = request as NodeRequest
      response.json(shown(caller!, body ?? null))
    })
    return listening(createServer(app))
  },
  'Express that has parsed the body before': async () => {
    const app = express()
    app.use(express.json())
    app.use(nodeMiddleware(verifier))
    app.all('/tickets/:id', (request, response) => {
      const { caller, body } = request as NodeRequest
      response.json(shown(caller!, body ?? null))
    })
    return listening(createServer(app))
  },
  'node:http': async () => {
    const guard = nodeMiddleware(verifier)
    return listening(
      createServer((request: NodeRequest, response) =>
        guard(request, response, (error) => {
          if (error) response.writeHead(500).end()
          else
            response
              .writeHead(200, { 'content-type': 'application/json' })
              .end(JSON.stringify(shown(request.caller!, request.body ?? null)))
        }),
      ),
    )
  },
}

describe.each(Object.keys(frameworks))('%s', (framework) => {
  async function call(method: string, path: string, body?: object, claims = {}) {
    const token = await service.token(claims)
    return fetch(`${base}${path}`, {
      method,
      headers: {
        authorization: `DPoP ${token}`,
        dpop: proof(token, { now: clock.now, method, url: `${base}${path}` }),
        ...(body ? { 'content-type': 'application/json' } : {}),
      },
      ...(body ? { body: JSON.stringify(body) } : {}),
    })
  }
  let base: string
  beforeEach(async () => {
    base = await frameworks[framework]!()
  })

  test('hands the verified caller and the judged arguments to the handler', async () => {
    const got = await call('GET', '/tickets/7?fields=title')
    expect(await got.json()).toEqual({
      agent: AGENT,
      operation: 'ticket.read',
      arguments: { id: '7', fields: 'title' },
      body: null,
    })
    const put = await call('PUT', '/tickets/7', { priority: 3 })
    expect(await put.json()).toEqual({
      agent: AGENT,
      operation: 'ticket.update',
      arguments: { id: '7', priority: 3 },
      body: { priority: 3 },
    })
  })

  test('answers refusals as the RFCs say, with a stable code', async () => {
    const stranger = await fetch(`${base}/tickets/7`)
    expect(stranger.status).toBe(401)
    expect(stranger.headers.get('www-authenticate')).toMatch(
      /^DPoP resource_metadata="https:\/\/tickets\.example\.com\/\.well-known/,
    )
    expect(await stranger.json()).toMatchObject({ error: 'invalid_token', code: 'token_required' })

    const constrained = await call('PUT', '/tickets/7', { priority: 9 })
    expect(constrained.status).toBe(403)
    expect(constrained.headers.get('www-authenticate')).toContain('scope="tickets:ticket.update"')
    expect(await constrained.json()).toMatchObject({ error: 'insufficient_scope', code: 'insufficient_scope' })

    const unknown = await call('GET', '/admin')
    expect(unknown.status).toBe(403)
    expect(await unknown.json()).toMatchObject({ code: 'operation_unknown' })

    const ungranted = await call('DELETE', '/tickets/7')
    expect(ungranted.status).toBe(403)
    expect(await ungranted.json()).toMatchObject({ code: 'insufficient_scope' })

    const ambiguous = await call('PUT', '/tickets/7', { id: '8' })
    expect(ambiguous.status).toBe(400)
    expect(await ambiguous.json()).toMatchObject({ code: 'bad_arguments' })

    service.intercept = () => {
      throw new TypeError('away')
    }
    clock.pass(31)
    const stale = await call('GET', '/tickets/7')
    expect(stale.status).toBe(503)
    expect(stale.headers.get('retry-after')).toBe('1')
    expect(await stale.json()).toMatchObject({ error: 'temporarily_unavailable', code: 'revocation_state_stale' })
  })

  test('RFC 9728 serves the metadata to anybody', async () => {
    const answer = await fetch(`${base}/.well-known/oauth-protected-resource`)
    expect(answer.status).toBe(200)
    expect(answer.headers.get('content-type')).toContain('application/json')
    expect(await answer.json()).toEqual({
      resource: AUDIENCE,
      authorization_servers: [ISSUER],
      bearer_methods_supported: ['header'],
      scopes_supported: ['tickets:ticket.delete', 'tickets:ticket.read', 'tickets:ticket.update'],
      resource_name: 'Tickets',
      authorization_details_types_supported: ['tool'],
      dpop_signing_alg_values_supported: ['ES256', 'EdDSA'],
      dpop_bound_access_tokens_required: true,
    })
  })

  test('A18 sees a second Authorization header on the wire', async () => {
    const token = await service.token()
    const status = await new Promise<number>((resolve, reject) => {
      const sent = httpRequest(`${base}/tickets/7`, (answer) => {
        answer.resume()
        resolve(answer.statusCode ?? 0)
      })
      sent.setHeader('authorization', [`DPoP ${token}`, `DPoP ${token}`])
      sent.setHeader('dpop', proof(token, { now: clock.now, url: `${base}/tickets/7` }))
      sent.on('error', reject).end()
    })
    expect(status).toBe(401)
  })

  test('H1 a body that is too long never reaches the handler', async () => {
    const token = await service.token()
    const long = await fetch(`${base}/tickets/7`, {
      method: 'PUT',
      headers: {
        authorization: `DPoP ${token}`,
        dpop: proof(token, { now: clock.now, method: 'PUT', url: `${base}/tickets/7` }),
        'content-type': 'application/json',
      },
      body: JSON.stringify({ text: 'x'.repeat(1_100_000) }),
    }).catch(() => undefined)
    // Express' own parser answers first where it stands first; a connection may be closed under the rest of the body.
    if (long) expect(long.status).toBe(413)
  })
})

test('RFC 9728 §3.1: a resource with a path has its metadata under that path', () => {
  const it = createVerifier({ issuer: ISSUER, audience: 'https://tools.example.com/mcp/tickets', fetch: service.fetch })
  expect(it.metadataUrl).toBe('https://tools.example.com/.well-known/oauth-protected-resource/mcp/tickets')
  expect(it.metadata.dpop_bound_access_tokens_required).toBe(true)
  it.close()
})

test('H1 the body of a stranger is not read', async () => {
  let pulled = 0
  const body = new ReadableStream<Uint8Array>(
    {
      pull(controller) {
        pulled += 1
        controller.enqueue(new Uint8Array(1024))
      },
    },
    { highWaterMark: 0 },
  )
  const init = { method: 'PUT', body, duplex: 'half' as const, headers: { 'content-type': 'application/json' } }
  const answer = await protectFetch(verifier, () => new Response())(new Request(`${AUDIENCE}tickets/7`, init))
  expect(answer.status).toBe(401)
  expect(pulled).toBe(0)
})

test('what is no refusal is thrown on, not answered as one', async () => {
  const broken = { ...verifier, authenticate: async () => Promise.reject(new Error('a bug')) }
  const handle = protectFetch(broken, () => new Response())
  await expect(handle(new Request(AUDIENCE))).rejects.toThrow('a bug')
})
