/** What ends things for one issuer, who is told of it, and what proves it. */
import { randomBytes } from 'node:crypto'
import { type AccessTokenClaims, CLOCK_LEEWAY_SECONDS } from '@errand/verifier/claims.ts'
import type { HopFacts } from '@errand/verifier/shapes.ts'
import type { Checkpoints } from './audit/checkpoints.ts'
import { findDecision } from './audit/explain.ts'
import type { AuditLog, AuditRecord, Json } from './audit/log.ts'
import { createGuardedRequest } from './config/guarded-request.ts'
import type { Snapshot } from './config/snapshot.ts'
import { every } from './every.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { createBuckets } from './http/buckets.ts'
import { type Acks, createAcks } from './revoke/acks.ts'
import { createAudiences } from './revoke/audiences.ts'
import { createComponents } from './revoke/component.ts'
import { containmentsOfParts } from './revoke/component-containments.ts'
import { createBulk } from './revoke/bulk.ts'
import { boundOf } from './revoke/containment.ts'
import { createContainments } from './revoke/containments.ts'
import { createDrills } from './revoke/drills.ts'
import { createFeed } from './revoke/feed.ts'
import { openHearing } from './revoke/hearing.ts'
import type { KnownRelease } from './revoke/known-releases.ts'
import { openLiveEverywhere } from './revoke/live-everywhere.ts'
import { openLiveTokens } from './revoke/live-open.ts'
import { openMarks } from './revoke/marks.ts'
import { createPreview } from './revoke/preview.ts'
import { createReceipts } from './revoke/receipts.ts'
import type { Replicas } from './revoke/replicas.ts'
import { createRevoke, type TokenLine, widened } from './revoke/revoke.ts'
import { createSignOut } from './revoke/sign-out.ts'
import type { Naming } from './revoke/signals/events-of.ts'
import { createSignalPolls } from './revoke/signals/poll.ts'
import { createReceive } from './revoke/signals/receive.ts'
import { hasSignals } from './revoke/signals/security-event.ts'
import { createTransmitter, isReceiver } from './revoke/signals/transmit.ts'
import { createTwoPeople } from './revoke/two-people.ts'
import type { RoomDeps } from './rooms.ts'
import type { HeldKeys } from './rotate/held-keys.ts'
import type { Rotation } from './rotate/rotate.ts'
import { createPatientClock } from './store/patient-clock.ts'

const STREAM_SEAL = 'signal-stream'

interface RevocationDeps extends RoomDeps {
  readonly audit: AuditLog
  readonly ring: KeyRing
  readonly heldKeys: HeldKeys
  readonly rotation: Pick<Rotation, 'heard'>
  readonly checkpoints: Checkpoints
  /** Nothing had been recorded before this start. */
  readonly isFirst: boolean
  readonly onFault: (error: unknown, where: string) => void
  /** Something was done whose record could not be written. */
  readonly onUnrecorded: (type: string) => void
}

export async function openRevocation(deps: RevocationDeps) {
  const { stores, log, audit, now, closing, onFault, onUnrecorded } = deps
  const patient = createPatientClock({ now, monotonic: deps.monotonic })
  const issued = async (jti: string) => lineIn(await findDecision(log, jti))
  const components = createComponents({
    now,
    log: stores.revocations,
    releases: stores.knownReleases,
    revoke: createRevoke({
      now,
      patient,
      log: stores.revocations,
      tasks: stores.tasks,
      audit,
      issued,
      onUnrecorded,
    }),
    audit,
    onUnrecorded,
    onError: (error) => onFault(error, 'revocation by component'),
  })
  closing.push(() => components.close())
  const { revoke } = components
  await components.registered(releasesIn(deps.holder.current()))
  deps.holder.beforeChange((next) => components.registered(releasesIn(next)))

  const live = await openLiveTokens({
    now,
    log: stores.revocations,
    reader: log,
    onError: (error) => onFault(error, 'live tokens'),
  })
  closing.push(() => live.close())
  const replicas = stores.replicas?.(log.logId)
  const run = randomBytes(12).toString('base64url')
  const everywhere = await openLiveEverywhere({
    live,
    replicas,
    run,
    onError: (error) => onFault(error, 'replicas'),
  })
  const marks = await openMarks({
    now,
    mark: () => stores.revocations.mark(),
    // Replicas' clocks are believed as far as verifiers' are.
    clocksApartSeconds: deps.holder.current().settings.store.kind === 'embedded' ? 0 : CLOCK_LEEWAY_SECONDS,
    audit,
    recorded: async (since) =>
      (await log.search({ type: 'revocation.marked', since: since * 1000, limit: 1000 })).toReversed(),
    onError: (error) => onFault(error, 'marks'),
  })
  const asRevoked = (match: HopFacts) => widened({ issued }, match)
  const preview = components.previewing(
    createPreview({ now, tasks: stores.tasks, liveTasks: stores.liveTasks, live: everywhere, widened: asRevoked }),
  )
  const bulk = createBulk({
    now,
    pins: stores.bulkPins,
    log: stores.revocations,
    tasks: stores.tasks,
    revoke,
    preview,
    widened: asRevoked,
    audit,
    onUnrecorded,
    newSecret: () => randomBytes(24),
  })
  const twoPeople = createTwoPeople({
    now,
    held: stores.pendingRevocations,
    log: stores.revocations,
    broad: () => deps.holder.current().settings.revocation.twoPeople,
    isAdmin: (clientId) => deps.holder.current().machines.byClientId(clientId)?.kind === 'admin',
    revoke,
    bulk,
    audit,
    onUnrecorded,
    onFault: (error) => onFault(error, 'what two people revoke'),
  })

  return {
    patient,
    components,
    revoke,
    live,
    marks,
    bulk,
    preview,
    twoPeople,
    ...(await openProof({ ...deps, replicas, run }, revoke)),
    ...openSignals(deps, revoke),
  }
}

