/** Two processes of the service that share one Redis are one service, also while one of them is killed. */
import { randomBytes } from 'node:crypto'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { ASSERTION_TYPE } from '../../src/oauth/words.ts'
import { type Client, claimsOf } from '../flow/real-process.ts'
import { newKeyPair, signJws } from '../house.ts'
import { createHistory, inv1, inv8, tokenSeen, type Verdict } from '../invariants.ts'
import { redisIsHere, startRedis, type TestRedis } from '../store/redis-server.ts'
import { openSite, type Replica, type Site, verdictOf } from './site.ts'

const both = <T>(make: (n: 0 | 1) => Promise<T>) => Promise.all([make(0), make(1)])
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

describe.skipIf(!redisIsHere())('two processes on one Redis', () => {
  let redis: TestRedis
  let site: Site
  let replicas: [Replica, Replica]
  let research: [Client, Client]
  let admin: [Client, Client]
  let tickets: [Client, Client]
  let asAlice: () => Record<string, string>
  beforeAll(async () => {
    redis = await startRedis()
    site = await openSite({
      redisUrl: redis.url,
      change: (file, text) =>
        file === 'tools/tickets.yaml'
          ? text.replace('read_ticket:\n', 'read_ticket:\n    budgeted: { cost: 1 }\n')
          : text,
    })
    replicas = [await site.start({ name: 'one' }), await site.start({ name: 'two' })]
    research = await both((n) => site.agent(replicas[n].base, 'research'))
    admin = await both((n) => site.admin(replicas[n].base))
    tickets = await both((n) => site.tickets(replicas[n].base))
    asAlice = await site.alice()
  })
  afterAll(async () => {
    await site?.close()
    await redis?.remove()
  })

  const token = async (n: 0 | 1, more: Record<string, string> = {}) => {
    const proofKey = newKeyPair()
    const reply = await research[n].token({ ...asAlice(), ...TICKETS, ...more }, { proofKey })
    expect([reply.status, reply.body]).toMatchObject([200, {}])
    return { text: String(reply.body['access_token']), proofKey, task: String(reply.body['task_id']) }
  }
  const active = async (n: 0 | 1, text: string) =>
    (await tickets[n].form('/introspect', { token: text })).body['active']

  it('E1 Inv5 one proof, or one assertion, at both in the same moment: exactly one is answered', async () => {
    const { key } = research[0]
    const nonceAnswer = await fetch(`${site.issuer}/token`, {
      method: 'POST',
      headers: { 'content-type': 'application/x-www-form-urlencoded', dpop: proofOf(newKeyPair(), site.issuer) },
      body: new URLSearchParams({ ...asAlice(), ...TICKETS, ...assertionOf(key, site.issuer) }),
    })
    const nonce = nonceAnswer.headers.get('dpop-nonce')!
    for (const same of ['proof', 'assertion'] as const) {
      for (let round = 0; round < 25; round += 1) {
        const shared = { proof: proofOf(newKeyPair(), site.issuer, nonce), assertion: assertionOf(key, site.issuer) }
        const answers = await both((n) =>
          fetch(`${replicas[n].base}/token`, {
            method: 'POST',
            headers: {
              'content-type': 'application/x-www-form-urlencoded',
              dpop: same === 'proof' ? shared.proof : proofOf(newKeyPair(), site.issuer, nonce),
            },
            body: new URLSearchParams({
              ...asAlice(),
              ...TICKETS,
              ...(same === 'assertion' ? shared.assertion : assertionOf(key, site.issuer)),
            }),
          }),
        )
        const refused = same === 'proof' ? 400 : 401
        expect(answers.map(({ status }) => status).sort()).toEqual([200, refused])
      }
    }
  })

  it('R1 Inv1 what is revoked at one is dead at the other at once, and at a verifier that follows it within 2 s', async () => {
    const verifier = await site.verifier(replicas[1].base)
    const verdicts: Verdict[] = []
    for (const [here, there] of [
      [0, 1],
      [1, 0],
    ] as const) {
      const { text, proofKey, task } = await token(here)
      expect(await active(there, text)).toBe(true)
      expect(await verdictOf(verifier, text, proofKey)).toBe('accepted')
      const { jti } = claimsOf(text)
      const { status, body } = await admin[here].call('POST', '/revocations', { match: { jti }, reason: 'a test' })
      expect(status).toBe(201)
      const at = performance.now()
      expect(await active(there, text)).toBe(false)
      for (;;) {
        const asked = performance.now()
        const verdict = await verdictOf(verifier, text, proofKey)
        verdicts.push({ jti: String(jti), at: asked, verdict: verdict === 'accepted' ? 'accepted' : 'revoked' })
        if (verdict === 'revoked') break
        expect(verdict).toBe('accepted')
        await pause(5)
      }
      const [generation, sequence] = String(body['epoch']).split('.').map(Number)
      const entry = {
        id: String(body['id']),
        match: { jti: String(jti) },
        epoch: { generation: generation!, sequence: sequence! },
      }
      expect(inv1(new Map([[String(jti), tokenSeen(text)]]), verdicts, [{ entry, at }], 2_000)).toEqual([])

      const again = await token(here, { task_id: task, request_details: '' })
      expect((await research[here].call('POST', `/tasks/${task}/complete`)).status).toBe(200)
      expect(await active(there, again.text)).toBe(false)
      const refused = await research[there].token(
        { ...asAlice(), ...TICKETS, task_id: task, request_details: '' },
        { proofKey: again.proofKey },
      )
      expect([refused.status, refused.body['reason']]).toEqual([400, 'task_not_active'])
    }
  })

  it('D20 a retry at the other, with fresh evidence and the same Idempotency-Key, is given the same token', async () => {
    const proofKey = newKeyPair()
    const idempotencyKey = randomBytes(9).toString('base64url')
    const fields = { ...asAlice(), ...TICKETS }
    const [first, again] = [
      await research[0].token(fields, { proofKey, idempotencyKey }),
      await research[1].token(fields, { proofKey, idempotencyKey }),
    ]
    expect([first.status, again.status, again.body['reason']]).toEqual([200, 200, undefined])
    const [one, other] = [first, again].map(({ body }) => claimsOf(String(body['access_token'])))
    expect(other).toEqual(one)
    expect(again.body['task_id']).toBe(first.body['task_id'])
    const conflict = await research[1].token(
      { ...fields, scope: 'tickets:search_tickets' },
      { proofKey, idempotencyKey },
    )
    expect([conflict.status, conflict.body['reason']]).toEqual([422, 'idempotency_conflict'])
  })

  it('Inv5 a budget is one budget: parallel exchanges and reservations at both never overspend it', async () => {
    const details = JSON.stringify({
      purpose: 'spend',
      environment: 'staging',
      data_classification: 'internal',
      deadline_seconds: 600,
      budget: { max_exchanges: 11, max_calls: 13 },
    })
    const proofKey = newKeyPair()
    const first = await research[0].token({ ...asAlice(), ...TICKETS, request_details: details }, { proofKey })
    const task = String(first.body['task_id'])
    const history = createHistory()
    await Promise.all(
      Array.from({ length: 40 }, (_, i) =>
        history.call(
          i % 4 < 2 ? 'exchange' : 'reserve',
          { i },
          () =>
            i % 4 < 2
              ? research[(i % 2) as 0 | 1].token(
                  { ...asAlice(), ...TICKETS, task_id: task, request_details: '' },
                  { proofKey },
                )
              : tickets[(i % 2) as 0 | 1].call('POST', `/tasks/${task}/reservations`, {
                  token: String(first.body['access_token']),
                  operation: 'read_ticket',
                  calls: 1,
                  operation_id: randomBytes(9).toString('base64url'),
                }),
          ({ status }) => (status === 200 ? 'ok' : 'fail'),
        ),
      ),
    )
    expect(history.of('exchange', 'ok')).toHaveLength(10)
    expect(history.of('reserve', 'ok')).toHaveLength(13)
    const { body } = await research[1].call('GET', `/tasks/${task}`)
    expect(body['spent']).toMatchObject({ exchanges: 11, calls: 13 })
  })

  it('L7 Inv1 Inv6 Inv8 Inv12 one of them killed under load: nothing acknowledged is lost, and both serve again', async () => {
    const history = createHistory()
    const revoked: string[] = []
    const texts = new Map<string, string>()
    let stop = false
    const load = (n: 0 | 1) =>
      (async () => {
        while (!stop) {
          const reply = await history.call(
            `exchange ${n}`,
            {},
            () => research[n].token({ ...asAlice(), ...TICKETS }, { proofKey: newKeyPair() }),
            ({ status }) => (status === 200 ? 'ok' : 'fail'),
          )
          const text = reply?.body['access_token']
          if (typeof text === 'string') texts.set(String(claimsOf(text)['jti']), text)
          if (!reply) await pause(50)
        }
      })()
    const revoker = (async () => {
      while (!stop) {
        const jti = [...texts.keys()].find((each) => !revoked.includes(each))
        if (jti !== undefined) {
          const n = revoked.length % 2 === 0 ? 0 : 1
          const reply = await admin[n]
            .call('POST', '/revocations', { match: { jti }, reason: 'a test' })
            .catch(() => undefined)
          if (reply?.status === 201) revoked.push(jti)
        }
        await pause(20)
      }
    })()
    const work = Promise.all([load(0), load(0), load(1), load(1), revoker])
    work.catch(() => undefined)
    await pause(1_000)
    replicas[1].signal('SIGKILL')
    expect(await replicas[1].ended).toBe('SIGKILL')
    const killedAt = performance.now()
    await pause(1_500)
    // The other one never noticed.
    const meanwhile = history.operations.filter(({ op, invoked }) => op === 'exchange 0' && invoked > killedAt)
    expect(meanwhile.length).toBeGreaterThan(3)
    expect(meanwhile.every(({ outcome }) => outcome === 'ok')).toBe(true)
    replicas[1] = await site.start({ name: 'two' })
    const backAt = performance.now()
    await expect
      .poll(() => history.of('exchange 1', 'ok').some(({ invoked }) => invoked > backAt), { timeout: 10_000 })
      .toBe(true)
    stop = true
    await work
    expect(revoked.length).toBeGreaterThan(5)
    for (const jti of revoked) for (const n of [0, 1] as const) expect(await active(n, texts.get(jti)!)).toBe(false)
    const verifier = await site.verifier(replicas[1].base)
    const last = await token(0)
    expect(await verdictOf(verifier, last.text, last.proofKey)).toBe('accepted')
    for (const replica of replicas) {
      replica.signal('SIGTERM')
      expect(await replica.ended).toBe(0)
      expect((await inv8(join(replica.dataDir, 'audit'))).found).toEqual([])
    }
  })
})

const proofOf = (key: ReturnType<typeof newKeyPair>, issuer: string, nonce?: string): string =>
  signJws(
    { typ: 'dpop+jwt', jwk: key.publicJwk },
    {
      jti: randomBytes(12).toString('base64url'),
      htm: 'POST',
      htu: `${issuer}/token`,
      iat: Math.floor(Date.now() / 1000),
      ...(nonce === undefined ? {} : { nonce }),
    },
    key.privateKey,
  )

function assertionOf(key: Client['key'], issuer: string): { client_assertion_type: string; client_assertion: string } {
  const iat = Math.floor(Date.now() / 1000)
  return {
    client_assertion_type: ASSERTION_TYPE.jwtBearer,
    client_assertion: signJws(
      { typ: 'client-authentication+jwt', kid: key.kid },
      {
        iss: 'research',
        sub: 'research',
        aud: issuer,
        jti: randomBytes(12).toString('base64url'),
        iat,
        exp: iat + 60,
      },
      key.privateKey,
    ),
  }
}
