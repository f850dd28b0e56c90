/** Waits until a revocation is contained, and says meanwhile what remains and until when; writes its receipt. */
import { type Cli, CliError, EXIT, type Exit } from './cli.ts'
import type { Client, Json } from './client.ts'
import { safe, until } from './print.ts'
import { receiptOf, writeReceipt } from './receipt.ts'
import { number, objects } from './rows.ts'
import { count } from './verb.ts'

export const WAIT_FLAGS = {
  wait: { type: 'boolean', description: 'until it is in force at every tool, and say what remains' },
  timeout: { type: 'string', valueHint: 'seconds', description: 'wait so long at most, and exit with 4 then' },
  receipt: { type: 'string', valueHint: 'file', description: 'write its signed receipt there' },
} as const

export interface WaitArgs {
  readonly wait?: boolean | undefined
  readonly timeout?: string | undefined
  readonly receipt?: string | undefined
}

/** Most are there within a second; a verifier that cannot be reached takes its bound. */
const LOOK_EVERY_MS = 100
const LOOK_LATER_MS = 1_000
/** How long past the moment that was promised before it is given up. */
const SLACK_SECONDS = 10

/** More than these are counted. */
const NAMED = 3

/** The longest that is waited for; read before anything is revoked. */
export const timeoutOf = ({ timeout }: WaitArgs): number | undefined =>
  timeout === undefined ? undefined : count('timeout', timeout, 86_400)

/** Within the second, or by clocks that differ a little after it: nobody is told of 0 s. */
const byWhen = (seconds: number, now: number): string =>
  seconds - now < 1 ? 'any moment' : `${until(seconds, now)} at the latest`

/** What is still open, for people. */
function remains(state: Json, now: number): string {
  const verifiers = objects(state['verifiers'])
  const waiting = verifiers.filter((each) => each['state'] === 'waiting')
  const places = waiting
    .slice(0, NAMED)
    .map((each) => `${safe(each['tool'])} (${byWhen(number(each['until']) ?? now, now)})`)
  return `in force at ${verifiers.length - waiting.length} of ${verifiers.length} tools${
    places.length === 0
      ? ''
      : `; waiting for ${places.join(', ')}${waiting.length > NAMED ? ` and ${waiting.length - NAMED} more` : ''}`
  }`
}

/** Answers the last state that was seen, and whether it is contained. */
export async function waitContained(
  cli: Cli,
  client: Client,
  id: string,
  timeoutSeconds: number | undefined,
): Promise<{ readonly state: Json; readonly contained: boolean }> {
  const began = cli.now()
  const progress = progressOf(cli)
  let state: Json = {}
  try {
    for (;;) {
      state = await look(client, id, state)
      progress.say(remains(state, cli.now()), settledIn(state))
      if (state['contained'] === true) return { state, contained: true }
      const promised = number(state['contained_by'])
      const last = timeoutSeconds === undefined ? (promised ?? began + 60) + SLACK_SECONDS : began + timeoutSeconds
      if (cli.now() >= last) return { state, contained: false }
      await cli.wait(cli.now() - began < 5 ? LOOK_EVERY_MS : LOOK_LATER_MS)
      if (cli.signal.aborted) throw new CliError(EXIT.interrupted, 'interrupted')
    }
  } finally {
    progress.end()
    if (cli.signal.aborted) {
      cli.err(`interrupted: revocation ${safe(id)} stays in force`)
      cli.err(`  its receipt: errand receipt get ${safe(id)} --out receipt.json`)
    }
  }
}

/** A service that is away for a moment does not end the waiting: what was revoked is revoked. */
async function look(client: Client, id: string, before: Json): Promise<Json> {
  try {
    return await client.get(`/revocations/${encodeURIComponent(id)}`)
  } catch (error) {
    if (error instanceof CliError && error.exit === EXIT.unreachable) return before
    throw error
  }
}

const settledIn = (state: Json): number =>
  objects(state['verifiers']).filter((each) => each['state'] !== 'waiting').length

/** One line that changes on a terminal; elsewhere a line each time that another tool holds. */
function progressOf(cli: Cli) {
  const { terminal } = cli
  let told: number | undefined
  return {
    say(line: string, settled: number) {
      if (terminal) terminal.output.write(`\r\u001b[K${line}`)
      else if (settled !== told) cli.err(line)
      told = settled
    },
    end: () => {
      if (terminal && told !== undefined) terminal.output.write('\r\u001b[K')
    },
  }
}

/** After a revocation: waits and writes the receipt, as far as that was asked for. */
export async function afterwards(
  cli: Cli,
  client: Client,
  id: string,
  args: WaitArgs,
): Promise<{ readonly exit: Exit; readonly state: Json }> {
  const waited = args.wait ? await waitContained(cli, client, id, timeoutOf(args)) : undefined
  if (args.receipt !== undefined) await writeReceipt(args.receipt, await receiptOf(client, id, false))
  if (!waited) return { exit: EXIT.ok, state: {} }
  const { state, contained } = waited
  if (!contained) cli.err(`not contained in time: ${remains(state, cli.now())}`)
  return { exit: contained ? EXIT.ok : EXIT.late, state }
}
