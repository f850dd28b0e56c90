/** FI-4: bad connections to Redis, to a user issuer's keys, and from a verifier to the feed. */
import { createServer } from 'node:http'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import type { AddressInfo } from 'node:net'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { GRANT, TOKEN_TYPE } from '../../src/oauth/words.ts'
import { type Client, claimsOf, type Reply } from '../flow/real-process.ts'
import { newKeyPair, signJws } from '../house.ts'
import { createHistory, inv12, inv3, inv5, inv8, inv9, type Intent, type Operation, tokenSeen } from '../invariants.ts'
import { redisIsHere, startRedis, type TestRedis } from '../store/redis-server.ts'
import { openSite, type Replica, type Site, verdictOf } from './site.ts'
import { FAULTS, openProxy, type BadLine } from './tcp-proxy.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const BAD_WEATHER_MS = 2_000
const DETAILS = JSON.stringify({
  purpose: 'look into an order',
  environment: 'staging',
  data_classification: 'internal',
  deadline_seconds: 900,
})
const ISSUED = ({ status }: Reply) => (status === 200 ? ('ok' as const) : ('unknown' as const))

/** Every 20 ms, until stopped; each answer within its bound. */
async function keepAsking(ask: () => Promise<unknown>, until: () => boolean): Promise<void> {
  const asked: Promise<unknown>[] = []
  while (!until()) {
    asked.push(ask())
    await pause(100)
  }
  await Promise.all(asked)
}

