/** The verifier as Hono middleware. Structural types: the package does not depend on Hono. */
import { metadataResponse, toResponse, verifyRequest } from './middleware-fetch.ts'
import type { VerifiedCall, Verifier } from './verifier.ts'

/** What it uses of Hono's context. */
export interface HonoContextLike {
  readonly req: { readonly raw: Request; text(): Promise<string> }
  set(key: 'caller', value: VerifiedCall): void
}

/**
 * Handlers find the verified caller in `c.get('caller')`.
 * @example
 * const app = new Hono<{ Variables: { caller: VerifiedCall } }>()
 * app.use(honoMiddleware(verifier))
 */
export function honoMiddleware(
  verifier: Verifier,
): (context: HonoContextLike, next: () => Promise<void>) => Promise<Response | undefined> {
  return async (context, next) => {
    const own = metadataResponse(verifier, context.req.raw)
    if (own) return own
    let caller: VerifiedCall
    try {
      caller = await verifyRequest(verifier, context.req.raw, () => context.req.text())
    } catch (error) {
      return toResponse(error)
    }
    context.set('caller', caller)
    await next()
    return undefined
  }
}
