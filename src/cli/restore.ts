/** `errand restore`: a store that was put back from a backup, whole again. The service does not run meanwhile. */
import { loadConfig } from '../config/load.ts'
import { StoreFault } from '../store/fault.ts'
import { restoreEmbedded } from '../store/restore.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { placesOf } from './places.ts'
import { facts, json } from './print.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const restore = verb({
  description:
    'Makes a store whole that is of an earlier day than what the data folder holds beside it: adds the revocations, bans and signing keys that it lacks, and opens a new generation. Stop the service first. Tokens from before that match die, whenever they were checked.',
  args: {
    everything: {
      type: 'boolean',
      description: 'end every token too: the whole data folder is of an earlier day, or its ledger is lost',
    },
    ...JSON_FLAG,
  },
  examples: ['errand restore', 'errand restore --everything'],
  async run(args, cli) {
    const settings = await settingsOf(cli)
    const { store } = settings
    if (store.kind === 'redis') {
      if (args.everything) throw usage('--everything is for the embedded store', 'Revoke everything once it is back.')
      const { restoreRedis } = await import('../store/redis/restore.ts')
      const empty = await told(restoreRedis(store))
      if (args.json) cli.out(json({ was_empty: empty }))
      else
        cli.out(
          `${empty ? 'Redis is empty' : 'Redis holds something'}: start the service, which adds what it lacks before anything is answered`,
        )
      return EXIT.ok
    }
    const { dataDir } = placesOf(cli)
    const everything = args.everything === true
    const done = await told(restoreEmbedded({ dataDir, now: Math.floor(cli.now()), everything }))
    if (args.json) cli.out(json({ ...done }))
    else
      for (const line of facts(cli, [
        ['opened at', done.epoch],
        ['revocations added', done.added],
        ['bans lifted again', done.lifted],
        ['signing keys added', done.keys],
        ['every token ended by', done.everything],
      ]))
        cli.out(line)
    return EXIT.ok
  },
})

/** Of a store: a fault says what to do. */
export const told = <T>(step: Promise<T>): Promise<T> =>
  step.catch((error: unknown) => {
    throw error instanceof StoreFault ? new CliError(EXIT.usage, `${error.code}: ${error.message}`) : error
  })

export async function settingsOf(cli: Cli) {
  const { configDir, keysDir } = placesOf(cli)
  const loaded = await loadConfig({ dir: configDir, keysDir, now: cli.now, allowMissingKeys: true })
  if (!loaded.ok) throw usage('the configuration cannot be read', 'errand config check says what is wrong with it.')
  return loaded.snapshot.settings
}
