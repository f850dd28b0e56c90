/** `errand config`: a configuration folder checked before it is used, and what is in force. */
import { access } from 'node:fs/promises'
import { join } from 'node:path'
import { loadConfig } from '../config/load.ts'
import type { ServiceSettings } from '../config/settings.ts'
import {
  hostPartOf,
  issuerConflict,
  placesOfTenant,
  TENANTS_FOLDER,
  type TenantPlaces,
  tenantNames,
} from '../config/tenants.ts'
import { formatProblem, type Problem } from '../policy/problem.ts'
import { type Cli, EXIT } from './cli.ts'
import type { Json } from './client.ts'
import { adminClient, placesOf } from './places.ts'
import { facts, json, safe, time } from './print.ts'
import { object, objects, text, texts } from './rows.ts'
import { JSON_FLAG, verb } from './verb.ts'

export const check = verb({
  description:
    'Checks a configuration folder as the service would read it: each problem with file, line and suggestion.',
  args: {
    folder: { type: 'positional', description: 'the folder (default ERRAND_CONFIG or config/)', required: false },
    ...JSON_FLAG,
  },
  examples: ['errand config check', 'errand config check /etc/errand && systemctl reload errand'],
  async run(args, cli) {
    const { configDir, keysDir } = placesOf(cli)
    const dir = args.folder ?? configDir
    // Before the first start the key files that it makes are not there yet.
    const started = await access(join(keysDir, 'root.key')).then(
      () => true,
      () => false,
    )
    const own = await loadConfig({ dir, keysDir, now: cli.now, allowMissingKeys: !started })
    const tenants = own.ok ? await checkTenants(own.snapshot.settings, { configDir: dir, keysDir }, cli) : []
    const broken = tenants.flatMap(({ problems }) => problems)
    const loaded = own.ok && broken.length > 0 ? ({ ok: false, problems: broken } as const) : own
    const problems = loaded.ok ? [] : loaded.problems
    if (args.json) {
      cli.out(
        json({
          ok: loaded.ok,
          problems,
          ...(loaded.ok ? { policies: loaded.policyCount, digest: loaded.snapshot.digest } : {}),
        }),
      )
    } else if (loaded.ok) {
      const { agents, tools, issuers, trustDomains, digest, settings } = loaded.snapshot
      cli.out(`${cli.colors.green('good')}: ${safe(dir)}, mode ${settings.mode}`)
      for (const line of facts(cli, [
        ['agents', agents.all.length],
        ['tools', tools.all.length],
        ['issuers', issuers.all.length],
        ['trust domains', trustDomains.all.length],
        ['policies', loaded.policyCount],
        ['tenants', tenants.map(({ name }) => name).join(' ')],
        ['digest', digest],
      ]))
        cli.out(line)
      if (loaded.policyCount === 0) cli.out(cli.colors.yellow('warning: there are no policies, so all is denied'))
    } else for (const problem of problems) for (const line of formatProblem(problem).split('\n')) cli.out(safe(line))
    if (!loaded.ok)
      cli.err(`${problems.length} problem${problems.length === 1 ? '' : 's'}: a service would not take this`)
    return loaded.ok ? EXIT.ok : EXIT.refused
  },
})

/** Each tenant's folder, as the service would open it beside the others. */
async function checkTenants(
  settings: ServiceSettings,
  places: Pick<TenantPlaces, 'configDir' | 'keysDir'>,
  cli: Cli,
): Promise<readonly { readonly name: string; readonly problems: readonly Problem[] }[]> {
  const found: { name: string; issuer: string; problems: readonly Problem[] }[] = []
  for (const name of await tenantNames(places.configDir)) {
    const own = placesOfTenant({ ...places, dataDir: '' }, name)
    const started = await access(join(own.keysDir, 'root.key')).then(
      () => true,
      () => false,
    )
    const loaded = await loadConfig({
      dir: own.configDir,
      keysDir: own.keysDir,
      now: cli.now,
      allowMissingKeys: !started,
      host: hostPartOf(settings),
    })
    const issuer = loaded.ok ? loaded.snapshot.settings.issuer : ''
    const conflict = loaded.ok ? issuerConflict(issuer, settings.issuer, found) : undefined
    const inTenant = (problem: Problem): Problem => ({ ...problem, file: join(TENANTS_FOLDER, problem.file) })
    found.push({
      name,
      issuer,
      problems: loaded.ok
        ? conflict === undefined
          ? []
          : [inTenant({ file: `${name}/errand.yaml`, code: 'duplicate', message: conflict })]
        : loaded.problems.map(inTenant),
    })
  }
  return found
}

export const show = verb({
  description: 'Shows which configuration is in force, and what kept a newer one from being taken.',
  args: { ...JSON_FLAG },
  examples: ['errand config show'],
  async run(args, cli) {
    const answer = await (await adminClient(cli)).get('/config')
    if (args.json) {
      cli.out(json(answer))
      return EXIT.ok
    }
    const problems = text(object(answer['failure'])['problems'])
    for (const line of facts(cli, [
      ['digest', answer['digest']],
      ['loaded', time(answer['loaded_at'])],
      ['issuer', answer['issuer']],
      ['mode', answer['mode']],
      ['development shortcuts', texts(answer['development_shortcuts']).join('; ')],
      ['policies', answer['policy_digest']],
      ['last reload', problems === undefined ? 'taken' : 'refused; the one before it is in force'],
      ...objects(answer['bundle_endpoints']).map(
        (each) => [`bundle of ${safe(each['trust_domain'])}`, bundleState(each)] as const,
      ),
      ...objects(answer['mirrors']).map((each) => [`mirror ${safe(each['name'])}`, mirrorState(each)] as const),
    ]))
      cli.out(line)
    for (const line of problems?.split('\n') ?? []) cli.out(safe(line))
    return EXIT.ok
  },
})

function mirrorState({ behind, problem, holds }: Json): string {
  const told = [
    behind === 0 ? 'has every record' : `${safe(behind)} records behind`,
    ...(problem === undefined ? [] : [safe(problem)]),
    ...(holds === true ? ['nothing is issued until it has caught up'] : []),
  ]
  return told.join('; ')
}

function bundleState({ confirmed_at: at, spiffe_sequence: sequence, problem }: Json): string {
  const known = at === undefined ? 'never fetched' : `confirmed ${time(at)}`
  const which = sequence === undefined ? '' : `, sequence ${safe(sequence)}`
  return `${known}${which}${problem === undefined ? '' : `; ${safe(problem)}`}`
}
