/** `errand witness`: remembers what a log signed, from another machine or another team, and notices when it goes back. */
import { readFile, rename, writeFile } from 'node:fs/promises'
import { type Checkpoint, parseCheckpoint } from '../audit/checkpoint.ts'
import { parseNote } from '../audit/note.ts'
import { readNoteKeys } from '../audit/note-keys.ts'
import { type Alarm, judge, type Presented } from '../audit/witness.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { type Client, createClient, getPublic } from './client.ts'
import { adminClient, keyAt, serviceOf } from './places.ts'
import { json, safe } from './print.ts'
import { texts } from './rows.ts'
import { count, JSON_FLAG, verb } from './verb.ts'

/** Beyond it a state file is none of ours. */
const MAX_NOTE = 1 << 16

export const witness = verb({
  description:
    'Follows the checkpoints of a log and keeps the newest in a file. One that is smaller than what was seen, or not its continuation, is an alarm: both are kept as evidence, and the exit code is 2.',
  args: {
    state: {
      type: 'string',
      valueHint: 'file',
      description: 'what was seen last; made where it is missing',
      required: true,
    },
    jwks: {
      type: 'string',
      valueHint: 'file',
      description: 'the issuer’s public keys (default: those it publishes, asked for each time)',
    },
    client: {
      type: 'string',
      valueHint: 'client_id',
      description: 'who asks: a tool or an agent (default: the administrator)',
    },
    'client-key-file': { type: 'string', valueHint: 'file', description: 'the key of --client' },
    every: { type: 'string', valueHint: 'seconds', description: 'how often', default: '10' },
    once: { type: 'boolean', description: 'look once: for a timer of your own' },
    ...JSON_FLAG,
  },
  examples: [
    'errand witness --state errand.witness --client tool:crm --client-key-file crm.jwk',
    'errand witness --state errand.witness --once --jwks keys.json || page-somebody',
  ],
  async run(args, cli) {
    const waitMs = count('every', args.every, 86_400) * 1000
    const client = await clientFor(cli, args.client, args['client-key-file'])
    const pinned = args.jwks === undefined ? undefined : await readFile(args.jwks, 'utf8').catch(() => '')
    if (pinned !== undefined && readNoteKeys(pinned).length === 0)
      throw usage(`${safe(args.jwks)} holds no key that signs checkpoints`, 'errand keys export-jwks prints them.')
    let held = await heldIn(args.state)
    let lost = false
    for (;;) {
      try {
        const keys = readNoteKeys(pinned ?? (await published(cli)))
        const presented = await ask(client, held?.checkpoint)
        const judged = judge(held?.checkpoint, presented, keys)
        if (!judged.ok) return await alarmed(cli, args.state, { ...judged, held: held?.note, presented })
        const { origin, size } = judged.checkpoint
        if (size !== held?.checkpoint.size) {
          held = { note: presented.note, checkpoint: judged.checkpoint }
          await keep(args.state, presented.note)
          cli.out(
            args.json ? json({ origin, size }).replace(/\n */g, ' ') : `${safe(origin)}: ${size} records, as before`,
          )
        }
        if (lost) cli.err('the log answers again')
        lost = false
      } catch (error) {
        // One that cannot be reached is nothing it signed: asked again later.
        if (args.once || !(error instanceof CliError) || error.exit !== EXIT.unreachable) throw error
        if (!lost) cli.err(error.message)
        lost = true
      }
      if (args.once || cli.signal.aborted) return EXIT.ok
      await cli.wait(waitMs)
      if (cli.signal.aborted) return EXIT.ok
    }
  },
})

interface Held {
  readonly note: string
  readonly checkpoint: Checkpoint
}

async function clientFor(cli: Cli, clientId: string | undefined, file: string | undefined): Promise<Client> {
  if (clientId === undefined && file === undefined) return adminClient(cli)
  if (clientId === undefined || file === undefined) throw usage('--client and --client-key-file go together')
  const key = await keyAt(file, 'It is the private JWK whose public half the service has registered for that client.')
  return createClient(cli, await serviceOf(cli), { clientId, key })
}

const published = async (cli: Cli): Promise<string> =>
  JSON.stringify(await getPublic(cli, (await serviceOf(cli)).url, '/.well-known/jwks.json'))

/** The newest checkpoint, with the proof that it continues what is held. */
async function ask(client: Client, held: Checkpoint | undefined): Promise<Presented> {
  const anyhow = async (): Promise<Presented> => ({
    note: String((await client.get('/log/proof', { index: '0' }))['checkpoint']),
  })
  if (held === undefined) return anyhow()
  try {
    const { checkpoint, path } = await client.get('/log/consistency', { from: String(held.size) })
    return { note: String(checkpoint), path: texts(path) }
  } catch (error) {
    // It has fewer records than were seen: what it signs over those says so.
    if (error instanceof CliError && error.code === 'bad_param') return anyhow()
    throw error
  }
}

async function heldIn(path: string): Promise<Held | undefined> {
  const note = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return undefined
    throw usage(`${safe(path)} cannot be read (${error.code ?? 'unknown error'})`)
  })
  if (note === undefined) return undefined
  const parsed = note.length > MAX_NOTE ? undefined : parseNote(note)
  const checkpoint = parsed && parseCheckpoint(parsed.text)
  // Its own file: that it was signed was checked before it was written.
  if (!checkpoint)
    throw usage(`${safe(path)} holds no checkpoint`, 'Restore it: without it what was seen is forgotten.')
  return { note, checkpoint }
}

async function keep(path: string, note: string): Promise<void> {
  await writeFile(`${path}.tmp`, note, { mode: 0o600, flush: true })
  await rename(`${path}.tmp`, path)
}

async function alarmed(
  cli: Cli,
  state: string,
  found: {
    readonly alarm: Alarm
    readonly why: string
    readonly held: string | undefined
    readonly presented: Presented
  },
): Promise<typeof EXIT.usage> {
  const { alarm, why, held, presented } = found
  const evidence = { alarm, why, at: new Date(cli.now() * 1000).toISOString(), held, presented: presented.note }
  const file = `${state}.${alarm}-${Math.floor(cli.now())}.json`
  await writeFile(file, `${json({ ...evidence, path: presented.path })}\n`, { mode: 0o600 })
  cli.out(json(evidence))
  cli.err(`${cli.colors.red(alarm)}: ${safe(why)}`)
  cli.err(`what was seen before and what is shown now are in ${safe(file)}; the first stays in ${safe(state)}`)
  return EXIT.usage
}
