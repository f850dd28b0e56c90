/** Kills the whole service again and again under load; what clients were told must be true each time. */
import { setTimeout as pause } from 'node:timers/promises'
import { join } from 'node:path'
import { expect } from 'vitest'
import { checkAuditLog } from '../../src/audit/checker.ts'
import { GRANT } from '../../src/oauth/words.ts'
import { newKeyPair } from '../house.ts'
import { aliceAsks, type Client, claimsOf, clientOf, newPlace, type Place, type Reply } from './real-process.ts'

/** Mulberry32: the same seed is the same run, as far as two processes can be. */
function randomFrom(seed: number): () => number {
  let state = seed
  return () => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296
  }
}

interface History {
  /** Every token that a client received, by jti. */
  readonly tokens: Map<string, { readonly token: string; readonly exp: number }>
  /** Revocations by jti that were acknowledged. */
  readonly revoked: Set<string>
  /** Assertions that were used up by an answered request, newest last. */
  readonly spent: { readonly client: Client; readonly assertion: string; readonly at: number }[]
  /** Requests whose answer was lost, with their Idempotency-Key. */
  readonly lost: { readonly client: Client; readonly key: string; readonly fields: Readonly<Record<string, string>> }[]
  readonly tasks: Set<string>
}

/** Asks until the connection breaks. Nothing but success or a lost answer may come of it. */
async function load(client: Client, ask: () => Record<string, string>, history: History, name: string): Promise<void> {
  for (let i = 0; ; i += 1) {
    const fields = ask()
    const key = `retry-${name}-${i}`
    let reply: Awaited<ReturnType<Client['token']>>
    try {
      reply = await client.token(fields, { proofKey: client.proofKey, idempotencyKey: key })
    } catch {
      history.lost.push({ client, key, fields })
      return
    }
    expect([reply.status, reply.body['error_description']]).toEqual([200, undefined])
    const token = String(reply.body['access_token'])
    const { jti, exp } = claimsOf(token)
    history.tokens.set(String(jti), { token, exp: Number(exp) })
    history.tasks.add(String(reply.body['task_id']))
    history.spent.push({ client, assertion: reply.spent, at: Date.now() })
  }
}

/** Revokes one token after another until the connection breaks. */
async function revokeSome(admin: Client, history: History): Promise<void> {
  for (;;) {
    const jti = [...history.tokens.keys()].find((each) => !history.revoked.has(each))
    try {
      if (jti === undefined) await admin.call('GET', '/config')
      else {
        const { status } = await admin.call('POST', '/revocations', { match: { jti }, reason: 'a token in ten' })
        if (status === 201) history.revoked.add(jti)
      }
    } catch {
      return
    }
    await pause(15)
  }
}

/** Every record from `from` on, over the service's own API. */
async function recordsSince(admin: Client, from: number): Promise<readonly Reply['body'][]> {
  const records: Reply['body'][] = []
  for (;;) {
    const page = await admin.call('GET', `/audit/records?from=${from + records.length}&limit=1000`)
    expect(page.status).toBe(200)
    const more = page.body['records'] as Reply['body'][]
    records.push(...more)
    if (more.length < 1000) return records
  }
}