describe.skipIf(!redisIsHere())('a bad connection to Redis', () => {
  let redis: TestRedis
  let proxy: BadLine
  let site: Site
  let service: Replica
  let research: Client
  let admin: Client
  let asAlice: () => Record<string, string>
  let calm = 0
  beforeAll(async () => {
    redis = await startRedis()
    proxy = await openProxy({ port: redis.port })
    site = await openSite({ redisUrl: `redis://127.0.0.1:${proxy.port}` })
    service = await site.start()
    research = await site.agent(service.base, 'research')
    admin = await site.admin(service.base)
    asAlice = await site.alice()
    await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey: research.proofKey })
    // As many connections of ours as the bad moments will open: what comes on top is a leak.
    await Promise.all(Array.from({ length: 60 }, () => fetch(`${service.base}/health`).then((answer) => answer.text())))
    calm = service.descriptors()
  })
  afterAll(async () => {
    await site?.close()
    await proxy?.close()
    await redis?.remove()
  })

  it.each(FAULTS)(
    'FI-4 Inv3 Inv5 Inv9 Inv12 %s: an honest error in time, all or nothing, and back by itself',
    async (fault) => {
      const history = createHistory()
      const fields = new Map<string, Record<string, string>>()
      const exchange = async (key: string) => {
        const asked = fields.get(key) ?? { ...asAlice(), audience: 'tickets' }
        fields.set(key, asked)
        return history.call(
          'exchange',
          { key },
          () => research.token(asked, { proofKey: research.proofKey, idempotencyKey: key }),
          ISSUED,
        )
      }
      const revoke = (jti: string) =>
        history.call(
          'revoke',
          { jti },
          () => admin.call('POST', '/revocations', { match: { jti }, reason: 'bad weather' }),
          ({ status }) => (status === 201 ? 'ok' : 'unknown'),
        )

      let stop = false
      let n = 0
      const work = keepAsking(
        () => (++n % 3 === 0 ? revoke(`${fault}-${n}`) : exchange(`${fault}-retry-${n}`)),
        () => stop,
      )
      await pause(500)
      const before = history.operations.length
      proxy.become(fault)
      const since = performance.now()
      await pause(BAD_WEATHER_MS)
      proxy.become('none')
      const until = performance.now()
      await expect
        .poll(() => history.operations.some(({ invoked, outcome }) => invoked > until && outcome === 'ok'), {
          timeout: 10_000,
        })
        .toBe(true)
      await pause(1_000)
      stop = true
      await work

      const during = history.operations.filter(({ invoked }) => invoked > since && invoked < until)
      expect(before).toBeGreaterThan(0)
      expect(during.length).toBeGreaterThan(5)
      for (const { ended, invoked, value } of during) {
        const { status, body } = value as Reply
        expect([200, 201, 503]).toContain(status)
        if (status === 503) expect(body).toMatchObject({ error: 'temporarily_unavailable' })
        // A handful of commands to a store that is away, each with its own time-out, and the load of the test machine.
        expect(ended - invoked).toBeLessThan(5_000)
      }
      expect(during.some(({ outcome }) => outcome === 'unknown')).toBe(true)
      expect(inv12(history.operations, until, { withinMs: 10_000 }).filter((text) => !text.includes('nobody'))).toEqual(
        [],
      )

      // Inv9: whoever was answered by an error asks again with the same key, and gets what there is, once.
      const retried: Operation[] = []
      for (const { op, args, outcome } of history.operations) {
        if (op !== 'exchange' || outcome !== 'unknown') continue
        const { key } = args as { readonly key: string }
        const again = createHistory()
        await expect
          .poll(
            async () =>
              (
                await again.call(
                  'exchange',
                  { key },
                  () => research.token(fields.get(key)!, { proofKey: research.proofKey, idempotencyKey: key }),
                  ISSUED,
                )
              )?.status,
            { timeout: 15_000, interval: 500 },
          )
          .toBe(200)
        retried.push(...again.operations)
      }
      const tokensOf = (operations: readonly Operation[]) =>
        new Map(
          operations
            .filter(({ op, outcome }) => op === 'exchange' && outcome === 'ok')
            .map(({ args, value }) => {
              const token = tokenSeen(String((value as Reply).body['access_token']))
              return [token.claims.jti, { token, key: (args as { readonly key: string }).key }] as const
            }),
        )
      const tokens = tokensOf([...history.operations, ...retried])
      expect(
        inv5(
          [...history.operations, ...retried],
          ({ op, args }) => (op === 'exchange' ? (args as { key: string }).key : undefined),
          (one, other) => {
            const jti = (operation: Operation) => claimsOf((operation.value as Reply).body['access_token'])['jti']
            return jti(one) === jti(other)
          },
        ),
      ).toEqual([])
      const records: Reply['body'][] = []
      for (let from = 0; ; from = records.length) {
        const page = (await admin.call('GET', `/audit/records?from=${from}&limit=1000`)).body[
          'records'
        ] as Reply['body'][]
        records.push(...page)
        if (page.length < 1000) break
      }
      const intents = records.filter(({ type }) => type === 'token.issuing') as unknown as (Intent & { i: number })[]
      expect(inv3(new Map([...tokens].map(([jti, { token }]) => [jti, token])), intents)).toEqual([])
      expect(
        await inv9(history.of('revoke'), async ({ args }) => {
          const { jti } = args as { readonly jti: string }
          const tickets = records.filter(
            ({ type, details }) => type === 'revocation.added' && JSON.stringify(details).includes(`"${jti}"`),
          )
          return tickets.length <= 1 ? 'all' : 'part'
        }),
      ).toEqual([])
      await expect.poll(() => service.descriptors(), { timeout: 5_000 }).toBeLessThanOrEqual(calm + 4)
      expect(proxy.open()).toBeLessThanOrEqual(4)
    },
  )

  it('FI-4 Inv8 the log of it all verifies', async () => {
    service.signal('SIGTERM')
    expect(await service.ended).toBe(0)
    expect((await inv8(join(service.dataDir, 'audit'))).found).toEqual([])
  })
})

