/** The verifier in front of an MCP server: whoever connects is authenticated, and each tool call is authorized. */
import { VerificationError } from './errors.ts'
import { metadataResponse, toResponse } from './middleware-fetch.ts'
import type { VerifyRequest } from './request.ts'
import type { Authenticated, VerifiedCall, Verifier } from './verifier.ts'

/** `AuthInfo` of the MCP SDK. */
export interface McpAuthInfo {
  token: string
  clientId: string
  scopes: string[]
  expiresAt: number
  resource: URL
  resourceMetadataUrl: string
  extra: Record<string, unknown>
}

/** What is used of the context of a tool call: `http.authInfo` (MCP SDK 2) or `authInfo` (1). */
export interface McpContextLike {
  readonly http?: { readonly authInfo?: McpAuthLike } | undefined
  readonly authInfo?: McpAuthLike
}
interface McpAuthLike {
  readonly extra?: Record<string, unknown>
}

export interface McpRefusal {
  [name: string]: unknown
  isError: true
  content: { type: 'text'; text: string }[]
  structuredContent: { error: string; code: string; error_description: string }
}

export interface McpAuth {
  /**
   * For each HTTP request: the `authInfo` to hand to the MCP handler, or the answer to give instead. Sees the whole
   * request, so tokens that are bound to a key are accepted with their proof.
   */
  authenticate(request: Request): Promise<McpAuthInfo | Response>
  /** `OAuthTokenVerifier` of the MCP SDK: sees no proof, so only tokens bound to no key can pass (`acceptBearer`). */
  verifyAccessToken(token: string): Promise<McpAuthInfo>
  /** For each tool call: throws a `VerificationError`. */
  authorize(context: McpContextLike, tool: string, args: unknown): Promise<VerifiedCall>
  /** A tool's callback that runs for verified calls only; a refusal is the tool's error result. */
  guard<Args, Context extends McpContextLike, Result>(
    tool: string,
    callback: (args: Args, context: Context, caller: VerifiedCall) => Result | Promise<Result>,
  ): (args: Args, context: Context) => Promise<Result | McpRefusal>
}

/** Makes the error that the MCP SDK answers with 401 or 403: `(code, message) => new OAuthError(code, message)`. */
export type OAuthErrorMaker = (code: 'invalid_token' | 'insufficient_scope' | 'server_error', message: string) => Error

/**
 * @example
 * const auth = createMcpAuth(verifier)
 * server.registerTool('read_ticket', schema, auth.guard('read_ticket', async ({ id }, _context, caller) => …))
 * const info = await auth.authenticate(request)
 * return info instanceof Response ? info : handler.fetch(request, { authInfo: info })
 */
export function createMcpAuth(verifier: Verifier, options: { readonly oauthError?: OAuthErrorMaker } = {}): McpAuth {
  const authInfo = (token: string, caller: Authenticated): McpAuthInfo => ({
    token,
    clientId: caller.clientId,
    scopes: [...caller.scope],
    expiresAt: caller.expiresAt,
    resource: new URL(caller.claims.aud),
    resourceMetadataUrl: verifier.metadataUrl,
    extra: { errand: caller },
  })

  async function authorize(context: McpContextLike, tool: string, args: unknown): Promise<VerifiedCall> {
    const caller = (context.http?.authInfo ?? context.authInfo)?.extra?.['errand']
    if (typeof caller !== 'object' || caller === null)
      throw new TypeError('the MCP handler was given no authInfo of ours')
    return verifier.authorize(caller as Authenticated, {
      operation: verifier.operationOfMcpTool(tool),
      arguments: typeof args === 'object' && args !== null ? (args as Record<string, unknown>) : {},
    })
  }

  return {
    async authenticate(request) {
      const own = metadataResponse(verifier, request)
      if (own) return own
      try {
        const caller = await verifier.authenticate(request as VerifyRequest)
        const token = request.headers.get('authorization')!.split(' ')[1]!
        return authInfo(token, caller)
      } catch (error) {
        return toResponse(error)
      }
    },

    async verifyAccessToken(token) {
      try {
        return authInfo(token, await verifier.authenticateToken(token))
      } catch (error) {
        if (!(error instanceof VerificationError) || !options.oauthError) throw error
        const known = error.error === 'invalid_token' || error.error === 'insufficient_scope'
        throw options.oauthError(known ? (error.error as 'invalid_token') : 'server_error', error.message)
      }
    },

    authorize,

    guard: (tool, callback) => async (args, context) => {
      let caller: VerifiedCall
      try {
        caller = await authorize(context, tool, args)
      } catch (error) {
        if (!(error instanceof VerificationError)) throw error
        const structuredContent = { error: error.error, code: error.code, error_description: error.message }
        return {
          isError: true,
          content: [{ type: 'text', text: JSON.stringify(structuredContent) }],
          structuredContent,
        }
      }
      return callback(args, context, caller)
    },
  }
}
