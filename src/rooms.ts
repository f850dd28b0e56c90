/** The rooms of one issuer, opened in order over its stores and its log, up to its app: all but files and listeners. */
import type { Logger } from 'pino'
import type { AuditLog } from './audit/log.ts'
import type { ConfigHolder } from './config/holder.ts'
import type { Snapshot } from './config/snapshot.ts'
import type { Quota } from './config/tenants.ts'
import { every } from './every.ts'
import { type App, createApp } from './http/app.ts'
import type { TenantStatus } from './http/deps.ts'
import { createLimits } from './http/limits.ts'
import { createMetrics } from './http/metrics.ts'
import { createPace, loopUtilization } from './http/pace.ts'
import { createSharedCheck } from './http/shared-check.ts'
import { createTracing } from './http/tracing.ts'
import type { Sealer } from './keys/seal.ts'
import { openDrillTimer } from './open-drills.ts'
import { openEvidence } from './open-evidence.ts'
import { openExchange } from './open-exchange.ts'
import { openKeys } from './open-keys.ts'
import { openMirrors } from './open-mirrors.ts'
import { openRevocation } from './open-revocation.ts'
import { openStatus } from './open-status.ts'
import { createSealing } from './revoke/seals.ts'
import { followSeal } from './revoke/follow-seal.ts'
import { verifiersBehind } from './revoke/acks.ts'
import { createPolicyInForce, type RecordedConfig } from './revoke/policy-in-force.ts'
import { plain } from './service-log.ts'
import { storesWithSpans } from './spans.ts'
import type { OpenedLog } from './store/files/audit-log.ts'
import type { Stores } from './store/open.ts'

export interface RoomDeps {
  readonly holder: ConfigHolder
  readonly stores: Stores
  readonly log: OpenedLog
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
  /** Requests that wait for their turn. */
  readonly waiting: () => number
}

