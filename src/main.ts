/** Reads the configuration, opens the rooms in order, listens; closes them in the reverse order. */
import { randomBytes } from 'node:crypto'
import { access } from 'node:fs/promises'
import { join, resolve } from 'node:path'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import pino, { type Logger } from 'pino'
import { createAttest, createAuthenticateMachine } from './attest/attest.ts'
import { createDpop } from './attest/dpop.ts'
import { platformClientId } from './attest/platform.ts'
import { createWindowed } from './attest/windowed.ts'
import { findDecision } from './audit/explain.ts'
import { sourceBlock } from './audit/source.ts'
import type { AuditLog, AuditReader, AuditRecord } from './audit/log.ts'
import { createSubjectVault } from './audit/subject-vault.ts'
import { formatProblems } from './config/check.ts'
import { listMaterial } from './config/first-start.ts'
import { type ConfigHolder, createConfigHolder } from './config/holder.ts'
import { createBundleEndpoints } from './config/bundle-endpoints.ts'
import { createFetchJwks } from './config/fetch-jwks.ts'
import { createConfigLoader } from './config/load.ts'
import { createReadings } from './config/readings.ts'
import type { Snapshot } from './config/snapshot.ts'
import { type HostSettings, hostPartOf, type Quota, quotaOf } from './config/tenants.ts'
import { createProveAgent } from './exchange/authenticate.ts'
import type { Directory } from './exchange/directory.ts'
import { createExchange } from './exchange/exchange.ts'
import { createJoin } from './exchange/join.ts'
import { createOpenTask } from './exchange/open-task.ts'
import { createProveWorkload } from './exchange/prove-workload.ts'
import { createApp } from './http/app.ts'
import { createLimits, rationed } from './http/limits.ts'
import type { TenantStatus } from './http/deps.ts'
import { createMetrics } from './http/metrics.ts'
import { createPace } from './http/pace.ts'
import { type Listener, listen } from './http/server.ts'
import { createSharedCheck } from './http/shared-check.ts'
import { createPlace } from './http/sites.ts'
import { createTracing, type Tracing } from './http/tracing.ts'
import { openKeyRing } from './keys/key-ring.ts'
import { prepareMaterial, refuseDevelopmentKeys } from './keys/material.ts'
import { createSealer, type Sealer } from './keys/seal.ts'
import { ok, refuse, Unavailable } from './oauth/refusal.ts'
import { createAcks, verifiersBehind } from './revoke/acks.ts'
import { createFeed } from './revoke/feed.ts'
import { createPolicyInForce, type RecordedConfig } from './revoke/policy-in-force.ts'
import { createRevoke, type TokenLine } from './revoke/revoke.ts'
import { createRotation, scheduleOf } from './rotate/rotate.ts'
import { openAuditLog } from './store/files/audit-log.ts'
import { createKeptBundles } from './store/files/kept-bundles.ts'
import { hasData } from './store/history.ts'
import { openStores, type Stores } from './store/open.ts'
import { createPatientClock } from './store/patient-clock.ts'
import { readWorkloadGrant } from './tokens/assertion.ts'
import { createIntrospect } from './tokens/introspect.ts'
import { createIssuer } from './tokens/issue.ts'
import { type TenantRooms, type Tenants, openTenants } from './tenants.ts'
import { createSubjectReader, type ReadSubjectToken } from './tokens/subject.ts'

