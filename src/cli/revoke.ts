/** `errand revoke`, `suspend`, `contain`: the one switch. */
import type { ParsedArgs } from 'citty'
import { nearest } from '../policy/suggest.ts'
import type { Match } from '../revoke/component-match.ts'
import { EFFECTS } from '@errand/verifier/claims.ts'
import { type Cli, CliError, EXIT, type Exit, usage } from './cli.ts'
import type { Client, Json } from './client.ts'
import { afterwards, timeoutOf, WAIT_FLAGS } from './containment-wait.ts'
import { checkKnown, checkShape, REASON, reasonOf } from './known.ts'
import { adminClient } from './places.ts'
import { facts, json, safe, time } from './print.ts'
import { matchText, object, objects, text, texts } from './rows.ts'
import { pendingLines, previewLines } from './revoke-preview.ts'
import { JSON_FLAG, verb } from './verb.ts'

const dimension = (valueHint: string, description: string) => ({ type: 'string', valueHint, description }) as const

/** What names tasks as a whole. */
const TASKS = {
  task: dimension('task_…', 'this task and its tokens'),
  root: dimension('task_…', 'the whole tree under this root task'),
  agent: dimension('client_id', 'this agent, anywhere in a chain; also a spiffe:// id'),
  sub: dimension('issuer|user', 'this subject'),
} as const
/** What is meant: several flags must hold together. */
const MATCH = {
  ...TASKS,
  tool: dimension('name', 'tokens for this tool'),
  jti: dimension('jti', 'this token and what was made from it'),
  kid: dimension('kid', 'tokens signed by this key'),
  policy: dimension('digest', 'tokens that this policy set decided'),
  release: dimension('id', 'tokens of this release of an agent'),
  component: dimension('name[@version]', 'every release that has this component, also those registered later'),
  domain: dimension('name', 'agents of this trust domain'),
  all: { type: 'boolean', description: 'everything of this issuer' },
} as const
const REST = {
  reason: REASON,
  anyway: { type: 'boolean', description: 'also where the service knows no such agent, subject, task or key' },
  'dry-run': { type: 'boolean', description: 'say what it would be, change nothing' },
  ...WAIT_FLAGS,
  ...JSON_FLAG,
} as const
/** As the longest name of what is told of a revocation. */
const WIDE = { least: 'tasks suspended'.length }
type Args = ParsedArgs<typeof TASKS & typeof REST> & Partial<ParsedArgs<typeof MATCH>>

/** Asks for it, shows what came of it, and waits where that was asked for. */
async function perform(cli: Cli, args: Args, asked: () => Promise<Json>): Promise<Exit> {
  const followed = args.wait || args.receipt !== undefined
  if (args['dry-run'] && followed) throw usage('--dry-run changes nothing: there is nothing to wait for')
  if (args.timeout !== undefined && !args.wait) throw usage('--timeout is of --wait')
  timeoutOf(args)
  const answer = await asked()
  const id = text(answer['id'])
  // What waits for a second person is in force nowhere: there is nothing to wait for.
  if (!followed || id === undefined || answer['state'] === 'pending') {
    show(cli, args, answer)
    return EXIT.ok
  }
  if (!args.json) show(cli, args, answer)
  const { exit, state } = await afterwards(cli, await adminClient(cli), id, args)
  if (args.json) cli.out(json({ ...answer, ...state }))
  else
    for (const line of facts(
      cli,
      [
        ['contained', time(state['contained_at'])],
        ['receipt', args.receipt],
      ],
      WIDE,
    ))
      cli.out(line)
  return exit
}

