/** The command line: finds the verb, runs it, and turns every end into one line and an exit code. */
import { readFile } from 'node:fs/promises'
import { sep } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { isatty } from 'node:tty'
import { fileURLToPath } from 'node:url'
import pc from 'picocolors'
import { KeyMaterialError } from '../keys/key-file.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { nearest } from '../policy/suggest.ts'
import { type Cli, CliError, EXIT, type Exit, usage } from './cli.ts'
import { groupHelp, verbHelp } from './help.ts'
import { safe } from './print.ts'
import type { Verb } from './verb.ts'

export interface Group {
  readonly description: string
  readonly verbs: { readonly [name: string]: readonly [description: string, load: () => Promise<Verb>] }
  /** What its name does by itself. */
  readonly own?: () => Promise<Verb>
}
export type Entry = Group | readonly [description: string, load: () => Promise<Verb>]

// Loaded when used: `errand token get` does not wait for the service's modules.
export const VERBS: { readonly [name: string]: Entry } = {
  init: ['make a configuration of your own', async () => (await import('./init.ts')).init],
  serve: ['start the service', async () => (await import('./serve.ts')).serve],
  restore: ['make a store whole that is of an earlier day', async () => (await import('./restore.ts')).restore],
  doctor: ['what is weak or wrong, and how to mend it', async () => (await import('./doctor.ts')).doctor],
  token: {
    description: 'Tokens: get one, look into one, verify one.',
    verbs: {
      get: ['get a token, as an agent would', async () => (await import('./token-get.ts')).get],
      inspect: ['decode a token, unverified', async () => (await import('./token-inspect.ts')).inspect],
      verify: ['verify a token, as a tool would', async () => (await import('./token-verify.ts')).verify],
    },
  },
  relay: ['pass the revocation feed on to many verifiers', async () => (await import('./relay.ts')).relay],
  top: ['the running service, live', async () => (await import('./top.ts')).top],
  explain: ['why a token was granted or refused', async () => (await import('./explain.ts')).explain],
  task: {
    description: 'Tasks: the tree of who does what for whom.',
    verbs: {
      list: ['tasks, newest first', async () => (await import('./task.ts')).list],
      show: ['a task and all below it, as a tree', async () => (await import('./task.ts')).show],
      complete: ['complete a task', async () => (await import('./task.ts')).complete],
      cancel: ['cancel a task', async () => (await import('./task.ts')).cancel],
    },
  },
  agent: {
    description: 'Agents: who is registered, and how far each may go.',
    verbs: {
      list: ['the registered agents', async () => (await import('./agent.ts')).list],
      show: ['one agent', async () => (await import('./agent.ts')).show],
      'join-token': ['a one-use token for its first start', async () => (await import('./agent.ts')).joinToken],
      join: ['make a key here and register it with a join token', async () => (await import('./agent-join.ts')).join],
      'remove-key': ['a key that came with a join token', async () => (await import('./agent.ts')).removeKey],
    },
  },
  revoke: {
    description: 'end tokens and tasks, at once',
    own: async () => (await import('./revoke.ts')).revoke,
    verbs: {
      pending: ['what waits for a second person', async () => (await import('./revoke-pending.ts')).pending],
      confirm: ['confirm what another asked for', async () => (await import('./revoke-pending.ts')).confirm],
    },
  },
  suspend: ['stop tokens and pause tasks, until resumed', async () => (await import('./revoke.ts')).suspend],
  contain: ['take something from tasks for good', async () => (await import('./revoke.ts')).contain],
  resume: ['lift a suspension', async () => (await import('./bans.ts')).resume],
  readmit: ['end a ban', async () => (await import('./bans.ts')).readmit],
  seal: ['issue nothing, until unsealed', async () => (await import('./seal.ts')).seal],
  unseal: ['issue again', async () => (await import('./seal.ts')).unseal],
  ban: {
    description: 'Bans: what nothing is issued to.',
    verbs: { list: ['bans and suspensions in force', async () => (await import('./bans.ts')).bans] },
  },
  bans: ['the same as ban list', async () => (await import('./bans.ts')).bans],
  drill: ['rehearse a containment, with real tokens', async () => (await import('./drill.ts')).drill],
  receipt: {
    description: 'Receipts: proof of what a revocation ended.',
    verbs: {
      get: ['the signed receipt of a revocation', async () => (await import('./receipt.ts')).get],
      verify: ['verify one without the service', async () => (await import('./receipt.ts')).verify],
    },
  },
  release: {
    description: 'Releases: what an agent is made of, signed.',
    verbs: {
      create: ['make a manifest out of a folder', async () => (await import('./release.ts')).create],
      sign: ['sign a manifest', async () => (await import('./release.ts')).sign],
      verify: ['verify a signed release', async () => (await import('./release.ts')).verify],
      diff: ['what differs between two', async () => (await import('./release.ts')).diff],
      list: ['those that are registered', async () => (await import('./release.ts')).list],
      keygen: ['make a key for signing releases', async () => (await import('./release.ts')).keygen],
    },
  },
  keys: {
    description: 'Keys: the service’s signing keys.',
    verbs: {
      list: ['signing keys and their states', async () => (await import('./keys.ts')).list],
      rotate: ['prepare a new signing key now', async () => (await import('./keys.ts')).rotate],
      compromise: ['a key is in other hands: end what it signed', async () => (await import('./keys.ts')).compromise],
      'export-jwks': ['public keys, for verifying offline', async () => (await import('./keys.ts')).exportJwks],
      rewrap: ['wrap the root key by something else', async () => (await import('./keys.ts')).rewrap],
    },
  },
  audit: {
    description: 'Audit: what was decided, issued and revoked.',
    verbs: {
      tail: ['the newest records', async () => (await import('./audit.ts')).tail],
      search: ['records by agent, subject, task, reason, …', async () => (await import('./audit.ts')).search],
      verify: ['check a log on disk', async () => (await import('./audit-verify.ts')).verify],
      prove: ['a record and the proof that it is in the log', async () => (await import('./audit-verify.ts')).prove],
      'verify-proof': ['check such a proof, offline', async () => (await import('./audit-verify.ts')).verifyProof],
      export: ['a task as evidence, in one file', async () => (await import('./audit-bundle.ts')).exportBundle],
      'verify-bundle': ['check such a file, offline', async () => (await import('./audit-bundle.ts')).verifyBundle],
    },
  },
  witness: ['remember what a log signed, and notice it going back', async () => (await import('./witness.ts')).witness],
  tenant: {
    description: 'Tenants: several issuers in one service, each with keys, data and quotas of its own.',
    verbs: {
      create: ['make one', async () => (await import('./tenant.ts')).create],
      list: ['the tenants of the service', async () => (await import('./tenant.ts')).list],
      export: ['copy what one takes with it', async () => (await import('./tenant-end.ts')).exportTenant],
      remove: ['remove one, its keys and its data', async () => (await import('./tenant-end.ts')).removeTenant],
    },
  },
  config: {
    description: 'Configuration: check it before it is used, see what is in force.',
    verbs: {
      check: ['check a configuration folder', async () => (await import('./config.ts')).check],
      show: ['what is in force', async () => (await import('./config.ts')).show],
    },
  },
  completion: {
    description: 'Completion: what the shell fills in when Tab is pressed.',
    verbs: {
      bash: ['for bash', async () => (await import('./completion.ts')).bash],
      zsh: ['for zsh', async () => (await import('./completion.ts')).zsh],
      fish: ['for fish', async () => (await import('./completion.ts')).fish],
    },
  },
}

