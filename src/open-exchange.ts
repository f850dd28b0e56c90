/** Who asks, what it proves, and the exchange, for one issuer. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { createAttest, createAuthenticateMachine } from './attest/attest.ts'
import { createDpop } from './attest/dpop.ts'
import { platformClientId } from './attest/platform.ts'
import { createWindowed } from './attest/windowed.ts'
import type { AuditLog } from './audit/log.ts'
import { createBundleEndpoints } from './config/bundle-endpoints.ts'
import { createFetchJwks } from './config/fetch-jwks.ts'
import { every } from './every.ts'
import { createProveAgent } from './exchange/authenticate.ts'
import type { Directory } from './exchange/directory.ts'
import { createExchange } from './exchange/exchange.ts'
import { createJoin } from './exchange/join.ts'
import { createOpenTask } from './exchange/open-task.ts'
import { createProveWorkload } from './exchange/prove-workload.ts'
import { type Limits, rationed } from './http/limits.ts'
import type { Tracing } from './http/tracing.ts'
import type { KeyRing } from './keys/key-ring.ts'
import { ok, refuse } from './oauth/refusal.ts'
import type { LiveTokens } from './revoke/live-tokens.ts'
import type { Marks } from './revoke/marks.ts'
import type { RoomDeps } from './rooms.ts'
import { decidingWithSpans } from './spans.ts'
import { createKeptBundles } from './store/files/kept-bundles.ts'
import { readWorkloadGrant } from './tokens/assertion.ts'
import { createIntrospect } from './tokens/introspect.ts'
import { createIssuer } from './tokens/issue.ts'
import type { StatusIndexes } from './tokens/status.ts'
import { createSubjectReader, type ReadSubjectToken } from './tokens/subject.ts'

interface ExchangeDeps extends RoomDeps {
  readonly audit: AuditLog
  readonly ring: KeyRing
  readonly limits: Limits
  readonly live: Pick<LiveTokens, 'note'>
  readonly marks: Pick<Marks, 'issued'>
  readonly statusIndexes: StatusIndexes
  readonly tracing: Tracing | undefined
  readonly onFault: (error: unknown, where: string) => void
}

export function openExchange(deps: ExchangeDeps) {
  const { holder, stores, log, sealer, logger, now, nowMs, monotonic, closing, dataDir } = deps
  const { audit, ring, limits, live, marks, tracing, onFault } = deps
  const { settings } = holder.current()
  const { issuer } = settings
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
    statusIndexes: deps.statusIndexes,
    idempotency: stores.idempotency,
    sealer,
  })

  return {
    bundles,
    challenges,
    dpop,
    attest,
    authenticateMachine,
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
    introspect: createIntrospect({ issuer, now, ownKeys, revocations: stores.revocations }),
  }
}
