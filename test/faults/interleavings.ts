/**
 * FI-16: the real use cases over the real embedded store, with a point at every call of a port where anybody else may
 * come first, or the process may die. What fast-check's scheduler picks is judged by the invariants of DESIGN.md.
 */
import { createPrivateKey, randomBytes } from 'node:crypto'
import {
  copyFileSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { cp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import type { AccessTokenClaims } from '@errand/verifier/claims.ts'
import { hopsOf } from '@errand/verifier/shapes.ts'
import fc from 'fast-check'
import type { JWK } from 'jose'
import { createAttest } from '../../src/attest/attest.ts'
import { createDpop } from '../../src/attest/dpop.ts'
import { createWindowed } from '../../src/attest/windowed.ts'
import type { AuditEvent, Receipt } from '../../src/audit/log.ts'
import { createConfigLoader } from '../../src/config/load.ts'
import type { Snapshot } from '../../src/config/snapshot.ts'
import { createProveAgent } from '../../src/exchange/authenticate.ts'
import { createExchange } from '../../src/exchange/exchange.ts'
import type { TokenResponse } from '../../src/exchange/prepared.ts'
import type { TokenRequest } from '../../src/exchange/token-request.ts'
import { openKeyRing } from '../../src/keys/key-ring.ts'
import { prepareMaterial } from '../../src/keys/material.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { ok, refuse, Unavailable } from '../../src/oauth/refusal.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE, TYP } from '../../src/oauth/words.ts'
import { createPolicyInForce, type RecordedConfig } from '../../src/revoke/policy-in-force.ts'
import { createRevoke } from '../../src/revoke/revoke.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'
import { createRotation, scheduleOf } from '../../src/rotate/rotate.ts'
import { openEmbedded } from '../../src/store/embedded/open.ts'
import { createPatientClock } from '../../src/store/patient-clock.ts'
import type { Stores } from '../../src/store/open.ts'
import { createIntrospect } from '../../src/tokens/introspect.ts'
import { createIssuer } from '../../src/tokens/issue.ts'
import { createSubjectReader } from '../../src/tokens/subject.ts'
import { ISSUER, type KeyPair, newKeyPair, signJws } from '../house.ts'
import {
  type Acknowledged,
  budgets,
  createHistory,
  inv1,
  inv10,
  inv2,
  inv3,
  inv5,
  inv6,
  type Intent,
  type Operation,
  type SeenToken,
  shouldBeDead,
  tokenSeen,
  type Verdict,
} from '../invariants.ts'

const START = Date.UTC(2026, 10, 23, 10, 0, 0) / 1000
const PURPOSES = ['token', 'feed'] as const
const LOG_ID = '0a1b2c3d'

// What may happen, all of it at once

const MATCHES = ['task', 'root', 'jti', 'child', 'agent', 'client_id', 'sub', 'aud', 'kid', 'agent+aud'] as const
const step = fc.oneof(
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('open' as const), key: fc.constantFrom(undefined, 'retry-key') }),
  },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('inTask' as const) }) },
  { weight: 3, arbitrary: fc.record({ op: fc.constant('renew' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('handOver' as const) }) },
  {
    weight: 4,
    arbitrary: fc.record({ op: fc.constant('accept' as const), key: fc.constantFrom(undefined, 'accept-key') }),
  },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('replay' as const) }) },
  {
    weight: 5,
    arbitrary: fc.record({
      op: fc.constant('revoke' as const),
      by: fc.constantFrom(...MATCHES),
      mode: fc.constantFrom('cut' as const, 'ban' as const),
    }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('readmit' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('end' as const), task: fc.constantFrom('root', 'child') }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('rotate' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('compromise' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('reload' as const) }) },
  {
    weight: 1,
    arbitrary: fc.record({ op: fc.constant('advance' as const), by: fc.constantFrom(1, 61, 301, 1000, 3600) }),
  },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('clockJump' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('sweep' as const) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('reserve' as const), task: fc.constantFrom('root', 'child') }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('introspect' as const) }) },
  { weight: 1, arbitrary: fc.record({ op: fc.constant('crash' as const) }) },
)
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never

