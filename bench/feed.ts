/** The revocation feed: from acknowledged to enforced, very many verifiers, and what a verifier pays for knowing. */
import { type ChildProcess, execFile, fork } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { promisify } from 'node:util'
import { fileURLToPath } from 'node:url'
import { readPrivateJwkFile } from '../src/keys/private-jwk.ts'
import { createClient } from '../src/cli/client.ts'
import type { Bench } from './bench.ts'
import { cpuOf, openSite, preparation, run, type Site } from './load.ts'

const CONNECTED = 20
const TRIALS = 1_000
const MANY = 5_000
const MORE = 4_000
const TSX = ['--import', 'tsx']
const CHECK = fileURLToPath(new URL('./feed-check.ts', import.meta.url))
const FOLLOWERS = fileURLToPath(new URL('./feed-followers.ts', import.meta.url))
const REVOKING = fileURLToPath(new URL('./feed-revoking.ts', import.meta.url))
const STREAMS = fileURLToPath(new URL('./feed-streams.ts', import.meta.url))
const ERRAND = fileURLToPath(new URL('../bin/errand.js', import.meta.url))
const TOOLS = ['tickets', 'crm', 'payments', 'warehouse', 'github']

export async function feedSection(bench: Bench): Promise<void> {
  await check(bench)
  const { core, nodeFlags } = bench
  const site = await openSite({ nodeFlags, ...(core === undefined ? {} : { core }) })
  try {
    await enforced(bench, site)
    await underLoad(bench, site)
    await many(bench, site)
  } finally {
    await site.close()
  }
}

async function check({ note }: Bench): Promise<void> {
  const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', ...TSX, CHECK])
  const { bytes, check, first } = JSON.parse(stdout) as { bytes: number; check: number[]; first: number[] }
  note('memory of a verifier for each of 100,000 live entries', bytes, 'bytes', { atMost: 200 })
  note('check of a token at 100,000 live entries of 5 shapes', check, 'µs', { atMost: 2 })
  note('the same at first sight of the token', first, 'µs', {
    note: 'its values are digested once, beside a signature that takes ten times as long',
  })
}

/** A process that answers what it is told. */
function helper(file: string, args: readonly string[]) {
  const child = fork(file, args, { execArgv: TSX, stdio: ['ignore', 'ignore', 'inherit', 'ipc'] })
  const answer = <T>() => new Promise<T>((resolve) => child.once('message', (told) => resolve(told as T)))
  return {
    child,
    ready: answer(),
    ask<T>(what: object): Promise<T> {
      const answered = answer<T>()
      child.send(what)
      return answered
    },
    end: () => end(child),
  }
}
const end = (child: ChildProcess): Promise<void> =>
  new Promise((resolve) => {
    child.once('exit', () => resolve())
    child.kill()
  })

async function adminOf({ folder }: Site) {
  const key = await readPrivateJwkFile(join(folder.path, 'keys/admin.jwk'))
  const cli = { fetch: globalThis.fetch, now: () => Date.now() / 1000, signal: new AbortController().signal }
  const client = createClient(cli, { url: folder.issuer, issuer: folder.issuer }, { clientId: 'admin', key })
  return (match: object, mode = 'cut') => client.post('/revocations', { match, mode, reason: 'a measurement' })
}
const clock = () => Number(process.hrtime.bigint()) / 1e6
const at = (sorted: readonly number[], share: number) => sorted[Math.floor(sorted.length * share)]!

async function enforced(bench: Bench, site: Site): Promise<void> {
  const { issuer, path } = site.folder
  const revoke = await adminOf(site)
  const trials = bench.quick ? 100 : TRIALS
  const keyFile = join(path, 'keys/tools/tickets.jwk')
  async function measure(what: string, atMost: number, ...relay: string[]): Promise<void> {
    const followers = helper(FOLLOWERS, [String(CONNECTED), issuer, keyFile, 'tickets', ...relay])
    await followers.ready
    const times: number[] = []
    for (let trial = 0; trial < trials; trial++) {
      const jti = randomBytes(20).toString('base64url')
      const refused = followers.ask<{ refused: number }>({ jti })
      await revoke({ jti, aud: 'https://tickets.example.com/' })
      const acknowledged = clock()
      times.push(Math.max(0, (await refused).refused - acknowledged))
    }
    await followers.end()
    times.sort((a, b) => a - b)
    bench.note(`from acknowledged to refused by all of ${CONNECTED} verifiers${what}, median`, at(times, 0.5), 'ms')
    bench.note(`the same, 99 % of ${trials} revocations`, at(times, 0.99), 'ms', { atMost })
  }
  await measure('', 150)
  const relay = fork(ERRAND, ['relay', '--from', issuer, '--listen', '127.0.0.1:0'], {
    cwd: path,
    stdio: ['ignore', 'pipe', 'inherit', 'ipc'],
  })
  const url = await new Promise<string>((resolve) => {
    relay.stdout!.once('data', (line) => resolve(/ on (http\S+)/.exec(String(line))![1]!))
  })
  await measure(' through a relay', 1_000, url)
  await end(relay)
}

