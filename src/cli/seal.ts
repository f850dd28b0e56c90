/** `errand seal`, `errand unseal`: nothing is issued meanwhile. */
import type { Cli } from './cli.ts'
import { REASON, reasonOf } from './known.ts'
import { adminClient } from './places.ts'
import { facts, json, time } from './print.ts'
import type { Json } from './client.ts'
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
  description: 'Lifts the seal of errand seal.',
  args: { reason: REASON, ...JSON_FLAG },
  examples: ['errand unseal --reason "it was a drill"'],
  async run(args, cli) {
    reasonOf(args.reason)
    show(cli, args.json, await (await adminClient(cli)).post('/unseal', { reason: args.reason }))
  },
})
