/** `errand readmit`, `resume`, `ban list`: what is kept out, and how it is let in again. */
import { type Cli, EXIT } from './cli.ts'
import type { Json } from './client.ts'
import { REASON, reasonOf } from './known.ts'
import { adminClient } from './places.ts'
import { json, safe, table, time } from './print.ts'
import { matchText, objects, text, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const readmit = verb({
  description: 'Ends a ban: what it matched may ask for tokens again. Old tokens stay dead.',
  args: {
    id: { type: 'positional', description: 'rev_…', required: true },
    reason: REASON,
    ...JSON_FLAG,
  },
  examples: ['errand readmit rev_9sQy3oQk2hYzR1bN5dWgTA --reason "new key registered"'],
  async run(args, cli) {
    reasonOf(args.reason)
    const client = await adminClient(cli)
    const answer = await client.post(`/revocations/${encodeURIComponent(args.id)}/readmit`, { reason: args.reason })
    if (args.json) cli.out(json(answer))
    else cli.out(`${safe(args.id)} readmitted`)
    return EXIT.ok
  },
})

export const resume = verb({
  description: 'Lifts a suspension: the tasks that it alone held go on, and ask for new tokens. Old tokens stay dead.',
  args: {
    id: { type: 'positional', description: 'rev_…', required: true },
    reason: REASON,
    ...JSON_FLAG,
  },
  examples: ['errand resume rev_9sQy3oQk2hYzR1bN5dWgTA --reason "it was the nightly report"'],
  async run(args, cli) {
    reasonOf(args.reason)
    const client = await adminClient(cli)
    const answer = await client.post(`/revocations/${encodeURIComponent(args.id)}/resume`, { reason: args.reason })
    if (args.json) {
      cli.out(json(answer))
      return EXIT.ok
    }
    cli.out(`${safe(args.id)} resumed`)
    const tasks = texts(answer['tasks_resumed'])
    if (tasks.length > 0) cli.out(`tasks that go on  ${tasks.length}`)
    return EXIT.ok
  },
})

/** A part ends with the whole. */
function untilOf(ban: Json): string {
  const whole = text(ban['part_of'])
  if (whole !== undefined) return `with ${whole}`
  return time(ban['ban_until']) || (ban['mode'] === 'suspend' ? 'resumed' : 'readmission')
}

export const bans = verb({
  description: 'Lists the bans and suspensions in force.',
  args: { ...JSON_FLAG },
  examples: ['errand ban list'],
  async run(args, cli: Cli) {
    const answer = await (await adminClient(cli)).get('/revocations/bans')
    const rows = objects(answer['bans'])
    if (args.json) cli.out(json(answer))
    else if (rows.length === 0) cli.err('no bans')
    else
      for (const line of table(cli, rows, [
        { title: 'BAN', cell: (ban) => ban['id'] },
        { title: 'EPOCH', cell: (ban) => ban['epoch'] },
        { title: 'MODE', cell: (ban) => ban['mode'] },
        { title: 'MATCH', cell: (ban) => matchText(ban['match']) },
        { title: 'SINCE', cell: (ban) => time(ban['at']) },
        {
          title: 'UNTIL',
          cell: untilOf,
        },
        { title: 'BY', cell: (ban) => ban['by'] },
        { title: 'REASON', cell: (ban) => ban['reason'] },
      ]))
        cli.out(line)
    return EXIT.ok
  },
})