// What is made once

interface Template {
  readonly folder: string
  readonly dataDir: string
  readonly rootKey: Uint8Array
  readonly snapshots: readonly [Snapshot, Snapshot]
  readonly keyOf: (file: string) => KeyPair
  readonly proofKeys: Readonly<Record<string, KeyPair>>
}

async function makeTemplate(): Promise<Template> {
  // Its own fsyncs are tested elsewhere; here only the order of things counts.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'errand-interleave-'))
  const keysDir = join(folder, 'keys')
  const [one, two] = [join(folder, 'one'), join(folder, 'two')]
  await cp('config', one, { recursive: true })
  await cp('config', two, { recursive: true })
  const policies = join(two, 'policies/base.cedar')
  writeFileSync(policies, readFileSync(policies, 'utf8').replace('@ttl_seconds("120")', '@ttl_seconds("100")'))
  const { rootKey } = await prepareMaterial({
    keysDir,
    mode: 'development',
    agents: ['research', 'payments', 'triage'],
    tools: ['tickets', 'crm', 'payments', 'warehouse', 'github'],
    userIssuer: true,
  })
  const snapshots = await Promise.all(
    [one, two].map(async (dir) => {
      const loaded = await createConfigLoader({ dir, keysDir, now: () => START })()
      if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
      return loaded.snapshot
    }),
  )
  const keyPairs = new Map<string, KeyPair>()
  const dataDir = join(folder, 'data')
  mkdirSync(dataDir)
  const stores = await openEmbedded({ dataDir, now: () => START, forgetBefore: () => 0 })
  await openRing(
    stores,
    rootKey,
    () => START,
    async () => undefined,
  )
  await stores.close()
  return {
    folder,
    dataDir,
    rootKey,
    snapshots: [snapshots[0]!, snapshots[1]!],
    keyOf: (file) => {
      const known = keyPairs.get(file)
      if (known) return known
      const jwk = JSON.parse(readFileSync(join(keysDir, file), 'utf8')) as JWK
      const { d: _, ...publicJwk } = jwk
      const pair = { privateKey: createPrivateKey({ key: jwk as never, format: 'jwk' }), publicJwk, kid: jwk.kid! }
      keyPairs.set(file, pair)
      return pair
    },
    proofKeys: { research: newKeyPair(), payments: newKeyPair() },
  }
}

const openRing = (
  { keyStore }: Pick<Stores, 'keyStore'>,
  rootKey: Uint8Array,
  now: () => number,
  announce: (move: { readonly kid: string; readonly to: string }) => Promise<void>,
) =>
  openKeyRing({
    store: keyStore,
    sealer: createSealer(rootKey),
    now,
    monotonic: () => 0,
    purposes: PURPOSES,
    announce,
    staleAfterSeconds: Number.POSITIVE_INFINITY,
  })

// One schedule

class Crashed extends Error {}

interface Process {
  alive: boolean
  readonly crash: (error: Error) => void
  readonly crashed: Promise<never>
  close: () => Promise<void>
}

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

