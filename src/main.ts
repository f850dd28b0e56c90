/** Reads the configuration, opens the rooms in order, listens; closes them in the reverse order. */
import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import pino, { type Logger } from 'pino'
import { sourceBlock } from './audit/source.ts'
import { createSubjectVault } from './audit/subject-vault.ts'
import { formatProblems } from './config/check.ts'
import { listMaterial } from './config/first-start.ts'
import { createConfigHolder } from './config/holder.ts'
import { createConfigLoader } from './config/load.ts'
import { createReadings } from './config/readings.ts'
import type { Snapshot } from './config/snapshot.ts'
import { type HostSettings, hostPartOf, type Quota, quotaOf } from './config/tenants.ts'
import type { App } from './http/app.ts'
import { createFairTurns, type FairTurns } from './http/fair-turns.ts'
import { type Listener, listen } from './http/server.ts'
import { createPlace } from './http/sites.ts'
import { prepareMaterial, refuseDevelopmentKeys } from './keys/material.ts'
import type { AskPassphrase } from './keys/passphrase.ts'
import type { RootGuard } from './keys/root-key.ts'
import { createSealer, type Sealer } from './keys/seal.ts'
import { openRooms } from './rooms.ts'
import { openRootGuard } from './secrets/open-root-guard.ts'
import { plain } from './service-log.ts'
import { type OpenedLog, openAuditLog } from './store/files/audit-log.ts'
import { hasData } from './store/history.ts'
import { type OpenedStores, openStores, type Stores } from './store/open.ts'
import { type TenantRooms, type Tenants, openTenants } from './tenants.ts'

export interface ServeOptions {
  /** Folder config/; `ERRAND_CONFIG`, default `config`. */
  readonly configDir?: string
  /** Folder data/; `ERRAND_DATA`, default `data`. */
  readonly dataDir?: string
  /** Folder keys/; `ERRAND_KEYS`, default `keys`. */
  readonly keysDir?: string
  /** Asks for the passphrase of the root key, where the configuration wants it asked for. */
  readonly promptPassphrase?: AskPassphrase
  /** One line for the person who started it; the service log goes elsewhere. */
  readonly print: (line: string) => void
  readonly logger?: Logger
  /** Given where these are the rooms of one tenant: its name, and what the service has decided for all of them. */
  readonly tenant?: {
    readonly name: string
    readonly host: HostSettings
    readonly quota: () => Quota
    /** One for the root keys of all. */
    readonly rootGuard?: RootGuard
    readonly turns: FairTurns
  }
  /** Wall time and monotonic time, milliseconds. */
  readonly nowMs?: () => number
  readonly monotonic?: () => number
}

export interface Service {
  readonly url: string
  readonly mtlsUrl?: string
  readonly snapshot: () => Snapshot
  /** What first start made, relative to the keys folder. */
  readonly made: readonly string[]
  /** Reads config/ again, as a whole or not at all. */
  reload(): Promise<boolean>
  /** Finishes what it began, then closes. */
  close(): Promise<void>
}

export interface OpenService extends Service {
  readonly tenants?: Tenants
  /** Among its issuers. */
  readonly turns: FairTurns
  readonly app: App
  readonly stores: Stores
  readonly log: OpenedLog
  /** From now on requests are turned away with 503. */
  stop(): void
  /** What the timer does each second: ends tasks whose time is over. */
  sweep(): Promise<number>
  /** As the answers to this client carry it. */
  freshNonce(client: string): string
  /** A fault that belongs to no request, for the service log. */
  onFault(error: unknown, where: string): void
}

/** The configuration does not hold together; the message names every file, line and mend. */
export class ConfigRefused extends Error {
  readonly code = 'config_rejected'
  constructor(problems: string) {
    super(`the configuration is refused\n${problems}`)
    this.name = 'ConfigRefused'
  }
}

/** Opens and listens. */
export async function serve(options: ServeOptions): Promise<Service> {
  const rooms = await openService(options)
  const listeners: Listener[] = []
  // A promise that nobody waited for is a bug, and no reason to drop everybody else's requests.
  const onRejection = (error: unknown) => rooms.onFault(error, 'a promise that nobody waited for')
  process.on('unhandledRejection', onRejection)
  try {
    const { app, url: base, mtlsUrl, onFault, tenants, turns } = rooms
    const { settings } = rooms.snapshot()
    const onError = (error: Error) => onFault(error, 'listener')
    const own = {
      name: '',
      issuer: settings.issuer,
      app,
      base,
      ...(mtlsUrl === undefined ? {} : { mtlsBase: mtlsUrl }),
    }
    const sites = () => tenants?.sites() ?? []
    const door = {
      settings,
      place: createPlace(own, sites),
      turns: () => (sites().length > 0 ? turns : undefined),
      onError,
    }
    listeners.push(await listen({ ...door, kind: 'main' }))
    if (mtlsUrl !== undefined) listeners.push(await listen({ ...door, kind: 'mtls' }))
  } catch (error) {
    process.off('unhandledRejection', onRejection)
    await Promise.all(listeners.map((listener) => listener.close()))
    await rooms.close()
    throw error
  }
  for (const line of banner(rooms)) options.print(line)
  return {
    ...rooms,
    async close() {
      rooms.stop()
      await Promise.all(listeners.map((listener) => listener.close()))
      await rooms.close()
      process.off('unhandledRejection', onRejection)
    },
  }
}

