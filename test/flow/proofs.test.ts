import { createHash, randomBytes } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { Unavailable } from '../../src/oauth/refusal.ts'
import { decode, type House, newKeyPair, openHouse, signJws } from '../house.ts'
import { openReplicas, type Site } from '../replicas.ts'
import { redisIsHere } from '../store/redis-server.ts'
import { generateKeyPairSync } from '../key-pairs.ts'

const MANY = { 'errand.yaml': (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n` }
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }

describe('a proof at the token endpoint', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({ config: MANY })
  })
  afterAll(() => house.close())

  /** What must not have been made: tokens, tasks and records of intent. */
  const made = async () => ({
    intents: (await house.records({ type: 'token.issuing' })).length,
    tasks: (await house.service.stores.tasks.list({ limit: 500 })).length,
  })

  it('E2 names this endpoint and this method, whatever a header claims', async () => {
    const research = await house.agent('research')
    const before = await made()
    const other = 'http://127.0.0.1:4460'
    const refused: readonly [string, object, string][] = [
      ['another path', { url: `${other}/introspect` }, 'htu'],
      ['an escaped slash', { url: `${other}%2Ftoken` }, 'htu'],
      ['two slashes', { url: `${other}//token` }, 'htu'],
      ['an escaped letter', { url: `${other}/%74oken` }, 'htu'],
      ['a dot segment', { url: `${other}/x/../token/` }, 'htu'],
      ['another host', { url: 'http://evil.example/token' }, 'htu'],
      ['another scheme', { url: 'https://127.0.0.1:4460/token' }, 'htu'],
      ['another port', { url: 'http://127.0.0.1/token' }, 'htu'],
      ['userinfo', { url: 'http://a@127.0.0.1:4460/token' }, 'htu'],
      ['no URL', { claims: { htu: undefined } }, 'htu'],
      ['another method', { method: 'GET' }, 'htm'],
      ['a method in lower case', { method: 'post' }, 'htm'],
    ]
    for (const [what, proof, reason] of refused) {
      const answer = await research.exchange({
        form: TICKETS,
        proof,
        headers: { 'x-forwarded-host': 'evil.example', 'x-forwarded-proto': 'https', host: 'evil.example' },
      })
      expect([what, answer.status, answer.body['error']]).toEqual([what, 400, 'invalid_dpop_proof'])
      expect(house.lines.at(-1)).toMatch(new RegExp(`"reason":"(${reason}|proof_invalid)"`))
    }
    expect(await made()).toEqual(before)
    for (const url of [`${other}/token?x=1`, `${other}/token#x`, 'HTTP://127.0.0.1:4460/token']) {
      const answer = await research.exchange({ form: TICKETS, proof: { url } })
      expect([url, answer.status]).toEqual([url, 200])
    }
  })

  it('E4 is made with an asymmetric key that it shows without its private part', async () => {
    const research = await house.agent('research')
    const before = await made()
    const pair = newKeyPair()
    const withD = { ...pair.privateKey.export({ format: 'jwk' }) }
    const p384 = generateKeyPairSync('ec', { namedCurve: 'P-384' })
    const refused: readonly [string, object][] = [
      ['a private key', { header: { jwk: withD } }],
      ['a symmetric key', { header: { alg: 'HS256', jwk: { kty: 'oct', k: 'AAAA' } } }],
      ['no signature', { header: { alg: 'none' } }],
      ['another curve', { header: { jwk: p384.publicKey.export({ format: 'jwk' }) } }],
      ['another key', { header: { jwk: pair.publicJwk } }],
      ['no key', { header: { jwk: undefined } }],
      ['a key by reference', { header: { kid: 'x', jwk: undefined } }],
      ['a key from elsewhere', { header: { jku: 'https://evil.example/jwks' } }],
      ['another kind', { header: { typ: 'JWT' } }],
    ]
    for (const [what, proof] of refused) {
      const answer = await research.exchange({ form: TICKETS, proof })
      expect([what, answer.status, answer.body['error']]).toEqual([what, 400, 'invalid_dpop_proof'])
    }
    expect(await made()).toEqual(before)
  })

  it('E5 carries a nonce that we gave to this client a moment ago', async () => {
    const research = await house.agent('research')
    const triage = await house.agent('triage')
    await house.learnNonce('triage')
    const before = await made()
    const own = house.nonces.get('research') ?? (await house.learnNonce('research'))
    const refused: readonly [string, string | null][] = [
      ['none', null],
      ['invented', 'x'.repeat(20)],
      ['of another client', house.nonces.get('triage')!],
      ['with a letter more', `${own}A`],
    ]
    for (const [what, nonce] of refused) {
      const answer = await research.exchange({ form: TICKETS, proof: { nonce } })
      expect([what, answer.status, answer.body['error']]).toEqual([what, 400, 'use_dpop_nonce'])
      expect(answer.headers.get('dpop-nonce')).toMatch(/^[0-9a-z]+\.[A-Za-z0-9_-]{22}$/)
    }
    expect(await made()).toEqual(before)
    const old = await house.learnNonce('research')
    house.advance(60)
    expect((await research.exchange({ form: TICKETS, proof: { nonce: old } })).status).toBe(200)
    house.advance(60)
    const stale = await research.exchange({ form: TICKETS, proof: { nonce: old } })
    expect([stale.status, stale.body['error']]).toEqual([400, 'use_dpop_nonce'])
    // The challenge brings one that works.
    const fresh = stale.headers.get('dpop-nonce')!
    expect((await research.exchange({ form: TICKETS, proof: { nonce: fresh } })).status).toBe(200)
    expect((await triage.call('GET', '/agents/triage')).status).toBe(200)
  })

  it('E5 at our own JSON endpoints a stale nonce is a 401 with the scheme, and the next try succeeds', async () => {
    const stale = await house.fetch('GET', '/agents', {
      headers: {
        authorization: `ClientAssertion ${house.assertionOf('admin', house.adminKey)}`,
        dpop: house.proof('admin', '/agents', {
          key: house.adminKey,
          method: 'GET',
          nonce: 'old.AAAAAAAAAAAAAAAAAAAAAA',
        }),
      },
    })
    expect([stale.status, stale.body['error'], stale.headers.get('www-authenticate')]).toEqual([
      401,
      'use_dpop_nonce',
      'DPoP error="use_dpop_nonce"',
    ])
    house.nonces.set('admin', stale.headers.get('dpop-nonce')!)
    expect((await house.admin('GET', '/agents')).status).toBe(200)
  })

  it('E1 is good once: of the same proof sent twice at once one is answered', async () => {
    const research = await house.agent('research')
    await house.learnNonce('research')
    const dpop = house.proof('research', '/token', { key: research.proofKey })
    const answers = await Promise.all(
      [1, 2, 3].map(() => research.exchange({ form: TICKETS, proofKey: null, headers: { dpop } })),
    )
    expect(answers.map(({ status }) => status).sort()).toEqual([200, 400, 400])
    expect(answers.find(({ status }) => status === 400)?.body['error']).toBe('invalid_dpop_proof')
    expect(house.lines.filter((line) => line.includes('proof_replayed'))).toHaveLength(2)
    // Under another signature over the same claims it is the same proof.
    const { header, payload } = decode(dpop)
    const again = signJws(header, payload, research.proofKey.privateKey)
    expect(again).not.toBe(dpop)
    const answer = await research.exchange({ form: TICKETS, proofKey: null, headers: { dpop: again } })
    expect([answer.status, answer.body['error']]).toEqual([400, 'invalid_dpop_proof'])
  })

  it('F1 an assertion is good once, at whichever endpoint, and a refused proof does not spend it', async () => {
    const research = await house.agent('research')
    await house.learnNonce('research')
    const assertion = research.assertion()
    const wrong = await research.exchange({
      form: { ...TICKETS, client_assertion: assertion },
      proof: { method: 'GET' },
    })
    expect(wrong.status).toBe(400)
    const first = await research.exchange({ form: { ...TICKETS, client_assertion: assertion } })
    expect(first.status, first.text).toBe(200)
    const second = await research.exchange({ form: { ...TICKETS, client_assertion: assertion } })
    expect([second.status, second.body['error'], second.body['reason']]).toEqual([401, 'invalid_client', undefined])
    expect(house.lines.at(-1)).toContain('evidence_replayed')
    const elsewhere = await house.fetch('GET', '/agents/research', {
      headers: { authorization: `ClientAssertion ${assertion}` },
    })
    expect([elsewhere.status, elsewhere.body['error']]).toEqual([401, 'invalid_token'])
  })

  it('E9 when it cannot be known whether a proof is fresh nothing is issued, and nothing is lost', async () => {
    const research = await house.agent('research')
    const before = await made()
    const guard = house.service.stores.replayGuard
    const { spend } = guard
    const away = async (): Promise<boolean> => {
      throw new Unavailable('replay_guard_unavailable', 'full')
    }
    Object.assign(guard, { spend: away })
    const answer = await research.exchange({ form: TICKETS })
    Object.assign(guard, { spend })
    expect([answer.status, answer.body['error']]).toEqual([503, 'temporarily_unavailable'])
    expect(answer.headers.get('retry-after')).toBe('1')
    expect(await made()).toEqual(before)
    expect((await research.exchange({ form: TICKETS })).status).toBe(200)
  })

  it('E13 E7 a token is renewed with the key it is bound to, and with no other', async () => {
    const research = await house.agent('research')
    const first = await research.exchange({ form: TICKETS })
    const token = String(first.body['access_token'])
    const before = await made()
    const other = await research.from(token, TICKETS, { proofKey: newKeyPair() })
    expect([other.status, other.body['reason']]).toEqual([400, 'cnf_mismatch'])
    const none = await research.from(token, TICKETS, { proofKey: null })
    expect([none.status, none.body['error']]).toEqual([400, 'invalid_request'])
    expect(await made()).toEqual(before)
    const renewed = await research.from(token, TICKETS)
    expect(renewed.status, renewed.text).toBe(200)
    expect(decode(String(renewed.body['access_token'])).payload['cnf']).toEqual({
      jkt: house.thumbprint(research.proofKey),
    })
  })

  it('E7 an administrator proves possession of the registered key itself', async () => {
    await house.learnNonce('admin')
    const thief = newKeyPair()
    const answer = await house.fetch('GET', '/agents', {
      headers: {
        authorization: `ClientAssertion ${house.assertionOf('admin', house.adminKey)}`,
        dpop: house.proof('admin', '/agents', { key: thief, method: 'GET' }),
      },
    })
    expect([answer.status, answer.body['error']]).toEqual([401, 'invalid_dpop_proof'])
    expect(house.lines.at(-1)).toContain('key_switch')
  })

  it('E3 an ath where no access token is presented changes nothing', async () => {
    const research = await house.agent('research')
    const ath = createHash('sha256').update(randomBytes(8)).digest('base64url')
    expect((await research.exchange({ form: TICKETS, proof: { claims: { ath } } })).status).toBe(200)
  })
})

