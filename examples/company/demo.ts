/**
 * `npm run demo`: the main job on real input, as a story. Starts a company's processes on free loopback ports, tells
 * what happens between them, and ends with 0 only if each step really happened. `--keep` leaves it running.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { COMPANY_KEYS, errandEnvironment, writeCompanyConfig } from './company-config.ts'
import { createNarrator, StoryBroken } from './narrator.ts'
import { createProcesses, freePorts, ProcessFailed, type Running, runErrand, tailOf } from './processes.ts'
import { type DemoSettings, fileIn, urlsOf } from './settings.ts'
import { tellStory } from './story.ts'
import { makeTrustDomain } from './trust-domain.ts'

const USAGE = `Usage: npm run demo [-- --keep] [-- --patient]

Tells, with real processes on 127.0.0.1, one task from a user's sign-in to its end, and the revocation of a bad
release with its proof. Exits with 0 only if each step was seen to happen.

  --keep     leave everything running afterwards, until Ctrl-C, and say how to look around
  --patient  on a machine that is busy: ask whether tokens die, not how soon
  --help     this text`

function optionsOf(args: readonly string[]) {
  try {
    const flag = { type: 'boolean' } as const
    return parseArgs({ args: [...args], options: { keep: flag, patient: flag, help: { ...flag, short: 'h' } } }).values
  } catch (error) {
    console.error(`${(error as Error).message.split('.', 1)[0]}\n\n${USAGE}`)
    process.exit(2)
  }
}
const options = optionsOf(process.argv.slice(2))
if (options.help) {
  console.log(USAGE)
  process.exit(0)
}
const keep = options.keep === true
// The promise is "in under a second". A test suite that keeps every core busy asks only whether, not how soon.
const deadWithinMs = options.patient ? 5000 : 1000
const startedAt = Date.now()
const tell = createNarrator(process.stdout, process.env)
const processes = createProcesses()
const folder = mkdtempSync(join(tmpdir(), 'errand-demo-'))

let tidied = false
function removeFolder(): void {
  if (tidied) return
  tidied = true
  rmSync(folder, { recursive: true, force: true, maxRetries: 3 })
}
// Whatever happens to this process, short of SIGKILL, nothing of it stays.
process.once('exit', () => {
  processes.kill()
  removeFolder()
})

let interrupted: ((signal: NodeJS.Signals) => void) | undefined
const interruption = new Promise<NodeJS.Signals>((resolve) => {
  interrupted = resolve
})
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => interrupted?.(signal))

async function start(): Promise<DemoSettings> {
  const [errand, mtls, idp, tickets, payments, research, paymentsAgent] = (await freePorts(7)) as [
    ...[number, number, number, number, number, number, number],
  ]
  const settings: DemoSettings = {
    folder,
    ports: { errand, mtls, idp, tickets, payments, research, paymentsAgent },
  }
  const settingsFile = fileIn(settings, 'demo.json')
  writeFileSync(settingsFile, JSON.stringify(settings))
  const urls = urlsOf(settings)
  const serviceFolder = fileIn(settings, 'keys', COMPANY_KEYS)
  mkdirSync(serviceFolder, { recursive: true, mode: 0o700 })
  writeCompanyConfig(settings)

  const script = (name: string, file: string): Running =>
    processes.startScript(name, fileIn(settings, `${name}.log`), file, settingsFile)
  // The identity provider needs nothing of the others; the rest begins when the trust domain is there.
  const idpProcess = script('identity-provider', './idp.ts')
  await makeTrustDomain({
    folder,
    serviceFolder,
    trustDomain: 'company.example',
    x509Agent: 'spiffe://company.example/agents/research',
    jwtAgent: 'spiffe://company.example/agents/payments',
    audience: urls.errand,
  })
  const service = processes.start(
    'errand',
    fileIn(settings, 'errand.log'),
    ['bin/errand.js', 'serve'],
    errandEnvironment(settings),
  )
  const others = [
    [script('tickets-api', './tickets-api.ts'), urls.tickets],
    [script('payments-api', './payments-api.ts'), urls.payments],
    [script('research-agent', './research-agent.ts'), urls.research],
    [script('payments-agent', './payments-agent.ts'), urls.paymentsAgent],
  ] as const
  await Promise.all([
    processes.waitFor(service, `${urls.errand}/ready`),
    processes.waitFor(idpProcess, `${urls.idp}/health`),
    ...others.map(([it, url]) => processes.waitFor(it, `${url}/health`)),
  ])
  return settings
}

function tellFailure(error: unknown): void {
  const logOf = (name: string): void => {
    const it = processes.running.find((each) => each.name === name)
    if (!it) return
    tell.say(tell.bold(`The end of ${name}'s log:`))
    tell.quote(tailOf(it.log))
  }
  if (error instanceof StoryBroken) {
    tell.broken('The story broke off.', `expected: ${error.expected}\ngot:      ${error.got}`)
    if (error.processName !== undefined) logOf(error.processName)
    if (error.processName !== 'errand') logOf('errand')
  } else if (error instanceof ProcessFailed) {
    tell.broken(`${error.process.name} did not come up.`, `expected: it answers\ngot:      ${error.message}`)
    logOf(error.process.name)
  } else {
    tell.broken('The story broke off.', error instanceof Error ? (error.stack ?? error.message) : String(error))
    logOf('errand')
  }
}

/** Each of these works as it is printed, from the project's folder; test/demo runs them. */
function tellWhatToTry(settings: DemoSettings): void {
  const urls = urlsOf(settings)
  const env = Object.entries(errandEnvironment(settings))
    .map(([name, value]) => `${name}=${quoted(value)}`)
    .join(' ')
  tell.line()
  tell.line('Look around:')
  for (const command of ['audit tail', 'task list', 'agent list', '--help']) tell.say(`${env} npx errand ${command}`)
  tell.say(`curl ${urls.errand}/.well-known/oauth-authorization-server`)
  tell.say(`tail -f ${quoted(fileIn(settings, 'errand.log'))}`)
  tell.line(
    'Get a token as the triage agent, which works for itself (users sign in at the identity provider, so --user',
  )
  tell.line('names nobody here):')
  tell.say(`${env} npx errand token get --agent triage --tool tickets`)
  const json = "-H 'content-type: application/json'"
  tell.line('Give the research agent another task (it has Alice’s token, for ten minutes from her sign-in):')
  tell.say(`curl ${json} -d '{"purpose":"Look again"}' ${urls.research}/open`)
  tell.say(`curl ${json} -d '{"tool":"tickets","url":"${urls.tickets}/tickets/4711"}' ${urls.research}/call`)
}

