/** A place of one's own on disk: the command line as it is, an installation made by it, and an identity provider. */
import { sign } from 'node:crypto'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { PassThrough } from 'node:stream'
import pc from 'picocolors'
import pino from 'pino'
import type { Cli } from '../../src/cli/cli.ts'
import { run } from '../../src/cli/main.ts'
import { type Service, serve } from '../../src/main.ts'
import { freePort } from '../running.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

export interface World {
  readonly env?: { readonly [name: string]: string }
  readonly terminal?: Cli['terminal']
  readonly stdin?: string
  readonly fetch?: Cli['fetch']
  readonly now?: () => number
  readonly nodeVersion?: string
}

/** Runs a command as it would run here; what the world is not said to be, it is. */
export async function errand(argv: readonly string[], world: World = {}) {
  const { env = {}, terminal, stdin = '' } = world
  const [out, err]: [string[], string[]] = [[], []]
  const exit = await run(argv, {
    out: (line) => void out.push(`${line}\n`),
    err: (line) => void err.push(`${line}\n`),
    stdin: async () => stdin,
    env,
    fetch: world.fetch ?? globalThis.fetch,
    now: world.now ?? (() => Date.now() / 1000),
    wait: async () => {},
    signal: new AbortController().signal,
    colors: pc.createColors(false),
    command: 'errand',
    nodeVersion: world.nodeVersion ?? '24.11.0',
    ...(terminal ? { terminal } : {}),
  })
  return { exit, out: out.join(''), err: err.join('') }
}

/** Somebody at a terminal, who answers one question after the other: what `run` came to, and what was shown. */
export async function typing<Outcome>(
  answers: readonly string[],
  run: (terminal: NonNullable<Cli['terminal']>) => Promise<Outcome>,
): Promise<Outcome & { readonly shown: string }> {
  const terminal = { input: new PassThrough(), output: new PassThrough() }
  let shown = ''
  terminal.output.on('data', (chunk) => {
    shown += String(chunk)
  })
  const outcome = run(terminal as never)
  const rest = [...answers]
  // One answer for each question: a prompt is there when its last line is.
  for (let seen = 0; rest.length > 0; ) {
    await new Promise((resolve) => setTimeout(resolve, 15))
    if (shown.length === seen) continue
    seen = shown.length
    await new Promise((resolve) => setTimeout(resolve, 15))
    if (shown.length === seen) terminal.input.write(rest.shift())
  }
  return { ...(await outcome), shown }
}

export type OwnPlace = Awaited<ReturnType<typeof openPlace>>

export async function openPlace() {
  const folder = await mkdtemp(join(tmpdir(), 'errand-own-'))
  const mine = join(folder, 'mine')
  const closing: (() => Promise<unknown> | unknown)[] = []
  return {
    folder,
    /** Where the installation goes. */
    mine,
    environment: (url?: string) => ({
      ERRAND_CONFIG: join(mine, 'config'),
      ERRAND_KEYS: join(mine, 'keys'),
      ERRAND_DATA: join(mine, 'data'),
      ...(url === undefined ? {} : { ERRAND_URL: url }),
    }),
    /** What was made, as a service of its own. */
    async started(): Promise<Service> {
      const service = await serve({
        configDir: join(mine, 'config'),
        dataDir: join(mine, 'data'),
        keysDir: join(mine, 'keys'),
        print: () => {},
        logger: pino({ level: 'silent' }),
      })
      closing.push(() => service.close())
      return service
    },
    /** An identity provider: its keys, its metadata (`change` spoils it), and tokens of its users. */
    async identityProvider(change: (metadata: object) => object = (metadata) => metadata) {
      const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
      const jwks = JSON.stringify({
        keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'k1', alg: 'ES256', use: 'sig' }],
      })
      const issuer = `http://127.0.0.1:${await freePort()}`
      const server = createServer((request, response) => {
        if (request.url === '/keys' || request.url === '/old-keys') return void response.end(jwks)
        if (request.url === '/moved/.well-known/openid-configuration')
          return void response.writeHead(302, { location: '/.well-known/openid-configuration' }).end()
        if (request.url !== '/.well-known/openid-configuration') return void response.writeHead(404).end()
        const algorithms = { id_token_signing_alg_values_supported: ['ES256', 'HS256'] }
        response.end(JSON.stringify(change({ issuer, jwks_uri: `${issuer}/keys`, ...algorithms })))
      })
      await new Promise<void>((resolve) => server.listen(Number(new URL(issuer).port), '127.0.0.1', resolve))
      closing.push(() => server.close())
      const part = (value: object) => Buffer.from(JSON.stringify(value)).toString('base64url')
      return {
        issuer,
        jwks,
        token(claims: object, header: object = {}): string {
          const iat = Math.floor(Date.now() / 1000)
          const input = [
            part({ alg: 'ES256', typ: 'JWT', kid: 'k1', ...header }),
            part({ iss: issuer, sub: 'u-1', iat, exp: iat + 300, ...claims }),
          ].join('.')
          const signature = sign('sha256', Buffer.from(input), { key: privateKey, dsaEncoding: 'ieee-p1363' })
          return `${input}.${signature.toString('base64url')}`
        },
      }
    },
    async close() {
      for (const close of closing.splice(0).reverse()) await close()
      await rm(folder, { recursive: true, force: true })
    },
  }
}