/** The whole service but for its listeners: what tests talk to in memory. */
export async function openService(options: Omit<ServeOptions, 'print'>): Promise<OpenService> {
  const configDir = resolve(options.configDir ?? process.env['ERRAND_CONFIG'] ?? 'config')
  const dataDir = resolve(options.dataDir ?? process.env['ERRAND_DATA'] ?? 'data')
  const keysDir = resolve(options.keysDir ?? process.env['ERRAND_KEYS'] ?? 'keys')
  const nowMs = options.nowMs ?? Date.now
  const now = () => Math.floor(nowMs() / 1000)
  const monotonic = options.monotonic ?? (() => performance.now())
  const closing: (() => Promise<unknown> | unknown)[] = []
  /** Whatever one of them meets, the others close too: the lock on the data folder is the last. */
  const closeAll = async () => {
    const faults: unknown[] = []
    for (const close of closing.splice(0).reverse()) await (async () => close())().catch((error) => faults.push(error))
    if (faults.length > 0) throw faults[0]
  }

  try {
    await findConfiguration(configDir)
    const readings = createReadings()
    const wanted = await listMaterial(configDir, readings)
    const { tenant } = options
    const load = createConfigLoader({
      dir: configDir,
      keysDir,
      readings,
      now,
      // Keys are fetched when they are first asked for: there is a log by then.
      onKeysRefused: (uri, why) => logger.warn({ uri, why }, 'the keys of an issuer could not be had'),
      ...(tenant ? { host: hostOf(tenant) } : {}),
    })
    const refusing = async () => {
      const read = await load()
      if (read.ok) return read
      throw new ConfigRefused(formatProblems(read.problems))
    }
    // A root key that is kept in another way than somebody meant to say is never made.
    if (!wanted.readable) await refusing()
    const rootGuard = tenant
      ? tenant.rootGuard
      : openRootGuard(wanted.root, { fetch: globalThis.fetch, prompt: options.promptPassphrase })
    const material = await prepareMaterial({
      keysDir,
      ...(rootGuard ? { rootGuard } : {}),
      mayMakeRootKey: !hasData(dataDir),
      mode: wanted.mode,
      agents: wanted.agents.map((agent) => agent.clientId),
      tools: wanted.tools.map((tool) => tool.name),
      userIssuer: wanted.issuers.length > 0,
    })
    const first = await refusing()
    const holder = createConfigHolder({ first: first.snapshot, load, now })
    closing.push(holder.watch([configDir, keysDir]))
    const { settings, agents, machines } = holder.current()
    if (settings.mode === 'production') {
      refuseDevelopmentKeys([
        ...agents.all.flatMap(({ keys, file }) => keys.map(({ kid }) => ({ kid, from: file }))),
        ...machines.all.flatMap(({ keys, clientId }) =>
          keys.map(({ kid }) => ({ kid, from: `the keys of ${clientId}` })),
        ),
      ])
    }
    const logger =
      options.logger ??
      pino({ level: settings.log.level }, pino.destination({ fd: 2, sync: false, minLength: 4096, periodicFlush: 100 }))
    const sealer = createSealer(material.rootKey)

    const stores = await openStores({ store: settings.store, dataDir, now, monotonic })
    closing.push(() => stores.close())
    const log = await openAudit({ dataDir, nowMs, sealer, stores, logger })
    closing.push(() => log.close())
    await stores.rememberAuditLog(log.logId)

    const turns = tenant?.turns ?? createFairTurns({ nextTurn: setImmediate })
    const opening: { tenants?: Tenants } = {}
    const rooms = await openRooms({
      holder,
      stores,
      log,
      sealer,
      logger,
      now,
      nowMs,
      monotonic,
      closing,
      dataDir,
      waiting: () => turns.waiting(tenant?.name ?? ''),
      ...(tenant ? { quota: tenant.quota } : { tenants: () => opening.tenants?.all() ?? [] }),
    })
    await log.append({
      type: 'service.started',
      by: 'system',
      details: { node: process.version, mode: settings.mode, store: settings.store.kind, pid: process.pid },
    })
    if (!tenant) {
      const tenants = await openTenants({
        places: { configDir, keysDir, dataDir },
        settings: () => holder.current().settings,
        open: (name, places) =>
          openTenant(
            { ...options, ...places, logger: logger.child({ tenant: name }) },
            {
              name,
              host: hostPartOf(settings),
              quota: () => quotaOf(holder.current().settings, name),
              turns,
              ...(rootGuard ? { rootGuard } : {}),
            },
          ),
        monotonic,
        onRefused: (name, error) => logger.error({ tenant: name, err: plain(error) }, 'a tenant could not be opened'),
        onMoved: (name, to) => logger.info({ tenant: name }, `tenant ${to}`),
      })
      opening.tenants = tenants
      closing.push(() => tenants.close())
      const onHangUp = () => void Promise.all([holder.reload(), tenants.reload()])
      process.on('SIGHUP', onHangUp)
      closing.push(() => void process.off('SIGHUP', onHangUp))
    }
    return {
      ...rooms,
      ...opening,
      turns,
      stores,
      log,
      made: material.made,
      stop() {
        opening.tenants?.stop()
        rooms.stop()
      },
      async close() {
        opening.tenants?.stop()
        rooms.stop()
        await log.append({ type: 'service.stopped', by: 'system' }).catch(() => undefined)
        await closeAll()
        logger.flush()
      },
    }
  } catch (error) {
    await closeAll().catch(() => undefined)
    throw error
  }
}