export async function killService(rounds: number, seed = Date.now() % 1_000_000): Promise<{ readonly tokens: number }> {
  console.log(`kill loop: seed ${seed}, ${rounds} rounds`)
  const random = randomFrom(seed)
  const place: Place = await newPlace((file, text) =>
    file === 'errand.yaml'
      ? `${text}\nbounds: { strangers_per_second_per_source: 100000, requests_per_second_per_client: 100000 }\nlog: { level: error }\n`
      : text,
  )
  const history: History = { tokens: new Map(), revoked: new Set(), spent: [], lost: [], tasks: new Set() }
  const intents = new Map<string, number>()
  let read = 0
  let running = await place.serve()
  try {
    const alice = await aliceAsks(place)
    const clients = await Promise.all(
      ['research', 'payments', 'triage'].map((id) => clientOf(place, `agents/${id}.jwk`, id)),
    )
    const [research, payments, triage] = clients as [Client, Client, Client]
    const admin = await clientOf(place, 'admin.jwk', 'admin')
    const tickets = await clientOf(place, 'tools/tickets.jwk', 'tool:tickets')
    const asUser = () => ({ ...alice(), audience: 'tickets', scope: 'tickets:read_ticket' })
    const alone = () => {
      const { request_details = '' } = alice()
      return { grant_type: GRANT.clientCredentials, request_details, audience: 'tickets' }
    }

    const told = async (round: number): Promise<void> => {
      for (const { type, jti } of await recordsSince(admin, read).then((all) => {
        read += all.length
        return all
      })) {
        if (type === 'token.issuing') intents.set(String(jti), (intents.get(String(jti)) ?? 0) + 1)
      }
      // Inv3, R6: every token that a client holds has exactly one record of its intent.
      const unwritten = [...history.tokens.keys()].filter((jti) => intents.get(jti) !== 1)
      expect({ seed, round, unwritten }).toEqual({ seed, round, unwritten: [] })

      // Inv2, Inv6: what was acknowledged as revoked is; what was not is not.
      const alive = [...history.tokens].filter(([, { exp }]) => exp > Date.now() / 1000 + 5)
      for (const [jti, { token }] of alive.slice(-40)) {
        const { body } = await tickets.form('/introspect', { token })
        // A revocation whose answer was lost may have been written: only what was acknowledged is certain.
        if (history.revoked.has(jti)) expect({ seed, round, jti, ...body }).toEqual({ seed, round, jti, active: false })
      }
      // F1: evidence that was used up before is used up after.
      for (const { client, assertion, at } of history.spent.slice(-3)) {
        if (Date.now() - at > 90_000) continue
        const again = await client.token(asUser(), { proofKey: newKeyPair(), reuse: assertion })
        expect([again.status, again.body['error']]).toEqual([401, 'invalid_client'])
      }
    }

    for (let round = 0; round < rounds; round += 1) {
      const work = Promise.all([
        load(research, asUser, history, `r${round}-a`),
        load(research, asUser, history, `r${round}-b`),
        load(payments, asUser, history, `r${round}-c`),
        load(triage, alone, history, `r${round}-d`),
        revokeSome(admin, history),
      ])
      // Looked at after the kill, wherever it fails.
      work.catch(() => undefined)
      await pause(50 + Math.floor(random() * 700))
      running.signal('SIGKILL')
      expect(await running.ended).toBe('SIGKILL')
      await work
      running = await place.serve()
      await told(round)
    }

    // P1, D20: whose answer was lost asks again with its key, and gets what the first try was recorded to give.
    const before = new Set(intents.keys())
    for (const { client, key, fields } of history.lost.slice(-4)) {
      let retry = await client.token(fields, { proofKey: client.proofKey, idempotencyKey: key })
      // The claim of the process that died lapses by itself.
      for (let tries = 0; retry.status === 503 && tries < 30; tries += 1) {
        await pause(500)
        retry = await client.token(fields, { proofKey: client.proofKey, idempotencyKey: key })
      }
      expect([retry.status, retry.body['error_description']]).toEqual([200, undefined])
      const { jti, exp } = claimsOf(retry.body['access_token'])
      history.tokens.set(String(jti), { token: String(retry.body['access_token']), exp: Number(exp) })
    }
    await told(rounds)
    expect(before.size).toBeLessThanOrEqual(intents.size)

    running.signal('SIGTERM')
    expect(await running.ended).toBe(0)
    // Inv8
    expect(await checkAuditLog({ folder: join(place.folder, 'data', 'audit') })).toMatchObject({ ok: true, damage: [] })
    expect(history.tokens.size).toBeGreaterThan(rounds)
    expect(history.revoked.size).toBeGreaterThan(0)
    return { tokens: history.tokens.size }
  } finally {
    running.signal('SIGKILL')
    await running.ended
    await place.remove()
  }
}