describe.skipIf(!redisIsHere())('two replicas over one Redis', () => {
  let site: Site
  let houses: Site['houses']
  beforeAll(async () => {
    site = await openReplicas()
    houses = site.houses
  }, 60_000)
  afterAll(() => site.close())

  it('E1 one proof at two replicas at once: one is answered, the other says it was replayed', async () => {
    const [here, there] = houses
    for (let round = 0; round < 10; round += 1) {
      const [a, b] = await Promise.all(houses.map((house) => house.agent('research')))
      await here.learnNonce('research')
      const dpop = here.proof('research', '/token', { key: a!.proofKey })
      const answers = await Promise.all(
        [a!, b!].map((agent) => agent.exchange({ form: TICKETS, proofKey: null, headers: { dpop } })),
      )
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 400])
    }
    expect([...here.lines, ...there.lines].filter((line) => line.includes('proof_replayed'))).toHaveLength(10)
  })

  it('F1 one assertion at two replicas at once: one is answered', async () => {
    for (let round = 0; round < 10; round += 1) {
      const [a, b] = await Promise.all(houses.map((house) => house.agent('research')))
      for (const house of houses) await house.learnNonce('research')
      const client_assertion = a!.assertion()
      const answers = await Promise.all(
        [a!, b!].map((agent) => agent.exchange({ form: { ...TICKETS, client_assertion } })),
      )
      expect(answers.map(({ status }) => status).sort()).toEqual([200, 401])
    }
  })

  it('L15 a ban at one replica stops issuing at the other in the same step', async () => {
    const [here, there] = houses
    const triage = await there.agent('triage')
    const grant = { grant_type: 'client_credentials', audience: 'tickets', request_details: there.details() }
    expect((await triage.post(grant)).status).toBe(200)
    const ban = await here.admin('POST', '/revocations', { match: { client_id: 'triage' }, reason: 'stolen key' })
    expect(ban.status, ban.text).toBe(201)
    const refused = await triage.post(grant)
    expect([refused.status, refused.body['reason']]).toEqual([400, 'banned'])
    expect(
      (await there.admin('POST', `/revocations/${ban.body['id']}/readmit`, { reason: 'key replaced' })).status,
    ).toBe(200)
    expect((await triage.post(grant)).status).toBe(200)
  })

  it('a token made at one replica is known at the other', async () => {
    const [here, there] = houses
    const research = await here.agent('research')
    const token = String((await research.exchange({ form: TICKETS })).body['access_token'])
    const tickets = await there.tool('tickets')
    expect((await tickets.form('/introspect', { token })).body['active']).toBe(true)
    expect((await tickets.form('/revoke', { token })).status).toBe(200)
    expect((await (await here.tool('tickets')).form('/introspect', { token })).body['active']).toBe(false)
  })
})
