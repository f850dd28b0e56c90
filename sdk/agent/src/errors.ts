/** The one error this package throws on purpose: what was refused, why, what is missing and what to do next. */

export interface ErrandErrorFields {
  /** HTTP status; 0 where no answer came. */
  readonly status: number
  /** The OAuth error code (`invalid_scope`, `invalid_target`, …), or `network_error`, `bad_response`, `bad_argument`. */
  readonly code: string
  /** Stable code of the reason (`scope_not_granted`, `task_not_active`, …), told to a proven caller. */
  readonly reason?: string
  readonly description?: string
  /** The policy or check that decided. */
  readonly rule?: string
  /** Scope values that were asked for and are not granted. */
  readonly missing?: readonly string[]
  /** The least change that would permit it, as a sentence. */
  readonly next?: string
  /** `dec_…`: `errand explain` shows the whole decision. */
  readonly decisionId?: string
  /** Seconds after which it may be worth asking again. */
  readonly retryAfter?: number
}

/**
 * A refusal, or an answer that never came. Holds no token and no key.
 *
 * @example
 * ```ts
 * import { ErrandError } from '@errand/agent'
 *
 * try {
 *   await task.token({ tool: 'payments', scope: 'payments:refund' })
 * } catch (error) {
 *   if (!(error instanceof ErrandError)) throw error
 *   console.error(error.code, error.reason, 'missing:', error.missing, 'next:', error.next)
 * }
 * ```
 */
export class ErrandError extends Error {
  readonly status: number
  readonly code: string
  readonly reason: string | undefined
  readonly description: string | undefined
  readonly rule: string | undefined
  readonly missing: readonly string[]
  readonly next: string | undefined
  readonly decisionId: string | undefined
  readonly retryAfter: number | undefined

  constructor(fields: ErrandErrorFields) {
    const why = [fields.reason, fields.description].filter((part) => part !== undefined).join(': ')
    super(why === '' ? fields.code : `${fields.code} (${why})`)
    this.name = 'ErrandError'
    this.status = fields.status
    this.code = fields.code
    this.reason = fields.reason
    this.description = fields.description
    this.rule = fields.rule
    this.missing = fields.missing ?? []
    this.next = fields.next
    this.decisionId = fields.decisionId
    this.retryAfter = fields.retryAfter
  }

  /** Whether the same request may succeed later by itself: no answer, or the service is away. */
  get temporary(): boolean {
    return this.status === 0 ? this.code === 'network_error' : this.status >= 500
  }
}

export const badArgument = (description: string): ErrandError =>
  new ErrandError({ status: 0, code: 'bad_argument', description })
