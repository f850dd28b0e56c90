/** Shapes that several endpoints answer, for the API description. */
import { z } from 'zod'
import { NEXT_ACTIONS, type NextAction } from '../oauth/refusals/words.ts'
import { OPERANDS } from '../policy/decision.ts'
import type { Described } from './route.ts'

const lostSchema = z
  .object({
    tool: z.string(),
    operation: z.string(),
    operand: z.enum(OPERANDS),
    had: z.unknown().describe('What the operand has instead: a stage, or constraints on the arguments').optional(),
    least_change: z.string(),
  })
  .meta({ id: 'Lost' })

/** What a no is explained by, in refusals, in dry_run and in AuthZEN's context. */
const explanationMembers = {
  rule: z.string().describe('The policy or check that decided').optional(),
  missing: z.array(z.string()).describe('Scope values that are not granted').optional(),
  lost: z.array(lostSchema).describe('At which operands of the intersection they were lost').optional(),
  lost_more: z.number().int().describe('Losses beyond those that are told').optional(),
  narrower: z
    .object({ scope: z.string().optional(), authorization_details: z.array(z.looseObject({})).optional() })
    .describe('The parameter to send instead: the most of what was asked for that is permitted')
    .optional(),
  next_action: z
    .enum(Object.keys(NEXT_ACTIONS) as [NextAction, ...NextAction[]])
    .describe('What a program may do')
    .optional(),
  next: z.string().describe('The same for a person').optional(),
}

const errorSchema = z
  .object({
    error: z.string(),
    error_description: z.string().optional(),
    reason: z.string().describe('Stable code of the refusal; told to callers that have proven who they are').optional(),
    error_uri: z.string().describe('Page about the reason').optional(),
    ...explanationMembers,
    wait_seconds: z.number().int().describe('As Retry-After').optional(),
    decision_id: z.string().optional(),
  })
  .meta({ id: 'Error' })

export const detailSchema = z
  .object({
    type: z.literal('tool'),
    tool: z.string(),
    effect: z.string(),
    operations: z.array(z.string()),
    constraints: z.record(z.string(), z.unknown()).optional(),
  })
  .meta({ id: 'ToolAuthorization' })

export const tokenSchema = z
  .object({
    access_token: z.string().optional(),
    issued_token_type: z.string().optional(),
    token_type: z.enum(['DPoP', 'Bearer', 'N_A']).optional(),
    expires_in: z.number().int().optional(),
    scope: z.string().optional(),
    authorization_details: z.array(detailSchema).optional(),
    task_id: z.string().optional(),
    decision_id: z.string(),
    log: z.object({ id: z.string(), index: z.number().int() }).optional(),
    dry_run: z.literal(true).optional(),
    allowed: z.boolean().optional(),
    would_issue: z.record(z.string(), z.unknown()).optional(),
    ...explanationMembers,
    verdicts: z.array(z.record(z.string(), z.unknown())).optional(),
  })
  .meta({ id: 'TokenResponse' })

export const budgetSchema = z
  .object({
    max_calls: z.number().int().optional(),
    max_exchanges: z.number().int().optional(),
    max_cost: z.number().int().optional(),
    max_duration_seconds: z.number().int().optional(),
  })
  .meta({ id: 'Budget' })

export const spentSchema = z
  .object({ calls: z.number().int(), exchanges: z.number().int(), cost: z.number().int() })
  .meta({ id: 'Spent' })

const takenSchema = z.object({
  tools: z.array(z.string()),
  operations: z.array(z.string()),
  max_effect: z.string().optional(),
})

