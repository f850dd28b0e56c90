/**
 * One contender as a process of its own, named by its first argument; its keys come as JSON in the second. Prints its
 * port. Ends cleanly on SIGTERM, so that `--cpu-prof` writes its profile.
 */
import { createServer, type IncomingMessage, type RequestListener } from 'node:http'
import { createAdaptorServer } from '@hono/node-server'
import { Hono } from 'hono'
import { type LimitKeys, limitOf } from './limit.ts'
import { exchangeProvider, type ProviderKeys } from './provider.ts'

const [kind = '', keys = '{}'] = process.argv.slice(2)
/** As long as our own answer to an exchange. */
const ANSWER = JSON.stringify({ access_token: 'a'.repeat(1100), authorization_details: ['b'.repeat(400)] })

function read(request: IncomingMessage, then: (body: string) => string): Promise<string> {
  return new Promise((resolve, reject) => {
    let body = ''
    request.setEncoding('latin1')
    request.on('data', (chunk: string) => {
      body += chunk
    })
    request.on('end', () => resolve(then(body)))
    request.on('error', reject)
  })
}

const plain =
  (then: (body: string, request: IncomingMessage) => string): RequestListener =>
  (request, response) =>
    void read(request, (body) => then(body, request)).then(
      (answer) => {
        response.writeHead(200, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(answer) })
        response.end(answer)
      },
      () => response.writeHead(400).end(),
    )

async function listenerOf(): Promise<RequestListener | 'hono'> {
  switch (kind) {
    case 'hono':
      return 'hono'
    case 'http':
      return plain(() => ANSWER)
    case 'limit': {
      const limit = limitOf(JSON.parse(keys) as LimitKeys, ANSWER)
      return plain((body, request) => limit(body, String(request.headers['dpop'])))
    }
    case 'oidc-provider':
      return exchangeProvider(JSON.parse(keys) as ProviderKeys)
    default:
      throw new Error(`there is no contender ${kind}`)
  }
}

const listener = await listenerOf()
const server =
  listener === 'hono'
    ? createAdaptorServer({
        fetch: new Hono().post('/token', async (c) => {
          await c.req.text()
          return c.body(ANSWER, 200, { 'content-type': 'application/json' })
        }).fetch,
      })
    : createServer(listener)
server.listen(0, '127.0.0.1', () => console.log((server.address() as { port: number }).port))
process.on('SIGTERM', () => process.exit(0))
