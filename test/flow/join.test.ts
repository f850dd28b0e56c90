import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import type { JWK } from 'jose'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'
import { type Answer, decode, type House, type KeyPair, newKeyPair, openHouse, signJws } from '../house.ts'
import { GRANT } from '../../src/oauth/words.ts'

const JOINS = (text: string) => text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, join_token]')

describe('a join token', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({
      config: {
        'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
        'agents/research.yaml': JOINS,
        'agents/triage.yaml': JOINS,
      },
    })
  })
  afterAll(() => house.close())

  const offer = async (clientId = 'research', body: object = {}) => {
    const answer = await house.admin('POST', `/agents/${clientId}/join-tokens`, body)
    return { answer, token: String(answer.body['join_token']) }
  }
  const bring = async (
    token: string,
    key: KeyPair,
    { clientId = 'research', proof = {} }: { clientId?: string; proof?: object } = {},
  ): Promise<Answer> => {
    const path = `/agents/${clientId}/keys`
    return house.fetch('POST', path, {
      headers: { 'content-type': 'application/json', dpop: house.proof('', path, { key, ...proof }) },
      body: JSON.stringify({ join_token: token }),
    })
  }
  const attestWith = async (key: KeyPair, clientId = 'research', kid = house.thumbprint(key)) => {
    const research = await house.agent(clientId)
    return research.exchange({
      form: {
        audience: 'tickets',
        scope: 'tickets:read_ticket',
        client_assertion: house.assertionOf(clientId, { ...key, kid }),
      },
    })
  }
  const refusals = async () => (await house.records({ type: 'agent.join_refused' })).map(({ reason }) => reason)
  const joining = async () => (await house.records({ type: 'agent.joining' })).length

  // First: strangers are counted by second, and those of other tests would be counted with them.
  it('D21 tells strangers nothing, and holders of a token what became of it; nothing is lost either way', async () => {
    const key = newKeyPair()
    const { token } = await offer()
    const honest = async () => (await house.agent('research')).exchange({ form: { audience: 'tickets' } })
    const unknown = `errand_join_${'A'.repeat(43)}`
    const bare = { status: 403, error: 'access_denied', reason: 'not_a_token' }
    await strangersWithoutTrace(
      house,
      (
        [
          ['errand_join_', 'research'],
          [token.slice(0, -1), 'research'],
          [`${token} `, 'research'],
          [unknown, 'research'],
          [unknown, 'nobody'],
          [unknown, 'payments'],
        ] as const
      ).map(([each, clientId]) => ({
        ...bare,
        title: `${each} ${clientId}`,
        send: async () => {
          const answer = await bring(each, key, { clientId })
          expect(answer.body).toEqual({ error: 'access_denied', error_description: 'not permitted' })
          return answer
        },
      })),
      honest,
    )
    const told = { status: 403, error: 'access_denied', record: 'agent.join_refused' }
    const elsewhere = () => bring(token, key, { clientId: 'triage' })
    await refusedWithoutTrace(house, elsewhere, { ...told, reason: 'context_mismatch' }, honest)
    house.advance(600)
    await refusedWithoutTrace(house, () => bring(token, key), { ...told, reason: 'expired' }, honest)
    expect(await refusals()).toEqual(expect.arrayContaining(['context_mismatch', 'expired']))
    expect((await attestWith(key)).status).toBe(401)
  })

  it('F1 registers a key that attests the agent from then on, until it is removed', async () => {
    const key = newKeyPair()
    const kid = house.thumbprint(key)
    expect((await attestWith(key)).status).toBe(401)
    const { answer, token } = await offer()
    expect([answer.status, answer.headers.get('cache-control')]).toEqual([201, 'no-store'])
    expect(token).toMatch(/^errand_join_[\w-]{43}$/)
    expect(answer.body['expires_at']).toBe(house.now() + 600)

    const joined = await bring(token, key)
    expect(joined.status, joined.text).toBe(201)
    expect(joined.body).toMatchObject({ client_id: 'research', kid })
    const exchanged = await attestWith(key)
    expect(exchanged.status, exchanged.text).toBe(200)
    const { payload } = decode(String(exchanged.body['access_token']))
    expect(payload).toMatchObject({ client_id: 'research', att: { kind: 'join_token', tier: 'key' } })
    // The key of the registration goes on as before, also where an assertion does not name it.
    const research = await house.agent('research')
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
    const unnamed = research.assertion({}, { kid: undefined })
    expect((await research.exchange({ form: { audience: 'tickets', client_assertion: unnamed } })).status).toBe(200)

    const shown = await house.admin('GET', '/agents/research')
    expect(shown.body['joined_keys']).toEqual([{ kid, joined_at: house.now(), by: 'admin' }])
    const [intent] = await house.records({ type: 'agent.joining' })
    expect(intent).toMatchObject({ agent: 'research', by: 'admin', details: { kid } })

    const removed = await house.admin('POST', '/agents/research/keys/remove', { kid, reason: 'the host was lost' })
    expect(removed.status, removed.text).toBe(200)
    const late = await attestWith(key)
    expect([late.status, late.body['error']]).toEqual([401, 'invalid_client'])
    expect((await house.admin('POST', '/agents/research/keys/remove', { kid, reason: 'again' })).status).toBe(404)
    expect((await house.admin('GET', '/agents/research')).body['joined_keys']).toBeUndefined()
    // Nor does its token bring it back.
    const again = await bring(token, key)
    expect([again.status, again.body['reason']]).toEqual([403, 'evidence_replayed'])
  })

  it('F1 is spent by the first key, which may ask again, and by no other', async () => {
    const { token } = await offer()
    const [first, second] = [newKeyPair(), newKeyPair()]
    const before = await joining()
    const answers = await Promise.all([bring(token, first), bring(token, second)])
    expect(answers.map(({ status }) => status).sort()).toEqual([201, 403])
    const [mine, theirs] = answers[0]!.status === 201 ? [first, second] : [second, first]
    const same = await bring(token, mine)
    expect([same.status, same.body['kid']]).toEqual([201, house.thumbprint(mine)])
    const other = await bring(token, theirs)
    expect([other.status, other.body['error'], other.body['reason']]).toEqual([
      403,
      'access_denied',
      'evidence_replayed',
    ])
    expect(await refusals()).toContain('evidence_replayed')
    // Those that came at once both announced themselves; those that came later did not.
    expect((await joining()) - before).toBeLessThanOrEqual(2)
    expect((await attestWith(theirs)).status).toBe(401)
    expect((await attestWith(mine)).status).toBe(200)
  })

  it('F1 E1 needs a proof of the very key, fresh, for this address', async () => {
    const { token } = await offer()
    const key = newKeyPair()
    const path = '/agents/research/keys'
    const headers = { 'content-type': 'application/json' }
    const body = JSON.stringify({ join_token: token })
    const none = await house.fetch('POST', path, { headers, body })
    expect([none.status, none.body['reason']]).toEqual([401, 'proof_required'])
    const challenge = await bring(token, key, { proof: { nonce: null } })
    expect([challenge.status, challenge.body['error']]).toEqual([401, 'use_dpop_nonce'])
    expect(challenge.headers.get('dpop-nonce')).toBeTruthy()
    for (const proof of [
      { url: 'http://127.0.0.1:4460/agents/payments/keys' },
      { method: 'GET' },
      { header: { jwk: newKeyPair().publicJwk } },
      { nonce: 'x' },
    ]) {
      expect((await bring(token, key, { proof })).status).toBe(401)
    }
    const once = house.proof('', path, { key })
    const send = () => house.fetch('POST', path, { headers: { ...headers, dpop: once }, body })
    expect((await send()).status).toBe(201)
    const replayed = await send()
    expect([replayed.status, replayed.body['error']]).toEqual([401, 'invalid_dpop_proof'])
  })

  it('A17 E4 takes no key that it would not take elsewhere', async () => {
    const { token } = await offer()
    const path = '/agents/research/keys'
    const key = newKeyPair()
    const { x, ...rest } = key.publicJwk
    const bad: readonly JWK[] = [
      { ...key.publicJwk, x: Buffer.alloc(32, 1).toString('base64url') },
      { ...rest } as JWK,
      { kty: 'oct', k: 'c2VjcmV0' },
      key.privateKey.export({ format: 'jwk' }) as JWK,
    ]
    const before = await joining()
    for (const jwk of bad) {
      const dpop = signJws(
        { typ: 'dpop+jwt', jwk },
        { jti: crypto.randomUUID(), htm: 'POST', htu: `http://127.0.0.1:4460${path}`, iat: house.now() },
        key.privateKey,
      )
      const answer = await house.fetch('POST', path, {
        headers: { 'content-type': 'application/json', dpop },
        body: JSON.stringify({ join_token: token }),
      })
      expect(answer.status).toBe(401)
    }
    expect(await joining()).toBe(before)
    expect((await bring(token, key)).status).toBe(201)
    expect(x).toBeDefined()
  })

  it('F13 D18 is worth nothing to an agent that is banned, disabled, or not registered to join', async () => {
    const { token } = await offer('triage')
    const ban = await house.admin('POST', '/revocations', {
      match: { client_id: 'triage' },
      mode: 'ban',
      reason: 'compromised',
    })
    expect(ban.status, ban.text).toBe(201)
    const key = newKeyPair()
    const banned = await bring(token, key, { clientId: 'triage' })
    expect([banned.status, banned.body['reason']]).toEqual([403, 'banned'])
    expect((await offer('triage')).answer.body['reason']).toBe('banned')
    await house.admin('POST', `/revocations/${ban.body['id']}/readmit`, { reason: 'cleaned' })

    const file = house.config('agents/triage.yaml')
    const text = await readFile(file, 'utf8')
    await writeFile(file, `${text}disabled: true\n`)
    expect(await house.service.reload()).toBe(true)
    expect((await bring(token, key, { clientId: 'triage' })).body['reason']).toBe('agent_disabled')
    expect((await offer('triage')).answer.body['reason']).toBe('agent_disabled')
    await writeFile(file, text)
    expect(await house.service.reload()).toBe(true)
    // Nothing was spent on the way.
    expect((await bring(token, key, { clientId: 'triage' })).status).toBe(201)
    const works = async () => {
      const triage = await house.agent('triage')
      return triage.post({
        grant_type: GRANT.clientCredentials,
        audience: 'tickets',
        request_details: house.details(),
        client_assertion: house.assertionOf('triage', { ...key, kid: house.thumbprint(key) }),
      })
    }
    expect((await works()).status).toBe(200)
    await writeFile(file, text.replace(', join_token', ''))
    expect(await house.service.reload()).toBe(true)
    expect((await works()).status).toBe(401)
    await writeFile(file, text)
    expect(await house.service.reload()).toBe(true)

    const payments = await offer('payments')
    expect([payments.answer.status, payments.answer.body['reason']]).toEqual([400, 'evidence_not_registered'])
    expect((await offer('nobody')).answer.status).toBe(404)
    for (const lifetime_seconds of [0, 601, 1.5, '60', null])
      expect((await offer('research', { lifetime_seconds })).answer.status).toBe(400)
  })

  it('F1 the key of one agent is no key of another', async () => {
    const { token } = await offer()
    const key = newKeyPair()
    expect((await bring(token, key)).status).toBe(201)
    expect((await attestWith(key)).status).toBe(200)
    for (const [clientId, kid] of [
      ['triage', house.thumbprint(key)],
      ['payments', house.thumbprint(key)],
      ['research', 'x'.repeat(200)],
      ['research', house.thumbprint(newKeyPair())],
    ] as const) {
      expect((await attestWith(key, clientId, kid)).status).toBe(401)
    }
  })

  it('T1 is in no log and no record, and an agent or a tool cannot make one', async () => {
    const { token } = await offer()
    await bring(token, newKeyPair())
    expect(house.lines.join('')).not.toContain(token)
    expect(JSON.stringify(await house.records())).not.toContain(token)
    const research = await house.agent('research')
    expect((await research.call('POST', '/agents/research/join-tokens', {})).status).toBe(403)
    expect((await research.call('POST', '/agents/research/keys/remove', { kid: 'x', reason: 'why' })).status).toBe(403)
    expect((await house.fetch('POST', '/agents/research/join-tokens', { body: '{}' })).status).toBe(401)
  })
})

