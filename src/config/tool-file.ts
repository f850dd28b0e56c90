/** What a file of tools/ may say. */
import { EFFECTS } from '@errand/verifier/claims.ts'
import { z } from 'zod'
import { OPERATION_NAME } from '../policy/identifier.ts'
import {
  claimName,
  clientId,
  constraint,
  display,
  identifier,
  keyFields,
  limit,
  list,
  section,
  toolName,
  url,
} from './schema-parts.ts'

const staleness = Object.fromEntries(EFFECTS.map((effect) => [effect, limit(0, 120).optional()])) as Record<
  (typeof EFFECTS)[number],
  z.ZodOptional<z.ZodInt>
>

const foreignScopes = z
  .record(
    identifier(OPERATION_NAME, 'not an operation name'),
    z.string().regex(/^[!#-[\]-~]{1,255}$/, { error: 'not a scope value' }),
  )
  .nullish()
  .transform((value) => value ?? {})
  .describe('Scope values there, by operation; without it `<tool>:<operation>`.')

export const toolSchema = section({
  name: toolName.describe('First part of its scope values.'),
  display_name: display.optional().describe('For people; without it the name.'),
  audience: url.describe('Audience URI: the exact string in `aud`, in canonical form.'),
  follows_feed: z
    .boolean()
    .default(true)
    .describe('Whether its verifier follows revocations; without, its tokens live 60 s at most.'),
  status_list: z
    .boolean()
    .default(false)
    .describe(
      'Whether its tokens name their place in a Token Status List, for a verifier that does not follow the feed.',
    ),
  accepts_bearer: z
    .boolean()
    .default(false)
    .describe('Whether it takes tokens bound to no key; they live 60 s at most.'),
  max_token_lifetime_seconds: limit(1, 300).default(300).describe('Longest life of tokens for it.'),
  staleness_seconds: section(staleness)
    .prefault({})
    .describe(
      'How old revocation state may be, by effect; 0 asks each time. Without: read 30, reversible_write 5, the others 2.',
    ),
  ...keyFields,
  agent: clientId.optional().describe('client_id, where the tool is a registered agent itself.'),
  takes: z
    .discriminatedUnion('kind', [
      section({
        kind: z.literal('id_jag').describe('ID-JAGs, which another authorization server exchanges for its own tokens.'),
        authorization_server: url.describe('Its issuer identifier: the exact string in `aud`.'),
        clients: z
          .record(clientId, z.string().regex(/^[!-~]{1,255}$/, { error: 'not a client_id of another server' }))
          .describe('As which client each of our agents is known there, by our client_id; others get none.'),
        scopes: foreignScopes,
        act: z.boolean().default(false).describe('Whether ID-JAGs name the agent, and who acted before it, in `act`.'),
        details: z
          .boolean()
          .default(false)
          .describe('Whether it understands authorization_details of type tool, which can bound arguments.'),
        lifetime_seconds: limit(1, 300).default(60).describe('Life of an ID-JAG.'),
      }),
      section({
        kind: z.literal('txn_token').describe('Transaction tokens, within one trust domain.'),
        trust_domain: z
          .string()
          .regex(/^[!-~]{1,255}$/, { error: 'not the name of a trust domain' })
          .describe('The exact string in `aud`.'),
        scopes: foreignScopes,
        request_context: list(claimName).describe(
          'Members of `request_context` that are passed on as `rctx`; others are refused.',
        ),
        lifetime_seconds: limit(1, 300).default(60).describe('Life of a transaction token.'),
      }),
    ])
    .optional()
    .describe('What it takes instead of our access tokens.'),
  operations: z
    .record(
      identifier(OPERATION_NAME, 'not an operation name'),
      section({
        effect: z.enum(EFFECTS).describe('An operation without a label is denied, so there is none without.'),
        description: display.optional().describe('For people.'),
        arguments: constraint.optional().describe('Schema of its arguments: authority is always also bounded by it.'),
        routes: list(
          z.string().regex(/^(?:GET|HEAD|POST|PUT|PATCH|DELETE) \/[A-Za-z0-9_.~:/-]*$/, {
            error: 'not of the form METHOD /path/:argument',
          }),
        ).describe('HTTP routes it maps to: `POST /tickets/:ticket_id`.'),
        mcp_tools: list(z.string().regex(/^[A-Za-z0-9_.-]{1,128}$/, { error: 'not an MCP tool name' })).describe(
          'Names of MCP tools it maps to.',
        ),
        budgeted: section({
          cost: limit(0, 1_000_000_000).default(0).describe('Least cost of one call, in units of your own.'),
        })
          .optional()
          .describe("Calls reserve from the task's budget; cost is per call."),
      }),
    )
    .nullish()
    .transform((value) => value ?? {})
    .describe('What can be done with it, by name. What is not here is denied.'),
})

export type ToolFile = z.output<typeof toolSchema>