/** One entry, whatever it matches: no token is looked at. */
async function underLoad(bench: Bench, site: Site): Promise<void> {
  const next = await preparation(site, 'steady', { tasks: 8 })
  const seconds = bench.quick ? 5 : 20
  const { issuer, path } = site.folder
  const port = Number(new URL(issuer).port)
  const revoking = helper(REVOKING, [issuer, join(path, 'keys/admin.jwk')])
  await revoking.ready
  const warm = await run({ port, requests: Array.from({ length: 3_000 }, next) })
  const requests = Array.from({ length: Math.round(warm.perSecond * seconds * 1.1) }, next)
  const load = run({ port, requests }, { connections: 64 })
  // Well within the load, also where it is served quicker than before.
  const { times } = await revoking.ask<{ times: number[] }>({ millis: seconds * 800 })
  const { perSecond } = await load
  await revoking.end()
  times.sort((a, b) => a - b)
  bench.note('exchanges beside it', perSecond, '/s')
  bench.note('revocation by audience while exchanges run at capacity, median', at(times, 0.5), 'ms')
  bench.note(`the same, 99 % of ${times.length}`, at(times, 0.99), 'ms', { atMost: 20 })
}

async function many(bench: Bench, site: Site): Promise<void> {
  const { issuer, path } = site.folder
  const port = new URL(issuer).port
  const seconds = bench.quick ? 5 : 20
  // No tool may hold more than its share.
  const groups = TOOLS.map((tool) =>
    helper(STREAMS, [port, join(path, `keys/tools/${tool}.jwk`), issuer, `tool:${tool}`]),
  )
  await Promise.all(groups.map(({ ready }) => ready))
  const open = async (count: number) => {
    const each = await Promise.all(
      groups.map((group) => group.ask<{ opened: number }>({ open: count / groups.length })),
    )
    return Math.max(...each.map(({ opened }) => opened))
  }
  type Count = { open: number; lost: number; frames: number; turnedAway: number }
  const count = async (): Promise<Count> => {
    const each = await Promise.all(groups.map((group) => group.ask<Count>({ count: true })))
    const sum = (name: keyof Count) => each.reduce((all, one) => all + one[name], 0)
    return { open: sum('open'), lost: sum('lost'), frames: sum('frames'), turnedAway: sum('turnedAway') }
  }
  const steady = async (verifiers: number, atMost?: number) => {
    await pause(2_000)
    await count()
    const [before, began] = [cpuOf(site.pid), clock()]
    await pause(seconds * 1000)
    const elapsed = clock() - began
    const share = (cpuOf(site.pid) - before) / elapsed / 10
    const { frames } = await count()
    bench.note(`core of the service for a heartbeat each second to ${verifiers} verifiers`, share, '%', {
      ...(atMost === undefined ? {} : { atMost }),
      note: `${(frames / verifiers / (elapsed / 1000)).toFixed(2)} frames a second arrived at each`,
    })
  }
  try {
    const first = await open(MANY)
    bench.say(`  ${MANY} verifiers connected in ${(first / 1000).toFixed(1)} s`)
    await steady(MANY, 20)
    const { lost: before } = await count()
    const took = await open(MORE)
    await pause(2_000)
    const { open: connected, lost, turnedAway } = await count()
    bench.note(`${MORE} more at once are served after`, took / 1000, 's', {
      note: `${turnedAway} times one was told to come again`,
    })
    bench.note('of those there before, lost', lost - before, '', { atMost: 0 })
    bench.note('connected then', connected, '', { atLeast: MANY + MORE })
    await steady(MANY + MORE)
    bench.note('memory of the service then', await site.service.residentMiB(), 'MiB')
  } finally {
    await Promise.all(groups.map((group) => group.end()))
  }
}