const COMMANDS = new RegExp(`(?<!npx )\\berrand (?=(${Object.keys(VERBS).join('|')})\\b)`, 'g')

const ENVIRONMENT = [
  'Environment',
  '  ERRAND_URL     the service (default: the issuer in config/errand.yaml, else http://127.0.0.1:4460)',
  '  ERRAND_CONFIG  configuration folder (default config)',
  '  ERRAND_KEYS    keys folder (default keys); administration uses admin.jwk in it',
  '  ERRAND_ADMIN   client_id of the administrator you are (default admin); the key is <client_id>.jwk',
  '  ERRAND_DATA    data folder (default data)',
  '',
  'errand --version says which one this is.',
  'Exit codes: 0 done, 1 refused, 2 wrong usage or local files, 3 service not reached, 4 not contained in time.',
]

const isGroup = (entry: Entry): entry is Group => 'verbs' in entry
const wantsHelp = (word: string | undefined): boolean => word === '--help' || word === '-h' || word === 'help'

/** Runs one command; everything it touches comes in `cli`. */
export async function run(argv: readonly string[], cli: Cli): Promise<Exit> {
  // Everything for people names the command as it is called here.
  const spoken: Cli = { ...cli, err: (line) => cli.err(asCalled(line, cli.command)) }
  try {
    return await dispatch(argv, spoken)
  } catch (error) {
    return fail(error, spoken)
  }
}

