/** The rooms of one issuer, opened in order over its stores and its log, up to its app: all but files and listeners. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Logger } from 'pino'
import { createAttest, createAuthenticateMachine } from './attest/attest.ts'
import { createDpop } from './attest/dpop.ts'
import { platformClientId } from './attest/platform.ts'
import { createWindowed } from './attest/windowed.ts'
import { originOf } from './audit/checkpoint.ts'
import { createCheckpoints } from './audit/checkpoints.ts'
import { findDecision } from './audit/explain.ts'
import type { AuditLog, AuditRecord } from './audit/log.ts'
import { createBundleEndpoints } from './config/bundle-endpoints.ts'
import { createFetchJwks } from './config/fetch-jwks.ts'
import { createGuardedRequest } from './config/guarded-request.ts'
import type { ConfigHolder } from './config/holder.ts'
import type { Snapshot } from './config/snapshot.ts'
import type { Quota } from './config/tenants.ts'
import { createProveAgent } from './exchange/authenticate.ts'
import type { Directory } from './exchange/directory.ts'
import { createExchange } from './exchange/exchange.ts'
import { createJoin } from './exchange/join.ts'
import { createOpenTask } from './exchange/open-task.ts'
import { createProveWorkload } from './exchange/prove-workload.ts'
import { createApp } from './http/app.ts'
import type { TenantStatus } from './http/deps.ts'
import { createLimits, rationed } from './http/limits.ts'
import { createMetrics } from './http/metrics.ts'
import { createPace, loopUtilization } from './http/pace.ts'
import { createSharedCheck } from './http/shared-check.ts'
import { createTracing, type Tracing } from './http/tracing.ts'
import { checkpointSigner } from './keys/checkpoint-signer.ts'
import { openKeyRing } from './keys/key-ring.ts'
import type { KeyPurpose } from './keys/key-store.ts'
import type { Sealer } from './keys/seal.ts'
import { ok, refuse } from './oauth/refusal.ts'
import { createAcks, verifiersBehind } from './revoke/acks.ts'
import { createBulk } from './revoke/bulk.ts'
import { createContainments } from './revoke/containments.ts'
import { createDrills } from './revoke/drills.ts'
import { createFeed } from './revoke/feed.ts'
import { openLiveTokens } from './revoke/live-open.ts'
import { createPolicyInForce, type RecordedConfig } from './revoke/policy-in-force.ts'
import { createPreview } from './revoke/preview.ts'
import { createRevoke, type TokenLine, widened } from './revoke/revoke.ts'
import { openMarks } from './revoke/marks.ts'
import { createReceipts } from './revoke/receipts.ts'
import { createSignOut } from './revoke/sign-out.ts'
import { createHeldKeys } from './rotate/held-keys.ts'
import { createSignalPolls } from './revoke/signals/poll.ts'
import { createReceive } from './revoke/signals/receive.ts'
import type { Naming } from './revoke/signals/events-of.ts'
import { createTransmitter, isReceiver } from './revoke/signals/transmit.ts'
import { hasSignals } from './revoke/signals/security-event.ts'
import { createRotation, scheduleOf } from './rotate/rotate.ts'
import { plain } from './service-log.ts'
import type { OpenedLog } from './store/files/audit-log.ts'
import { createKeptBundles } from './store/files/kept-bundles.ts'
import type { Stores } from './store/open.ts'
import { createPatientClock } from './store/patient-clock.ts'
import { readWorkloadGrant } from './tokens/assertion.ts'
import { createIntrospect } from './tokens/introspect.ts'
import { createIssuer } from './tokens/issue.ts'
import { createSubjectReader, type ReadSubjectToken } from './tokens/subject.ts'

const STREAM_SEAL = 'signal-stream'
const PURPOSES = ['token', 'feed', 'id_jag', 'txn_token', 'checkpoint'] as const
/** At least each second while records come; the timer may be late. */
const CHECKPOINT_EVERY_MS = 800

