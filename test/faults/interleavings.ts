/**
 * FI-16: the real use cases over the real embedded store, with a point at every call of a port where anybody else may
 * come first, or the process may die. What fast-check's scheduler picks is judged by the invariants of DESIGN.md.
 */
import { randomBytes } from 'node:crypto'
import { rmSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import fc from 'fast-check'
import type { TokenResponse } from '../../src/exchange/prepared.ts'
import type { TokenRequest } from '../../src/exchange/token-request.ts'
import { ASSERTION_TYPE, GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import type { Revocation } from '../../src/revoke/revocation-log.ts'
import { ISSUER, signJws } from '../house.ts'
import { tokenSeen } from '../invariants.ts'
import { judgeHistory, judgeTokens } from './interleaved/judge.ts'
import { createProcesses, type Service } from './interleaved/service.ts'
import { type MATCHES, type Step, step } from './interleaved/steps.ts'
import { makeTemplate, type Template } from './interleaved/template.ts'
import { createWorld, fate } from './interleaved/world.ts'

async function runSchedule(
  template: Template,
  number: number,
  scheduler: fc.Scheduler,
  steps: readonly Step[],
): Promise<void> {
  const { snapshots, proofKeys } = template
  const world = createWorld(template, number, scheduler)
  const { clock, now, tick, turn, picking, files, history } = world
  const { entries, acknowledged, bans, texts, verdicts, endedTasks } = world
  const { start, kill, ask, service } = createProcesses(world)

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
        fate,
      )
      .then((answer) => (answer?.ok ? (answer.value as TokenResponse) : undefined))
  const asUser = () => ({ subjectToken: aliceToken(), subjectTokenType: TOKEN_TYPE.idToken })
  const asHolder = (token: string) => ({ subjectToken: token, subjectTokenType: TOKEN_TYPE.accessToken })
  const asDelegate = (token: string) => ({ subjectToken: token, subjectTokenType: TOKEN_TYPE.handOver })
  const delegating = { requestedTokenType: TOKEN_TYPE.handOver, delegateTo: 'payments' }

  async function introspectAll(): Promise<void> {
    for (const [jti, text] of [...texts]) {
      const invoked = tick()
      const answer = await ask(({ introspect }) => introspect(text)).catch(fate)
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
      const answer = await history.call(op, args, () => ask(call), undefined, fate)
      if (!answer) return
      const at = tick()
      acknowledged.push({ entry: answer.entry, at })
      if (answer.entry.mode === 'ban' || answer.entry.mode === 'suspend') bans.push({ entry: answer.entry, at })
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
            revoke.byMatch({
              match: matchOf(one.by),
              mode: one.mode,
              ...(one.mode === 'contain' ? { taken: { tools: [], operations: ['tickets:read_ticket'] } } : {}),
              reason: 'interleaved',
              by: 'admin',
            }),
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
            fate,
          )
        case 'resume':
          return history.call(
            'resume',
            {},
            () =>
              ask(async (alive) => {
                for (const { id, mode } of await alive.bans())
                  if (mode === 'suspend') await alive.revoke.resume(id, 'admin', 'interleaved')
              }),
            undefined,
            fate,
          )
        case 'end': {
          const task = taskNamed(one.task)
          const done = await history.call(
            'end',
            { task },
            () => ask(({ revoke }) => revoke.endTask(task, 'completed', 'interleaved', 'research')),
            undefined,
            fate,
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
            fate,
          )
        case 'compromise':
          return revoked('compromise', {}, async ({ rotation, revoke }) => {
            const done = (await rotation.compromise(root.kid))!
            const { match, mode, expiresAt } = done.revocation!
            return revoke.byMatch({ match, mode, absolute: true, reason: 'stolen', by: 'admin', keepUntil: expiresAt })
          })
        case 'reload':
          files.now = snapshots[files.now === snapshots[0] ? 1 : 0]
          return history.call('reload', {}, () => ask((alive) => alive.reload()), undefined, fate)
        case 'advance':
          await turn('clock')
          clock.now += one.by
          clock.monotonic += one.by * 1000
          return undefined
        case 'clockJump':
          await turn('clock jumps')
          clock.now += 3600
          await history.call('sweep', {}, () => ask(({ revoke }) => revoke.sweep()), undefined, fate)
          await turn('clock comes back')
          clock.now -= 3600
          return undefined
        case 'sweep':
          return history.call('sweep', {}, () => ask(({ revoke }) => revoke.sweep()), undefined, fate)
        case 'reserve':
          return history.call(
            'reserve',
            { task: taskNamed(one.task) },
            () => ask(({ tasks }) => tasks.reserve(taskNamed(one.task), { calls: 1, exchanges: 0, cost: 0 }, now())),
            (answer) => (answer.outcome === 'reserved' ? 'ok' : 'fail'),
            fate,
          )
        case 'introspect':
          return introspectAll()
        case 'crash':
          await turn('crash')
          // Also in the middle of a start: what the last one had begun is left as it is.
          await kill()
          return start()
      }
    }

    picking.on = true
    await scheduler.waitFor(Promise.all(steps.map(take)))
    picking.on = false

    const found: string[] = []
    const settle = async (): Promise<void> => {
      await service().reload()
      await introspectAll()
      found.push(...judgeTokens(world, service()))
    }
    await settle()
    await kill()
    await start()
    await settle()
    const timeless = steps.every(({ op }) => op !== 'advance' && op !== 'clockJump')
    found.push(...(await judgeHistory(world, service(), timeless)))
    if (found.length > 0) throw new Error([...new Set(found)].join('\n'))
  } finally {
    await kill()
    rmSync(world.dataDir, { recursive: true, force: true })
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
