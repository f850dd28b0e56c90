/** The verifier in front of a Fetch-style handler (`(request) => Response`), and what the other middleware shares. */
import { refusalResponse, VerificationError } from './errors.ts'
import { MAX_BODY_BYTES, type RoutedRequest } from './routes.ts'
import { utf8Text } from './utf8.ts'
import type { VerifiedCall, Verifier } from './verifier.ts'

/**
 * Serves the metadata of RFC 9728, verifies every other request against the verifier's routes, and calls the handler
 * with the verified caller.
 * @example
 * const handle = protectFetch(verifier, (request, caller) => Response.json({ hello: caller.subject }))
 */
export function protectFetch(
  verifier: Verifier,
  handler: (request: Request, caller: VerifiedCall) => Response | Promise<Response>,
): (request: Request) => Promise<Response> {
  return async (request) => {
    const own = metadataResponse(verifier, request)
    if (own) return own
    let caller: VerifiedCall
    try {
      caller = await verifyRequest(verifier, request)
    } catch (error) {
      return toResponse(error)
    }
    return handler(request, caller)
  }
}

/** The caller first, then what it calls: a stranger's body is not read. */
export async function verifyRequest(
  verifier: Verifier,
  request: Request,
  text?: () => Promise<string>,
): Promise<VerifiedCall> {
  const caller = await verifier.authenticate(request)
  return verifier.authorize(caller, await verifier.route(routed(request, text)))
}

function routed(request: Request, text?: () => Promise<string>): RoutedRequest {
  return {
    method: request.method,
    url: request.url,
    contentType: request.headers.get('content-type') ?? undefined,
    body: async () => {
      if (Number(request.headers.get('content-length')) > MAX_BODY_BYTES) return 'too_large'
      if (request.bodyUsed && text) return { text: await text() }
      if (request.body === null) return undefined
      return readText(request.clone())
    },
  }
}

async function readText(request: Request): Promise<{ readonly text: string } | 'too_large' | undefined> {
  const reader = request.body?.getReader()
  if (!reader) return undefined
  const chunks: Uint8Array[] = []
  let size = 0
  for (let next = await reader.read(); !next.done; next = await reader.read()) {
    size += next.value.byteLength
    if (size > MAX_BODY_BYTES) {
      await reader.cancel()
      return 'too_large'
    }
    chunks.push(next.value)
  }
  return { text: utf8Text(chunks) }
}

export function metadataResponse(
  verifier: Verifier,
  request: { readonly method: string; readonly url: string },
): Response | undefined {
  const json = metadataFor(verifier, request.method, new URL(request.url).pathname)
  return json === undefined ? undefined : new Response(json, { headers: METADATA_HEADERS })
}

export const METADATA_HEADERS = { 'content-type': 'application/json', 'cache-control': 'max-age=3600' } as const

export const metadataFor = (verifier: Verifier, method: string, path: string): string | undefined =>
  method === 'GET' && path === new URL(verifier.metadataUrl).pathname ? JSON.stringify(verifier.metadata) : undefined

/** A refusal as its answer; anything else is thrown on. */
export function toResponse(error: unknown): Response {
  if (!(error instanceof VerificationError)) throw error
  const { status, headers, body } = refusalResponse(error)
  return new Response(body, { status, headers })
}