interface RoomDeps {
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

export async function openRooms({
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
  waiting,
  ...rooms
}: RoomDeps) {
  const { settings } = holder.current()
  const { issuer } = settings
  // Nobody can have been told anything by a service that has recorded nothing yet.
  const first = log.size === 0
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

  // A key of RSA takes a while to make: only where somebody is to hear of security events.
  const told = holder.current().machines.all.some(isReceiver)
  const purposes: readonly KeyPurpose[] = told ? [...PURPOSES, 'security_event'] : PURPOSES
  const ring = await openKeyRing({
    store: stores.keyStore,
    sealer,
    now,
    monotonic,
    purposes,
    announce: async ({ kid, purpose, from, to, cause }) => {
      await log.append({
        type: 'key.moved',
        by: 'system',
        details: { kid, purpose, to, cause, ...(from === undefined ? {} : { from }) },
      })
    },
    ...(settings.store.kind === 'embedded' ? { staleAfterSeconds: Number.POSITIVE_INFINITY } : {}),
  })
  const heldKeys = createHeldKeys({ isPrepared: (kid) => ring.verifyKey(kid)?.state === 'prepared' })
  const rotation = createRotation({
    ring,
    schedule: scheduleOf({
      ...settings.keys,
      maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
      replicas: settings.store.kind !== 'embedded',
    }),
    purposes,
    // What keys of other purposes sign is read by others too, who say nothing: relays, witnesses, other services.
    onPublished: () => feed.tell(),
    // Of several replicas each hears its own verifiers only: there a key waits for its time.
    held: ({ kid, purpose }) =>
      settings.store.kind === 'embedded' &&
      purpose === 'token' &&
      heldKeys.byAll(followersOf(holder.current()), kid, now()),
    now,
    onError: (error) => onFault(error, 'key rotation'),
  })
  rotation.start()
  closing.push(() => rotation.close())

  const checkpoints = createCheckpoints({
    logId: log.logId,
    origin: originOf(issuer, log.logId),
    tree: log.tree,
    kept: log.checkpoints,
    ...checkpointSigner(ring, originOf(issuer, log.logId)),
    onDamage: ({ kind, index, file, message }) =>
      logger.error({ kind, index, file }, `no checkpoint is signed any more: ${message}`),
  })
  const signing = every(CHECKPOINT_EVERY_MS, checkpoints.tick, (error) => onFault(error, 'checkpoint'))
  closing.push(async () => {
    await signing()
    // A last one, over all that was recorded: what stands in the folder then verifies to its end.
    await checkpoints.tick().catch(() => undefined)
  })

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
  const acks = createAcks()
  const containments = createContainments({
    now,
    startedAt: now(),
    // Of several replicas each hears of those verifiers alone that talk to it.
    listeningSince: settings.store.kind !== 'embedded' ? undefined : first ? 0 : now(),
    log: stores.revocations,
    acks,
    tools: () => holder.current().tools.all,
    maxLifetimeSeconds: () => holder.current().settings.tokens.maxLifetimeSeconds,
    reader: log,
  })
  closing.push(() => containments.close())
  const receipts = createReceipts({
    issuer,
    now,
    containments,
    audit,
    reader: log,
    tree: log.tree,
    checkpoints,
    sign: (header, payload) => ring.sign('checkpoint', header, payload),
  })
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
  const patient = createPatientClock({ now, monotonic })
  const issued = async (jti: string) => lineIn(await findDecision(log, jti))
  const revoke = createRevoke({
    now,
    patient,
    log: stores.revocations,
    tasks: stores.tasks,
    audit,
    issued,
    onUnrecorded: (type) => metrics.unrecorded(type),
  })
  const onUnrecorded = (type: string) => metrics.unrecorded(type)
  const signOut = createSignOut({ now, signOuts: stores.signOuts, revoke, audit, onUnrecorded })
  const receive = createReceive({
    now,
    issuer,
    issuers: () => holder.current().issuers,
    replayGuard: stores.replayGuard,
    signOuts: stores.signOuts,
    signOut,
    audit,
    onUnrecorded,
  })
  const polls = createSignalPolls({
    sources: () => holder.current().issuers.all.filter(hasSignals),
    post: createGuardedRequest({ development: settings.mode === 'development' }),
    receive,
    now,
    onProblem: (name, problem) =>
      problem === undefined
        ? logger.info({ issuer: name }, 'the issuer serves its security events again')
        : logger.error({ issuer: name, problem }, 'the issuer serves no security events that can be fetched'),
  })
  closing.push(every(1_000, polls.poll, (error) => onFault(error, 'security events')))
  const transmitter = createTransmitter({
    streams: stores.signalStreams,
    log: stores.revocations,
    receivers: () => holder.current().machines.all.filter(isReceiver),
    naming: () => namingOf(holder.current()),
    sign: (typ, claims) => ring.sign('security_event', { typ }, claims),
    open: (stream, sealed) => Buffer.from(sealer.open(STREAM_SEAL, stream, sealed)).toString('utf8'),
    post: createGuardedRequest({ development: settings.mode === 'development' }),
    now,
    onProblem: (receiver, problem) =>
      problem === undefined
        ? logger.info({ receiver }, 'the receiver takes its security events again')
        : logger.error({ receiver, problem }, 'the receiver does not take its security events'),
  })
  closing.push(() => transmitter.close())
  closing.push(every(1_000, transmitter.run, (error) => onFault(error, 'security events')))
  const feedKey = sealer.derive('feed-values', 32)
  const feed = createFeed({
    log: stores.revocations,
    sign: async (typ, payload) => ({ jws: ring.sign('feed', { typ }, payload) }),
    checkpoint: () => checkpoints.newest()?.note,
    keySet: () => ring.jwks().digest,
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
  const common = {
    now,
    nowMs,
    tasks: stores.tasks,
    revocations: stores.revocations,
    signOuts: stores.signOuts,
    audit,
    readSubject,
  }
  const live = await openLiveTokens({
    now,
    log: stores.revocations,
    reader: log,
    onError: (error) => onFault(error, 'live tokens'),
  })
  closing.push(() => live.close())
  const marks = await openMarks({
    now,
    mark: () => stores.revocations.mark(),
    audit,
    recorded: async (since) =>
      (await log.search({ type: 'revocation.marked', since: since * 1000, limit: 1000 })).toReversed(),
    onError: (error) => onFault(error, 'marks'),
  })
  const asRevoked = (match: HopFacts) => widened({ issued }, match)
  const bulk = createBulk({
    now,
    pins: stores.bulkPins,
    log: stores.revocations,
    tasks: stores.tasks,
    revoke,
    preview: createPreview({ now, tasks: stores.tasks, liveTasks: stores.liveTasks, live, widened: asRevoked }),
    widened: asRevoked,
    audit,
    onUnrecorded: (type) => metrics.unrecorded(type),
    newSecret: () => randomBytes(24),
  })
  const tokenIssuer = createIssuer({ issuer, keys: ring })
  const exchange = createExchange({
    ...common,
    directory: tracing ? decidingWithSpans(() => holder.current(), tracing) : () => holder.current(),
    proveAgent: tracing?.step('errand.attest', proveAgent) ?? proveAgent,
    proveWorkload: tracing?.step('errand.attest', proveWorkload) ?? proveWorkload,
    grants: keyPins,
    issuer: tracing?.steps('errand.issuer', tokenIssuer, ['sign', 'signHandOver']) ?? tokenIssuer,
    keys: ring,
    noteIssued: (...issue) => {
      marks.issued()
      live.note(...issue)
    },
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
      bulk,
      marks,
      signOut,
      receive,
      transmitter,
      signalStreams: stores.signalStreams,
      sealForStream: (stream, text) => sealer.seal(STREAM_SEAL, stream, Buffer.from(text)),
      revocations: stores.revocations,
      introspect: createIntrospect({ issuer, now, ownKeys, revocations: stores.revocations }),
      feed,
      feedKey,
      acks,
      containments,
      receipts,
      drills: createDrills({
        revoke,
        containments,
        audit,
        reader: log,
        isForDrills: (clientId) => holder.current().agents.byClientId(clientId)?.drill === true,
      }),
      keys: ring,
      rotation,
      heldKeys,
      audit,
      reader: log,
      tree: log.tree,
      checkpoints,
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
      const found = await log.search({ type: 'config.loaded', since: since * 1000, newest: true, limit: 100 })
      return found.map((record) => record['details'] as RecordedConfig)
    },
    maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
  })
  inForce.loaded(holder.current())
  await inForce.settle()
  await revoke.finish()
  await bulk.finish()
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
      await marks.tick()
      await stores.signOuts.prune(patient.forgetBefore())
    },
    (error) => onFault(error, 'sweep'),
  )
  closing.push(sweep)