describe('an agent that begins anew', () => {
  it('F5 is not whoever holds a key that joined before', async () => {
    const house = await openHouse({ config: { 'agents/research.yaml': JOINS } })
    const research = await house.agent('research')
    const join = async (key: KeyPair) => {
      const made = await house.admin('POST', '/agents/research/join-tokens', {})
      const path = '/agents/research/keys'
      const joined = await house.fetch('POST', path, {
        headers: { 'content-type': 'application/json', dpop: house.proof('', path, { key }) },
        body: JSON.stringify({ join_token: made.body['join_token'] }),
      })
      expect(joined.status, joined.text).toBe(201)
      return () => {
        const assertion = house.assertionOf('research', { ...key, kid: house.thumbprint(key) })
        return research.exchange({ form: { audience: 'tickets', client_assertion: assertion } })
      }
    }
    const old = await join(newKeyPair())
    expect((await old()).status).toBe(200)
    house.advance(60)
    const file = house.config('agents/research.yaml')
    await writeFile(file, `${await readFile(file, 'utf8')}instance_since: ${house.now()}\n`)
    expect(await house.service.reload()).toBe(true)
    const own = await join(newKeyPair())
    // It signs as freshly as ever.
    const refused = { status: 401, error: 'invalid_client', reason: 'instance_epoch', stranger: true }
    await refusedWithoutTrace(house, old, refused, own)
    await house.close()
  })
})
