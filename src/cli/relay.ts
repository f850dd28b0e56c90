/** `errand relay`: the revocation feed for many verifiers, from one connection to the service. */
import { createJwks } from '@errand/verifier/jwks.ts'
import { checkServiceUrl, endpoint } from '@errand/verifier/http.ts'
import { listenAsRelay, REQUESTS_PER_SECOND } from '../http/relay.ts'
import { createRelay } from '../revoke/relay.ts'
import { CliError, EXIT, usage } from './cli.ts'
import { writeFeed } from './feed-files.ts'
import { safe } from './print.ts'
import { count, verb } from './verb.ts'

const JWKS_TIMEOUT_MS = 5_000

export const relay = verb({
  description:
    "Passes the revocation feed on: many verifiers on one connection to the service. It needs no key and no trust: what it passes on is signed by the service. Verifiers are pointed at it with feed: '<its url>'.",
  args: {
    from: { type: 'string', valueHint: 'issuer', description: 'the service, by its issuer identifier', required: true },
    listen: {
      type: 'string',
      valueHint: 'host:port',
      description: 'where verifiers reach it; TLS, where wanted, is a proxy’s before it',
      default: '127.0.0.1:4470',
    },
    'per-source': {
      type: 'string',
      valueHint: 'n',
      description:
        'requests a second that one address may make (IPv4, or IPv6 /64); more where a proxy stands before it',
      default: String(REQUESTS_PER_SECOND),
    },
    write: {
      type: 'string',
      valueHint: 'folder',
      description: 'also keep the feed there as files, for a web server or a CDN (files in the verifier)',
    },
  },
  examples: [
    'errand relay --from https://errand.example.com --listen 0.0.0.0:4470',
    'errand relay --from https://errand.example.com --write /var/www/errand-feed',
  ],
  async run(args, cli) {
    const issuer = args.from.replace(/\/$/, '')
    try {
      checkServiceUrl(issuer)
    } catch (error) {
      throw usage(`--from: ${safe((error as Error).message)}`)
    }
    const parts = /^(.+):([0-9]{1,5})$/.exec(args.listen)
    const port = Number(parts?.[2] ?? Number.NaN)
    if (!parts || !(port <= 65_535)) throw usage('--listen is a host and a port: 0.0.0.0:4470')
    const host = parts[1]!.replace(/^\[(.*)\]$/, '$1')

    const perSource = count('per-source', args['per-source'], 1_000_000)
    const monotonic = () => performance.now()
    let said = ''
    const onProblem = (problem: unknown) => {
      const text = problem instanceof Error ? problem.message : String(problem)
      // The same again and again says nothing new.
      if (text !== said) cli.err(safe(text))
      said = text
    }
    const jwks = createJwks({
      url: endpoint(issuer, '/.well-known/jwks.json'),
      fetch: cli.fetch,
      monotonic,
      random: Math.random,
      timeoutMs: JWKS_TIMEOUT_MS,
      onProblem,
    })
    const following = createRelay({ issuer, fetch: cli.fetch, jwks, monotonic, random: Math.random, onProblem })
    const server = await listenAsRelay({
      relay: following,
      host,
      port,
      perSource,
      monotonic,
      onError: onProblem,
    }).catch((error: NodeJS.ErrnoException): never => {
      following.close()
      throw new CliError(EXIT.refused, `cannot listen on ${safe(args.listen)}: ${safe(error.code ?? error.message)}`)
    })
    cli.out(`relaying the revocation feed of ${safe(issuer)} on ${server.url}`)
    const { write } = args
    const writing = write === undefined ? undefined : writeFeed(following, write, { signal: cli.signal, onProblem })
    await new Promise<void>((resolve) => {
      writing?.catch((error: NodeJS.ErrnoException) => {
        onProblem(new Error(`${safe(write)} cannot be written: ${error.code ?? error.message}`))
      })
      if (cli.signal.aborted) resolve()
      cli.signal.addEventListener('abort', () => resolve(), { once: true })
    })
    following.close()
    await server.close()
    await writing?.catch(() => undefined)
    return EXIT.ok
  },
})