/** What a tenant's configuration may not say for itself. */
function hostOf({ name, host }: NonNullable<ServeOptions['tenant']>): HostSettings {
  const { store } = host
  // A prefix that no configuration can name: no tenant reads another's keys in Redis.
  return { ...host, store: store.kind === 'redis' ? { ...store, prefix: `${store.prefix}.${name}` } : store }
}

/** The same rooms again, with the tenant's own folders. */
async function openTenant(
  options: Omit<ServeOptions, 'print'>,
  tenant: NonNullable<ServeOptions['tenant']>,
): Promise<TenantRooms> {
  const rooms = await openService({ ...options, tenant })
  return {
    ...rooms,
    issuer: rooms.snapshot().settings.issuer,
    onTurnedAway: (peer, reason) => rooms.log.countStranger(sourceBlock(peer), reason),
  }
}

/** First of all: a start in the wrong folder leaves nothing behind. */
async function findConfiguration(configDir: string): Promise<void> {
  const found = (path: string) =>
    access(path).then(
      () => true,
      (error: NodeJS.ErrnoException) => error.code !== 'ENOENT' && error.code !== 'ENOTDIR',
    )
  const missing = (what: string) =>
    new ConfigRefused(
      `${what} does not exist: start in the folder that holds config/, or name it with --config or ERRAND_CONFIG`,
    )
  if (!(await found(configDir))) throw missing(`the folder ${configDir}`)
  const settings = join(configDir, 'errand.yaml')
  if (!(await found(settings))) throw missing(settings)
}

async function openAudit({
  dataDir,
  nowMs,
  sealer,
  stores,
  logger,
}: {
  readonly dataDir: string
  readonly nowMs: () => number
  readonly sealer: Sealer
  readonly stores: OpenedStores
  readonly logger: Logger
}): Promise<OpenedLog> {
  const subjectVault = createSubjectVault({
    keys: stores.subjectKeys,
    referenceKey: sealer.derive('subject-reference', 32),
    seal: (bytes) => sealer.seal('subject-key', '', bytes),
    open: (sealed) => sealer.open('subject-key', '', sealed),
    now: nowMs,
  })
  return openAuditLog({
    folder: join(dataDir, 'audit'),
    now: nowMs,
    subjectVault,
    reserve: stores.reserve,
    onChange: (state) =>
      logger[state === 'closed' ? 'debug' : state === 'working' ? 'info' : 'error']({ state }, 'audit log'),
    onTree: (done, of) => logger.info({ done, of }, 'the tree over the audit log is made from its records'),
  })
}

/** What a person wants to read who has just started it. */
function banner({ url, mtlsUrl, snapshot, made }: Service): string[] {
  const { settings, agents, tools } = snapshot()
  const count = (number: number, noun: string) => `${number} ${noun}${number === 1 ? '' : 's'}`
  const first = agents.all.find(({ ceiling, disabled }) => ceiling.length > 0 && !disabled)
  return [
    `Errand is listening on ${url}${mtlsUrl === undefined ? '' : `, with client certificates on ${mtlsUrl}`}`,
    `  ${count(agents.all.length, 'agent')}, ${count(tools.all.length, 'tool')}, ${settings.store.kind} store, ${settings.mode} mode`,
    ...(made.length === 0 ? [] : [`  first start: made ${count(made.length, 'key file')}`]),
    ...settings.developmentShortcuts.map((shortcut) => `  not for production: ${shortcut}`),
    ...(settings.mode === 'development'
      ? [
          '',
          'Try next, in another terminal:',
          ...(first === undefined
            ? []
            : [`  npx errand token get --agent ${first.clientId} --user alice --tool ${first.ceiling[0]!.tool}`]),
          '  npx errand doctor',
          '  npx errand task list',
          '  npx errand audit tail',
          '  npx errand explain <jti or decision id>',
          '',
        ]
      : []),
  ]
}
