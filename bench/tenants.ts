/** What one tenant's flood, broken configuration or full quota costs the others: 99 % of exchanges beside each. */
import { spawn } from 'node:child_process'
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { Bench } from './bench.ts'
import { openSite, prepare, run, type Site } from './load.ts'
import { interleave, ratio } from './spread.ts'

const CONNECTIONS = 16
/** A quarter of what one core can do or less: what is measured is what the neighbour adds. */
const RATE = 400
const FLOOD_CONNECTIONS = 32
const FLOOD_RATE = 4000

const QUOTAS = `
tenants:
  quota: { requests_per_second: 200 }
  quotas:
    full: { requests_per_second: 5000, max_data_mib: 1 }
`

export async function tenantsSection(bench: Bench): Promise<void> {
  const { quick, core, nodeFlags, note } = bench
  const site = await openSite({ nodeFlags, ...(core === undefined ? {} : { core }) })
  try {
    const errand = join(site.folder.path, 'config/errand.yaml')
    await writeFile(errand, (await readFile(errand, 'utf8')) + QUOTAS)
    await addTenant(site, 'noisy')
    await addTenant(site, 'full')
    const measure = async (neighbour?: () => Promise<() => Promise<void> | void>) => {
      const load = await prepare(site, 'steady', RATE * (quick ? 2 : 5))
      const stop = await neighbour?.()
      try {
        const result = await run(load, { connections: CONNECTIONS, rate: RATE })
        if (result.failed > 0) throw new Error(`an exchange was refused: ${result.firstFailure}`)
        return result.p99
      } finally {
        await stop?.()
      }
    }
    const rounds = await interleave(quick ? 3 : 7, {
      alone: () => measure(),
      flood: () => measure(() => floodOf(site, 'GET /t/noisy/agents')),
      full: () => measure(() => floodOf(site, 'POST /t/full/token')),
      broken: () => measure(() => breaking(site)),
    })
    note(`exchanges at ${RATE}/s, no neighbour: 99 %`, rounds.alone, 'ms')
    note(`beside a tenant flooded with ${FLOOD_RATE}/s: 99 %`, rounds.flood, 'ms')
    note('beside the flood ÷ without', ratio(rounds.flood, rounds.alone), '×')
    note('beside a tenant whose data are full: 99 %', rounds.full, 'ms')
    note('beside a tenant whose configuration breaks each second: 99 %', rounds.broken, 'ms')
  } finally {
    await site.close()
  }
}

async function addTenant({ folder }: Site, name: string): Promise<void> {
  const dir = join(folder.path, 'config/tenants', name)
  await mkdir(dir, { recursive: true })
  await writeFile(join(dir, 'errand.yaml'), `issuer: ${folder.issuer}/t/${name}\nmode: development\n`)
  while ((await fetch(`${folder.issuer}/t/${name}/ready`)).status !== 200)
    await new Promise((resolve) => setTimeout(resolve, 100))
}

/** A configuration that never loads, written anew so often that it is always being tried. */
async function breaking({ folder }: Site): Promise<() => Promise<void>> {
  const dir = join(folder.path, 'config/tenants/broken')
  await mkdir(dir, { recursive: true })
  let written = 0
  const write = () => void writeFile(join(dir, 'errand.yaml'), `issuer: [${'x, '.repeat(written++)}\n`)
  write()
  const timer = setInterval(write, 1000)
  return async () => {
    clearInterval(timer)
    await rm(dir, { recursive: true, force: true })
  }
}

async function floodOf({ folder }: Site, line: string): Promise<() => void> {
  const { port, host } = new URL(folder.issuer)
  const body = line.startsWith('POST') ? 'a=b' : ''
  const request = `${line} HTTP/1.1\r\nHost: ${host}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: ${body.length}\r\n\r\n${body}`
  const script = fileURLToPath(new URL('./neighbour.ts', import.meta.url))
  const given = [port, FLOOD_CONNECTIONS, FLOOD_RATE, Buffer.from(request).toString('base64')].map(String)
  const child = spawn(process.execPath, ['--import', 'tsx', script, ...given], { stdio: ['ignore', 'pipe', 'ignore'] })
  await new Promise<void>((resolve, reject) => {
    child.once('exit', (code) => reject(new Error(`the flood ended with ${code}`)))
    child.stdout.once('data', () => resolve())
  })
  return () => void child.kill('SIGTERM')
}
