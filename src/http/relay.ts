/** The door of a relay: the feed's public endpoints, over plain Node, for as many readers as there are descriptors. */
import { createHash } from 'node:crypto'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { parseEpoch } from '@errand/verifier/epoch.ts'
import { ServiceUnavailable } from '@errand/verifier/http.ts'
import { sourceBlock } from '../audit/source.ts'
import type { FeedFrame } from '../revoke/feed.ts'
import type { Relay } from '../revoke/relay.ts'
import { createFanout } from './fanout.ts'
import { LONGEST_WAIT } from './feed.ts'
import { createLimits } from './limits.ts'

const MAX_HEADER_BYTES = 16_384
const MAX_ACK_BYTES = 20_000
/** Streams and long polls: of more, whoever comes is told to come later, for descriptors are needed for other things. */
const MAX_OPEN = 50_000
export const REQUESTS_PER_SECOND = 200

export interface RelayServer {
  readonly url: string
  /** Readers whose stream is open. */
  readers(): number
  close(): Promise<void>
}

export interface RelayServerOptions {
  readonly relay: Relay
  readonly host: string
  readonly port: number
  /** Of one IPv4 address, or one IPv6 /64. */
  readonly perSource?: number
  /** At once, of all of them; of one source an eighth. */
  readonly maxOpen?: number
  /** Milliseconds. */
  readonly monotonic: () => number
  readonly onError: (error: unknown) => void
}

/** Undefined where it is longer than an acknowledgement can be. */
async function bodyOf(request: IncomingMessage): Promise<string | undefined> {
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of request as AsyncIterable<Buffer>) {
    size += chunk.length
    if (size > MAX_ACK_BYTES) return undefined
    chunks.push(chunk)
  }
  return Buffer.concat(chunks).toString('latin1')
}

function ackIn(text: string | undefined): string | undefined {
  // Read as it is written by verifiers, and no other way.
  return text === undefined ? undefined : /^\{"ack":"([A-Za-z0-9_.-]+)"\}$/.exec(text)?.[1]
}

