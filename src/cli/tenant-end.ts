/** `errand tenant export|remove`: what a tenant takes with it, and how it goes. */
import { cp, mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { dirname, join, relative } from 'node:path'
import { checkAuditLog } from '../audit/checker.ts'
import { lockDataDir } from '../store/embedded/lock.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { createClient } from './client.ts'
import { keyAt } from './places.ts'
import { json, safe } from './print.ts'
import { hostOf, isThere, knownTenant } from './tenant.ts'
import { JSON_FLAG, verb } from './verb.ts'

const NAME = { type: 'positional', description: 'the tenant', required: true } as const

export const exportTenant = verb({
  description:
    'Copies what a tenant may take with it into a new folder: its configuration, its public keys, its audit log, and the policies that were ever in force. No private key, no token, no sealed state.',
  args: {
    name: NAME,
    out: { type: 'string', valueHint: 'folder', description: 'a folder that does not exist yet', required: true },
    ...JSON_FLAG,
  },
  examples: ['errand tenant export acme --out acme-2026-11-21', 'errand audit verify acme-2026-11-21'],
  async run(args, cli) {
    const own = await knownTenant(cli, args.name)
    const { issuer } = await hostOf(own)
    if (await isThere(args.out)) throw new CliError(EXIT.refused, `${safe(args.out)} is there already`)
    // With retired keys, so that what they signed can be verified later.
    const key = await keyAt(join(own.keysDir, 'admin.jwk'), 'Its public keys are asked for with it.')
    const jwks = await createClient(cli, { url: issuer, issuer }, { clientId: 'admin', key }).get('/keys/jwks')
    try {
      await mkdir(args.out, { recursive: true, mode: 0o700 })
      await cp(own.configDir, join(args.out, 'config'), { recursive: true })
      const keys = await copyPublicKeys(own.keysDir, join(args.out, 'keys'))
      await writeFile(join(args.out, 'jwks.json'), `${JSON.stringify(jwks, null, 2)}\n`)
      const log = await copyAudit(join(own.dataDir, 'audit'), join(args.out, 'audit'))
      // What decided then, for whoever reads the log later.
      const policies = join(own.dataDir, 'policies')
      if (await isThere(policies)) await cp(policies, join(args.out, 'policies'), { recursive: true })
      const about = { name: args.name, issuer, exported_at: Math.floor(cli.now()), keys, audit: log }
      await writeFile(join(args.out, 'tenant.json'), `${JSON.stringify(about, null, 2)}\n`)
      if (args.json) cli.out(json(about))
      else {
        cli.out(
          `${cli.colors.green('exported')} ${safe(args.name)} to ${safe(args.out)}: ${log.records} records, ${keys} public keys`,
        )
        cli.out(`Check the log with: errand audit verify ${safe(args.out)}`)
      }
      return EXIT.ok
    } catch (error) {
      await rm(args.out, { recursive: true, force: true })
      throw error
    }
  },
})

export const removeTenant = verb({
  description:
    'Removes a tenant: its configuration first, so that the service closes it, then its keys and data, for good. What was sealed under its keys can never be read again.',
  args: {
    name: NAME,
    confirm: { type: 'string', valueHint: 'name', description: 'its name once more', required: true },
    keep: { type: 'boolean', description: 'keep its keys and data: with its configuration it comes back' },
    ...JSON_FLAG,
  },
  examples: ['errand tenant export acme --out acme-final', 'errand tenant remove acme --confirm acme'],
  async run(args, cli) {
    const own = await knownTenant(cli, args.name)
    if (args.confirm !== args.name)
      throw usage(`--confirm names another tenant; nothing was changed`, 'Write the name twice, and export it first.')
    await rm(own.configDir, { recursive: true, force: true })
    const removed = ['configuration']
    if (!args.keep) {
      await closed(cli, own.dataDir, args.name)
      // The keys first: without them the data cannot be read, whatever a crash leaves of them.
      await rm(own.keysDir, { recursive: true, force: true })
      await rm(own.dataDir, { recursive: true, force: true })
      removed.push('keys', 'data')
    }
    if (args.json) cli.out(json({ name: args.name, removed }))
    else {
      cli.out(`${cli.colors.green('removed')} ${safe(args.name)}: ${removed.join(', ')}`)
      cli.out('Its tokens die within five minutes; verifiers that follow its feed refuse them within two.')
    }
    return EXIT.ok
  },
})

const TRIES = 60
const WAIT_MS = 500

/** Waits until no process has the data open: a service that runs lets go once the configuration is gone. */
async function closed(cli: Cli, dataDir: string, name: string): Promise<void> {
  if (!(await isThere(dataDir))) return
  for (let left = TRIES; ; left--) {
    try {
      lockDataDir(dataDir).release()
      return
    } catch (error) {
      if (left === 0 || cli.signal.aborted)
        throw new CliError(EXIT.refused, `a service still has the data of ${name} open; its configuration is removed`, [
          'Stop the service, or wait until it has noticed; then run this again.',
        ])
      if ((error as { readonly code?: string }).code !== 'store_locked') throw error
      if (left === TRIES) cli.err('waiting for the service to close it …')
      await cli.wait(WAIT_MS)
    }
  }
}

/** Whether anywhere in it stands a member that only a private or a secret key has (RFC 7518 §6). */
const isPrivate = (value: unknown): boolean =>
  typeof value === 'object' &&
  value !== null &&
  (Array.isArray(value)
    ? value.some(isPrivate)
    : ['d', 'p', 'q', 'k'].some((name) => name in value) || Object.values(value).some(isPrivate))

async function copyPublicKeys(from: string, to: string): Promise<number> {
  const entries = await readdir(from, { recursive: true, withFileTypes: true }).catch(() => [])
  let copied = 0
  for (const entry of entries) {
    if (!entry.isFile() || !/\.(?:jwk|json)$/.test(entry.name)) continue
    const path = join(entry.parentPath, entry.name)
    const text = await readFile(path, 'utf8')
    let content: unknown
    try {
      content = JSON.parse(text)
    } catch {
      continue // what cannot be read is not shown to hold no secret
    }
    if (isPrivate(content)) continue
    const target = join(to, relative(from, path))
    await mkdir(dirname(target), { recursive: true })
    await writeFile(target, text)
    copied += 1
  }
  return copied
}

async function copyAudit(from: string, to: string): Promise<{ readonly log_id: string; readonly records: number }> {
  // The service goes on writing: a copy that was taken in the middle of a record is taken again.
  for (let tries = 1; ; tries++) {
    await cp(from, to, { recursive: true })
    const report = await checkAuditLog({ folder: to })
    if (report.ok) return { log_id: report.logId ?? '', records: report.records }
    if (tries === 5) {
      const { kind, index } = report.damage[0]!
      throw new CliError(EXIT.refused, `the audit log is damaged at index ${index} (${kind}); nothing was exported`, [
        'errand audit verify says where; restore it from a backup before you export.',
      ])
    }
    await rm(to, { recursive: true })
  }
}