export interface ServeOptions {
  /** Folder config/; `ERRAND_CONFIG`, default `config`. */
  readonly configDir?: string
  /** Folder data/; `ERRAND_DATA`, default `data`. */
  readonly dataDir?: string
  /** Folder keys/; `ERRAND_KEYS`, default `keys`. */
  readonly keysDir?: string
  /** One line for the person who started it; the service log goes elsewhere. */
  readonly print: (line: string) => void
  readonly logger?: Logger
  /** Given where these are the rooms of one tenant: its name, and what the service has decided for all of them. */
  readonly tenant?: { readonly name: string; readonly host: HostSettings; readonly quota: () => Quota }
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
  readonly app: ReturnType<typeof createApp>
  readonly stores: Stores
  readonly log: AuditLog & AuditReader
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

const PURPOSES = ['token', 'feed', 'id_jag', 'txn_token'] as const

/** Opens and listens. */
export async function serve(options: ServeOptions): Promise<Service> {
  const rooms = await openService(options)
  const listeners: Listener[] = []
  // A promise that nobody waited for is a bug, and no reason to drop everybody else's requests.
  const onRejection = (error: unknown) => rooms.onFault(error, 'a promise that nobody waited for')
  process.on('unhandledRejection', onRejection)
  try {
    const { app, url: base, mtlsUrl, onFault, tenants } = rooms
    const { settings } = rooms.snapshot()
    const onError = (error: Error) => onFault(error, 'listener')
    const own = {
      name: '',
      issuer: settings.issuer,
      app,
      base,
      ...(mtlsUrl === undefined ? {} : { mtlsBase: mtlsUrl }),
    }
    const place = createPlace(own, () => tenants?.sites() ?? [])
    listeners.push(await listen({ settings, kind: 'main', place, onError }))
    if (mtlsUrl !== undefined) listeners.push(await listen({ settings, kind: 'mtls', place, onError }))
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
    const material = await prepareMaterial({
      keysDir,
      mayMakeRootKey: !hasData(dataDir),
      mode: wanted.mode,
      agents: wanted.agents.map((agent) => agent.clientId),
      tools: wanted.tools.map((tool) => tool.name),
      userIssuer: wanted.issuers.length > 0,
    })
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
    const first = await load()
    if (!first.ok) throw new ConfigRefused(formatProblems(first.problems))
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
            { name, host: hostPartOf(settings), quota: () => quotaOf(holder.current().settings, name) },
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

/** Of the event loop, from one asking to the next. */
function loopUtilization(): () => number {
  let before = performance.eventLoopUtilization()
  return () => {
    const now = performance.eventLoopUtilization()
    const { utilization } = performance.eventLoopUtilization(now, before)
    before = now
    return utilization
  }
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
  readonly stores: Stores
  readonly logger: Logger
}): Promise<AuditLog & AuditReader> {
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
    onChange: (state) =>
      logger[state === 'closed' ? 'debug' : state === 'working' ? 'info' : 'error']({ state }, 'audit log'),
  })
}

interface Rooms {
  readonly holder: ConfigHolder
  readonly stores: Stores
  readonly log: AuditLog & AuditReader
  readonly sealer: Sealer
  readonly logger: Logger
  readonly now: () => number
  readonly nowMs: () => number
  readonly monotonic: () => number
  readonly closing: (() => Promise<unknown> | unknown)[]
  readonly dataDir: string
  /** Absent in the rooms of a tenant. */
  readonly tenants?: () => readonly TenantStatus[]
  /** Of the tenant whose rooms these are. */
  readonly quota?: () => Quota
}

