/**
 * The real use cases over the real embedded store, with a point at every call of a port where anybody else may come first,
 * or the process may die.
 */
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { createAttest } from '../../../src/attest/attest.ts'
import { createDpop } from '../../../src/attest/dpop.ts'
import { createWindowed } from '../../../src/attest/windowed.ts'
import type { AuditEvent, Receipt } from '../../../src/audit/log.ts'
import { createProveAgent } from '../../../src/exchange/authenticate.ts'
import { createExchange } from '../../../src/exchange/exchange.ts'
import { createSealer } from '../../../src/keys/seal.ts'
import { ok, refuse, Unavailable } from '../../../src/oauth/refusal.ts'
import { TYP } from '../../../src/oauth/words.ts'
import { createPolicyInForce, type RecordedConfig } from '../../../src/revoke/policy-in-force.ts'
import { createRevoke } from '../../../src/revoke/revoke.ts'
import { createRotation, scheduleOf } from '../../../src/rotate/rotate.ts'
import { openEmbedded } from '../../../src/store/embedded/open.ts'
import { createPatientClock } from '../../../src/store/patient-clock.ts'
import { createIntrospect } from '../../../src/tokens/introspect.ts'
import { createIssuer } from '../../../src/tokens/issue.ts'
import { createSubjectReader } from '../../../src/tokens/subject.ts'
import { ISSUER } from '../../house.ts'
import { openRing, PURPOSES } from './template.ts'
import { Crashed, type World } from './world.ts'

const LOG_ID = '0a1b2c3d'

/** Every named method waits its turn first; what a dead process asked for never happens. */
function interleaved<T extends object>(
  port: T,
  name: string,
  turn: (label: string) => Promise<void>,
  methods: readonly (keyof T)[],
): T {
  const wrapped = { ...port }
  for (const method of methods) {
    const call = port[method] as (...args: unknown[]) => Promise<unknown>
    wrapped[method] = (async (...args: unknown[]) => {
      await turn(`${name}.${String(method)}`)
      return call(...args)
    }) as never
  }
  return wrapped
}