/** Asks for it, and answers what came of it; names that nobody has are refused first. */
async function ask(cli: Cli, args: Args, body: Json): Promise<Json> {
  const given = {
    task: args.task,
    root: args.root,
    sub: args.sub,
    jti: args.jti,
    kid: args.kid,
    policy: args.policy,
    release: args.release,
    component: args.component,
    domain: args.domain,
    ...(args.agent?.startsWith('spiffe://') ? { agent: args.agent } : { client_id: args.agent }),
  }
  const match: { -readonly [D in keyof Match]: string } = Object.fromEntries(
    Object.entries(given).filter(([, value]) => value !== undefined),
  )
  const some = Object.keys(match).length > 0 || args.tool !== undefined
  if (!some && !args.all) throw usage('say what is meant: --agent, --task, --sub, --tool, --jti, …, or --all')
  if (some && args.all) throw usage('--all stands alone: everything is meant, or what matches')
  reasonOf(args.reason)
  checkShape(args)
  const client = await adminClient(cli)
  if (!args.anyway) await checkKnown(cli, client, args)
  if (args.tool !== undefined) match.aud = await audienceOf(client, args.tool)
  return client.post('/revocations', {
    match,
    reason: args.reason,
    ...body,
    // Everything is said in as many words, so that no misspelt match can mean it.
    ...(args.all ? { everything: true } : {}),
    ...(args['dry-run'] ? { dry_run: true } : {}),
  })
}

/** What a preview showed, and nothing besides. */
async function askInBulk(cli: Cli, args: Args & { readonly mode?: string | undefined }, token: string): Promise<Json> {
  const names = [...Object.keys(MATCH), 'mode', 'dry-run', 'anyway'] as const
  const beside = names.find((name) => args[name as keyof typeof args])
  if (beside !== undefined) throw usage(`--bulk-token says what is meant: leave out --${beside}`)
  if (!/^bulk_[\w-]{1,59}$/.test(token)) throw usage('--bulk-token is what a preview (--dry-run) ends with')
  reasonOf(args.reason)
  return (await adminClient(cli)).post('/revocations', { bulk_token: token, reason: args.reason })
}

export function show(cli: Cli, args: Partial<Pick<Args, 'json' | 'dry-run'>>, answer: Json): void {
  if (args.json) {
    cli.out(json(answer))
    return
  }
  if (args['dry-run']) {
    cli.err('nothing was changed')
    for (const line of previewLines(cli, answer)) cli.out(line)
    const bulk = text(answer['bulk_token'])
    if (bulk !== undefined)
      cli.err(`exactly this, once, within 15 minutes: errand revoke --bulk-token ${safe(bulk)} --reason …`)
    return
  }
  if (answer['state'] === 'pending') {
    for (const line of pendingLines(cli, answer)) cli.out(line)
    cli.err(`nothing is revoked before another administrator confirms it: errand revoke confirm ${safe(answer['id'])}`)
    return
  }
  const ended = texts(answer['tasks_ended'])
  const suspended = texts(answer['tasks_suspended'])
  const contained = texts(answer['tasks_contained'])
  const releases = texts(answer['releases'])
  for (const line of facts(
    cli,
    [
      ['revocation', answer['id']],
      ['epoch', answer['epoch']],
      ['match', matchText(answer['match'])],
      ['mode', answer['mode']],
      ['releases', object(answer['match'])['component'] === undefined ? undefined : namedFew(releases) || 'none yet'],
      ['tasks ended', ended.length === 0 ? undefined : ended.length],
      ['tasks contained', contained.length === 0 ? undefined : contained.length],
      ['tasks suspended', suspended.length === 0 ? undefined : suspended.length],
    ],
    WIDE,
  ))
    cli.out(line)
  if (answer['mode'] === 'ban') cli.err(`until: errand readmit ${safe(answer['id'])} --reason …`)
  if (answer['mode'] === 'suspend') cli.err(`until: errand resume ${safe(answer['id'])} --reason …`)
}

/** So many are named in a line. */
const namedFew = (names: readonly string[]): string =>
  names.length <= 3 ? names.join(' ') : `${names.slice(0, 3).join(' ')} … ${names.length} in all`

