/**
 * `npm run bench`: every figure of the README, from the built service (`npm run build` first), all contenders in one
 * run. See README.md in this folder. Absolute figures hold for the machine they were taken on; ratios travel better.
 */
import { mkdir } from 'node:fs/promises'
import { resolve } from 'node:path'
import { parseArgs } from 'node:util'
import { type Bench, pin } from './bench.ts'
import { exchangeSection } from './exchange.ts'
import { feedSection } from './feed.ts'
import { growthSection } from './growth.ts'
import { logSection } from './log.ts'
import { overloadSection } from './overload.ts'
import { previewSection } from './preview.ts'
import { replicasSection } from './replicas.ts'
import { createFigures, machine, misses, table } from './report.ts'
import { startingSection } from './starting.ts'
import { tenantsSection } from './tenants.ts'
import { verificationSection } from './verification.ts'

const SECTIONS: Readonly<Record<string, (bench: Bench) => Promise<void>>> = {
  exchange: exchangeSection,
  verification: verificationSection,
  start: startingSection,
  growth: growthSection,
  log: logSection,
  overload: overloadSection,
  feed: feedSection,
  preview: previewSection,
  tenants: tenantsSection,
  replicas: replicasSection,
}
const USAGE = `npm run bench -- [--json] [--only ${Object.keys(SECTIONS).join(',')}] [--quick | --long] [--profile]`

function fail(problem: string): never {
  console.error(`${problem}\n${USAGE}`)
  process.exit(2)
}

function read() {
  const boolean = { type: 'boolean', default: false } as const
  try {
    return parseArgs({
      options: { json: boolean, quick: boolean, long: boolean, profile: boolean, only: { type: 'string' } },
    }).values
  } catch (error) {
    return fail((error as Error).message)
  }
}

const flags = read()
const names = flags.only?.split(',') ?? Object.keys(SECTIONS)
for (const name of names) if (!SECTIONS[name]) fail(`there is no section ${name}`)

const say = (line: string): void => void process.stderr.write(`${line}\n`)
const pinned = pin()
const { node, openssl, cores, cpu } = machine()
say(`Node ${node}, OpenSSL ${openssl}, ${cores} cores (${cpu})`)
say('core' in pinned ? `servers on core ${pinned.core}, load on the other` : pinned.unpinned)
const profiles = resolve('profiles')
if (flags.profile) await mkdir(profiles, { recursive: true })

const figures = createFigures(say)
for (const name of names) {
  say(`\n${name}`)
  await SECTIONS[name]!({
    ...figures.section(name),
    quick: flags.quick,
    long: flags.long,
    nodeFlags: flags.profile ? ['--cpu-prof', `--cpu-prof-dir=${profiles}`] : [],
    ...('core' in pinned ? { core: pinned.core } : {}),
  })
}

if (flags.json) console.log(JSON.stringify({ ...machine(), pinned, figures: figures.all }, null, 2))
else console.log(table(figures.all))
if (flags.profile)
  say(`profiles are in ${profiles}: open them in a browser's developer tools, or with any reader of .cpuprofile`)
const missed = figures.all.filter(misses)
if (missed.length > 0) {
  say(`\nmissed: ${missed.map(({ name }) => name).join('; ')}`)
  process.exitCode = 1
}
