/** `errand seal`, `errand unseal`: nothing is issued meanwhile. */
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { REASON, reasonOf } from './known.ts'
import { adminClient } from './places.ts'
import { facts, json, time } from './print.ts'
import type { Json } from './client.ts'
import { settingsOf, told } from './restore.ts'
import { JSON_FLAG, verb } from './verb.ts'

function show(cli: Cli, asJson: boolean | undefined, answer: Json): void {
  if (asJson) cli.out(json(answer))
  else if (answer['sealed'] !== true) cli.out('not sealed')
  else
    for (const line of facts(cli, [
      ['sealed by', answer['by']],
      ['because', answer['reason']],
      ['since', time(answer['at'])],
    ]))
      cli.out(line)
}

export const seal = verb({
  description:
    'Issues nothing until errand unseal: no token, no task, no key. Tokens that are out live on until they expire or are revoked; everything can still be revoked. Works with the data disk full.',
  args: { reason: REASON, ...JSON_FLAG },
  examples: ['errand seal --reason "somebody else may have the signing key"'],
  async run(args, cli) {
    reasonOf(args.reason)
    show(cli, args.json, await (await adminClient(cli)).post('/seal', { reason: args.reason }))
  },
})

export const unseal = verb({
  description:
    'Lifts the seal of errand seal. With --without, run where the configuration is: a Redis that may have lost something does not wait for that process any more, and every token from before is dead. Do so only for one whose data folder is lost.',
  args: {
    reason: { ...REASON, required: false },
    without: { type: 'string', valueHint: 'id', description: 'a process that will not come back' },
    ...JSON_FLAG,
  },
  examples: ['errand unseal --reason "it was a drill"', 'errand unseal --without 5f0c22a9'],
  async run(args, cli) {
    if (args.without !== undefined) return without(cli, args.without, args.json)
    if (args.reason === undefined) throw usage('say why: --reason')
    reasonOf(args.reason)
    show(cli, args.json, await (await adminClient(cli)).post('/unseal', { reason: args.reason }))
  },
})

/** By the store itself: the service answers nothing meanwhile. */
async function without(cli: Cli, id: string, asJson: boolean | undefined): Promise<undefined> {
  const { store } = await settingsOf(cli)
  if (store.kind !== 'redis') throw usage('the store is not Redis: no other process is waited for')
  const { declareLost } = await import('../store/redis/restore.ts')
  const declared = await told(declareLost(store, id))
  if (declared === 'not_sealed') throw new CliError(EXIT.refused, 'the store waits for nobody')
  if (declared !== 'declared')
    throw new CliError(EXIT.refused, 'it does not wait for a process of that id', [
      `It waits for: ${declared.missing.join(', ') || 'nobody'}`,
    ])
  if (asJson) cli.out(json({ declared_lost: id }))
  else cli.out(`${id} is not waited for any more: every token from before is dead, and bans stay`)
}