async function openRooms({
  holder,
  log,
  sealer,
  logger,
  now,
  nowMs,
  monotonic,
  closing,
  dataDir,
  tenants,
  quota,
  ...rooms
}: Rooms) {
  const { settings } = holder.current()
  const { issuer } = settings
  const tracing = createTracing()
  const stores = tracing ? withSpans(rooms.stores, tracing) : rooms.stores
  const written: AuditLog = {
    logId: log.logId,
    append: (event) => log.append(event),
    // Every client begins without a nonce and is given one: the ordinary way of RFC 9449 §8 is no refusal to count.
    countStranger: (source, reason) => {
      if (reason !== 'nonce_missing') log.countStranger(source, reason)
    },
    healthy: () => log.healthy(),
    close: () => log.close(),
  }
  const audit = tracing?.steps('errand.audit', written, ['append']) ?? written
  const base = issuer.replace(/\/$/, '')
  const mtls = settings.listen.mtls
  const { hostname, pathname } = new URL(issuer)
  const mtlsBase = mtls && `https://${hostname}:${mtls.port}${pathname.replace(/\/$/, '')}`
  let stopping = false
  const onFault = (error: unknown, where: string) => logger.error({ where, err: plain(error) }, 'fault')

  const ring = await openKeyRing({
    store: stores.keyStore,
    sealer,
    now,
    monotonic,
    purposes: PURPOSES,
    announce: async ({ kid, purpose, from, to, cause }) => {
      await log.append({
        type: 'key.moved',
        by: 'system',
        details: { kid, purpose, to, cause, ...(from === undefined ? {} : { from }) },
      })
    },
    ...(settings.store.kind === 'embedded' ? { staleAfterSeconds: Number.POSITIVE_INFINITY } : {}),
  })
  const rotation = createRotation({
    ring,
    schedule: scheduleOf({ ...settings.keys, maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds }),
    purposes: PURPOSES,
    now,
    onError: (error) => onFault(error, 'key rotation'),
  })
  rotation.start()
  closing.push(() => rotation.close())

  const bundles = createBundleEndpoints({
    fetch: createFetchJwks({ development: settings.mode === 'development' }),
    now,
    random: Math.random,
    domains: () => holder.current().trustDomains.all,
    kept: createKeptBundles({ folder: join(dataDir, 'bundles'), seal: sealer.seal, open: sealer.open }),
    recorded: async ({ trustDomain, digest, keys, sequence }) => {
      await log.append({
        type: 'trust.changed',
        by: 'system',
        details: { trust_domain: trustDomain, digest, keys, ...(sequence === undefined ? {} : { sequence }) },
      })
    },
    onProblem: (trustDomain, problem) =>
      problem === undefined
        ? logger.info({ trust_domain: trustDomain }, 'the bundle endpoint serves again')
        : logger.error({ trust_domain: trustDomain, problem }, 'the bundle endpoint serves nothing that can be taken'),
  })
  // Not waited for: a start does not hang on somebody else's endpoint.
  void bundles.poll()
  closing.push(every(1_000, bundles.poll, (error) => onFault(error, 'bundle endpoints')))

  const limits = createLimits({
    maxConcurrent: () => holder.current().settings.bounds.maxConcurrentRequests,
    ...(quota === undefined ? {} : { quota: () => quota().maxConcurrentRequests }),
    pace: createPace({
      maxQueueMs: () => holder.current().settings.bounds.maxQueueMilliseconds,
      utilization: loopUtilization(),
      monotonic,
    }),
    monotonic,
  })
  const acks = createAcks()
  const storeHealthy = createSharedCheck({ check: () => stores.healthy(), monotonic })
  const metrics = createMetrics({
    auditRecords: () => log.size,
    auditHealthy: () => log.healthy(),
    configDegraded: () => holder.failure() !== undefined,
    storeHealthy,
    requestsInFlight: () => limits.running(),
    verifiersBehind: async () => verifiersBehind(await stores.revocations.epoch(), acks.all()),
    process: tenants !== undefined,
  })
  const revoke = createRevoke({
    now,
    patient: createPatientClock({ now, monotonic }),
    log: stores.revocations,
    tasks: stores.tasks,
    audit,
    issued: async (jti) => lineIn(await findDecision(log, jti)),
    onUnrecorded: (type) => metrics.unrecorded(type),
  })
  const feedKey = sealer.derive('feed-values', 32)
  const feed = createFeed({
    log: stores.revocations,
    sign: async (typ, payload) => ({ jws: ring.sign('feed', { typ }, payload) }),
    feedKey,
    issuer,
    now,
    monotonic,
    newRunId: () => randomBytes(12).toString('base64url'),
  })
  closing.push(() => feed.close())

  const challenges = createWindowed({
    now,
    key: sealer.derive('attestation-challenge', 32),
    lifetimeSeconds: settings.dpop.nonceLifetimeSeconds,
    purpose: 'errand attestation challenge',
  })
  const dpop = createDpop({
    challenges,
    now,
    nonceKey: sealer.derive('dpop-nonce', 32),
    nonceLifetimeSeconds: settings.dpop.nonceLifetimeSeconds,
    proofLifetimeSeconds: settings.dpop.proofLifetimeSeconds,
    requireNonce: settings.dpop.requireNonce,
    replayGuard: stores.replayGuard,
    // A shared store is one that other processes hear proofs for.
    ...(settings.store.kind === 'embedded'
      ? { run: { id: randomBytes(12).toString('base64url'), now: () => monotonic() / 1000 } }
      : {}),
  })
  const perClient = () => holder.current().settings.bounds.requestsPerSecondPerClient
  const attest = rationed(
    limits,
    perClient,
    ({ agent }) => agent.clientId,
    createAttest({
      now,
      issuer,
      agents: {
        byClientId: (id) => holder.current().agents.byClientId(id),
        bySpiffeId: (id) => holder.current().agents.bySpiffeId(id),
        byWorkload: (iss, payload) => holder.current().agents.byWorkload(iss, payload),
        byAttestedSubject: (subject) => holder.current().agents.byAttestedSubject(subject),
      },
      trustDomains: (name) => {
        const domain = holder.current().trustDomains.byName(name)
        return domain && bundles.live(domain)
      },
      workloadIssuers: (iss) => holder.current().workloadIssuers.byIss(iss),
      attesters: (name) => holder.current().attesters.byName(name),
      challenges,
      challengeRequired: settings.dpop.requireNonce,
      proofLifetimeSeconds: settings.dpop.proofLifetimeSeconds,
      principalBindings: stores.principalBindings,
      joining: stores.joining,
    }),
  )
  const authenticateMachine = rationed(
    limits,
    perClient,
    ({ machine }) => machine.clientId,
    createAuthenticateMachine({
      now,
      issuer,
      machines: (id) => holder.current().machines.byClientId(id),
    }),
  )
  const { replayGuard, keyPins } = stores
  const proveAgent = createProveAgent({ attest, dpop, replayGuard, keyPins })
  const proveWorkload = createProveWorkload({
    now,
    dpop,
    readGrant: rationed(limits, perClient, ({ platform, sub }) => platformClientId(platform, sub), readWorkloadGrant),
    grants: keyPins,
    platformAgents: stores.platformAgents,
    audit,
  })

  const ownKeys = {
    verifyKey: (kid: string) => {
      const key = ring.keyFor(kid, 'token', 'subject_token')
      return key.ok ? ok(key.value.jwk) : refuse(key.refusal.reason, 'subject_token')
    },
  }
  const readers = new WeakMap<Directory, ReadSubjectToken>()
  const readSubject = (directory: Directory): ReadSubjectToken => {
    const known = readers.get(directory)
    if (known) return known
    const made = createSubjectReader({ issuer, now, ownKeys, byIss: (iss) => directory.issuers.byIss(iss) })
    const read = tracing?.step('errand.subject_token', made) ?? made
    readers.set(directory, read)
    return read
  }
  const common = { now, nowMs, tasks: stores.tasks, revocations: stores.revocations, audit, readSubject }
  const tokenIssuer = createIssuer({ issuer, keys: ring })
  const exchange = createExchange({
    ...common,
    directory: tracing ? decidingWithSpans(() => holder.current(), tracing) : () => holder.current(),
    proveAgent: tracing?.step('errand.attest', proveAgent) ?? proveAgent,
    proveWorkload: tracing?.step('errand.attest', proveWorkload) ?? proveWorkload,
    grants: keyPins,
    issuer: tracing?.steps('errand.issuer', tokenIssuer, ['sign', 'signHandOver']) ?? tokenIssuer,
    keys: ring,
    idempotency: stores.idempotency,
    sealer,
  })

  const app = createApp(
    {
      snapshot: () => holder.current(),
      configFailure: () => holder.failure(),
      bundles: () => bundles.states(),
      now,
      nowMs,
      attest,
      authenticateMachine,
      dpop,
      challenges,
      replayGuard,
      keyPins,
      proveAgent,
      exchange,
      openTask: createOpenTask({ ...common, idempotency: stores.idempotency }),
      join: createJoin({
        now,
        directory: () => holder.current(),
        joining: stores.joining,
        dpop,
        revocations: stores.revocations,
        audit,
        newSecret: () => randomBytes(32),
      }),
      platformAgents: stores.platformAgents,
      tasks: stores.tasks,
      revoke,
      revocations: stores.revocations,
      introspect: createIntrospect({ issuer, now, ownKeys, revocations: stores.revocations }),
      feed,
      feedKey,
      acks,
      keys: ring,
      rotation,
      audit,
      reader: log,
      storeHealthy,
      limits,
      metrics,
      ...(mtlsBase === undefined ? {} : { mtlsBase }),
      resources: () => {
        const { user, system } = process.cpuUsage()
        return {
          rssBytes: process.memoryUsage.rss(),
          cpuSeconds: (user + system) / 1e6,
          uptimeSeconds: process.uptime(),
        }
      },
      ...(tracing === undefined ? {} : { tracing }),
      ...(tenants === undefined ? {} : { tenants }),
      stopping: () => stopping,
      onUnavailable: (error, correlation) =>
        logger.warn({ correlation, reason: error.reason, err: plain(error) }, 'a dependency is away'),
      onBug: (error, correlation) => logger.error({ correlation, err: plain(error) }, 'unexpected fault'),
    },
    (line) => logger.info(line, 'request'),
  )

  const inForce = createPolicyInForce({
    now,
    bans: (at) => stores.revocations.bans(at),
    revoke,
    audit: log,
    recorded: async (since) => {
      const type = 'config.loaded'
      const last = await log.search({ type, limit: 1 })
      const recent = await log.search({ type, since: since * 1000, limit: 100 })
      return [...last, ...recent].map((record) => record['details'] as RecordedConfig)
    },
    maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
  })
  inForce.loaded(holder.current())
  await inForce.settle()
  await revoke.resume()
  holder.onChange((next, previous) => {
    inForce.loaded(next, previous)
    inForce.settle().catch((error) => onFault(error, 'reload'))
  })
  holder.onFailure(({ problems }) => {
    logger.error({ problems }, 'the new configuration is refused; the old one stays in force')
    log
      .append({ type: 'config.rejected', by: 'system', details: { problems: problems.split('\n').length - 1 } })
      .catch((error) => onFault(error, 'reload'))
  })

  const sweep = every(
    1_000,
    async () => {
      await inForce.settle()
      await revoke.sweep()
    },
    (error) => onFault(error, 'sweep'),
  )
  closing.push(sweep)

  return {
    app,
    sweep: () => revoke.sweep(),
    freshNonce: (client: string) => dpop.freshNonce(client),
    url: base,
    ...(mtlsBase === undefined ? {} : { mtlsUrl: mtlsBase }),
    snapshot: () => holder.current(),
    reload: () => holder.reload(),
    onFault,
    stop: () => {
      stopping = true
      // Followers' streams have no end of their own, and long-polls wait for news that will not come.
      feed.close()
    },
  }
}

