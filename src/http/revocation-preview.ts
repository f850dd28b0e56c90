/** What `dry_run` answers: the members of a revocation that is not made. */
import type { HopFacts } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import { shownMatch } from '../revoke/component-match.ts'
import type { Pinned } from '../revoke/bulk.ts'
import type { RevocationMode } from '../revoke/revocation-log.ts'
import type { HttpDeps } from './deps.ts'

/** So many are named; the total says how many there are. */
const NAMED = 100

const members = (what: string) =>
  z.object({ total: z.number().int(), names: z.array(z.string()).describe(`${what}, ${NAMED} at most`) })

export const previewSchema = z
  .object({
    dry_run: z.literal(true),
    match: z.record(z.string(), z.string()),
    mode: z.string(),
    releases: members('By component: those that have it').optional(),
    tasks: z.object({
      total: z.number().int(),
      ids: z.array(z.string()).describe(`${NAMED} at most`),
      effect: z
        .enum(['end', 'suspend', 'contain', 'go_on'])
        .describe('What becomes of them; go_on: they lose tokens and may ask again'),
      complete: z.literal(false).describe('There are more than were counted').optional(),
    }),
    subjects: members('As tokens name them'),
    agents: members('Their client ids'),
    tools: members('Where matching tokens are good'),
    live_tokens: z.object({
      count: z.number().int(),
      exact: z.boolean().describe('Otherwise there are no more than that, of those that are counted'),
      not_counted: z
        .literal('other_replicas')
        .describe('One of them did not answer in time: what it issued is not among them')
        .optional(),
      latest_expiry: z.number().int().optional(),
    }),
    verifiers: z
      .array(
        z.object({
          tool: z.string(),
          by: z.enum(['feed', 'token_life']).describe('How it comes to refuse by itself'),
          bound_seconds: z.number().int().describe('After so long it does, whatever was lost'),
        }),
      )
      .describe('Of those tools'),
    bulk_token: z
      .string()
      .describe('Revokes exactly this, once; absent where there are more tasks than can be pinned')
      .optional(),
    bulk_token_expires_at: z.number().int().optional(),
  })
  .meta({ id: 'RevocationPreview' })

const named = (all: ReadonlySet<string>) => ({ total: all.size, names: [...all].sort().slice(0, NAMED) })

export function previewView(
  deps: Pick<HttpDeps, 'audiences'>,
  match: HopFacts,
  mode: RevocationMode,
  { preview, bulk }: Pinned,
) {
  const { effect, tasks, complete, subjects, agents, audiences, live, releases } = preview
  const reached = deps.audiences.all().filter(({ audience }) => audiences.has(audience))
  return {
    dry_run: true,
    match: shownMatch(match),
    mode,
    ...(releases ? { releases: named(new Set(releases)) } : {}),
    tasks: { total: tasks.length, ids: tasks.slice(0, NAMED), effect, ...(complete ? {} : { complete }) },
    subjects: named(subjects),
    agents: named(agents),
    tools: named(new Set(reached.map(({ tool }) => tool))),
    live_tokens: {
      count: live.count,
      exact: live.exact,
      ...(live.incomplete ? { not_counted: 'other_replicas' as const } : {}),
      ...(live.latestExpiry === undefined ? {} : { latest_expiry: live.latestExpiry }),
    },
    verifiers: reached.map(({ tool, by, boundSeconds }) => ({ tool, by, bound_seconds: boundSeconds })),
    ...(bulk === undefined ? {} : { bulk_token: bulk.token, bulk_token_expires_at: bulk.expiresAt }),
  }
}
