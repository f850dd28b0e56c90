/** The same exchange with each part off that a request or the configuration can leave out, to show what the part costs. */
import type { Bench } from './bench.ts'
import { type Contender, cpu, perSecond, race } from './race.ts'
import { openSite, type PrepareOptions, prepare, type Site } from './load.ts'
import { OPEN_RESOURCE } from './site-config.ts'
import { ratio } from './spread.ts'

const DETAILS = JSON.stringify({
  purpose: 'answer a question about an order',
  environment: 'staging',
  data_classification: 'internal',
  deadline_seconds: 1800,
})

const PARTS = {
  'all on': {},
  'evidence by a key, new each time': { evidence: 'private_key_jwt' },
  'a new task each time': { form: { task_id: undefined, request_details: DETAILS } },
  'one operation instead of three': { form: { scope: 'desk:read' } },
  'no user: the agent for itself': {
    form: { grant_type: 'client_credentials', subject_token: undefined, subject_token_type: undefined },
  },
  'no DPoP: bearer, evidence by a key, reads only': {
    evidence: 'private_key_jwt',
    withoutProof: true,
    form: { resource: OPEN_RESOURCE, scope: 'open-desk:read open-desk:search open-desk:list' },
  },
} as const satisfies Readonly<Record<string, PrepareOptions>>

/** Makes every sync of this process succeed without one, and lets no write wait for the disk. Nobody but a benchmark can load it into the service. */
const WITHOUT_SYNC = `data:text/javascript,${encodeURIComponent(`
import fs from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
const later = (fd, done) => setImmediate(done, null)
fs.fsync = fs.fdatasync = later
fs.fsyncSync = fs.fdatasyncSync = () => {}
const { open } = fs
fs.open = (path, flags, ...rest) => open(path, typeof flags === 'number' ? flags & ~fs.constants.O_DSYNC : flags, ...rest)
syncBuiltinESMExports()
`)}`

export async function partsOff(bench: Bench, site: Site): Promise<void> {
  const { core, nodeFlags } = bench
  const pinned = core === undefined ? {} : { core }
  const careless = await openSite({ ...pinned, nodeFlags: [...nodeFlags, '--import', WITHOUT_SYNC] })
  try {
    const contenders: Record<string, Contender> = {}
    for (const [name, options] of Object.entries<PrepareOptions>(PARTS))
      contenders[name] = { pid: site.pid, prepare: (count) => prepare(site, 'steady', count, options) }
    contenders['records not synced'] = {
      pid: careless.pid,
      prepare: (count) => prepare(careless, 'steady', count),
    }
    const results = await race(bench, contenders, { rounds: bench.quick ? 3 : 5, requests: bench.quick ? 1000 : 3000 })
    const whole = results['all on']!
    for (const [name, rounds] of Object.entries(results)) {
      bench.note(`steady, ${name}`, perSecond(rounds), '/s')
      bench.note(`steady, ${name}: CPU`, cpu(rounds), 'µs')
    }
    const cost = ratio(perSecond(results['records not synced']!), perSecond(whole))
    const percent = (value: number) => (1 - 1 / value) * 100
    const { median, low, high } = cost
    bench.note(
      'what the synced audit record costs',
      { median: percent(median), low: percent(low), high: percent(high) },
      '%',
      { atMost: 10, note: 'of the exchanges a second, against a service whose fsync does nothing' },
    )
  } finally {
    await careless.close()
  }
}