describe("a bad connection to a user issuer's keys", () => {
  const { privateKey, publicKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' })
  const jwks = JSON.stringify({
    keys: [{ ...publicKey.export({ format: 'jwk' }), kid: 'idp-1', alg: 'ES256', use: 'sig' }],
  })
  const idp = createServer((_, response) => response.end(jwks))
  beforeAll(() => new Promise<void>((resolve) => idp.listen(0, '127.0.0.1', resolve)))
  afterAll(() => new Promise((resolve) => idp.close(resolve)))

  it.concurrent.for(FAULTS)('FI-4 Inv12 %s: an honest error in time, and back by itself', async (fault, { expect }) => {
    const proxy = await openProxy({ port: (idp.address() as AddressInfo).port })
    const site = await openSite({
      change: (file, text) =>
        file === 'issuers/dev.yaml'
          ? text.replace('jwks_file: users/dev-issuer.jwks.json', `jwks_uri: http://127.0.0.1:${proxy.port}/jwks`)
          : text,
    })
    try {
      proxy.become(fault)
      const service = await site.start()
      const research = await site.agent(service.base, 'research')
      const asBob = () => {
        const now = Math.floor(Date.now() / 1000)
        const claims = { sub: 'bob', aud: site.issuer, iat: now, exp: now + 300, groups: ['support'] }
        return {
          grant_type: GRANT.exchange,
          subject_token: signJws(
            { typ: 'JWT', kid: 'idp-1' },
            { iss: `${site.issuer}/dev-issuer`, ...claims },
            privateKey,
          ),
          subject_token_type: TOKEN_TYPE.idToken,
          request_details: DETAILS,
          audience: 'tickets',
        }
      }
      const history = createHistory()
      const exchange = () =>
        history.call('exchange', {}, () => research.token(asBob(), { proofKey: newKeyPair() }), ISSUED)
      // Several at once wait for one fetch, and for no longer than it may take.
      const answers = await Promise.all(Array.from({ length: 8 }, exchange))
      for (const answer of answers)
        expect(answer).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } })
      for (const { invoked, ended } of history.operations) expect(ended - invoked).toBeLessThan(4_000)
      const calm = service.descriptors()
      proxy.become('none')
      await expect.poll(async () => (await exchange())?.status, { timeout: 10_000, interval: 200 }).toBe(200)
      expect(service.descriptors()).toBeLessThanOrEqual(calm + 3)
      // What is known serves while the issuer is away.
      proxy.become(fault)
      for (let i = 0; i < 5; i += 1) expect((await exchange())?.status).toBe(200)
    } finally {
      await site.close()
      await proxy.close()
    }
  })
})

describe('a bad connection from a verifier to the feed', () => {
  let site: Site
  let service: Replica
  let research: Client
  let admin: Client
  let asAlice: () => Record<string, string>
  beforeAll(async () => {
    site = await openSite()
    service = await site.start()
    research = await site.agent(service.base, 'research')
    admin = await site.admin(service.base)
    asAlice = await site.alice()
  })
  afterAll(() => site.close())

  it.concurrent.for(FAULTS)(
    'FI-4 L6 Inv1 Inv12 %s: past its bound it refuses as stale, then it is back, and what died meanwhile is dead',
    async (fault, { expect }) => {
      const proxy = await openProxy({ port: Number(new URL(service.base).port) })
      try {
        const bound = 1
        const verifier = await site.verifier(`http://127.0.0.1:${proxy.port}`, { stalenessSeconds: { read: bound } })
        const token = async () => {
          const proofKey = newKeyPair()
          const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey })
          return { text: String(reply.body['access_token']), proofKey }
        }
        const [honest, doomed] = [await token(), await token()]
        const look = async ({ text, proofKey }: typeof honest) => {
          const asked = performance.now()
          const verdict = await verdictOf(verifier, text, proofKey)
          return { verdict, ms: performance.now() - asked }
        }
        await expect.poll(async () => (await look(honest)).verdict).toBe('accepted')
        await expect.poll(async () => (await look(doomed)).verdict).toBe('accepted')
        proxy.become(fault)
        const { jti } = claimsOf(doomed.text)
        expect((await admin.call('POST', '/revocations', { match: { jti }, reason: 'a test' })).status).toBe(201)
        const revokedAt = performance.now()
        const seen: string[] = []
        const enough = () => performance.now() > revokedAt + 4_000 && seen.includes('revocation_state_stale')
        while (!enough() && performance.now() < revokedAt + 15_000) {
          const [first, second] = [await look(honest), await look(doomed)]
          seen.push(first.verdict)
          expect(['accepted', 'revocation_state_stale']).toContain(first.verdict)
          expect(['accepted', 'revocation_state_stale', 'revoked']).toContain(second.verdict)
          if (performance.now() - second.ms > revokedAt + bound * 1000) expect(second.verdict).not.toBe('accepted')
          // One shared fetch and its time-out at most.
          for (const { ms } of [first, second]) expect(ms).toBeLessThan(6_000)
          await pause(50)
        }
        expect(seen).toContain('revocation_state_stale')
        proxy.become('none')
        await expect.poll(async () => (await look(honest)).verdict, { timeout: 10_000 }).toBe('accepted')
        expect((await look(doomed)).verdict).toBe('revoked')
        await pause(1_000)
        expect(proxy.open()).toBeLessThan(20)
      } finally {
        await proxy.close()
      }
    },
  )
})
