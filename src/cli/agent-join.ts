/** `errand agent join`: on the agent's own machine, at its first start. */
import { mkdir } from 'node:fs/promises'
import { dirname, join as joinPath } from 'node:path'
import { ErrandError, joinByToken } from '@errand/agent'
import { readSecretFile } from '../keys/key-file.ts'
import { readPrivateJwkFile } from '../keys/private-jwk.ts'
import { CliError, EXIT } from './cli.ts'
import { placesOf, serviceOf } from './places.ts'
import { json, safe } from './print.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const join = verb({
  description:
    'Makes a key on this machine and registers it for the agent with a join token, read from stdin or a file of mode 0600. Interrupted, it can be run again with the same token.',
  args: {
    client_id: { type: 'positional', description: 'the agent', required: true },
    'token-file': { type: 'string', valueHint: 'path', description: 'the join token; without it, stdin' },
    'key-file': {
      type: 'string',
      valueHint: 'path',
      description: 'where the key is kept (default keys/agents/<client_id>.jwk)',
    },
    ...JSON_FLAG,
  },
  examples: [
    'errand agent join research < join-token',
    'errand agent join research --token-file join-token --key-file /var/lib/research/key.jwk',
  ],
  async run(args, cli) {
    const clientId = args.client_id
    const keyFile = args['key-file'] ?? joinPath(placesOf(cli).keysDir, 'agents', `${clientId}.jwk`)
    const { url, issuer } = await serviceOf(cli)
    if (url !== issuer) {
      throw new CliError(EXIT.usage, `a join token is sent to ${safe(issuer)} alone`, [
        'Set ERRAND_URL to that address.',
      ])
    }
    await mkdir(dirname(keyFile), { recursive: true, mode: 0o700 })
    try {
      await joinByToken({
        issuer,
        clientId,
        keyFile,
        token: () => (args['token-file'] === undefined ? cli.stdin() : readSecretFile(args['token-file'])),
        fetch: cli.fetch as typeof fetch,
        now: cli.now,
        wait: cli.wait,
      })
    } catch (error) {
      if (!(error instanceof ErrandError)) throw error
      const refused = error.status >= 400
      const exit = refused ? EXIT.refused : error.code === 'network_error' ? EXIT.unreachable : EXIT.usage
      throw new CliError(exit, refused ? `refused: ${safe(error.message)}` : safe(error.message), [
        ...(error.next === undefined ? [] : [`next: ${safe(error.next)}`]),
        ...(refused ? ['An administrator makes a new token: errand agent join-token <client_id>'] : []),
      ])
    }
    const { kid } = await readPrivateJwkFile(keyFile)
    if (args.json) cli.out(json({ client_id: clientId, kid, key_file: keyFile }))
    else cli.out(`${safe(clientId)} joined: its key ${safe(kid)} is in ${safe(keyFile)}`)
    return EXIT.ok
  },
})
