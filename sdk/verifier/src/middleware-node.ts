/** The verifier in front of Node's `http` and of Express. */
import type { IncomingMessage, ServerResponse } from 'node:http'
import type { TLSSocket } from 'node:tls'
import { refusalResponse, VerificationError } from './errors.ts'
import { METADATA_HEADERS, metadataFor } from './middleware-fetch.ts'
import type { VerifyRequest } from './request.ts'
import { MAX_BODY_BYTES, type RoutedRequest } from './routes.ts'
import type { VerifiedCall, Verifier } from './verifier.ts'

/** What the middleware adds to a request, and what Express may have added before. */
export interface NodeRequest extends IncomingMessage {
  readonly originalUrl?: string
  /** Parsed JSON: by Express, or by this middleware where nobody had read it. */
  body?: unknown
  caller?: VerifiedCall
}

/**
 * Handlers find the verified caller in `req.caller`. Refusals are answered here; other errors go to `next`.
 * @example
 * app.use(nodeMiddleware(verifier)) // Express
 * createServer((req, res) => guard(req, res, () => handle(req, res))) // node:http, guard = nodeMiddleware(verifier)
 */
export function nodeMiddleware(
  verifier: Verifier,
): (request: NodeRequest, response: ServerResponse, next: (error?: unknown) => void) => void {
  return (request, response, next) => {
    serve(verifier, request, response).then(
      (served) => {
        if (!served) next()
      },
      (error: unknown) => next(error),
    )
  }
}

/** True where the request was answered here. */
async function serve(verifier: Verifier, request: NodeRequest, response: ServerResponse): Promise<boolean> {
  const target = request.originalUrl ?? request.url ?? '/'
  const metadata = metadataFor(verifier, request.method ?? '', target.split('?', 1)[0]!)
  if (metadata !== undefined) {
    response.writeHead(200, METADATA_HEADERS).end(metadata)
    return true
  }
  try {
    const caller = await verifier.authenticate(toVerifyRequest(request))
    request.caller = await verifier.authorize(caller, await verifier.route(routed(request, target)))
    return false
  } catch (error) {
    if (!(error instanceof VerificationError)) throw error
    const { status, headers, body } = refusalResponse(error)
    // What was not read of a refused body must not be taken for the next request.
    if (!request.complete) response.setHeader('connection', 'close')
    response.writeHead(status, headers).end(body)
    return true
  }
}

/** A Node request as `verify` takes it. */
export function toVerifyRequest(request: NodeRequest): VerifyRequest {
  const target = request.originalUrl ?? request.url ?? '/'
  const socket = request.socket as Partial<TLSSocket>
  const origin = `${socket.encrypted ? 'https' : 'http'}://${request.headers.host ?? ''}`
  const certificate = socket.authorized ? socket.getPeerX509Certificate?.() : undefined
  return {
    method: request.method ?? '',
    url: target.startsWith('/') ? `${origin}${target}` : target,
    headers: request.headersDistinct,
    ...(certificate ? { clientCertificate: certificate } : {}),
  }
}

function routed(request: NodeRequest, url: string): RoutedRequest {
  return {
    method: request.method ?? '',
    url,
    contentType: request.headers['content-type'],
    body: async () => {
      const { 'content-length': length, 'transfer-encoding': encoding } = request.headers
      if (encoding === undefined && (length === undefined || length === '0')) return undefined
      if (request.body !== undefined) return { value: request.body }
      const chunks: Buffer[] = []
      let size = 0
      // A body that is too long gets an answer, so the stream must outlive this loop.
      for await (const chunk of request.iterator({ destroyOnReturn: false })) {
        size += (chunk as Buffer).length
        if (size > MAX_BODY_BYTES) return 'too_large'
        chunks.push(chunk as Buffer)
      }
      const text = Buffer.concat(chunks).toString('utf8')
      try {
        request.body = JSON.parse(text) // the stream is spent: handlers, and Express' own parser, find it here
      } catch {
        request.body = undefined
      }
      return { text }
    },
  }
}
