/** A token for one operation reaches no other one's handler, however the path is spelt, in front of real routers. */
import { createServer, request as httpRequest, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { serve } from '@hono/node-server'
import express from 'express'
import { Hono } from 'hono'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { honoMiddleware, nodeMiddleware, protectFetch, type NodeRequest } from '@errand/verifier'
import { createVerifier, type VerifiedCall, type Verifier } from '@errand/verifier/verifier.ts'
import { AUDIENCE, type Clock, createClock, createFakeService, type FakeService, ISSUER } from './fake-service.ts'

let clock: Clock
let service: FakeService
let verifier: Verifier
let closing: (() => void) | undefined
/** Handlers that ran. */
let reached: string[]

beforeEach(() => {
  clock = createClock()
  service = createFakeService(clock)
  verifier = createVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    fetch: service.fetch,
    now: () => clock.now,
    monotonic: () => clock.local,
    // No proof names what is spelt so: it would be refused before its operation is looked for.
    acceptBearer: true,
    routes: [
      { method: 'GET', path: '/tickets/:id', operation: 'ticket.read' },
      { method: 'GET', path: '/tickets/export', operation: 'ticket.export' },
    ],
  })
  reached = []
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
const listeningFetch = (handle: (request: Request) => Response | Promise<Response>): Promise<string> =>
  new Promise((resolve) => {
    const server = serve({ fetch: handle, port: 0, hostname: '127.0.0.1' }, () => resolve(listening(server as Server)))
  })

/** A router as people write them: the URL parser's path, decoded, in lower case. */
function byHand(url: string): 'export' | 'read' | undefined {
  const path = decodeURIComponent(new URL(url, 'http://tool').pathname).toLowerCase()
  return path === '/tickets/export' ? 'export' : /^\/tickets\/[^/]+$/.test(path) ? 'read' : undefined
}
function ran(handler: 'export' | 'read' | undefined, caller: VerifiedCall | undefined): object {
  if (handler) reached.push(handler)
  return { handler, arguments: caller?.arguments }
}

const frameworks: Record<string, (guarded: boolean) => Promise<string>> = {
  'a Fetch-style handler': (guarded) => {
    const handle = (request: Request, caller?: VerifiedCall) => Response.json(ran(byHand(request.url), caller))
    return listeningFetch(guarded ? protectFetch(verifier, handle) : (request) => handle(request))
  },
  Hono: (guarded) => {
    const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
    if (guarded) app.use(honoMiddleware(verifier))
    app.get('/tickets/export', (c) => c.json(ran('export', c.get('caller'))))
    app.get('/tickets/:id', (c) => c.json(ran('read', c.get('caller'))))
    return listeningFetch((request) => app.fetch(request))
  },
  Express: (guarded) => {
    const app = express()
    if (guarded) app.use(nodeMiddleware(verifier))
    app.get('/tickets/export', (request, response) => {
      response.json(ran('export', (request as NodeRequest).caller))
    })
    app.get('/tickets/:id', (request, response) => {
      response.json(ran('read', (request as NodeRequest).caller))
    })
    return listening(createServer(app))
  },
  'node:http': (guarded) => {
    const handle = (request: NodeRequest, response: ServerResponse) =>
      response.end(JSON.stringify(ran(byHand(request.url ?? ''), request.caller)))
    const guard = nodeMiddleware(verifier)
    return listening(
      createServer((request, response) => {
        if (guarded) guard(request, response, () => handle(request, response))
        else handle(request, response)
      }),
    )
  },
}

/** The target goes over the wire as it is written: `fetch` would tidy it. */
async function call(base: string, target: string): Promise<{ readonly status: number; readonly text: string }> {
  const token = await service.token({ cnf: undefined as never, exp: clock.now + 60 })
  return new Promise((resolve, reject) => {
    const { hostname, port } = new URL(base)
    const sent = httpRequest(
      { hostname, port, path: target, headers: { authorization: `Bearer ${token}` } },
      (answer) => {
        let text = ''
        answer.setEncoding('utf8').on('data', (chunk: string) => {
          text += chunk
        })
        answer.on('end', () => resolve({ status: answer.statusCode ?? 0, text }))
      },
    )
    sent.on('error', reject).end()
  })
}

const OTHERWISE = [
  '/tickets/%65xport',
  '/tickets/expor%74',
  '/tickets/%45XPORT',
  '/tickets/EXPORT',
  '/tickets/Export',
  '/%74ickets/export',
  '/TICKETS/export',
  '/tickets/export/',
  '/tickets//export',
  '//tickets/export',
  '/tickets%2Fexport',
  '/tickets%2fexport',
  '/tickets%5Cexport',
]
/** What the URL parser makes the path itself of, before a Fetch-style handler sees it. */
const TIDIED = [
  '/tickets/./export',
  '/tickets/%2e/export',
  '/tickets/x/../export',
  '/tickets/x/%2E%2E/export',
  '/tickets\\export',
  'http://tool\\tickets\\export',
  'http:///tickets/export',
]
const FOLDS: Record<string, readonly string[]> = {
  'a Fetch-style handler': ['/tickets/%65xport', '/tickets/EXPORT', '/tickets%2Fexport'],
  Hono: ['/tickets/%65xport', '/%74ickets/expor%74'],
  Express: ['/tickets/EXPORT', '/TICKETS/export', '/tickets/export/'],
  'node:http': ['/tickets/%65xport', '/tickets/EXPORT', '/tickets%2Fexport', '/tickets\\export'],
}

describe.each(Object.keys(frameworks))('%s', (framework) => {
  test('would take these for the other operation, were it alone', async () => {
    const base = await frameworks[framework]!(false)
    for (const target of FOLDS[framework]!) await call(base, target)
    expect(reached).toEqual(FOLDS[framework]!.map(() => 'export'))
  })

  test('C7 G10 hands a token for one ticket to no other operation, however its path is spelt', async () => {
    const base = await frameworks[framework]!(true)
    for (const target of OTHERWISE) {
      const { status, text } = await call(base, target)
      expect([target, status], text).toEqual([target, 403])
      expect(text).toContain('"operation_unknown"')
    }
    for (const target of TIDIED) {
      const { status, text } = await call(base, target)
      // Tidied it is the export itself, which this token does not grant; some are no request to Node at all.
      expect([400, 403], `${target}: ${status} ${text}`).toContain(status)
    }
    const literal = await call(base, '/tickets/export')
    expect([literal.status, literal.text]).toEqual([403, expect.stringContaining('"insufficient_scope"')])
    expect(reached).toEqual([])
  })

  test('serves what is spelt canonically, and decodes what must be escaped once', async () => {
    const base = await frameworks[framework]!(true)
    for (const [target, id] of [
      ['/tickets/7', '7'],
      ['/tickets/Exports', 'Exports'],
      ['/tickets/a%20b', 'a b'],
      ['/tickets/caf%C3%A9', 'café'],
      ['/tickets/%2565xport', '%65xport'],
      ['/tickets/a@b', 'a@b'],
      ['/tickets/a%40b', 'a@b'],
    ] as const) {
      const { text } = await call(base, target)
      expect(JSON.parse(text)).toEqual({ handler: 'read', arguments: { id } })
    }
  })
})
