/** Where a revocation is in force, and its signed receipt. */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { isId } from '../tasks/ids.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const containmentMembers = {
  contained: z.boolean().describe('Whether every audience refuses what it matches'),
  contained_at: z.number().int().describe('Since when').optional(),
  contained_by: z.number().int().describe('At the latest, whatever cannot be reached'),
  verifiers: z.array(
    z.object({
      tool: z.string(),
      audience: z.string(),
      state: z.enum(['acknowledged', 'bound_passed', 'waiting']),
      by: z
        .enum(['feed', 'token_life'])
        .describe('How it comes to refuse by itself: past the bound of its operations, or when its tokens have ended'),
      bound_seconds: z.number().int(),
      until: z.number().int().describe('Since when it refuses; where it waits, by when at the latest'),
      acknowledged_at: z.number().int().optional(),
      epoch: z.string().describe('What it has applied').optional(),
      processes: z.number().int().describe('Of the verifier, as far as they were heard of').optional(),
    }),
  ),
  residual: z
    .array(z.object({ audience: z.string(), until: z.number().int(), by: z.string() }))
    .describe('Where something that it matches may still be taken, and until when'),
  pending_downstream: z.number().int().describe('Leases that are still to be revoked'),
}

export const receiptRoute: Route = {
  method: 'GET',
  path: '/revocations/:id/receipt',
  access: ['admin'],
  tag: 'Revocation',
  summary: 'A signed receipt of a revocation, anchored in the log; before it is contained it says what remains',
  query: { subject: '`clear` names the subject, of whom there is a keyed hash otherwise' },
  answers: {
    200: {
      description: 'A compact JWS (`errand-receipt+jwt`), and what it says of containment',
      schema: z.object({ receipt: z.string(), contained: z.boolean(), contained_by: z.number().int() }),
    },
    ...errorAnswers(400, 401, 403, 404, 429, 503),
  },
  async handle(call) {
    const { deps, c, caller, wire } = call
    const subject = c.req.query('subject')
    if (subject !== undefined && subject !== 'clear')
      return refused(call, refuse('bad_param', 'request', { proven: true, detail: 'subject is clear' }).refusal)
    const id = c.req.param('id')
    const entry = isId('rev', id) ? await deps.containments.find(id) : undefined
    if (!entry) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    const { receipt, statement } = await deps.receipts.issue(entry, {
      by: caller?.kind === 'admin' ? caller.client.clientId : 'unknown',
      named: subject === 'clear',
      correlation: wire.correlation,
    })
    return Response.json({ receipt, contained: statement.contained, contained_by: statement.contained_by })
  },
}
