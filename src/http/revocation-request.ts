/** What `POST /revocations` is sent: a match and a mode, or the bulk token of a preview. */
import { EFFECTS, type Effect } from '@errand/verifier/claims.ts'
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import { DIMENSIONS, type HopFacts } from '@errand/verifier/shapes.ts'
import { z } from 'zod'
import type { Snapshot } from '../config/snapshot.ts'
import { ok, type Result, refuse } from '../oauth/refusal.ts'
import { type Match, matchInLog } from '../revoke/component-match.ts'
import { namesTasks } from '../revoke/matching-tasks.ts'
import type { Revocation, RevocationMode } from '../revoke/revocation-log.ts'
import { componentText } from './releases.ts'

const plainText = z
  .string()
  .min(1)
  .max(512)
  .regex(/^[\x20-\x7e]+$/)
/** Whoever a token may name must be revocable: a subject is not always ASCII. */
const subjectText = z.string().refine((text) => readSubjectText(text, 320).ok, 'not a subject')

const matchSchema = z.strictObject({
  ...Object.fromEntries(
    DIMENSIONS.map((dimension) => [dimension, (dimension === 'sub' ? subjectText : plainText).optional()]),
  ),
  component: componentText
    .describe('Of releases: name, name@version, or package URL; it stands for each release that has it')
    .optional(),
})

const takeSchema = z.strictObject({
  tools: z.array(plainText).max(100).optional(),
  operations: z.array(plainText).max(1000).describe('<tool>:<operation>').optional(),
  max_effect: z.enum(EFFECTS).describe('Everything of a stronger effect, as operations are labelled now').optional(),
})

export const addSchema = z.strictObject({
  match: matchSchema
    .describe('A conjunction: every dimension must match within one hop of a token. {} is everything')
    .optional(),
  mode: z
    .enum(['cut', 'ban', 'suspend', 'contain'])
    .describe('Default: ban for agent, client_id, sub, aud, release, kid, task and root; cut otherwise')
    .optional(),
  take: takeSchema
    .describe('What contain takes from the tasks that match, and from all below them, for good')
    .optional(),
  checked_before: z
    .number()
    .int()
    .describe('Unix seconds: only what was issued until then is cut, by the mark of its minute')
    .optional(),
  reason: z.string().min(3).max(500),
  everything: z.literal(true).describe('Needed with an empty match').optional(),
  dry_run: z.boolean().describe('Name the members, and change nothing').optional(),
  bulk_token: z
    .string()
    .max(64)
    .describe('Of a preview: exactly what it showed is revoked. Nothing else but the reason goes with it')
    .optional(),
})

/** A match, or a preview's bulk token, and nothing that would be ignored. */
export function whatIsMeant(
  body: z.infer<typeof addSchema>,
): Result<{ readonly match: HopFacts } | { readonly bulk: string }> {
  const { match, bulk_token: bulk, reason: _, ...rest } = body
  const no = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  if (bulk !== undefined) {
    return match === undefined && Object.keys(rest).length === 0
      ? ok({ bulk })
      : no('a bulk_token says what is revoked: send it with a reason and nothing else')
  }
  if (match === undefined) return no('match is missing')
  if (Object.keys(match).length === 0 && !body.everything)
    return no('an empty match is everything: say so with everything: true')
  const { release, component } = match as Match
  if (release !== undefined && component !== undefined)
    return no('a component stands for releases: name it, or one release')
  return ok({ match: matchInLog(match as Match) })
}

/** A live agent would simply ask again: naming who or what it is bans, naming single tokens or a policy cuts. */
const BANS: readonly string[] = ['agent', 'client_id', 'sub', 'aud', 'release', 'kid', 'task', 'root', 'domain']

/** A misspelt name must not take nothing. */
function readTake(
  { tools = [], operations = [], max_effect: maxEffect }: z.infer<typeof takeSchema>,
  { tools: known }: Snapshot,
): Result<NonNullable<Revocation['taken']>> {
  const bad = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  const all = known.all.flatMap((tool) =>
    [...tool.operations.values()].map(({ name, effect }) => ({ name: `${tool.name}:${name}`, effect })),
  )
  const tool = tools.find((name) => !known.byName(name))
  if (tool !== undefined) return bad(`there is no tool ${tool}`)
  const operation = operations.find((name) => !all.some((each) => each.name === name))
  if (operation !== undefined) return bad(`there is no operation ${operation}`)
  const above = maxEffect === undefined ? [] : all.filter(({ effect }) => rank(effect) > rank(maxEffect))
  const taken = [...new Set([...operations, ...above.map(({ name }) => name)])]
  if (tools.length === 0 && taken.length === 0) return bad('take names nothing: tools, operations or max_effect')
  return ok({ tools, operations: taken, ...(maxEffect === undefined ? {} : { maxEffect }) })
}
const rank = (effect: Effect): number => EFFECTS.indexOf(effect)

/** What was there is cut; what keeps out, pauses or takes is about what comes. */
function windowOf(
  { checked_before: until, dry_run: dry }: z.infer<typeof addSchema>,
  mode: RevocationMode,
  now: number,
): Result<number | undefined> {
  if (until === undefined) return ok(undefined)
  const no = (detail: string) => refuse('bad_body', 'request', { proven: true, detail })
  if (mode !== 'cut') return no('checked_before goes with mode cut alone')
  if (dry) return no('checked_before has no preview: a preview is of what is there now')
  return until > now ? refuse('time_in_future', 'request', { proven: true }) : ok(until)
}

export interface Meant {
  readonly match: HopFacts
  readonly mode: RevocationMode
  readonly taken?: NonNullable<Revocation['taken']>
  /** Unix seconds: of what was issued until then. */
  readonly until?: number
}

/** A match with its mode, and what goes with it. */
export function readMeant(
  body: z.infer<typeof addSchema>,
  match: HopFacts,
  { snapshot, now }: { readonly snapshot: Snapshot; readonly now: number },
): Result<Meant> {
  const named = Object.keys(match)
  const whole = body.checked_before === undefined
  const mode = body.mode ?? (whole && (named.some((each) => BANS.includes(each)) || named.length === 0) ? 'ban' : 'cut')
  if ((mode === 'contain') !== (body.take !== undefined) || (mode === 'contain' && !namesTasks(match))) {
    const detail = 'contain goes with take, and a match of tasks, agents, subjects, releases or trust domains alone'
    return refuse('bad_body', 'request', { proven: true, detail })
  }
  const window = windowOf(body, mode, now)
  if (!window.ok) return window
  const taken = body.take && readTake(body.take, snapshot)
  if (taken && !taken.ok) return taken
  return ok({
    match,
    mode,
    ...(taken ? { taken: taken.value } : {}),
    ...(window.value === undefined ? {} : { until: window.value }),
  })
}