/** The steps of an exchange that wait for something. */
const withSpans = (stores: Stores, tracing: Tracing): Stores => ({
  ...stores,
  tasks: tracing.steps('errand.tasks', stores.tasks, ['open', 'get', 'reserve', 'end']),
  revocations: tracing.steps('errand.revocations', stores.revocations, ['check', 'add']),
  keyPins: tracing.steps('errand.key_pins', stores.keyPins, ['pin']),
  replayGuard: tracing.steps('errand.replay_guard', stores.replayGuard, ['spend']),
})

function decidingWithSpans(current: () => Snapshot, tracing: Tracing): () => Snapshot {
  let last: { readonly of: Snapshot; readonly traced: Snapshot } | undefined
  return () => {
    const of = current()
    // The same one each time: who reads a snapshot remembers things by it.
    if (last?.of !== of) last = { of, traced: { ...of, decide: tracing.step('errand.decide', of.decide) } }
    return last.traced
  }
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

/** What a record of issue says of its token; hand-overs and other records have no line. */
function lineIn(record: AuditRecord | undefined): TokenLine | undefined {
  const claims = record?.type === 'token.issuing' ? record['claims'] : undefined
  if (typeof claims !== 'object' || claims === null || 'may_act' in claims || !('task' in claims)) return undefined
  const { aud, client_id, task } = claims as unknown as AccessTokenClaims
  return { task: task.id, client_id, aud }
}

/** Runs again after each end, never twice at once; the returned function stops it and waits. */
function every(ms: number, run: () => Promise<unknown>, onError: (error: unknown) => void): () => Promise<void> {
  let turn: Promise<void> = Promise.resolve()
  let busy = false
  const timer = setInterval(() => {
    if (busy) return
    busy = true
    turn = run()
      .then(() => undefined, onError)
      .finally(() => {
        busy = false
      })
  }, ms)
  timer.unref()
  return async () => {
    clearInterval(timer)
    await turn
  }
}

/**
 * An error without its words, which may quote what it stumbled over, and without whatever a library has hung on it:
 * kind, code and place are ours to read. What `Unavailable` says was written here.
 */
function plain(error: unknown): {
  readonly type: string
  readonly code?: string
  readonly message?: string
  readonly cause?: string
  readonly at?: readonly string[]
} {
  if (!(error instanceof Error)) return { type: 'not an error' }
  const { code, cause } = error as { readonly code?: unknown; readonly cause?: unknown }
  // The message stands in the stack as well, and may look like a line of it.
  const frames = (error.stack ?? '').replace(error.message, '').split('\n')
  const at = frames.flatMap((line) => /^ {4}at ([^\n]{1,300}:\d+:\d+\)?)$/.exec(line)?.[1] ?? [])
  return {
    type: error.name,
    ...(typeof code === 'string' && /^[A-Za-z][A-Za-z0-9_]{1,63}$/.test(code) ? { code } : {}),
    ...(error instanceof Unavailable ? { message: error.message } : {}),
    ...(cause instanceof Error ? { cause: String((cause as NodeJS.ErrnoException).code ?? cause.name) } : {}),
    ...(at.length === 0 ? {} : { at: at.slice(0, 12) }),
  }
}