async function openService(world: World, me: Process) {
  const { template, dataDir, clock, now, tick, records, entries, readmitted, signed, tokens, texts } = world
  const { snapshots, rootKey } = template
  const turn = async (label: string): Promise<void> => {
    await world.turn(label)
    tick()
    if (!me.alive) await new Promise(() => undefined)
  }
  const patient = createPatientClock({ now, monotonic: () => clock.monotonic })
  const opened = await openEmbedded({ dataDir, now, forgetBefore: patient.forgetBefore })
  me.close = opened.close
  const revocations = interleaved(
    {
      ...opened.revocations,
      add: async (entry: Parameters<typeof opened.revocations.add>[0]) => {
        const answer = await opened.revocations.add(entry)
        entries.set(answer.entry.id, answer.entry)
        return answer
      },
      readmit: async (...args: Parameters<typeof opened.revocations.readmit>) => {
        readmitted.set(args[0], Math.min(tick(), readmitted.get(args[0]) ?? Number.POSITIVE_INFINITY))
        return opened.revocations.readmit(...args)
      },
    },
    'revocations',
    turn,
    ['check', 'add', 'get', 'after', 'readmit', 'bans', 'prune'],
  )
  const opening = {
    ...opened.tasks,
    open: (...[task, at]: Parameters<typeof opened.tasks.open>) => {
      world.authorities.set(task.id, task.authority)
      return opened.tasks.open(task, at)
    },
  }
  const tasks = interleaved(opening, 'tasks', turn, [
    'open',
    'get',
    'list',
    'end',
    'reserve',
    'due',
    'prune',
    'tree',
    'contain',
    'suspend',
    'wake',
    'holders',
  ])
  const replayGuard = interleaved(opened.replayGuard, 'replays', turn, ['spend'])
  const keyPins = interleaved(opened.keyPins, 'pins', turn, ['pin'])
  const idempotency = interleaved(opened.idempotency, 'idempotency', turn, ['claim', 'complete', 'release'])
  const keyStore = interleaved(opened.keyStore, 'keys', turn, ['list', 'insert', 'activate', 'move'])
  const audit = {
    logId: LOG_ID,
    append: async (event: AuditEvent): Promise<Receipt> => {
      await turn(`audit.append ${event.type}`)
      records.push(event)
      return { logId: LOG_ID, index: records.length - 1 }
    },
    countStranger: () => undefined,
    healthy: () => true,
    close: async () => undefined,
  }
  let current = world.files.now
  const ring = await openRing({ keyStore }, rootKey, now, async ({ kid, to }) => {
    await audit.append({ type: 'key.moved', details: { kid, to } })
  })
  const keys = {
    ...ring,
    signWith: (kid: string, header: { readonly typ: string }, payload: object | string) => {
      const claims = (typeof payload === 'string' ? JSON.parse(payload) : payload) as AccessTokenClaims
      const text = ring.signWith(kid, header, payload) as string // its key is here
      signed.push({ jti: claims.jti, recordsThen: records.length })
      if (header.typ === TYP.accessToken) {
        tokens.set(claims.jti, { claims, kid })
        texts.set(claims.jti, text)
      }
      return text
    },
  }
  const { settings } = current
  const rotation = createRotation({
    ring,
    schedule: scheduleOf({
      ...settings.keys,
      maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
      replicas: true,
    }),
    purposes: PURPOSES,
    now,
    onError: (error) => {
      throw error
    },
  })
  const revoke = createRevoke({ now, patient, log: revocations, tasks, audit, issued: async () => undefined })
  const inForce = createPolicyInForce({
    keep: async () => undefined,
    now,
    bans: (at) => revocations.bans(at),
    revoke,
    audit,
    recorded: async () =>
      records.flatMap(({ type, details }) => (type === 'config.loaded' ? [details as RecordedConfig] : [])).reverse(),
    maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds,
  })
  const ownKeys = {
    verifyKey: (kid: string) => {
      const key = ring.keyFor(kid, 'token', 'subject_token')
      return key.ok ? ok(key.value.jwk) : refuse(key.refusal.reason, 'subject_token')
    },
  }
  const readers = new Map(
    snapshots.map((each) => [
      each as unknown,
      createSubjectReader({ issuer: ISSUER, now, ownKeys, byIss: (iss) => each.issuers.byIss(iss) }),
    ]),
  )
  const attest = createAttest({
    now,
    issuer: ISSUER,
    agents: {
      byClientId: (id) => current.agents.byClientId(id),
      bySpiffeId: (id) => current.agents.bySpiffeId(id),
      byWorkload: (iss, payload) => current.agents.byWorkload(iss, payload),
      byAttestedSubject: (subject) => current.agents.byAttestedSubject(subject),
    },
    trustDomains: (name) => current.trustDomains.byName(name),
    workloadIssuers: (iss) => current.workloadIssuers.byIss(iss),
    attesters: (name) => current.attesters.byName(name),
    challenges: createWindowed({ now, key: rootKey, lifetimeSeconds: 60, purpose: 'challenge' }),
    challengeRequired: false,
    proofLifetimeSeconds: settings.dpop.proofLifetimeSeconds,
    principalBindings: opened.principalBindings,
    joining: opened.joining,
  })
  const dpop = createDpop({
    now,
    nonceKey: rootKey,
    nonceLifetimeSeconds: 60,
    proofLifetimeSeconds: settings.dpop.proofLifetimeSeconds,
    requireNonce: false,
    replayGuard,
  })
  const exchange = createExchange({
    now,
    nowMs: () => clock.now * 1000,
    tasks,
    revocations,
    signOuts: opened.signOuts,
    audit,
    readSubject: (directory) => readers.get(directory)!,
    directory: () => current,
    proveAgent: createProveAgent({ attest, dpop, replayGuard, keyPins }),
    proveWorkload: async () => refuse('untrusted_issuer', 'assertion'),
    grants: keyPins,
    issuer: createIssuer({ issuer: ISSUER, keys }),
    keys,
    noteIssued: () => undefined,
    statusIndexes: {
      held: () => undefined,
      keep: async () => false,
      take: async () => {
        throw new Error('no tool here reads status lists')
      },
      enter: async () => undefined,
      hopsOf: () => [],
    },
    idempotency,
    sealer: createSealer(rootKey),
  })
  inForce.loaded(current)
  await inForce.settle()
  await revoke.finish()
  return {
    opened,
    exchange,
    revoke,
    rotation,
    ring,
    tasks,
    bans: () => revocations.bans(now()),
    introspect: createIntrospect({ issuer: ISSUER, now, ownKeys, revocations }),
    current: () => current,
    settle: () => inForce.settle(),
    reload: async () => {
      const previous = current
      current = world.files.now
      inForce.loaded(current, previous)
      await inForce.settle()
    },
  }
}

export type Service = Awaited<ReturnType<typeof openService>>

interface Process {
  alive: boolean
  readonly crash: (error: Error) => void
  readonly crashed: Promise<never>
  close: () => Promise<void>
}

/** One process at most is alive, and a new one finds what the one before it had written. */
export function createProcesses(world: World) {
  let process: Process
  let service: Service | undefined
  let closing: Promise<void> = Promise.resolve()
  return {
    /** Resolves when it runs, or was killed before it did. */
    async start(): Promise<void> {
      await closing
      let crash: (error: Error) => void = () => undefined
      const crashed = new Promise<never>((_, reject) => {
        crash = reject
      })
      const died = crashed.catch(() => undefined)
      const me: Process = { alive: true, crash, crashed, close: async () => undefined }
      process = me
      const opened = await Promise.race([openService(world, me), died])
      if (opened && me.alive) service = opened
    },
    async kill(): Promise<void> {
      const old = process
      service = undefined
      old.alive = false
      old.crash(new Crashed())
      // A new process finds what this one had written, and nothing of it open.
      const { close } = old
      old.close = async () => undefined
      closing = closing.then(close)
      await closing
    },
    /** A request to whatever process there is; one that dies meanwhile answers nothing. */
    async ask<T>(call: (service: Service) => Promise<T>): Promise<T> {
      await world.turn('request')
      if (!service) throw new Unavailable('store_unavailable', 'connection refused')
      const { crashed } = process
      return Promise.race([call(service), crashed])
    },
    /** The one that is alive. */
    service: (): Service => service!,
  }
}
