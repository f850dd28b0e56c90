/** The listeners: plain HTTP or TLS for everybody, and one that asks for a client certificate (RFC 8705). */
import { constants } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http'
import { createServer as createTlsServer } from 'node:https'
import type { AddressInfo, Socket } from 'node:net'
import type { TLSSocket } from 'node:tls'
import { getRequestListener } from '@hono/node-server'
import { chainOf, clientCertificate, createTrustedProxies } from '../attest/client-certificate.ts'
import type { ServiceSettings } from '../config/settings.ts'
import { refusalBody } from './refusal-response.ts'
import type { FairTurns } from './fair-turns.ts'
import { type Entry, isKeptFree } from './gate.ts'
import type { WireBindings } from './route.ts'
import type { Place, Site } from './sites.ts'
import { createTarpit } from './tarpit.ts'

export interface Listener {
  readonly url: string
  /** Stops taking connections and resolves when every request under way is answered. */
  close(): Promise<void>
}

export interface Listening {
  readonly settings: ServiceSettings
  readonly kind: 'main' | 'mtls'
  /** Which issuer a request is for. */
  readonly place: Place
  /** Undefined while there is one issuer alone: whatever comes is begun when it comes. */
  readonly turns: () => FairTurns | undefined
  /** A fault of the listener itself: it goes on listening. */
  readonly onError: (error: Error) => void
}

export async function listen({ settings, kind, place, turns, onError }: Listening): Promise<Listener> {
  const { bounds } = settings
  const at = kind === 'mtls' ? settings.listen.mtls! : settings.listen
  const files = kind === 'mtls' ? settings.listen.mtls! : settings.listen.tls
  const isTrustedProxy = createTrustedProxies(settings.listen.trustedProxies)
  const header = settings.listen.clientCertificateHeader?.toLowerCase()

  /**
   * What each connection showed in its handshake: Node tells the whole chain once, and the leaf alone after that. Only
   * the bytes are kept; what they prove is judged anew for each request.
   */
  const shown = new WeakMap<Socket, readonly Uint8Array[]>()
  const chainFor = (socket: TLSSocket): readonly Uint8Array[] | undefined => {
    const chain = chainOf(socket)
    const first = shown.get(socket)
    const leaf = chain?.[0]
    if (first?.[0] && leaf && Buffer.compare(first[0], leaf) === 0) return first
    if (chain) shown.set(socket, chain)
    return chain
  }

  const bindingsOf = (site: Site, incoming: IncomingMessage): WireBindings =>
    bindings(incoming, {
      base: kind === 'mtls' ? (site.mtlsBase ?? site.base) : site.base,
      isTrustedProxy,
      chainFor,
      ...(header === undefined ? {} : { header }),
    })
  const tarpit = createTarpit()
  const handlers = new WeakMap<Site, ReturnType<typeof getRequestListener>>()
  const handlerOf = (site: Site) => {
    const known = handlers.get(site)
    if (known) return known
    const made = getRequestListener(
      (request, env) => site.app.fetch(request, bindingsOf(site, (env as { incoming: IncomingMessage }).incoming)),
      { overrideGlobalObjects: false },
    )
    handlers.set(site, made)
    return made
  }
  const begin = (site: Site, target: string, incoming: IncomingMessage, outgoing: ServerResponse) => {
    if (site.app.sheds(incoming.method, target, () => peerOf(incoming, isTrustedProxy))) {
      return turnAway(outgoing, { ok: false, reason: 'overloaded', retryAfterSeconds: 1 })
    }
    if (site.app.door.fits(incoming)) {
      return site.app.door.enter(incoming, outgoing, bindingsOf(site, incoming))
    }
    return handlerOf(site)(incoming, outgoing)
  }
  const handle = (incoming: IncomingMessage, outgoing: ServerResponse) => {
    const { site, target } = place(incoming.headers.host, incoming.url ?? '/')
    // Below here nobody knows that the issuer has a path.
    incoming.url = target
    if (site.gate) {
      const entry = site.gate.enter(incoming.method ?? 'GET', target)
      if (!entry.ok) {
        site.onTurnedAway?.(peerOf(incoming, isTrustedProxy), entry.reason)
        // Full data are no flood: only who comes too often waits for the answer.
        if (entry.reason === 'overloaded') return tarpit.later(outgoing, () => turnAway(outgoing, entry))
        return turnAway(outgoing, entry)
      }
    }
    const fair = turns()
    // What waits counts as if it were worked on. Where that is too much already, there is nothing to wait for.
    if (!fair || site.app.full()) return begin(site, target, incoming, outgoing)
    fair.begin(site.name, incoming, () => void begin(site, target, incoming, outgoing), isKeptFree(target))
  }
  const options = {
    maxHeaderSize: bounds.maxHeaderBytes,
    headersTimeout: bounds.requestTimeoutSeconds * 1000,
    requestTimeout: bounds.requestTimeoutSeconds * 1000,
    connectionsCheckingInterval: Math.min(5_000, bounds.requestTimeoutSeconds * 500),
    keepAliveTimeout: 60_000,
  }
  const server: Server = files
    ? createTlsServer(
        {
          ...options,
          cert: readFileSync(files.certFile),
          key: readFileSync(files.keyFile),
          minVersion: 'TLSv1.2',
          // The path is validated by our own rules; the handshake proves possession of the key.
          ...(kind === 'mtls'
            ? // A resumed session shows the leaf alone: no tickets, so that each connection shows its whole chain; and
              // who it is does not change in the middle.
              {
                requestCert: true,
                rejectUnauthorized: false,
                secureOptions: constants.SSL_OP_NO_TICKET | constants.SSL_OP_NO_RENEGOTIATION,
              }
            : {}),
        },
        handle,
      )
    : createServer(options, handle)
  server.on('clientError', refuseBytes)

  const sockets = new Set<Socket>()
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(at.port, at.host, () => {
      server.off('error', reject)
      resolve()
    })
  })
  // Too many open files, say. An error that nobody listens to would end the process.
  server.on('error', onError)
  let closing = false
  server.on('request', (_, response) => {
    // A connection kept alive is closed when its last answer is out, not a minute later.
    response.once('close', () => {
      if (closing) setImmediate(() => server.closeIdleConnections())
    })
  })
  const { port } = server.address() as AddressInfo
  const host = at.host.includes(':') ? `[${at.host}]` : at.host
  return {
    url: `${files ? 'https' : 'http'}://${host}:${port}`,
    close: () =>
      new Promise((resolve) => {
        closing = true
        // What is under way has as long as any request; what is still open then is cut.
        const grace = setTimeout(() => {
          for (const socket of sockets) socket.destroy()
        }, bounds.requestTimeoutSeconds * 1000)
        server.close(() => {
          clearTimeout(grace)
          resolve()
        })
        server.closeIdleConnections()
      }),
  }
}