const asCalled = (line: string, command: string): string =>
  command === 'errand' ? line : line.replace(COMMANDS, `${command} `)

async function dispatch(argv: readonly string[], cli: Cli): Promise<Exit> {
  const [name, ...rest] = argv
  if (name === undefined || wantsHelp(name)) {
    const entries = Object.entries(VERBS).flatMap(([each, entry]): [string, string][] => {
      if (!isGroup(entry)) return [[each, entry[0]]]
      const subs = `${each} ${Object.keys(entry.verbs).join('|')}`
      // With one of its own, each of the others says what it does.
      if (!entry.own) return [[subs, entry.description.replace(/^[A-Z][a-z]*: (.*)\.$/, '$1')]]
      return [
        [each, entry.description],
        ...Object.entries(entry.verbs).map(([sub, [about]]): [string, string] => [`${each} ${sub}`, about]),
      ]
    })
    const about = 'Errand: short-lived, least-privilege, attested tokens for AI agents, revocable at once.'
    for (const line of groupHelp(cli, [], about, entries, ENVIRONMENT)) cli.out(line)
    return name === undefined ? EXIT.usage : EXIT.ok
  }
  if (name === '--version' || name === '-v' || name === 'version') {
    cli.out(await version())
    return EXIT.ok
  }
  const entry = Object.hasOwn(VERBS, name) ? VERBS[name] : undefined
  if (!entry) throw unknown('command', name, Object.keys(VERBS))
  if (!isGroup(entry)) return runVerb([name], entry[1], rest, cli)

  const [sub, ...args] = rest
  if (entry.own && (sub === undefined || !Object.hasOwn(entry.verbs, sub))) return runVerb([name], entry.own, rest, cli)
  if (sub === undefined || wantsHelp(sub)) {
    const entries = Object.entries(entry.verbs).map(([each, [description]]): [string, string] => [each, description])
    for (const line of groupHelp(cli, [name], entry.description, entries)) cli.out(line)
    return sub === undefined ? EXIT.usage : EXIT.ok
  }
  const verb = Object.hasOwn(entry.verbs, sub) ? entry.verbs[sub] : undefined
  if (!verb) throw unknown(`${name} command`, sub, Object.keys(entry.verbs))
  return runVerb([name, sub], verb[1], args, cli)
}

async function version(): Promise<string> {
  // One folder up from src/cli/ as from dist/cli/.
  const text = await readFile(new URL('../../package.json', import.meta.url), 'utf8')
  return (JSON.parse(text) as { readonly version: string }).version
}

async function runVerb(
  path: readonly string[],
  load: () => Promise<Verb>,
  args: readonly string[],
  cli: Cli,
): Promise<Exit> {
  const verb = await load()
  if (args.includes('--help') || args.includes('-h')) {
    for (const line of verbHelp(cli, path, verb)) cli.out(line)
    return EXIT.ok
  }
  try {
    return await verb.run(args, cli)
  } catch (error) {
    if (error instanceof CliError && error.exit === EXIT.usage && error.hints.length === 0)
      throw usage(error.message, `errand ${path.join(' ')} --help shows how.`)
    throw error
  }
}

