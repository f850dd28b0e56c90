/** Half of what it can do, four times what it can do, and many tasks one after the other: latency and memory. */
import type { Bench } from './bench.ts'
import { limitKeys } from './exchange.ts'
import { flood } from './flood.ts'
import { openSite, prepare, run, type Site } from './load.ts'
import { startPeer } from './peers.ts'
import { spreadOf } from './spread.ts'

const CONNECTIONS = 64
/** More than the service works on at once (`max_concurrent_requests`, 1024): what is beyond is turned away. */
const FLOOD_CONNECTIONS = 2000
const DETAILS = JSON.stringify({
  purpose: 'answer a question about an order',
  environment: 'staging',
  data_classification: 'internal',
  deadline_seconds: 60,
})

export async function overloadSection(bench: Bench): Promise<void> {
  const { quick, core, nodeFlags } = bench
  const site = await openSite({ nodeFlags, ...(core === undefined ? {} : { core }) })
  try {
    const capacity = await capacityOf(bench, site)
    bench.note('capacity, steady', capacity, '/s')
    await atHalf(bench, site, spreadOf(capacity).median / 2)
    await manyTasks(bench, site)
    const seconds = bench.long ? 600 : quick ? 10 : 60
    bench.say(`  ${seconds} s of four times the capacity`)
    await overloaded(bench, site, spreadOf(capacity).median * 4, seconds)
  } finally {
    await site.close()
  }
}

async function capacityOf({ quick }: Bench, site: Site): Promise<number[]> {
  const rounds: number[] = []
  for (let round = 0; round < (quick ? 3 : 6); round++) {
    const result = await run(await prepare(site, 'steady', quick ? 1500 : 5000), { connections: CONNECTIONS })
    if (round > 0) rounds.push(result.perSecond)
  }
  return rounds
}

async function atHalf({ note, quick, core, nodeFlags }: Bench, site: Site, rate: number): Promise<void> {
  const limit = await startPeer('limit', limitKeys(site), { nodeFlags, ...(core === undefined ? {} : { core }) })
  try {
    const turn = (port?: number) => async () => {
      const load = await prepare(site, 'steady', Math.round(rate * (quick ? 1.5 : 5)))
      return run(port === undefined ? load : { ...load, port }, { connections: CONNECTIONS, rate })
    }
    await turn(limit.port)() // for the compiler
    const rounds: { p50: number; p99: number }[] = []
    const bare: number[] = []
    for (let round = 0; round < (quick ? 3 : 5); round++) {
      rounds.push(await turn()())
      bare.push((await turn(limit.port)()).p99)
    }
    note(
      'half of capacity, 64 connections: median',
      rounds.map(({ p50 }) => p50),
      'ms',
    )
    note(
      'half of capacity, 64 connections: 99 %',
      rounds.map(({ p99 }) => p99),
      'ms',
      { atMost: 5 },
    )
    note('the same rate, bare node:http + the bare cryptography: 99 %', bare, 'ms', {
      note: 'what the machine itself adds',
    })
  } finally {
    await limit.stop()
  }
}

/** An exchange that opens a task, again and again. */
async function manyTasks({ note, say, quick, long }: Bench, site: Site): Promise<void> {
  const wanted = long ? 1_000_000 : quick ? 4000 : 60_000
  const before = await site.service.residentMiB()
  let most = before
  for (let done = 0; done < wanted; done += 4000) {
    const form = { task_id: undefined, request_details: DETAILS }
    const result = await run(await prepare(site, 'steady', 4000, { form }), { connections: CONNECTIONS })
    if (result.failed > 0) throw new Error(`a task was refused: ${result.firstFailure}`)
    most = Math.max(most, await site.service.residentMiB())
    if (done % 100_000 === 0) say(`  ${done + 4000} tasks, ${Math.round(most)} MiB`)
  }
  note(`resident at most, over ${wanted} tasks opened by exchanges`, most, 'MiB', {
    atMost: 200,
    ...(long ? {} : { note: 'a million with --long' }),
  })
}

async function overloaded({ note }: Bench, site: Site, rate: number, seconds: number): Promise<void> {
  const result = await flood(site, { rate, seconds, connections: FLOOD_CONNECTIONS })
  const { served, shed, memory } = result
  note('overload: offered', result.offeredPerSecond, '/s', {
    note: `wanted ${Math.round(rate)}/s, four times the capacity`,
  })
  note('overload: served', result.servedPerSecond, '/s')
  const said = Object.entries(result.shedAs).map(([why, times]) => `${times} × ${why}`)
  note('overload: turned away with 503', result.shedPerSecond, '/s', { note: said.join('; ') })
  note('overload: turned away without Retry-After', result.shedSilently, 'answers', { atMost: 0 })
  note('overload: neither', result.otherAnswers, 'answers', {
    atMost: 0,
    ...(result.firstOther === undefined ? {} : { note: result.firstOther.replaceAll(/\s+/g, ' ').slice(0, 300) }),
  })
  note('overload: served, median from when it was due', served.p50, 'ms')
  note('overload: served, 99 % from when it was due', served.p99, 'ms')
  note('overload: turned away, 99 % from when it was due', shed.p99, 'ms')
  const third = Math.floor(memory.length / 3)
  const early = spreadOf(memory.slice(third, 2 * third)).median
  const late = spreadOf(memory.slice(2 * third)).median
  note('overload: resident at the end', late, 'MiB', { atMost: 200 })
  note('overload: last third of the time ÷ the third before, resident', late / early, '×', { atMost: 1.05 })
}