export const revoke = verb({
  description:
    'Ends what matches: tokens checked before this moment die at every verifier. Several flags must hold together.',
  args: {
    ...MATCH,
    mode: {
      type: 'enum',
      options: ['cut', 'ban'],
      description:
        'cut: may ask again; ban: nothing new until readmitted (the default is the service’s, by what matches)',
    },
    'bulk-token': {
      type: 'string',
      valueHint: 'bulk_…',
      description: 'exactly what your preview showed, instead of a match; it is no secret, and of no use to others',
    },
    'checked-before': dimension('time', 'cut only what was issued until then: Unix seconds, or 2026-11-22T01:00:00Z'),
    ...REST,
  },
  examples: [
    'errand revoke --agent research --reason "key leaked"',
    'errand revoke --sub "dev|alice" --tool payments --mode cut --reason "role changed"',
    'errand revoke --task task_7Jx0vT3mQk2hYzR1bN5dWg --reason "wrong customer" --dry-run',
    'errand revoke --release 3fK0uVb1mXq7sWc2dYe5Za --reason "bad component" --wait --receipt out.json',
    'errand revoke --component litellm@1.82.8 --reason "malicious version of a part" --dry-run',
    'errand revoke --bulk-token bulk_5Zq0vT3mQk2hYzR1bN5dWgq8Jx0vT3mQ --reason "wrong customer"',
  ],
  async run(args, cli) {
    const bulk = args['bulk-token']
    const until = args['checked-before']
    const mode = {
      ...(args.mode === undefined ? {} : { mode: args.mode }),
      ...(until === undefined ? {} : { checked_before: moment(until) }),
    }
    return perform(cli, args, () => (bulk === undefined ? ask(cli, args, mode) : askInBulk(cli, args, bulk)))
  },
})

/** A time as Unix seconds, also where it is written as a date. */
function moment(text: string): number {
  const seconds = /^[0-9]{1,12}$/.test(text) ? Number(text) : Math.floor(Date.parse(text) / 1000)
  if (Number.isSafeInteger(seconds)) return seconds
  throw usage('--checked-before is Unix seconds, or a time as 2026-11-22T01:00:00Z')
}

export const suspend = verb({
  description:
    'Stops what matches until it is resumed: its tokens die, its tasks pause, and nothing new is issued. Nothing of a task is lost; its deadline goes on.',
  args: { ...MATCH, ...REST },
  examples: [
    'errand suspend --agent research --reason "odd calls at night"',
    'errand suspend --task task_7Jx0vT3mQk2hYzR1bN5dWg --reason "asking the customer"',
  ],
  async run(args, cli) {
    return perform(cli, args, () => ask(cli, args, { mode: 'suspend' }))
  },
})

/** The audience URI of a tool by its name. */
export async function audienceOf(client: Client, name: string): Promise<string> {
  const tools = objects((await client.get('/tools'))['tools'])
  const audience = text(tools.find((tool) => tool['name'] === name)?.['audience'])
  if (audience !== undefined) return audience
  const near = nearest(
    name,
    tools.map((tool) => text(tool['name']) ?? ''),
  )
  throw new CliError(EXIT.usage, `no tool ${safe(name)}${near === undefined ? '' : `, did you mean ${near}?`}`)
}

export const contain = verb({
  description:
    'Takes something from tasks for good, and ends their tokens: they go on with what is left, and so does all below them.',
  args: {
    ...TASKS,
    take: dimension('tool[:operation],…', 'what is taken: tools, or single operations of them'),
    'max-effect': {
      type: 'enum',
      options: [...EFFECTS],
      description: 'take every operation of a stronger effect, as they are labelled now',
    },
    ...REST,
  },
  examples: [
    'errand contain --agent research --take payments --reason "refunds nobody asked for"',
    'errand contain --task task_7Jx0vT3mQk2hYzR1bN5dWg --max-effect read --reason "to be looked at first"',
  ],
  async run(args, cli) {
    const names = args.take?.split(',') ?? []
    if (names.length === 0 && args['max-effect'] === undefined) throw usage('say what to take: --take or --max-effect')
    const take = {
      tools: names.filter((name) => !name.includes(':')),
      operations: names.filter((name) => name.includes(':')),
      ...(args['max-effect'] === undefined ? {} : { max_effect: args['max-effect'] }),
    }
    show(cli, args, await ask(cli, args, { mode: 'contain', take }))
    return EXIT.ok
  },
})