/** For a shell: a temporary folder may have blanks in its name. */
const quoted = (value: string): string =>
  /^[\w./:@-]+$/.test(value) ? value : `'${value.replaceAll("'", String.raw`'\''`)}'`

async function main(): Promise<number> {
  tell.line(tell.bold('Errand: one task, from sign-in to its end, and one switch'))
  tell.line(
    tell.dim(
      'An identity provider, the service, two tool APIs and two agents, each a process of its own on 127.0.0.1.',
    ),
  )
  const settings = await start()
  const urls = urlsOf(settings)
  tell.line(tell.dim(`All six listen after ${((Date.now() - startedAt) / 1000).toFixed(1)} s. Their logs: ${folder}`))
  const { revocation } = await tellStory({ settings, tell, deadWithinMs })
  tell.line()
  tell.line(tell.bold(`Every step happened, in ${((Date.now() - startedAt) / 1000).toFixed(1)} s.`))
  if (!keep) return 0

  // Else the research agent, still of that release, would get nothing.
  const readmitted = await runErrand(
    ['readmit', revocation, '--reason', 'left to play with'],
    errandEnvironment(settings),
  )
  if (readmitted.code !== 0) throw new Error(readmitted.stderr)
  tell.line()
  tell.line('Left running, until Ctrl-C:')
  for (const [name, url] of Object.entries(urls)) tell.detail(name, url)
  tellWhatToTry(settings)
  await interruption
  return 0
}

const ended = await Promise.race([
  main().catch((error: unknown) => {
    tellFailure(error)
    return 1
  }),
  interruption.then((signal) => (keep && signal === 'SIGINT' ? 0 : 130)),
])
await processes.stop()
removeFolder()
process.exit(ended)