export const taskSchema = z
  .object({
    id: z.string(),
    parent: z.string().optional(),
    root: z.string(),
    depth: z.number().int(),
    agent: z.string(),
    release: z.string().describe('That opened it').optional(),
    subject: z.string(),
    purpose: z.string(),
    environment: z.string(),
    data_classification: z.string(),
    state: z.string(),
    created_at: z.number().int(),
    deadline: z.number().int(),
    heartbeat_by: z.number().int().optional(),
    suspended_by: z.array(z.string()).describe('The revocations that hold it').optional(),
    ended_at: z.number().int().optional(),
    ended_reason: z.string().optional(),
    budget: budgetSchema,
    spent: spentSchema,
    authority: z.array(detailSchema),
    contained: z
      .array(z.object({ by: z.string(), tools: z.array(z.string()), operations: z.array(z.string()) }))
      .describe('What was taken from it for good')
      .optional(),
    get children() {
      return z.array(taskSchema).optional()
    },
    tokens: z
      .array(
        z.object({
          jti: z.string(),
          audience: z.string(),
          scope: z.string(),
          issued_at: z.number().int(),
          expires_at: z.number().int(),
          decision_id: z.string(),
        }),
      )
      .optional(),
    refusals: z
      .array(
        z.object({
          decision_id: z.string(),
          reason: z.string(),
          at: z.number().int(),
          missing: z.array(z.string()).optional(),
        }),
      )
      .optional(),
    truncated: z.literal(true).describe('There are more tasks or records than are shown').optional(),
  })
  .meta({ id: 'Task' })

export const revocationSchema = z
  .object({
    id: z.string(),
    epoch: z.string(),
    match: z.record(z.string(), z.string()),
    checked_before: z.string().describe('Of a preview: only what was checked before this place is meant').optional(),
    mode: z.enum(['cut', 'ban', 'suspend', 'contain']),
    taken: takenSchema.optional(),
    reason: z.string(),
    by: z.string(),
    confirmed_by: z.string().describe('Where it took two').optional(),
    part_of: z.string().describe('The revocation by component that it is a part of').optional(),
    releases: z.array(z.string()).describe('By component: those that have it').optional(),
    at: z.number().int(),
    expires_at: z.number().int(),
    ban_until: z.number().int().optional(),
    readmitted: z.object({ at: z.number().int(), by: z.string(), reason: z.string() }).optional(),
    resumed: z.object({ at: z.number().int(), by: z.string(), reason: z.string() }).optional(),
    tasks_ended: z.array(z.string()).optional(),
    tasks_suspended: z.array(z.string()).optional(),
    tasks_contained: z.array(z.string()).optional(),
    tasks_resumed: z.array(z.string()).optional(),
    acknowledged: z.array(z.object({ verifier: z.string(), epoch: z.string(), at: z.number().int() })).optional(),
  })
  .meta({ id: 'Revocation' })

export const pendingSchema = z
  .object({
    id: z.string().describe('What the revocation will be called'),
    state: z.literal('pending'),
    digest: z.string().describe('What `POST /revocations/{id}/confirm` is sent'),
    match: z.record(z.string(), z.string()),
    mode: z.enum(['cut', 'ban', 'suspend', 'contain']),
    taken: takenSchema.optional(),
    checked_before: z.string().optional(),
    pinned_tasks: z.number().int().describe('Of a preview: the tasks of its list').optional(),
    reason: z.string(),
    by: z.string().describe('Who asked: another administrator confirms it'),
    at: z.number().int(),
    expires_at: z.number().int(),
  })
  .meta({ id: 'PendingRevocation' })

const WHAT: Record<number, string> = {
  400: 'Refused',
  401: 'Not authenticated',
  403: 'Not permitted',
  404: 'Nothing here for this caller',
  406: 'Not in this form',
  409: 'Not possible in the present state',
  413: 'Too large',
  415: 'Not this media type',
  422: 'The Idempotency-Key was used for another request',
  429: 'Too many requests; see Retry-After',
  503: 'Not now; see Retry-After',
}

export const errorAnswers = (...statuses: readonly (keyof typeof WHAT)[]): Record<number, Described> =>
  Object.fromEntries(statuses.map((status) => [status, { description: WHAT[status]!, schema: errorSchema }]))
