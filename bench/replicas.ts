/**
 * Two replicas beside one, on one Redis: what an exchange costs them, and how much both serve when each is held to half
 * a core. The replicas run on one core, Redis and the load on the other; requests go to both in turn, all with the
 * nonces of the first.
 */
import { spawnSync } from 'node:child_process'
import { startRedis } from '../test/store/redis-server.ts'
import type { Bench } from './bench.ts'
import { hold } from './hold.ts'
import { cpuOf, openSite, prepare, run } from './load.ts'
import { makeReplica, start } from './service.ts'
import { interleave, ratio } from './spread.ts'

/** All together: a load balancer shares out what one replica would have had. */
const CONNECTIONS = 64
const HALF = 0.5

export async function replicasSection(bench: Bench): Promise<void> {
  const { quick, say, note, core, nodeFlags } = bench
  if (spawnSync('redis-server', ['--version']).status !== 0) return say('  redis-server is not there: left out')
  const pinned = { nodeFlags, ...(core === undefined ? {} : { core }) }
  const redis = await startRedis({ appendfsync: 'everysec' })
  const closing = [() => redis.remove()]
  try {
    const site = await openSite({ ...pinned, redisUrl: redis.url })
    closing.push(() => site.close())
    const folder = await makeReplica(site.folder)
    const second = await start(folder, pinned)
    closing.push(() => second.stop())
    const alone = await openSite(pinned)
    closing.push(() => alone.close())

    const first = { pid: site.pid, port: Number(new URL(site.folder.base).port) }
    const both = [first, { pid: second.process.pid!, port: Number(new URL(folder.base).port) }]
    const embedded = [{ pid: alone.pid, port: Number(new URL(alone.folder.base).port) }]
    let heldBy = ''
    const costs = { one: [] as Cost[], two: [] as Cost[], embedded: [] as Cost[] }

    const turn = async (name: keyof typeof costs, at: readonly Place[], requests: number, share?: number) => {
      const load = await prepare(name === 'embedded' ? alone : site, 'steady', requests)
      const held =
        share === undefined
          ? undefined
          : await hold(
              at.map(({ pid }) => pid),
              share,
            )
      heldBy = held?.by ?? heldBy
      const cpu = () => at.reduce((sum, { pid }) => sum + cpuOf(pid), 0)
      const before = { replicas: cpu(), redis: cpuOf(redis.pid!) }
      try {
        const results = await Promise.all(
          at.map(({ port }, number) =>
            run(
              { port, requests: load.requests.filter((_, index) => index % at.length === number) },
              { connections: CONNECTIONS / at.length },
            ),
          ),
        )
        const failure = results.find(({ failed }) => failed > 0)?.firstFailure
        if (failure !== undefined) throw new Error(`${name}: an exchange was refused: ${failure}`)
        costs[name].push({
          replicas: (cpu() - before.replicas) / requests,
          redis: (cpuOf(redis.pid!) - before.redis) / requests,
        })
        return requests / Math.max(...results.map(({ seconds }) => seconds))
      } finally {
        await held?.release()
      }
    }
    say('  warming up')
    for (const at of both) await turn('one', [at], quick ? 3000 : 10_000)
    await turn('embedded', embedded, quick ? 3000 : 10_000)
    const [rounds, requests] = quick ? [3, 1500] : [7, 4000]
    for (const name of ['one', 'two', 'embedded'] as const) costs[name].length = 0
    const free = await interleave(rounds, {
      one: () => turn('one', [first], requests),
      two: () => turn('two', both, requests),
      embedded: () => turn('embedded', embedded, requests),
    })
    const replicas = (name: keyof typeof costs) => costs[name].map((cost) => cost.replicas)
    note('one process, embedded store: CPU', replicas('embedded'), 'µs', { note: `${perSecond(free.embedded)}/s` })
    note('one replica on Redis: CPU', replicas('one'), 'µs', { note: `${perSecond(free.one)}/s` })
    note('two replicas on Redis, one core: CPU', replicas('two'), 'µs', { note: `${perSecond(free.two)}/s in all` })
    note('two replicas ÷ one, CPU an exchange', ratio(replicas('two'), replicas('one')), '×', { atMost: 1.1 })
    for (const name of ['one', 'two'] as const)
      note(
        `Redis itself, with ${name === 'one' ? 'one replica' : 'two'}: CPU`,
        costs[name].map((cost) => cost.redis),
        'µs',
      )

    const half = await interleave(rounds, {
      one: () => turn('one', [first], requests / 2, HALF),
      two: () => turn('two', both, requests, HALF),
    })
    note('one replica held to half a core', half.one, '/s', { note: `held by ${heldBy}` })
    note('two replicas held to half a core each', half.two, '/s')
    note('two held ÷ one held, exchanges a second', ratio(half.two, half.one), '×', { atLeast: 1.8 })
  } finally {
    for (const close of closing.reverse()) await close()
  }
}

interface Place {
  readonly pid: number
  readonly port: number
}

/** Microseconds an exchange. */
interface Cost {
  readonly replicas: number
  readonly redis: number
}

const perSecond = (rounds: readonly number[]): number =>
  Math.round([...rounds].sort((a, b) => a - b)[rounds.length >> 1]!)
