/** `errand receipt`: get the signed receipt of a revocation, and verify one without the service. */
import { readFile, writeFile } from 'node:fs/promises'
import { checkReceipt } from '../revoke/receipt-check.ts'
import { isId } from '../tasks/ids.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import type { Client, Json } from './client.ts'
import { adminClient } from './places.ts'
import { facts, json, safe, table, time } from './print.ts'
import { matchText, object, objects, text, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const get = verb({
  description:
    'Gets the signed receipt of a revocation: what was revoked, which verifiers applied it, every task it ended, and what remains until when.',
  args: {
    id: { type: 'positional', description: 'rev_…', required: true },
    out: { type: 'string', valueHint: 'file', description: 'write it there' },
    'name-subject': { type: 'boolean', description: 'with the subject in the clear: for nobody outside' },
    ...JSON_FLAG,
  },
  examples: ['errand receipt get rev_9sQy3oQk2hYzR1bN5dWgTA --out receipt.json'],
  async run(args, cli) {
    if (!isId('rev', args.id)) throw usage('that is no id of a revocation (rev_ and 22 letters, digits, - or _)')
    const answer = await receiptOf(await adminClient(cli), args.id, args['name-subject'] === true)
    if (args.out === undefined) cli.out(json(answer))
    else {
      await writeReceipt(args.out, answer)
      cli.out(`${safe(args.out)} is the receipt of ${safe(args.id)}`)
    }
    if (answer['contained'] !== true)
      cli.err(`not contained yet: what cannot be reached refuses by itself from ${time(answer['contained_by'])}`)
    return EXIT.ok
  },
})

export const receiptOf = (client: Client, id: string, named: boolean): Promise<Json> =>
  client.get(`/revocations/${encodeURIComponent(id)}/receipt`, named ? { subject: 'clear' } : {})

export async function writeReceipt(path: string, answer: Json): Promise<void> {
  await writeFile(path, `${JSON.stringify({ receipt: answer['receipt'] })}\n`).catch((error: NodeJS.ErrnoException) => {
    throw new CliError(EXIT.usage, `${safe(path)} cannot be written (${error.code ?? 'unknown error'})`)
  })
}

export const verify = verb({
  description:
    'Verifies a receipt without the service, by the issuer’s public keys alone: its signature, and the proofs that it and the revocation are in the log.',
  args: {
    file: { type: 'positional', description: 'the receipt', required: true },
    jwks: {
      type: 'string',
      valueHint: 'file',
      description: 'the public keys, as errand keys export-jwks --all prints them',
      required: true,
    },
    ...JSON_FLAG,
  },
  examples: ['errand receipt verify receipt.json --jwks keys.json'],
  async run(args, cli) {
    const [receipt, jwks] = await Promise.all([read(args.file), read(args.jwks)])
    const keys = jsonIn(jwks)
    if (keys === undefined) throw usage(`${safe(args.jwks)} is no JSON: errand keys export-jwks --all prints the keys`)
    const written = text(object(jsonIn(receipt))['receipt']) ?? receipt.trim()
    const checked = checkReceipt(written, keys)
    if (args.json) cli.out(json(checked))
    else if (checked.ok) show(cli, checked.statement, checked)
    else cli.err(`${cli.colors.red('errand:')} ${checked.fault}: ${safe(checked.detail)}`)
    return checked.ok ? EXIT.ok : EXIT.refused
  },
})

const read = (path: string): Promise<string> =>
  readFile(path, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    throw new CliError(EXIT.usage, `${safe(path)} cannot be read (${error.code ?? 'unknown error'})`)
  })

function jsonIn(written: string): unknown {
  try {
    return JSON.parse(written)
  } catch {
    return undefined
  }
}

/** How many of a list are shown to people. */
const SHOWN = 10

function show(
  cli: Cli,
  statement: Json,
  { log, recorded }: { readonly log: { readonly id: string; readonly size: number }; readonly recorded: boolean },
): void {
  const revocation = object(statement['revocation'])
  const tasks = object(statement['tasks'])
  const touched = (member: string) => {
    const ids = texts(tasks[member])
    if (ids.length === 0) return undefined
    return `${ids.length}: ${ids.slice(0, SHOWN).join(' ')}${ids.length > SHOWN ? ' … (--json names all)' : ''}`
  }
  cli.out(cli.colors.green('good: signed by the issuer, and in its log'))
  cli.out('')
  for (const line of facts(cli, [
    ['issuer', statement['iss']],
    ['given', time(statement['iat'])],
    ['revocation', revocation['id']],
    ['match', matchText(revocation['match'])],
    ['subject', revocation['subject_name'] ?? revocation['subject']],
    ['mode', revocation['mode']],
    ['taken', texts(revocation['taken']).join(' ')],
    ['checked before', revocation['before']],
    ['reason', revocation['reason']],
    ['by', revocation['by']],
    ['confirmed by', revocation['confirmed_by']],
    ['revoked', `${time(revocation['at'])}, epoch ${safe(revocation['epoch'])}`],
    ['contained', statement['contained'] === true ? time(statement['contained_at']) : 'not when it was given'],
    ['releases', texts(statement['releases']).join(' ')],
    ['tasks ended', touched('ended')],
    ['tasks suspended', touched('suspended')],
    ['tasks narrowed', touched('contained')],
    ['log', `${log.id}, under a checkpoint over ${log.size} records`],
  ]))
    cli.out(line)
  if (!recorded) cli.out('the revocation itself could not be recorded when it was made')
  const verifiers = objects(statement['verifiers'])
  if (verifiers.length === 0) return
  cli.out('')
  for (const line of audienceTable(cli, verifiers)) cli.out(line)
}

/** Where a revocation is in force, tool by tool. */
export const audienceTable = (cli: Cli, verifiers: readonly Json[]): string[] =>
  table(cli, verifiers, [
    { title: 'TOOL', cell: (each) => each['tool'] },
    {
      title: 'STATE',
      cell: (each) => stateText(each),
      paint: (cell, each) => (each['state'] === 'waiting' ? cli.colors.yellow(cell) : cli.colors.green(cell)),
    },
    { title: 'REFUSES FROM', cell: (each) => time(each['until']) },
    { title: 'PROCESSES', cell: (each) => each['processes'] },
  ])

const stateText = ({ state, by }: Json): string =>
  state === 'acknowledged'
    ? 'acknowledged'
    : state === 'bound_passed'
      ? by === 'feed'
        ? 'its bound has passed'
        : 'its tokens have ended'
      : by === 'feed'
        ? 'not acknowledged yet'
        : 'its tokens end by then'