  return {
    app,
    sweep: async () => {
      await marks.tick()
      return revoke.sweep()
    },
    freshNonce: (client: string) => dpop.freshNonce(client),
    url: base,
    ...(mtlsBase === undefined ? {} : { mtlsUrl: mtlsBase }),
    snapshot: () => holder.current(),
    reload: () => holder.reload(),
    onFault,
    stop: () => {
      stopping = true
      transmitter.close()
      // Followers' streams have no end of their own, and long-polls wait for news that will not come.
      feed.close()
    },
  }
}

/** Every tool, where each has a key by which it says what it holds; none where one cannot be heard. */
const followersOf = ({ tools, machines }: Snapshot): readonly string[] => {
  const heard = machines.all.flatMap(({ kind, clientId }) => (kind === 'tool' ? [clientId] : []))
  return heard.length === tools.all.length ? heard : []
}

/** The steps of an exchange that wait for something. */
const withSpans = (stores: Stores, tracing: Tracing): Stores => ({
  ...stores,
  tasks: tracing.steps('errand.tasks', stores.tasks, ['open', 'get', 'reserve', 'end']),
  revocations: tracing.steps('errand.revocations', stores.revocations, ['check', 'add']),
  keyPins: tracing.steps('errand.key_pins', stores.keyPins, ['pin', 'pinned']),
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

/** How those whom security events are about are known outside. */
const namingOf = ({ settings, issuers, agents, machines }: Snapshot): Naming => ({
  issuer: settings.issuer,
  issOf: (name) => issuers.all.find((issuer) => issuer.name === name)?.issuer,
  spiffeIdOf: (clientId) => agents.byClientId(clientId)?.spiffeId,
  isAdmin: (clientId) => machines.byClientId(clientId)?.kind === 'admin',
})

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
