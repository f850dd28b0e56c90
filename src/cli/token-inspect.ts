/** `errand token inspect`: what a token says, unverified. */
import { parseJws } from '@errand/verifier/jws.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { facts, json, safe, time, until } from './print.ts'
import { isObject, number, object, objects, operationsOf, text } from './rows.ts'
import { tokenText } from './token-get.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const TOKEN_FILE = {
  type: 'positional',
  description: 'file with the token (mode 0600), or - for stdin',
  required: true,
} as const

/** A token is a secret, and argv is for everybody to read. */
export async function readToken(cli: Cli, path: string): Promise<string> {
  if (/^[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*$/.test(path))
    throw usage(
      'that is a token itself: others can read it in ps and in your shell’s history',
      'Put it in a file with mode 0600, or pipe it: … | errand token inspect -',
    )
  return tokenText(cli, path)
}

export const inspect = verb({
  description: 'Decodes a token and says what it claims. Nothing is verified: use token verify for that.',
  args: { file: TOKEN_FILE, ...JSON_FLAG },
  examples: [
    'errand token get --agent research --user alice --tool tickets | errand token inspect -',
    'errand token inspect token --json | jq .payload.task',
  ],
  async run(args, cli) {
    const parsed = parseJws(await readToken(cli, args.file))
    if (!parsed.ok) throw new CliError(EXIT.refused, `not a token that could be accepted anywhere: ${parsed.fault}`)
    const { header, payload } = parsed.value
    if (args.json) cli.out(json({ verified: false, header, payload }))
    else for (const line of claimLines(cli, header, payload)) cli.out(line)
    cli.err('Not verified: anybody can write such a token. errand token verify checks it.')
    return EXIT.ok
  },
})

export function claimLines(
  cli: Cli,
  header: { readonly [name: string]: unknown },
  payload: { readonly [name: string]: unknown },
): string[] {
  const exp = number(payload['exp'])
  const task = object(payload['task'])
  const att = object(payload['att'])
  const cnf = object(payload['cnf'])
  const actors: string[] = []
  for (let actor = payload['act']; isObject(actor) && actors.length < 8; actor = actor['act'])
    actors.push(text(actor['sub']) ?? '?')
  return facts(cli, [
    ['kind', header['typ']],
    ['signed by', header['kid']],
    ['issuer', payload['iss']],
    ['audience', payload['aud']],
    ['for', payload['sub']],
    ['agent', payload['client_id']],
    ['actors', actors.map(safe).join(' ← ')],
    ['may', operationsOf(payload['authorization_details']).join(' ') || payload['scope']],
    ['task', task['id']],
    ['depth', task['depth']],
    ['attested', att['kind'] === undefined ? undefined : `${safe(att['kind'])}, tier ${safe(att['tier'])}`],
    ['bound to', cnf['jkt'] ?? cnf['x5t#S256']],
    ['issued', time(payload['iat'])],
    ['expires', exp === undefined ? undefined : `${time(exp)} (${until(exp, cli.now())})`],
    ['epoch', payload['rev']],
    ['policies', payload['pol']],
    ['ancestors', objects(payload['hops']).length || undefined],
    ['development', payload['dev'] === true ? 'yes: production verifiers refuse it' : undefined],
    ['jti', payload['jti']],
  ])
}
