/** The one error this package throws on purpose: what was refused, why, what is missing and what to do next. */
import type { TokenRequest } from './token.ts'

/** What a program may do about a refusal; `docs/refusals` of the service says what each means. */
export const NEXT_ACTIONS = [
  'ask_narrower',
  'ask_person',
  'ask_parent',
  'attest_again',
  'prove_again',
  'sign_in_again',
  'renew',
  'open_task',
  'wait',
  'fix_request',
] as const
export type NextAction = (typeof NEXT_ACTIONS)[number]

/** One operand of the intersection (subject, ceiling, stage, task, parent, policy) at which one operation was lost. */
export interface Lost {
  readonly tool: string
  readonly operation: string
  readonly operand: string
  /** What the operand has instead: a stage, or constraints on the arguments. */
  readonly had?: unknown
  readonly leastChange: string
}

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
  /** Where each of them was lost, as far as it is told. */
  readonly lost?: readonly Lost[]
  /** What of it is permitted: `task.token({ tool, ...error.narrower })`. */
  readonly narrower?: Pick<TokenRequest, 'scope' | 'authorizationDetails'>
  readonly nextAction?: NextAction
  /** The least change that would permit it, as a sentence for a person. */
  readonly next?: string
  /** Page about the reason. */
  readonly errorUri?: string
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
 *   await task.token({ tool: 'payments', scope: 'payments:refund payments:read_payment' })
 * } catch (error) {
 *   if (!(error instanceof ErrandError)) throw error
 *   if (error.nextAction === 'ask_narrower') await task.token({ tool: 'payments', ...error.narrower })
 *   else console.error(error.reason, error.next, error.errorUri)
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
  readonly lost: readonly Lost[]
  readonly narrower: ErrandErrorFields['narrower']
  readonly nextAction: NextAction | undefined
  readonly next: string | undefined
  readonly errorUri: string | undefined
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
    this.lost = fields.lost ?? []
    this.narrower = fields.narrower
    this.nextAction = fields.nextAction
    this.next = fields.next
    this.errorUri = fields.errorUri
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