function bindings(
  incoming: IncomingMessage,
  {
    base,
    isTrustedProxy,
    chainFor,
    header,
  }: {
    readonly base: string
    readonly isTrustedProxy: (address: string) => boolean
    readonly chainFor: (socket: TLSSocket) => readonly Uint8Array[] | undefined
    readonly header?: string
  },
): WireBindings {
  const socket = incoming.socket as Socket | TLSSocket
  return {
    base,
    target: incoming.url ?? '/',
    peer: peerOf(incoming, isTrustedProxy),
    certificate: () => {
      const chain = 'getPeerX509Certificate' in socket ? chainFor(socket) : undefined
      const clientCert = header === undefined ? undefined : one(incoming.headers[header])
      const clientCertChain = header === undefined ? undefined : one(incoming.headers['client-cert-chain'])
      const shown = clientCertificate(
        {
          peerAddress: socket.remoteAddress ?? '',
          ...(chain ? { chain } : {}),
          ...(clientCert === undefined ? {} : { clientCert }),
          ...(clientCertChain === undefined ? {} : { clientCertChain }),
        },
        { isTrustedProxy, byHeader: header !== undefined },
      )
      // A malformed certificate is evidence that cannot hold: it fails where it is verified.
      return shown.ok ? shown.value : [new Uint8Array(0)]
    },
  }
}

/** The last hop that a trusted proxy itself saw; what stands before it in the header is the client's own word. */
function peerOf({ socket, headers }: IncomingMessage, isTrustedProxy: (address: string) => boolean): string {
  const peer = socket.remoteAddress ?? ''
  return isTrustedProxy(peer) ? (forwardedBy(headers['x-forwarded-for']) ?? peer) : peer
}

/** Answered before anything of the request is looked at but its first line. */
function turnAway(outgoing: ServerResponse, { reason, retryAfterSeconds }: Extract<Entry, { ok: false }>): void {
  const body = JSON.stringify(refusalBody({ reason, slot: 'request' }))
  outgoing.writeHead(503, {
    'Content-Type': 'application/json',
    'Content-Length': Buffer.byteLength(body),
    'Cache-Control': 'no-store',
    'Retry-After': String(retryAfterSeconds),
  })
  outgoing.end(body)
}

const one = (value: string | string[] | undefined): string | undefined =>
  Array.isArray(value) ? value.join(', ') : value

function forwardedBy(value: string | string[] | undefined): string | undefined {
  const last = one(value)?.split(',').at(-1)?.trim()
  return last === undefined || last === '' ? undefined : last
}

/** What the HTTP parser itself refuses: too many headers, too slow, not HTTP. */
function refuseBytes(error: NodeJS.ErrnoException, socket: import('node:stream').Duplex): void {
  if (!socket.writable || socket.destroyed) {
    socket.destroy()
    return
  }
  const [status, phrase, reason] =
    error.code === 'HPE_HEADER_OVERFLOW'
      ? ([431, 'Request Header Fields Too Large', 'headers_too_large'] as const)
      : error.code === 'ERR_HTTP_REQUEST_TIMEOUT'
        ? ([408, 'Request Timeout', 'request_timeout'] as const)
        : ([400, 'Bad Request', 'bad_body'] as const)
  const body = JSON.stringify(refusalBody({ reason, slot: 'request' }))
  socket.end(
    `HTTP/1.1 ${status} ${phrase}\r\nContent-Type: application/json\r\nContent-Length: ${Buffer.byteLength(body)}\r\nCache-Control: no-store\r\nConnection: close\r\n\r\n${body}`,
  )
}