interface ProofDeps extends RevocationDeps {
  readonly replicas: Replicas | undefined
  /** Of this process. */
  readonly run: string
}

/** The feed, who follows it, and what can be shown of it. */
async function openProof(deps: ProofDeps, revoke: ReturnType<typeof createRevoke>) {
  const { holder, stores, log, audit, sealer, now, monotonic, closing, ring, checkpoints } = deps
  const { settings } = holder.current()
  const acks = createAcks()
  const hearing = await hearVerifiers(deps, acks)
  const boundsOf = ({ tools, settings: { tokens } }: Snapshot) =>
    tools.all.map((tool) => boundOf(tool, tokens.maxLifetimeSeconds))
  const [loaded] = await log.search({ type: 'config.loaded', limit: 1 })
  const audiences = createAudiences({
    monotonic,
    current: () => boundsOf(holder.current()),
    recorded: loaded && {
      details: loaded['details'] as { readonly [name: string]: Json },
      age: now() * 1000 - loaded.t,
    },
  })
  holder.onChange((_, previous) => audiences.left(boundsOf(previous)))
  const recorded = createContainments({
    now,
    startedAt: now(),
    log: stores.revocations,
    acks,
    hearing,
    tasks: stores.tasks,
    unfinished: async () => (await stores.bulkPins.unfinished()).map(({ pin }) => pin.revocation),
    audiences,
    reader: log,
  })
  const containments = containmentsOfParts(recorded, { now, log: stores.revocations, reader: log })
  closing.push(() => containments.close())
  const receipts = createReceipts({
    issuer: settings.issuer,
    now,
    containments,
    audit,
    reader: log,
    tree: log.tree,
    checkpoints,
    sign: (header, payload) => ring.sign('checkpoint', header, payload),
  })
  const drills = createDrills({
    revoke,
    containments,
    audit,
    reader: log,
    isForDrills: (clientId) => holder.current().agents.byClientId(clientId)?.drill === true,
    bans: () => stores.revocations.bans(now()),
  })
  const feedKey = sealer.derive('feed-values', 32)
  const feed = createFeed({
    log: stores.revocations,
    sign: async (typ, payload) => ({ jws: await ring.sign('feed', { typ }, payload) }),
    checkpoint: () => checkpoints.newest()?.note,
    keySet: () => ring.jwks().digest,
    feedKey,
    issuer: settings.issuer,
    now,
    monotonic,
    newRunId: () => randomBytes(12).toString('base64url'),
  })
  closing.push(() => feed.close())
  return { acks, hearing, audiences, containments, receipts, drills, feed, feedKey }
}

/** What they say of themselves, here or at another replica. */
async function hearVerifiers(deps: ProofDeps, acks: Acks) {
  const { stores, replicas, run, ring, heldKeys, rotation, isFirst, now, monotonic, closing, onFault } = deps
  const hearing = await openHearing({
    acks,
    heldKeys,
    isPrepared: (kid) => ring.verifyKey(kid)?.state === 'prepared',
    onHeard: () => rotation.heard(),
    replicas,
    epoch: () => stores.revocations.epoch(),
    run,
    isFirst,
    now,
    monotonic,
  })
  closing.push(every(1_000, hearing.tick, (error) => onFault(error, 'replicas')))
  return hearing
}

/** What identity providers say of their users, and what receivers are told of ours. */
function openSignals(
  { holder, stores, audit, sealer, logger, now, monotonic, closing, ring, onFault, onUnrecorded }: RevocationDeps,
  revoke: ReturnType<typeof createRevoke>,
) {
  const { issuer, mode } = holder.current().settings
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
    ration: createBuckets({ monotonic }).take,
  })
  const polls = createSignalPolls({
    sources: () => holder.current().issuers.all.filter(hasSignals),
    post: createGuardedRequest({ development: mode === 'development' }),
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
    post: createGuardedRequest({ development: mode === 'development' }),
    now,
    onProblem: (receiver, problem) =>
      problem === undefined
        ? logger.info({ receiver }, 'the receiver takes its security events again')
        : logger.error({ receiver, problem }, 'the receiver does not take its security events'),
  })
  closing.push(() => transmitter.close())
  closing.push(every(1_000, transmitter.run, (error) => onFault(error, 'security events')))
  return {
    signOut,
    receive,
    transmitter,
    signalStreams: stores.signalStreams,
    sealForStream: (stream: string, text: string) => sealer.seal(STREAM_SEAL, stream, Buffer.from(text)),
  }
}

/** Of all agents; what tokens and revocations name them by is the digest of what they are made of. */
const releasesIn = ({ agents }: Snapshot): readonly KnownRelease[] =>
  agents.all.flatMap(({ release }) =>
    [...(release?.registered.values() ?? [])].map(({ id, manifest: { agent, components } }) => ({
      id,
      agent,
      components,
    })),
  )

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
