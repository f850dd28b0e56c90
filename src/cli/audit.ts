/** `errand audit tail|search`: the log, read through the service. */
import { EVENT_TYPES } from '../audit/log.ts'
import { type Cli, EXIT, usage } from './cli.ts'
import type { Json } from './client.ts'
import { adminClient } from './places.ts'
import { json, safe, time } from './print.ts'
import { matchText, number, object, objects, texts } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

const FOLLOW_MS = 500
const FOLLOW_LIMIT = 200

export const tail = verb({
  description: 'Shows the newest records of the audit log, oldest first.',
  args: {
    follow: { type: 'boolean', alias: 'f', description: 'go on as records are written, until Ctrl-C' },
    lines: { type: 'string', alias: 'n', valueHint: 'n', description: 'how many', default: '20' },
    ...JSON_FLAG,
  },
  examples: ['errand audit tail', 'errand audit tail -f', 'errand audit tail -n 100 --json | jq -c "select(.reason)"'],
  async run(args, cli) {
    const client = await adminClient(cli)
    const limit = String(count('lines', args.lines, 1000))
    const newest = [...objects((await client.get('/audit/records', { limit }))['records'])].reverse()
    const show = (record: Json) => cli.out(args.json ? json(record).replace(/\n */g, ' ') : recordLine(cli, record))
    for (const record of newest) show(record)
    let next = (number(newest.at(-1)?.['i']) ?? -1) + 1
    while (args.follow && !cli.signal.aborted) {
      const answer = await client.get('/audit/records', { from: String(next), limit: String(FOLLOW_LIMIT) })
      const records = objects(answer['records'])
      for (const record of records) {
        show(record)
        next = Math.max(next, (number(record['i']) ?? next) + 1)
      }
      if (records.length < FOLLOW_LIMIT) await cli.wait(FOLLOW_MS)
    }
    return EXIT.ok
  },
})

export const search = verb({
  description: 'Finds records, newest first.',
  args: {
    since: { type: 'string', valueHint: 'time', description: 'ISO time, or 15m, 2h, 7d ago' },
    until: { type: 'string', valueHint: 'time', description: 'as --since' },
    type: { type: 'enum', options: [...EVENT_TYPES], description: 'kind of event' },
    agent: { type: 'string', valueHint: 'client_id', description: 'by this agent' },
    sub: { type: 'string', valueHint: 'issuer|user', description: 'for this subject' },
    task: { type: 'string', valueHint: 'task_…', description: 'in this task' },
    jti: { type: 'string', valueHint: 'jti', description: 'of this token' },
    reason: { type: 'string', valueHint: 'code', description: 'refused for this reason' },
    limit: { type: 'string', valueHint: 'n', alias: 'n', description: 'at most so many', default: '50' },
    ...JSON_FLAG,
  },
  examples: [
    'errand audit search --type token.refused --since 1h',
    'errand audit search --sub "dev|alice" --agent research --json',
  ],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).get('/audit/records', {
      since: moment('since', args.since, cli.now()),
      until: moment('until', args.until, cli.now()),
      type: args.type,
      agent: args.agent,
      subject: args.sub,
      task: args.task,
      jti: args.jti,
      reason: args.reason,
      limit: String(count('limit', args.limit, 1000)),
    })
    const records = objects(answer['records'])
    if (args.json) cli.out(json(answer))
    else if (records.length === 0) cli.err('no such records')
    else for (const record of records) cli.out(recordLine(cli, record))
    return EXIT.ok
  },
})

/** Unix seconds as text, out of an ISO time or a span back from now. */
function moment(name: string, given: string | undefined, now: number): string | undefined {
  if (given === undefined) return undefined
  const span = /^([0-9]{1,6})([smhd])$/.exec(given)
  if (span) {
    const seconds = { s: 1, m: 60, h: 3600, d: 86_400 }[span[2] as 's' | 'm' | 'h' | 'd']
    return String(Math.max(0, Math.floor(now - Number(span[1]) * seconds)))
  }
  const at = /^[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9:.]+(Z|[+-][0-9]{2}:[0-9]{2})?)?$/.test(given)
    ? Date.parse(given)
    : Number.NaN
  if (Number.isNaN(at)) throw usage(`--${name} is no time: 2026-11-21, 2026-11-21T08:00:00Z, 15m, 2h or 7d`)
  return String(Math.floor(at / 1000))
}

/** A record in one line for people. */
export function recordLine({ colors }: Pick<Cli, 'colors'>, record: Json): string {
  const { i, t, type, decision, reason, agent, by, tool, operations, task, jti, count: times, cause } = record
  const name = safe(type)
  const painted = decision === 'refuse' ? colors.red(name) : decision === 'permit' ? colors.green(name) : name
  const details = object(record['details'])
  const parts = [
    safe(agent ?? by),
    ...(tool === undefined ? [] : [`${safe(tool)}:${texts(operations).map(safe).join(',')}`]),
    ...(reason === undefined ? [] : [colors.red(safe(reason))]),
    ...(times === undefined ? [] : [`× ${safe(times)}`]),
    ...aboutOf(type, details, cause),
    colors.dim(safe(task)),
    colors.dim(safe(jti ?? record['decision_id'])),
  ]
  return [colors.dim(`${safe(i).padStart(6)} ${time((number(t) ?? 0) / 1000)}`), painted, ...parts]
    .filter((part) => part !== '')
    .join('  ')
    .trimEnd()
}

/** What was done to what, of records that are about no token. */
function aboutOf(type: unknown, details: Json, cause: unknown): string[] {
  const { kid, purpose, from, to, cause: why, match, mode, reason, action, ...rest } = details
  const told = (value: unknown) => (value === undefined ? [] : [safe(value)])
  switch (type) {
    case 'key.moved':
      return [
        `${safe(purpose)} key ${safe(kid)}`,
        `${from === undefined ? '' : `${safe(from)} → `}${safe(to)}`,
        ...told(why),
      ]
    case 'revocation.added':
      return [...told(mode), matchText(match), ...told(cause), ...told(reason)]
    case 'receipt.issued':
      return [...told(cause)]
    case 'revocation.readmitted':
    case 'revocation.resumed':
      return [...told(cause), ...told(reason)]
    case 'admin.acted': {
      const particulars = Object.entries({ kid, purpose, reason, ...rest }).filter(([, value]) => value !== undefined)
      return [...told(action), ...particulars.map(([name, value]) => `${name}=${safe(value)}`)]
    }
    default:
      return match === undefined ? [] : [safe(match)]
  }
}