async function runSchedule(
  template: Template,
  number: number,
  scheduler: fc.Scheduler,
  steps: readonly Step[],
): Promise<void> {
  const { snapshots, rootKey, proofKeys } = template
  const dataDir = join(template.folder, `run-${number}`)
  mkdirSync(dataDir)
  copyFileSync(join(template.dataDir, 'errand.db'), join(dataDir, 'errand.db'))
  linkSync(join(template.dataDir, 'errand.reserve'), join(dataDir, 'errand.reserve'))

  let ticks = 0
  const tick = () => ++ticks
  const clock = { now: START, monotonic: 0 }
  const now = () => clock.now
  let files: Snapshot = snapshots[0]
  let interleaving = false
  let process: Process

  const history = createHistory(tick)
  const records: AuditEvent[] = []
  const entries = new Map<string, Revocation>()
  const acknowledged: Acknowledged[] = []
  const bans: { readonly entry: Revocation; readonly at: number; readonly clientSaw: number }[] = []
  const readmitted = new Map<string, number>()
  const signed: { readonly jti: string; readonly recordsThen: number }[] = []
  const tokens = new Map<string, SeenToken>()
  const texts = new Map<string, string>()
  const verdicts: Verdict[] = []
  const endedTasks: string[] = []

  async function openService(me: Process) {
    const turn = async (label: string): Promise<void> => {
      if (interleaving) await scheduler.schedule(Promise.resolve(), label)
      ticks += 1
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
      ['check', 'add', 'readmit', 'bans', 'prune'],
    )
    const tasks = interleaved(opened.tasks, 'tasks', turn, [
      'open',
      'get',
      'list',
      'end',
      'reserve',
      'due',
      'prune',
      'tree',
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
    let current = files
    const ring = await openRing({ keyStore }, rootKey, now, async ({ kid, to }) => {
      await audit.append({ type: 'key.moved', details: { kid, to } })
    })
    const keys = {
      ...ring,
      signWith: (kid: string, header: { readonly typ: string }, payload: object | string) => {
        const claims = (typeof payload === 'string' ? JSON.parse(payload) : payload) as AccessTokenClaims
        const text = ring.signWith(kid, header, payload)
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
      schedule: scheduleOf({ ...settings.keys, maxTokenLifetimeSeconds: settings.tokens.maxLifetimeSeconds }),
      purposes: PURPOSES,
      now,
      onError: (error) => {
        throw error
      },
    })
    const revoke = createRevoke({ now, patient, log: revocations, tasks, audit, issued: async () => undefined })
    const inForce = createPolicyInForce({
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
      audit,
      readSubject: (directory) => readers.get(directory)!,
      directory: () => current,
      proveAgent: createProveAgent({ attest, dpop, replayGuard, keyPins }),
      proveWorkload: async () => refuse('untrusted_issuer', 'assertion'),
      grants: keyPins,
      issuer: createIssuer({ issuer: ISSUER, keys }),
      keys,
      idempotency,
      sealer: createSealer(rootKey),
    })
    inForce.loaded(current)
    await inForce.settle()
    await revoke.resume()
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
        current = files
        inForce.loaded(current, previous)
        await inForce.settle()
      },
    }
  }
  type Service = Awaited<ReturnType<typeof openService>>
  let service: Service | undefined

  let closing: Promise<void> = Promise.resolve()
  /** Resolves when it runs, or was killed before it did. */
  async function start(): Promise<void> {
    await closing
    let crash: (error: Error) => void = () => undefined
    const crashed = new Promise<never>((_, reject) => {
      crash = reject
    })
    const died = crashed.catch(() => undefined)
    const me: Process = { alive: true, crash, crashed, close: async () => undefined }
    process = me
    const opened = await Promise.race([openService(me), died])
    if (opened && me.alive) service = opened
  }
  async function kill(): Promise<void> {
    const old = process
    service = undefined
    old.alive = false
    old.crash(new Crashed())
    // A new process finds what this one had written, and nothing of it open.
    const { close } = old
    old.close = async () => undefined
    closing = closing.then(close)
    await closing
  }

  /** A request to whatever process there is; one that dies meanwhile answers nothing. */
  async function ask<T>(call: (service: Service) => Promise<T>): Promise<T> {
    if (interleaving) await scheduler.schedule(Promise.resolve(), 'request')
    if (!service) throw new Unavailable('store_unavailable', 'connection refused')
    const { crashed } = process
    return Promise.race([call(service), crashed])
  }

  // Clients

  const evidence = (clientId: string) => {
    const key = template.keyOf(`agents/${clientId}.jwk`)
    const proofKey = proofKeys[clientId]!
    const jti = randomBytes(9).toString('base64url')
    const times = { iat: clock.now, exp: clock.now + 60 }
    return {
      assertion: signJws(
        { typ: 'client-authentication+jwt', kid: key.kid },
        { iss: clientId, sub: clientId, aud: ISSUER, jti, ...times },
        key.privateKey,
      ),
      dpop: signJws(
        { typ: 'dpop+jwt', jwk: proofKey.publicJwk },
        { jti, htm: 'POST', htu: `${ISSUER}/token`, iat: clock.now },
        proofKey.privateKey,
      ),
    }
  }
  const userKey = template.keyOf('users/dev-issuer.jwk')
  const aliceToken = () =>
    signJws(
      { typ: 'JWT', kid: userKey.kid },
      {
        iss: `${ISSUER}/dev-issuer`,
        sub: 'alice',
        aud: ISSUER,
        iat: clock.now,
        exp: clock.now + 300,
        groups: ['support'],
      },
      userKey.privateKey,
    )
  const details = JSON.stringify({
    purpose: 'interleave',
    environment: 'staging',
    data_classification: 'internal',
    deadline_seconds: 900,
    budget: { max_exchanges: 6, max_calls: 3 },
  })

  const post = (
    op: string,
    clientId: string,
    fields: Partial<TokenRequest>,
    {
      key,
      shown = evidence(clientId),
    }: { readonly key?: string | undefined; readonly shown?: ReturnType<typeof evidence> } = {},
  ): Promise<TokenResponse | undefined> =>
    history
      .call(
        op,
        {
          clientId,
          taskId: fields.taskId,
          key,
          subject: fields.subjectToken?.slice(-16),
          assertion: shown.assertion.slice(-16),
        },
        () =>
          ask(async ({ exchange }) => {
            const answer = await exchange(
              {
                grantType: GRANT.exchange,
                resources: [],
                audiences: ['tickets'],
                dryRun: false,
                clientAssertionType: ASSERTION_TYPE.jwtBearer,
                clientAssertion: shown.assertion,
                ...fields,
              },
              {
                method: 'POST',
                url: `${ISSUER}/token`,
                dpop: shown.dpop,
                correlation: 'req_interleaved',
                source: '127.0.0.1',
                ...(key === undefined ? {} : { idempotencyKey: key }),
              },
            )
            return answer
          }),
        (answer) => (answer.ok ? 'ok' : 'fail'),
        (error) => {
          if (error instanceof Unavailable || error instanceof Crashed) return 'unknown'
          throw error
        },
      )
      .then((answer) => (answer?.ok ? (answer.value as TokenResponse) : undefined))
  const asUser = () => ({ subjectToken: aliceToken(), subjectTokenType: TOKEN_TYPE.idToken })
  const asHolder = (token: string) => ({ subjectToken: token, subjectTokenType: TOKEN_TYPE.accessToken })
  const asDelegate = (token: string) => ({ subjectToken: token, subjectTokenType: TOKEN_TYPE.handOver })
  const delegating = { requestedTokenType: TOKEN_TYPE.handOver, delegateTo: 'payments' }

  const faults = (error: unknown): 'unknown' => {
    if (error instanceof Unavailable || error instanceof Crashed) return 'unknown'
    throw error
  }

  async function introspectAll(): Promise<void> {
    for (const [jti, text] of [...texts]) {
      const invoked = tick()
      const answer = await ask(({ introspect }) => introspect(text)).catch(faults)
      if (answer === 'unknown') return
      const verdict = answer.active ? 'accepted' : answer.dead === undefined ? 'expired' : 'revoked'
      verdicts.push({ jti, verdict, at: verdict === 'revoked' ? tick() : invoked })
    }
  }

  try {
    await start()
    const first = (await post('open', 'research', { ...asUser(), requestDetails: details }))!
    const handed = (await post('handOver', 'research', { ...asHolder(first.access_token), ...delegating }))!
    const spare = (await post('handOver', 'research', { ...asHolder(first.access_token), ...delegating }))!
    const child = (await post('accept', 'payments', asDelegate(handed.access_token)))!
    const root = tokenSeen(first.access_token)
    const below = tokenSeen(child.access_token)
    const replayed = evidence('research')
    const retried = evidence('research')

    const matchOf = (by: (typeof MATCHES)[number]) => {
      const { claims, kid } = root
      const agent = 'spiffe://company.example/agents/research'
      switch (by) {
        case 'task':
          return { task: claims.task.id }
        case 'child':
          return { task: below.claims.task.id }
        case 'root':
          return { root: claims.task.root }
        case 'jti':
          return { jti: claims.jti }
        case 'agent':
          return { agent }
        case 'client_id':
          return { client_id: 'payments' }
        case 'sub':
          return { sub: claims.sub }
        case 'aud':
          return { aud: claims.aud }
        case 'kid':
          return { kid }
        case 'agent+aud':
          return { agent, aud: claims.aud }
      }
    }
    const taskNamed = (name: string) => (name === 'root' ? root : below).claims.task.id
    const revoked = async (
      op: string,
      args: object,
      call: (service: Service) => Promise<{ readonly entry: Revocation }>,
    ) => {
      const answer = await history.call(op, args, () => ask(call), undefined, faults)
      if (!answer) return
      const at = tick()
      acknowledged.push({ entry: answer.entry, at })
      if (answer.entry.mode === 'ban') bans.push({ entry: answer.entry, at, clientSaw: at })
    }

    async function take(one: Step): Promise<unknown> {
      switch (one.op) {
        case 'open':
          return post('open', 'research', { ...asUser(), requestDetails: details }, { key: one.key })
        case 'inTask':
          return post('inTask', 'research', { ...asUser(), taskId: first.task_id })
        case 'renew':
          return post('renew', 'research', asHolder(first.access_token))
        case 'handOver':
          return post('handOver', 'research', { ...asHolder(first.access_token), ...delegating })
        case 'accept':
          return post('accept', 'payments', asDelegate(spare.access_token), { key: one.key })
        case 'replay':
          return post('replay', 'research', { ...asUser(), taskId: first.task_id }, { shown: replayed })
        case 'revoke':
          return revoked('revoke', one, ({ revoke }) =>
            revoke.byMatch({ match: matchOf(one.by), mode: one.mode, reason: 'interleaved', by: 'admin' }),
          )
        case 'readmit':
          return history.call(
            'readmit',
            {},
            () =>
              ask(async (alive) => {
                for (const { id, banUntil } of await alive.bans())
                  if (banUntil === undefined) await alive.revoke.readmit(id, 'admin', 'interleaved')
              }),
            undefined,
            faults,
          )
        case 'end': {
          const task = taskNamed(one.task)
          const done = await history.call(
            'end',
            { task },
            () => ask(({ revoke }) => revoke.endTask(task, 'completed', 'interleaved', 'research')),
            undefined,
            faults,
          )
          if (done) {
            endedTasks.push(task)
            const entry = entries.get(`rev_${task.slice('task_'.length)}`)
            if (done.length > 0 && entry) acknowledged.push({ entry, at: tick() })
          }
          return done
        }
        case 'rotate':
          return history.call(
            'rotate',
            {},
            () => ask(({ rotation }) => rotation.rotateNow('token', { immediately: true })),
            undefined,
            faults,
          )
        case 'compromise':
          return revoked('compromise', {}, async ({ rotation, revoke }) => {
            const done = (await rotation.compromise(root.kid))!
            const { match, mode, expiresAt } = done.revocation!
            return revoke.byMatch({ match, mode, absolute: true, reason: 'stolen', by: 'admin', keepUntil: expiresAt })
          })
        case 'reload':
          files = files === snapshots[0] ? snapshots[1] : snapshots[0]
          return history.call('reload', {}, () => ask((alive) => alive.reload()), undefined, faults)
        case 'advance':
          await scheduler.schedule(Promise.resolve(), 'clock')
          clock.now += one.by
          clock.monotonic += one.by * 1000
          return undefined
        case 'clockJump':
          await scheduler.schedule(Promise.resolve(), 'clock jumps')
          clock.now += 3600
          await history.call('sweep', {}, () => ask(({ revoke }) => revoke.sweep()), undefined, faults)
          await scheduler.schedule(Promise.resolve(), 'clock comes back')
          clock.now -= 3600
          return undefined
        case 'sweep':
          return history.call('sweep', {}, () => ask(({ revoke }) => revoke.sweep()), undefined, faults)
        case 'reserve':
          return history.call(
            'reserve',
            { task: taskNamed(one.task) },
            () => ask(({ tasks }) => tasks.reserve(taskNamed(one.task), { calls: 1, exchanges: 0, cost: 0 }, now())),
            (answer) => (answer.outcome === 'reserved' ? 'ok' : 'fail'),
            faults,
          )
        case 'introspect':
          return introspectAll()
        case 'crash':
          await scheduler.schedule(Promise.resolve(), 'crash')
          // Also in the middle of a start: what the last one had begun is left as it is.
          await kill()
          return start()
      }
    }

    interleaving = true
    await scheduler.waitFor(Promise.all(steps.map(take)))
    interleaving = false

    const found: string[] = []
    const settled = async (): Promise<void> => {
      await service!.reload()
      await introspectAll()
      const judged = new Map(verdicts.map((each) => [each.jti, each.verdict]))
      for (const [jti, token] of tokens) {
        const { claims, kid } = token
        const expected = shouldBeDead(token, [...entries.values()])
        // Made while the clock was ahead, it is not valid yet.
        if (clock.now >= claims.exp || claims.iat > clock.now) continue
        const verdict = judged.get(jti)
        const foreign = hopsOf(claims, kid)!.some(({ facts }) => facts.policy !== service!.current().policyDigest)
        if (verdict === 'accepted' && expected) found.push(`R1: ${jti} is accepted, and an entry kills it`)
        if (verdict === 'revoked' && !expected) found.push(`R4: ${jti} is refused, and no entry kills it`)
        if (verdict === 'accepted' && foreign) found.push(`D23: ${jti} was decided by another policy set and lives`)
        if (verdict === 'expired' && service!.ring.verifyKey(kid)?.state !== 'compromised')
          found.push(`${jti} does not verify, and neither its life nor its key has ended`)
      }
    }
    await settled()
    await kill()
    await start()
    await settled()

    const intents: Intent[] = records.flatMap((event, index) =>
      event.type === 'token.issuing' && event.jti !== undefined
        ? [{ jti: event.jti, index, claims: event.claims as unknown as AccessTokenClaims }]
        : [],
    )
    const all = await service!.opened.tasks.list({ limit: 1000 })
    const stateOf = new Map(all.map((task) => [task.id, task.state]))
    const exchanges = ['open', 'inTask', 'renew', 'handOver', 'accept', 'replay']
    const under = (task: string): readonly string[] => [
      task,
      ...all.filter(({ parent }) => parent === task).flatMap(({ id }) => under(id)),
    ]
    const issued = (operation: Operation): { jti: string; task: string } | undefined => {
      const answer = operation.value as { readonly ok: true; readonly value: TokenResponse }
      if (operation.outcome !== 'ok' || !exchanges.includes(operation.op)) return undefined
      const { claims } = tokenSeen(answer.value.access_token)
      return { jti: claims.jti, task: claims.task.id }
    }
    const asked = history.operations.filter(({ op }) => exchanges.includes(op))
    found.push(
      ...inv1(tokens, verdicts, acknowledged, 0),
      ...inv2(tokens, verdicts, [...entries.values()]),
      ...inv3(tokens, intents, signed),
      ...inv5(
        asked,
        ({ op, args }) => (op === 'accept' ? `hand-over ${(args as { subject: string }).subject}` : undefined),
        (one, other) => issued(one)?.jti === issued(other)?.jti,
      ),
      ...inv5(asked, ({ args }) => `assertion ${(args as { assertion: string }).assertion}`),
      ...budgets(all, ({ id }) => {
        const family = under(id)
        return {
          granted: new Set(intents.filter(({ claims }) => family.includes(claims.task.id)).map(({ jti }) => jti)).size,
          asked: asked.length,
        }
      }),
      ...inv6(
        acknowledged.filter(({ entry }) => clock.now < entries.get(entry.id)!.expiresAt),
        [...entries.values()],
        endedTasks,
        (id) => stateOf.get(id),
      ),
      ...inv10(intents, all),
    )
    // L15: who is banned gets nothing that it asks for afterwards, until it is admitted again.
    for (const operation of asked) {
      const got = issued(operation)
      const token = got && tokens.get(got.jti)
      if (!token) continue
      for (const { entry, at } of bans) {
        const lifted = (readmitted.get(entry.id) ?? Number.POSITIVE_INFINITY) < operation.ended
        if (lifted || at >= operation.invoked || (entry.banUntil ?? Number.POSITIVE_INFINITY) <= clock.now) continue
        if (shouldBeDead(token, [{ ...entry, absolute: true }]))
          found.push(
            `L15: ${got.jti} was asked for at ${operation.invoked} and given, banned by ${entry.id} since ${at}`,
          )
      }
    }
    // D20: one key, one token.
    const byKey = new Map<string, string>()
    for (const operation of asked) {
      const { key, clientId } = operation.args as { readonly key?: string; readonly clientId: string }
      const got = issued(operation)
      if (!got || key === undefined) continue
      const before = byKey.get(`${clientId} ${key}`)
      const timeless = steps.every(({ op }) => op !== 'advance' && op !== 'clockJump')
      if (timeless && before !== undefined && before !== got.jti)
        found.push(`D20: ${key} was answered with ${before} and ${got.jti}`)
      byKey.set(`${clientId} ${key}`, got.jti)
    }
    if (found.length > 0) throw new Error([...new Set(found)].join('\n'))
    void retried
  } finally {
    await kill()
    rmSync(dataDir, { recursive: true, force: true })
  }
}

