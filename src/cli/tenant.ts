/** `errand tenant create|list`: the tenants of this service; each has an issuer, keys and a log of its own. */
import { mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { issuerProblem } from '../config/read-settings.ts'
import { shape } from '../config/shape.ts'
import {
  issuerConflict,
  placesOfTenant,
  TENANT_NAME,
  type TenantPlaces,
  TENANTS_FOLDER,
  tenantNames,
} from '../config/tenants.ts'
import { readYaml } from '../config/yaml.ts'
import { nearest } from '../policy/suggest.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { adminClient, placesOf } from './places.ts'
import { json, safe, table } from './print.ts'
import { object, objects } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const list = verb({
  description: 'Lists the tenants: whether each serves, under which issuer, and how much of its quota its data take.',
  args: { ...JSON_FLAG },
  examples: ['errand tenant list', 'errand tenant list --json | jq -r .tenants[].issuer'],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).get('/tenants')
    if (args.json) {
      cli.out(json(answer))
      return EXIT.ok
    }
    const tenants = objects(answer['tenants'])
    if (tenants.length === 0) {
      cli.out('no tenants: the service has its own issuer alone (errand tenant create <name> makes one)')
      return EXIT.ok
    }
    for (const line of table(cli, tenants, [
      { title: 'TENANT', cell: (tenant) => tenant['name'] },
      {
        title: 'STATE',
        cell: (tenant) => tenant['state'],
        paint: (cell, tenant) => (tenant['state'] === 'serving' ? cli.colors.green(cell) : cli.colors.red(cell)),
      },
      { title: 'ISSUER', cell: (tenant) => tenant['issuer'] },
      {
        title: 'DATA',
        cell: (tenant) =>
          tenant['data_mib'] === undefined
            ? ''
            : `${tenant['data_mib']} of ${object(tenant['quota'])['max_data_mib']} MiB`,
      },
      { title: 'REQUESTS', cell: (tenant) => `${object(tenant['quota'])['requests_per_second']}/s` },
    ]))
      cli.out(line)
    for (const { name, problems } of tenants)
      if (problems !== undefined)
        for (const line of String(problems).split('\n')) cli.out(`${cli.colors.red(safe(name))}: ${safe(line)}`)
    return EXIT.ok
  },
})

export const create = verb({
  description:
    'Makes the folder of a new tenant in config/tenants/. A running service opens it within seconds, with keys, data and an audit log of its own.',
  args: {
    name: { type: 'positional', description: 'lower-case letters, digits and "-"', required: true },
    issuer: {
      type: 'string',
      valueHint: 'url',
      description: 'its issuer, by path or by host (default: /t/<name> of the service)',
    },
    ...JSON_FLAG,
  },
  examples: ['errand tenant create acme', 'errand tenant create acme --issuer https://acme.errand.example.com'],
  async run(args, cli) {
    const { name } = args
    const places = placesOf(cli)
    const host = await hostOf(places)
    const own = placesIn(places, name)
    const issuer = args.issuer ?? `${host.issuer.replace(/\/$/, '')}/t/${name}`
    const development = host.mode === 'development'
    const fault = issuerProblem(issuer, { development })
    if (fault !== undefined) throw usage(`the issuer ${safe(issuer)} ${fault}`)
    const others = await issuersOf(places)
    const conflict = issuerConflict(issuer, host.issuer, others)
    if (conflict !== undefined) throw new CliError(EXIT.refused, conflict)
    if (await isThere(own.configDir)) throw new CliError(EXIT.refused, `there is a tenant ${name} already`)
    for (const left of [own.keysDir, own.dataDir])
      if (await isThere(left))
        throw new CliError(EXIT.refused, `${safe(left)} is there: keys or data of an earlier tenant of this name`, [
          'Remove them (errand tenant remove), or choose another name: a new tenant must not inherit them.',
        ])

    await write(own.configDir, issuer, host.mode)
    const told = { name, issuer, config: own.configDir, keys: own.keysDir }
    if (args.json) {
      cli.out(json(told))
      return EXIT.ok
    }
    cli.out(`${cli.colors.green('made')} ${safe(own.configDir)}, issuer ${safe(issuer)}`)
    cli.out(
      'Put its agents, tools, issuers and policies there, as in config/; until there are policies, all is denied.',
    )
    cli.out('To administer it:')
    cli.out(
      `  export ERRAND_URL=${shellWord(issuer)} ERRAND_CONFIG=${shellWord(own.configDir)} ERRAND_KEYS=${shellWord(own.keysDir)}`,
    )
    return EXIT.ok
  },
})