export async function listenAsRelay({
  relay,
  host,
  port,
  perSource = REQUESTS_PER_SECOND,
  maxOpen = MAX_OPEN,
  monotonic,
  onError,
}: RelayServerOptions): Promise<RelayServer> {
  const fanout = createFanout()
  // All its readers are strangers, who have half of what there is.
  const limits = createLimits({ maxConcurrent: () => 2 * maxOpen, monotonic })
  const unsubscribe = relay.subscribe(fanout.send, fanout.end)

  const json = (response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}) => {
    const text = JSON.stringify(body)
    response.writeHead(status, {
      'Content-Type': 'application/json',
      'Content-Length': Buffer.byteLength(text),
      'Cache-Control': 'no-store',
      ...headers,
    })
    response.end(text)
  }
  const refused = (response: ServerResponse, status: number, error: string, error_description: string, seconds = 1) => {
    const again = status === 503 || status === 429
    json(response, status, { error, error_description }, again ? { 'Retry-After': String(seconds) } : {})
  }
  const tooMany = (response: ServerResponse) =>
    refused(response, 503, 'temporarily_unavailable', 'too many readers, of this address or of all')
  const sourceOf = ({ socket }: IncomingMessage) => sourceBlock(socket.remoteAddress ?? '')
  const badParam = (response: ServerResponse, what: string) => refused(response, 400, 'invalid_request', what)

  async function revocations(query: URLSearchParams, request: IncomingMessage, response: ServerResponse) {
    const [after, wait] = [query.get('after'), query.get('wait')]
    if (after === null && wait === null) {
      const { frame } = await relay.snapshot()
      const etag = `"${createHash('sha256').update(frame).digest('base64url').slice(0, 22)}"`
      const headers = { 'Cache-Control': 'public, max-age=1', ETag: etag }
      if (request.headers['if-none-match'] !== etag) return json(response, 200, { frame }, headers)
      response.writeHead(304, headers)
      response.end()
      return
    }
    const epoch = parseEpoch(after)
    if (!epoch || (wait !== null && !/^[1-9][0-9]?$/.test(wait)))
      return badParam(response, 'after is an epoch, wait a number of seconds')
    if (wait === null) return json(response, 200, { frame: (await relay.delta(epoch)).frame })
    const leave = limits.hold({ source: sourceOf(request) })
    if (!leave) return tooMany(response)
    const left = new AbortController()
    response.once('close', () => {
      leave()
      left.abort()
    })
    const { frame } = await relay.wait(epoch, Math.min(Number(wait), LONGEST_WAIT), left.signal)
    json(response, 200, { frame })
  }

  async function stream(request: IncomingMessage, response: ServerResponse) {
    if (!relay.status().connected) return refused(response, 503, 'temporarily_unavailable', 'the service is away')
    const leave = limits.hold({ source: sourceOf(request) })
    if (!leave) return tooMany(response)
    const last = parseEpoch(request.headers['last-event-id'])
    // Added first: nothing lies between what it begins with and the first frame of the stream.
    const reader = fanout.add(response, leave)
    let first: FeedFrame
    try {
      first = await (last ? relay.delta(last) : relay.snapshot())
    } catch (error) {
      reader.leave()
      throw error
    }
    response.writeHead(200, {
      'Content-Type': 'text/event-stream',
      'Cache-Control': 'no-store',
      'X-Accel-Buffering': 'no',
    })
    reader.begin(first.event)
  }

  /** What a verifier signed; only the service can tell whether it is. */
  async function acknowledgement(request: IncomingMessage, response: ServerResponse) {
    const ack = ackIn(await bodyOf(request))
    if (ack === undefined) return badParam(response, 'a signed acknowledgement is wanted, as {"ack": …}')
    const status = await relay.acknowledge(ack)
    if (status !== 204)
      return refused(response, status === 400 ? 400 : 503, 'invalid_request', 'the service did not take it')
    response.writeHead(204, { 'Cache-Control': 'no-store' })
    response.end()
  }

  async function answer(request: IncomingMessage, response: ServerResponse): Promise<void> {
    // Before anything is done for it: who asks too much is turned away for the price of its first line.
    const seconds = limits.take(sourceOf(request), perSource)
    if (seconds > 0) return refused(response, 429, 'temporarily_unavailable', 'too many requests', seconds)
    const [path = '', search = ''] = (request.url ?? '/').split('?', 2)
    const query = new URLSearchParams(search)
    if (request.method === 'POST' && path === '/revocations/acks') return acknowledgement(request, response)
    if (request.method !== 'GET') return refused(response, 405, 'invalid_request', 'a relay is only read from')
    if (path === '/revocations') return revocations(query, request, response)
    if (path === '/revocations/stream') return stream(request, response)
    if (path === '/revocations/now') {
      const statement = await relay.statement(query.get('nonce') ?? '')
      if (statement === undefined) return badParam(response, 'nonce must be 16 to 64 base64url characters')
      return json(response, 200, { statement })
    }
    if (path === '/health') {
      const { connected, epoch } = relay.status()
      return json(response, connected ? 200 : 503, { status: connected ? 'ok' : 'unavailable', epoch })
    }
    return refused(response, 404, 'not_found', 'a relay has the feed of revocations and nothing else')
  }

  const server: Server = createServer(
    { maxHeaderSize: MAX_HEADER_BYTES, keepAliveTimeout: 60_000 },
    (request, response) => {
      answer(request, response).catch((error: unknown) => {
        const away = error instanceof ServiceUnavailable
        if (!away) onError(error)
        if (response.headersSent) return response.destroy()
        refused(response, away ? 503 : 500, away ? 'temporarily_unavailable' : 'server_error', 'the service is away')
      })
    },
  )
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(port, host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  server.on('error', onError)
  const at = server.address() as AddressInfo
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${at.port}`,
    readers: fanout.readers,
    async close() {
      unsubscribe()
      fanout.end()
      server.closeAllConnections()
      await new Promise((resolve) => server.close(resolve))
    },
  }
}