export async function openRooms(given: RoomDeps) {
  const { holder, log, logger, now, nowMs, monotonic, closing, tenants, quota, waiting } = given
  const { settings } = holder.current()
  const isFirst = log.size === 0
  const tracing = createTracing()
  const stores = tracing ? storesWithSpans(given.stores, tracing) : given.stores
  const onFault = (error: unknown, where: string) => logger.error({ where, err: plain(error) }, 'fault')
  const { mirrors, holding, announcesTooEarly } = await openMirrors({ ...given, onFault })
  const written: AuditLog = {
    logId: log.logId,
    append: (event) => {
      const behind = announcesTooEarly(event)
      return behind ? Promise.reject(behind) : log.append(event)
    },
    // Every client begins without a nonce and is given one: the ordinary way of RFC 9449 §8 is no refusal to count.
    countStranger: (source, reason) => {
      if (reason !== 'nonce_missing') log.countStranger(source, reason)
    },
    healthy: () => log.healthy(),
    holding,
    close: () => log.close(),
  }
  const audit = tracing?.steps('errand.audit', written, ['append']) ?? written
  const base = settings.issuer.replace(/\/$/, '')
  const mtls = settings.listen.mtls
  const { hostname, pathname } = new URL(settings.issuer)
  const mtlsBase = mtls && `https://${hostname}:${mtls.port}${pathname.replace(/\/$/, '')}`
  let stopping = false
  const deps: RoomDeps = { ...given, stores }
  const { ring, heldKeys, rotation, checkpoints } = await openKeys({
    ...deps,
    onFault,
    onPublished: () => revocation.feed.tell(),
    hearsAll: () => revocation.hearing.fresh(),
  })
  const { policies, evidence } = openEvidence({ ...deps, ring, checkpoints })
  const limits = createLimits({
    maxConcurrent: () => holder.current().settings.bounds.maxConcurrentRequests,
    maxOpen: () => holder.current().settings.bounds.maxStreams,
    ...(quota === undefined ? {} : { quota: () => quota().maxConcurrentRequests }),
    pace: createPace({
      maxQueueMs: () => holder.current().settings.bounds.maxQueueMilliseconds,
      utilization: loopUtilization(),
      monotonic,
    }),
    waiting,
    monotonic,
  })
  const revocation = await openRevocation({
    ...deps,
    audit,
    ring,
    heldKeys,
    rotation,
    checkpoints,
    isFirst,
    onFault,
    onUnrecorded: (type) => metrics.unrecorded(type),
  })
  const { revoke, bulk, twoPeople, marks, patient, live, acks, transmitter, feed } = revocation
  // Not before there is a feed to tell of what it publishes.
  rotation.start()
  const storeHealthy = createSharedCheck({ check: () => stores.healthy(), monotonic })
  const drillTimer = openDrillTimer({ ...deps, ...revocation, app: () => app, base, onFault })
  const metrics = createMetrics({
    drills: drillTimer,
    auditRecords: () => log.size,
    auditHealthy: () => log.healthy(),
    configDegraded: () => holder.failure() !== undefined,
    storeHealthy,
    storeSealed: () => stores.sealing.current() !== undefined,
    requestsInFlight: () => limits.running(),
    mirrors,
    verifiersBehind: async () => verifiersBehind(await stores.revocations.epoch(), acks.all()),
    process: tenants !== undefined,
  })
  const { statusIndexes, statusLists } = await openStatus({
    ...deps,
    ring,
    forgetBefore: () => patient.forgetBefore(),
    onFault,
  })
  const { bundles, ...exchanging } = openExchange({
    ...deps,
    statusIndexes,
    audit,
    ring,
    limits,
    live,
    marks,
    tracing,
    onFault,
  })

  const app: App = createApp(
    {
      drillTimer,
      ...revocation,
      ...exchanging,
      statusLists,
      snapshot: () => holder.current(),
      configFailure: () => holder.failure(),
      bundles: () => bundles.states(),
      now,
      nowMs,
      replayGuard: stores.replayGuard,
      keyPins: stores.keyPins,
      platformAgents: stores.platformAgents,
      tasks: stores.tasks,
      revocations: stores.revocations,
      keys: ring,
      rotation,
      audit,
      reader: log,
      tree: log.tree,
      checkpoints,
      evidence,
      mirrors,
      storeHealthy,
      sealing: stores.sealing,
      seals: createSealing({ now, seals: stores.seals, audit, onUnrecorded: (type) => metrics.unrecorded(type) }),
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
      const found = await log.search({ type: 'config.loaded', since: since * 1000, newest: true, limit: 100 })
      return found.map((record) => record['details'] as RecordedConfig)
    },
    maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
    keep: ({ policyDigest, policyTexts }: Snapshot) => policies.keep(policyDigest, policyTexts),
    toRecord: revocation.audiences.toRecord,
  })
  inForce.loaded(holder.current())
  await inForce.settle()
  await revoke.finish()
  await bulk.finish()
  await twoPeople.finish()
  // What was given back while it opened is carried on by the start itself, just now.
  followSeal({
    sealing: stores.sealing,
    audit: log,
    carryOn: async () => {
      await revoke.finish()
      await bulk.finish()
      await twoPeople.finish()
    },
    onError: (error) => onFault(error, 'unsealing'),
  })
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
      await revocation.components.settle()
      await revoke.sweep()
      await marks.tick()
      await stores.signOuts.prune(patient.forgetBefore())
      await bulk.sweep()
      await twoPeople.finish()
    },
    (error) => onFault(error, 'sweep'),
  )
  closing.push(sweep)

  return {
    app,
    sweep: async () => {
      await marks.tick()
      await bulk.sweep()
      return revoke.sweep()
    },
    freshNonce: (client: string) => exchanging.dpop.freshNonce(client),
    url: base,
    ...(mtlsBase === undefined ? {} : { mtlsUrl: mtlsBase }),
    snapshot: () => holder.current(),
    reload: () => holder.reload(),
    onFault,
    stop: () => {
      stopping = true
      drillTimer.stop()
      transmitter.close()
      // Followers' streams have no end of their own, and long-polls wait for news that will not come.
      feed.close()
    },
  }
}