const PLAIN = /^(?:[\w./-]|:(?!$))+$/
/** A URL may end in a colon, and hold brackets and dollar signs. */
const yamlText = (text: string): string => (PLAIN.test(text) ? text : JSON.stringify(text))
/** To be pasted. */
const shellWord = (text: string): string => (PLAIN.test(text) ? text : `'${safe(text).replaceAll("'", "'\\''")}'`)

/** Whole or not at all: a service that looks meanwhile sees no half of it. */
async function write(dir: string, issuer: string, mode: string): Promise<void> {
  const parent = join(dir, '..')
  const making = join(parent, `.making-${process.pid}`)
  try {
    await mkdir(parent, { recursive: true })
    for (const folder of ['agents', 'tools', 'issuers', 'policies'])
      await mkdir(join(making, folder), { recursive: true })
    await writeFile(
      join(making, 'errand.yaml'),
      `# A tenant: its issuer, its administrators, and what bounds it. Where the service listens and keeps state is said in
# the service's own errand.yaml.
issuer: ${yamlText(issuer)}
mode: ${mode}

administrators:
  - client_id: admin
    keys_file: admin.pub.jwk
`,
      { flag: 'wx' },
    )
    await rename(making, dir)
  } catch (error) {
    await rm(making, { recursive: true, force: true })
    throw error
  }
}

/** The service's own issuer and mode. */
export async function hostOf({ configDir }: TenantPlaces): Promise<{ readonly issuer: string; readonly mode: string }> {
  const path = join(configDir, 'errand.yaml')
  const text = await readFile(path, 'utf8').catch(() => undefined)
  const yaml = text === undefined ? undefined : readYaml(path, text)
  const file = yaml?.ok ? shape('errand', yaml.value) : undefined
  if (file?.ok) return file.value
  throw new CliError(EXIT.usage, `${safe(path)} cannot be read as the configuration of a service`, [
    'Run this where the service’s config/ is, or set ERRAND_CONFIG; errand config check says what is wrong with it.',
  ])
}

async function issuersOf(places: TenantPlaces) {
  const found: { name: string; issuer: string }[] = []
  for (const name of await tenantNames(places.configDir)) {
    const host = await hostOf(placesOfTenant(places, name)).catch(() => undefined)
    if (host) found.push({ name, issuer: host.issuer })
  }
  return found
}

/** Where the three folders of a tenant are; refuses what is no name of one. */
export function placesIn(places: TenantPlaces, name: string): TenantPlaces {
  if (!TENANT_NAME.test(name))
    throw usage(`${safe(name)} is no name of a tenant: lower-case letters, digits and "-", 32 at most`)
  return placesOfTenant(places, name)
}

/** The same, for a tenant that must be there in one of them. */
export async function knownTenant(cli: Cli, name: string): Promise<TenantPlaces> {
  const places = placesOf(cli)
  const own = placesIn(places, name)
  for (const folder of Object.values(own)) if (await isThere(folder)) return own
  const near = nearest(name, await tenantNames(places.configDir))
  throw usage(
    `there is no tenant ${safe(name)} in ${safe(join(places.configDir, TENANTS_FOLDER))}${near === undefined ? '' : `, did you mean ${near}?`}`,
  )
}

export const isThere = (path: string): Promise<boolean> =>
  stat(path).then(
    () => true,
    () => false,
  )
