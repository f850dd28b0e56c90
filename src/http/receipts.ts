/** Where a revocation is in force, and its signed receipt. */
import { z } from 'zod'

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
