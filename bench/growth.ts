/** What an exchange costs as agents, policies, tasks and live revocations grow, and what starting costs then. */
import type { Bench } from './bench.ts'
import { agentFiles, POLICY_AGENTS, policyFile, recordsIn, revocationsIn, tasksIn } from './fill.ts'
import { openSite, prepare, type Site, type SiteOptions } from './load.ts'
import { cpu, race } from './race.ts'
import { ratio } from './spread.ts'

interface Growing {
  readonly of: string
  readonly to: number
  readonly quickly: number
  site(count: number): SiteOptions
  /** Milliseconds; also what a start on it may take. */
  readonly startAtMost?: number
}

const GROWING: readonly Growing[] = [
  {
    of: 'policies',
    to: 1000,
    quickly: 300,
    site: (count) => ({ files: { ...agentFiles(POLICY_AGENTS), 'policies/grown.cedar': policyFile(count) } }),
  },
  { of: 'agents', to: 10_000, quickly: 1000, site: (count) => ({ files: agentFiles(count) }) },
  { of: 'tasks', to: 1_000_000, quickly: 20_000, site: (count) => ({ fill: tasksIn(count) }) },
  { of: 'live revocations', to: 100_000, quickly: 10_000, site: (count) => ({ fill: revocationsIn(count) }) },
  {
    of: 'audit records',
    to: 1_000_000,
    quickly: 20_000,
    site: (count) => ({ fill: recordsIn(count) }),
    startAtMost: 5000,
  },
]
const FEW = 10

export async function growthSection(bench: Bench): Promise<void> {
  for (const growing of GROWING) await grow(bench, growing)
}

async function grow(bench: Bench, { of, to, quickly, site, startAtMost }: Growing): Promise<void> {
  const { quick, core, nodeFlags, note, say } = bench
  const many = quick ? quickly : to
  const pinned = { nodeFlags, ...(core === undefined ? {} : { core }) }
  const sites: Site[] = []
  const open = async (count: number): Promise<Site> => {
    const began = performance.now()
    const opened = await openSite({ ...pinned, ...site(count) })
    sites.push(opened)
    say(`  ${count} ${of}: made in ${Math.round((performance.now() - began) / 100) / 10} s`)
    return opened
  }
  try {
    const [small, large] = [await open(FEW), await open(many)]
    note(
      `start with ${many} ${of}`,
      large.service.startMs,
      'ms',
      startAtMost === undefined ? {} : { atMost: startAtMost },
    )
    const grown = `with ${many} ${of}`
    const results = await race(
      bench,
      {
        [`with ${FEW} ${of}`]: { pid: small.pid, prepare: (count: number) => prepare(small, 'steady', count) },
        [grown]: { pid: large.pid, prepare: (count: number) => prepare(large, 'steady', count) },
      },
      { rounds: quick ? 3 : 7, requests: quick ? 1000 : 4000 },
    )
    for (const [name, rounds] of Object.entries(results)) note(`exchange ${name}: CPU`, cpu(rounds), 'µs')
    const cost = ratio(cpu(results[grown]!), cpu(results[`with ${FEW} ${of}`]!))
    note(`exchange, ${FEW} → ${many} ${of}`, cost, '×', { atMost: 1.15 })
    note(`resident with ${many} ${of}, after that`, await large.service.residentMiB(), 'MiB')
  } finally {
    for (const each of sites) await each.close()
  }
}
