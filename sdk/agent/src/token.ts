/** A token as the agent holds it, and what may be asked for. */
import { badArgument, ErrandError } from './errors.ts'
import { opaque } from './opaque.ts'
import type { Json } from './service.ts'

/** An entry of `authorization_details` (RFC 9396) of type `tool`. */
export interface ToolAuthorization {
  readonly type: 'tool'
  readonly tool: string
  readonly operations: readonly string[]
  readonly effect?: string
  /** A closed JSON Schema subset on the operations' arguments. */
  readonly constraints?: object
}

/** Which tool, by name (`tool`) or audience URI (`resource`), and what of it; nothing asks for all that is permitted. */
export type TokenRequest = ({ readonly tool: string } | { readonly resource: string }) & {
  /** Scope values `<tool>:<operation>`, as a list or parted by spaces. */
  readonly scope?: string | readonly string[]
  readonly authorizationDetails?: readonly ToolAuthorization[]
}

/** A token in memory. Printing it, or `JSON.stringify`, shows everything but the token itself. */
export interface TaskToken {
  /** The token itself; not enumerable. */
  readonly accessToken: string
  readonly tokenType: 'DPoP' | 'Bearer'
  readonly scope: readonly string[]
  readonly authorizationDetails: readonly ToolAuthorization[]
  /** Unix seconds. */
  readonly expiresAt: number
  readonly taskId: string
  /** `dec_…`: `errand explain` shows the whole decision. */
  readonly decisionId: string | undefined
}

/** The form parameters of a request, and the key under which its token is kept. */
export function readTokenRequest(request: TokenRequest): {
  readonly key: string
  readonly form: { readonly [name: string]: string | undefined }
  readonly scope: readonly string[]
} {
  const { tool, resource } = request as { tool?: string; resource?: string }
  if ((tool === undefined) === (resource === undefined)) throw badArgument('name a tool or a resource')
  const { scope: asked, authorizationDetails } = request
  if (asked !== undefined && authorizationDetails !== undefined) {
    throw badArgument('ask by scope or by authorizationDetails, not by both')
  }
  const scope = typeof asked === 'string' ? asked.split(' ') : [...(asked ?? [])]
  const details = authorizationDetails === undefined ? undefined : JSON.stringify(authorizationDetails)
  return {
    key: JSON.stringify([tool, resource, [...scope].sort(), details]),
    form: {
      audience: tool,
      resource,
      scope: asked === undefined ? undefined : scope.join(' '),
      authorization_details: details,
    },
    scope,
  }
}

/** A token out of a token answer; `sentAt` is when it was asked for, so that its life is never counted too long. */
export function readTokenAnswer(answer: Json, sentAt: number): TaskToken {
  const { access_token: accessToken, token_type: type, expires_in: life, scope, task_id: taskId } = answer
  const tokenType = typeof type !== 'string' ? undefined : { dpop: 'DPoP', bearer: 'Bearer' }[type.toLowerCase()]
  if (typeof accessToken !== 'string' || accessToken === '' || typeof taskId !== 'string' || !tokenType) {
    throw new ErrandError({ status: 200, code: 'bad_response', description: 'the answer holds no task token' })
  }
  const decisionId = typeof answer['decision_id'] === 'string' ? answer['decision_id'] : undefined
  const details = answer['authorization_details']
  const shown = {
    tokenType: tokenType as 'DPoP' | 'Bearer',
    scope: typeof scope === 'string' && scope !== '' ? scope.split(' ') : [],
    authorizationDetails: Array.isArray(details) ? (details as readonly ToolAuthorization[]) : [],
    expiresAt: Math.floor(sentAt) + (typeof life === 'number' && life > 0 ? life : 0),
    taskId,
    decisionId,
  }
  const token = { ...shown, accessToken }
  // Spreading, logging and serialising a token leave it out.
  Object.defineProperty(token, 'accessToken', { enumerable: false })
  return opaque('Token', () => shown, token)
}
