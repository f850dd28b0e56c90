/** A token service and a tool API on loopback that say what each test tells them to, and note what they were sent. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingHttpHeaders, type RequestListener, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { calculateJwkThumbprint, decodeJwt, decodeProtectedHeader, EmbeddedJWK, jwtVerify } from 'jose'

export interface Seen {
  readonly method: string
  readonly path: string
  readonly headers: IncomingHttpHeaders
  readonly body: string
  readonly form: URLSearchParams
}

export interface Says {
  readonly status?: number
  readonly headers?: Record<string, string>
  readonly body?: unknown
  /** Breaks the connection instead of answering. */
  readonly reset?: true
}

export interface Double {
  readonly url: string
  readonly seen: Seen[]
  readonly at: (path: string) => Seen[]
  close(): Promise<void>
}

export type Answer = (request: Seen, count: number) => Says | Promise<Says>

export async function serve(answer: Answer, make = (listener: RequestListener): Server => createServer(listener)) {
  const seen: Seen[] = []
  const server = make((request, response) => {
    const chunks: Buffer[] = []
    request.on('data', (chunk: Buffer) => chunks.push(chunk))
    request.on('end', async () => {
      const body = Buffer.concat(chunks).toString()
      const path = request.url ?? ''
      const noted = {
        method: request.method ?? '',
        path,
        headers: request.headers,
        body,
        form: new URLSearchParams(body),
      }
      seen.push(noted)
      const says = await answer(noted, seen.filter((each) => each.path === path).length)
      if (says.reset) return void request.socket.destroy()
      const text = typeof says.body === 'string' ? says.body : JSON.stringify(says.body ?? {})
      response.writeHead(says.status ?? 200, { 'content-type': 'application/json', ...says.headers })
      response.end(text)
    })
  })
  await new Promise<void>((done) => server.listen(0, '127.0.0.1', done))
  const { port } = server.address() as AddressInfo
  const close = () =>
    new Promise<void>((done) => {
      server.closeAllConnections()
      server.close(() => done())
    })
  return { port, seen, at: (path: string) => seen.filter((each) => each.path === path), close }
}

/** A service that grants everything, unless `special` says otherwise for a request. */
export async function serveErrand(
  special: (request: Seen, count: number) => Says | undefined | Promise<Says | undefined> = () => undefined,
  life = 100,
): Promise<Double> {
  let issued = 0
  let url = ''
  const double = await serve(async (request, count) => {
    const own = await special(request, count)
    if (own) return own
    if (request.path === '/.well-known/oauth-authorization-server') {
      return { body: { issuer: url, token_endpoint: `${url}/token` } }
    }
    if (request.path === '/tasks') return { status: 201, body: { id: 'task_a', state: 'active' } }
    if (request.path.startsWith('/tasks/')) return { body: { id: 'task_a', state: 'active' } }
    if (request.path !== '/token') return { status: 404, body: { error: 'not_found' } }
    const { form } = request
    const handOver = form.get('requested_token_type')
    return {
      body: {
        access_token: `${handOver ? 'hand-over' : 'token'}-${++issued}`,
        issued_token_type: handOver ?? 'urn:ietf:params:oauth:token-type:access_token',
        token_type: handOver ? 'N_A' : 'DPoP',
        expires_in: life,
        scope: form.get('scope') ?? 'tickets:read tickets:comment',
        authorization_details: [],
        task_id: form.get('task_id') ?? 'task_child',
        decision_id: `dec_${issued}`,
      },
    }
  })
  url = `http://127.0.0.1:${double.port}`
  return { url, seen: double.seen, at: double.at, close: double.close }
}

export async function serveTool(answer: Answer): Promise<Double> {
  const double = await serve(answer)
  return { url: `http://127.0.0.1:${double.port}`, seen: double.seen, at: double.at, close: double.close }
}

/** Verifies a proof as RFC 9449 §4.3 says, with a library that is not ours, and returns its claims. */
export async function readProof(request: Seen, url: string, accessToken?: string) {
  const proof = String(request.headers['dpop'])
  const { payload, protectedHeader } = await jwtVerify(proof, EmbeddedJWK, { typ: 'dpop+jwt', algorithms: ['ES256'] })
  if (payload['htm'] !== request.method || payload['htu'] !== url) throw new Error('proof of another request')
  const ath = accessToken === undefined ? undefined : createHash('sha256').update(accessToken).digest('base64url')
  if (payload['ath'] !== ath) throw new Error('proof of another token')
  if (Object.hasOwn(protectedHeader.jwk!, 'd')) throw new Error('a private key in the header')
  return { ...payload, thumbprint: await calculateJwkThumbprint(protectedHeader.jwk!) } as {
    jti: string
    nonce?: string
    thumbprint: string
  }
}

export const decode = (jwt: string | null | undefined) => ({
  header: decodeProtectedHeader(jwt ?? ''),
  claims: decodeJwt(jwt ?? ''),
})
