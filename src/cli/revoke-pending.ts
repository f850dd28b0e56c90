/** `errand revoke pending` and `errand revoke confirm`: broad revocations that take two people. */
import { isId } from '../tasks/ids.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { afterwards, timeoutOf, WAIT_FLAGS } from './containment-wait.ts'
import { adminClient } from './places.ts'
import { json, safe, table, time } from './print.ts'
import { show } from './revoke.ts'
import { pendingLines, previewLines } from './revoke-preview.ts'
import { matchText, object, objects, text } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const pending = verb({
  description: 'Lists the revocations that wait for a second person.',
  args: { ...JSON_FLAG },
  examples: ['errand revoke pending'],
  async run(args, cli: Cli) {
    const answer = await (await adminClient(cli)).get('/revocations/pending')
    const rows = objects(answer['pending'])
    if (args.json) cli.out(json(answer))
    else if (rows.length === 0) cli.err('nothing waits')
    else
      for (const line of table(cli, rows, [
        { title: 'REVOCATION', cell: (each) => each['id'] },
        { title: 'MODE', cell: (each) => each['mode'] },
        { title: 'MATCH', cell: (each) => matchText(each['match']) },
        { title: 'ASKED BY', cell: (each) => each['by'] },
        { title: 'UNTIL', cell: (each) => time(each['expires_at']) },
        { title: 'REASON', cell: (each) => each['reason'] },
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

export const confirm = verb({
  description:
    'Confirms a revocation that another administrator asked for. Shows it first, with what it would touch; --yes carries out what was shown.',
  args: {
    id: { type: 'positional', description: 'rev_…', required: true },
    yes: { type: 'boolean', description: 'confirm it' },
    digest: {
      type: 'string',
      valueHint: 'digest',
      description: 'with --yes: refuse it where it is not the one that was shown',
    },
    ...WAIT_FLAGS,
    ...JSON_FLAG,
  },
  examples: [
    'errand revoke confirm rev_9sQy3oQk2hYzR1bN5dWgTA',
    'errand revoke confirm rev_9sQy3oQk2hYzR1bN5dWgTA --yes --wait',
  ],
  async run(args, cli: Cli) {
    if (!isId('rev', args.id)) throw usage('that is no revocation: errand revoke pending shows what waits')
    const followed = args.wait || args.receipt !== undefined
    if (!args.yes && (followed || args.digest !== undefined))
      throw usage('--wait, --receipt and --digest go with --yes')
    if (args.timeout !== undefined && !args.wait) throw usage('--timeout is of --wait')
    timeoutOf(args)
    const client = await adminClient(cli)
    const path = `/revocations/${args.id}`
    const shown = await client.get(`/revocations/pending/${args.id}`)
    if (!args.yes) {
      if (args.json) cli.out(json(shown))
      else {
        for (const line of pendingLines(cli, shown)) cli.out(line)
        cli.out('')
        for (const line of previewLines(cli, object(shown['preview']))) cli.out(line)
      }
      cli.err(
        `nothing is revoked yet; exactly this: errand revoke confirm ${args.id} --yes --digest ${safe(shown['digest'])}`,
      )
      return EXIT.ok
    }
    const digest = text(shown['digest'])
    if (args.digest !== undefined && args.digest !== digest)
      throw new CliError(EXIT.refused, 'it is not what was shown: nothing was revoked')
    const answer = await client.post(`${path}/confirm`, { digest })
    if (!followed || !args.json) show(cli, { ...(args.json ? { json: true } : {}) }, answer)
    if (!followed) return EXIT.ok
    const { exit, state } = await afterwards(cli, client, args.id, args)
    if (args.json) cli.out(json({ ...answer, ...state }))
    return exit
  },
})