function unknown(what: string, given: string, known: readonly string[]): CliError {
  // Only words are echoed: what was pasted in a wrong place may be a token.
  const word = /^[a-z-]{1,24}$/.test(given) ? ` ${given}` : ''
  const near = nearest(given, known)
  return usage(
    `unknown ${what}${word}${near === undefined ? '' : `, did you mean ${near}?`}`,
    `There are: ${known.join(' ')}`,
  )
}

function fail(error: unknown, cli: Cli): Exit {
  const { colors } = cli
  if (cli.signal.aborted) return EXIT.interrupted
  if (error instanceof CliError) {
    cli.err(`${colors.red('errand:')} ${error.message}`)
    for (const hint of error.hints) cli.err(`  ${hint}`)
    return error.exit
  }
  if (error instanceof KeyMaterialError) {
    cli.err(`${colors.red('errand:')} ${error.code}: ${safe(error.message)}`)
    return EXIT.usage
  }
  if (error instanceof Unavailable) {
    cli.err(`${colors.red('errand:')} ${error.reason}: ${safe(error.message)}`)
    return EXIT.unreachable
  }
  // A bug. Its message may quote what it stumbled over, so the kind and the place are all that is shown.
  const { name, stack } = error instanceof Error ? error : { name: typeof error, stack: '' }
  const place = /^ +at .*$/m.exec(stack ?? '')?.[0].trim() ?? 'an unknown place'
  cli.err(`${colors.red('errand:')} internal error (${safe(name)} ${safe(place)}): please report it`)
  return EXIT.refused
}

/** What `bin/errand.js` calls. */
export async function main(argv: readonly string[], told: Pick<Cli, 'onServing'> = {}): Promise<Exit> {
  const stop = new AbortController()
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.on(signal, () => {
      // The second time without waiting for anything.
      if (stop.signal.aborted) process.exit(EXIT.interrupted)
      stop.abort()
    })
  for (const stream of [process.stdout, process.stderr])
    stream.on('error', (error: NodeJS.ErrnoException) => {
      // `| head` has read enough: that is no failure of ours.
      if (error.code === 'EPIPE') process.exit(EXIT.ok)
      throw error
    })
  const { env } = process
  const plain = Boolean(env['NO_COLOR']) || env['TERM'] === 'dumb'
  return run(argv, {
    ...told,
    out: (line) => void process.stdout.write(`${line}\n`),
    err: (line) => void process.stderr.write(`${line}\n`),
    stdin: readStdin,
    env,
    fetch: globalThis.fetch,
    now: () => Date.now() / 1000,
    wait: (milliseconds) => pause(milliseconds, undefined, { signal: stop.signal }).catch(() => undefined),
    signal: stop.signal,
    colors: pc.createColors(!plain && process.stdout.isTTY === true && process.stderr.isTTY === true),
    command: inClone(process.cwd()) ? 'npx errand' : 'errand',
    nodeVersion: process.versions.node,
    // Asked of the descriptors: the streams, and all that they are made of, are loaded where somebody reads them.
    ...(isatty(0) && isatty(1) ? { terminal: { input: process.stdin, output: process.stdout } } : {}),
  })
}

/** Run from its source, inside the folder where npx finds it. */
function inClone(folder: string): boolean {
  if (!import.meta.url.endsWith('.ts')) return false
  const root = fileURLToPath(new URL('../../', import.meta.url))
  return `${folder}${sep}`.startsWith(root)
}

const MAX_STDIN = 65_536

async function readStdin(): Promise<string> {
  if (process.stdin.isTTY)
    throw usage('nothing is piped into stdin', 'For example: errand token get … | errand token inspect -')
  const chunks: Buffer[] = []
  let size = 0
  for await (const chunk of process.stdin) {
    size += (chunk as Buffer).length
    if (size > MAX_STDIN) throw usage('more than 64 KB on stdin: that is no token')
    chunks.push(chunk as Buffer)
  }
  return Buffer.concat(chunks).toString('utf8')
}