// libsql lets go of a closed file when its statements are collected, and SQLite looks through all that are open.
setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void
const SCHEDULES_PER_COLLECTION = 25

/** Batches of their own: in a long run of fast-check each schedule costs more than the one before. */
const SCHEDULES_PER_BATCH = 200
const LEAST_BATCH_MS = 3_000

/** As many schedules as fit; answers how many. What fails is shrunk and shown with its seed. */
export async function interleave(limits: { readonly runs: number; readonly ms?: number }): Promise<number> {
  const template = await makeTemplate()
  const until = performance.now() + (limits.ms ?? Number.POSITIVE_INFINITY)
  const first = Date.now() % 1_000_000_000
  console.log(`FI-16: seeds from ${first} on`)
  let schedules = 0
  const property = fc.asyncProperty(
    fc.scheduler(),
    fc.array(step, { minLength: 2, maxLength: 9 }),
    (scheduler, steps) => {
      if (schedules % SCHEDULES_PER_COLLECTION === 0) collect()
      return runSchedule(template, ++schedules, scheduler, steps)
    },
  )
  try {
    // fast-check takes a batch that is cut off before its first schedule for a failure.
    for (let seed = first; schedules < limits.runs && until - performance.now() > LEAST_BATCH_MS; seed += 1) {
      await fc.assert(property, {
        seed,
        numRuns: Math.min(SCHEDULES_PER_BATCH, limits.runs - schedules),
        interruptAfterTimeLimit: Math.min(until - performance.now(), 3_600_000),
      })
    }
  } finally {
    rmSync(template.folder, { recursive: true, force: true })
  }
  console.log(`FI-16: ${schedules} schedules`)
  return schedules
}
