import { createHmac } from 'node:crypto'
import fc from 'fast-check'
import { beforeEach, describe, expect, it } from 'vitest'
import { type Attest, isSelfActor, spendEvidence } from '../../src/attest/attest.ts'
import { answerTo, type Result } from '../../src/oauth/refusal.ts'
import { ASSERTION, type AttestHouse, agent, assertion, createAttestHouse, ISSUER, signingKey } from './house.ts'
import { NOW } from './pki.ts'

let house: AttestHouse
beforeEach(async () => {
  house = await createAttestHouse()
})

const present = (token: string, more: Partial<Parameters<Attest>[0]> = {}) =>
  house.attest({ slot: 'client', assertion: { type: ASSERTION.jwtBearer, token }, ...more })
const reasonOf = (result: Result<unknown>) => (result.ok ? 'accepted' : result.refusal.reason)
const raw = (header: object | string, payload: object | string, signature = 'AA') =>
  [header, payload]
    .map((part) => Buffer.from(typeof part === 'string' ? part : JSON.stringify(part)).toString('base64url'))
    .concat(signature)
    .join('.')
const good = { iss: 'research', sub: 'research', aud: ISSUER, jti: 'j', iat: NOW, exp: NOW + 60 }

describe('private_key_jwt', () => {
  it('tells which agent it is, with tier key and something to spend', async () => {
    const result = await present(await assertion(house.key, 'research', {}, { typ: 'client-authentication+jwt' }))
    expect(result).toMatchObject({
      ok: true,
      value: { kind: 'private_key_jwt', tier: 'key', spiffeId: 'spiffe://company.example/agents/research' },
    })
    expect(result.ok && result.value.agent.clientId).toBe('research')
    expect(result.ok && result.value.oneUse).toBeDefined()
    expect(result.ok && result.value.keyThumbprint).toBeUndefined()
  })

  it('is accepted without kid where the agent has one key, and by Ed25519', async () => {
    const key = signingKey('ed', 'Ed25519')
    house.agents.set('research', agent('research', { keys: [key.jwk] }))
    expect(reasonOf(await present(await assertion(key, 'research', {}, { kid: undefined })))).toBe('accepted')
  })

  it('F1 one-use evidence is spent once, by (iss, jti) and whatever its signature', async () => {
    const first = await present(await assertion(house.key, 'research', { jti: 'once' }))
    const second = await present(await assertion(house.key, 'research', { jti: 'once', iat: NOW - 2 }))
    const other = await present(await assertion(house.key, 'research', { jti: 'twice' }))
    if (!first.ok || !second.ok || !other.ok) throw new Error('refused')
    const spend = (result: typeof first) => spendEvidence(result.value, house.replayGuard)
    expect((await spend(first)).ok).toBe(true)
    const again = await spend(second)
    expect(again).toMatchObject({ ok: false, refusal: { reason: 'evidence_replayed', slot: 'client' } })
    expect((await spend(other)).ok).toBe(true)
    // For as long as it could be accepted, and longer.
    expect(first.value.oneUse!.expiresAt).toBeGreaterThan(first.value.expiresAt)
  })

  it('E9 a replay guard that is away is not taken for consent', async () => {
    const result = await present(await assertion(house.key, 'research'))
    const away = { spend: () => Promise.reject(new Error('away')) }
    await expect(spendEvidence(result.ok ? result.value : {}, away)).rejects.toThrow('away')
  })
})

describe('refusals of client assertions', () => {
  const claims: readonly [string, Record<string, unknown>, string][] = [
    ['C3 aud is the token endpoint', { aud: `${ISSUER}/token` }, 'assertion_audience'],
    ['C3 aud is an array', { aud: [ISSUER] }, 'assertion_audience'],
    ['C3 aud is an array with another server', { aud: [ISSUER, 'https://evil.example'] }, 'assertion_audience'],
    ['C3 aud is another server', { aud: 'https://evil.example' }, 'assertion_audience'],
    ['C3 aud with another slash', { aud: `${ISSUER}/` }, 'assertion_audience'],
    ['C3 aud is absent', { aud: undefined }, 'assertion_audience'],
    ['A8 exp is absent', { exp: undefined }, 'bad_numeric_date'],
    ['A8 exp is text', { exp: '300' }, 'bad_numeric_date'],
    ['A8 exp is negative', { exp: -1 }, 'bad_numeric_date'],
    ['A8 exp is true', { exp: true }, 'bad_numeric_date'],
    ['A8 iat is a list', { iat: [NOW] }, 'bad_numeric_date'],
    ['A9 iat is 31 s ahead', { iat: NOW + 31, exp: NOW + 60 }, 'not_yet_valid'],
    ['A9 iat is 29 s ahead', { iat: NOW + 29, exp: NOW + 60 }, 'accepted'],
    ['A9 nbf is 31 s ahead', { nbf: NOW + 31 }, 'not_yet_valid'],
    ['A9 nbf is 29 s ahead', { nbf: NOW + 29 }, 'accepted'],
    ['A8 exp is now', { exp: NOW }, 'expired'],
    ['F6 it would live 301 s', { iat: NOW, exp: NOW + 301 }, 'evidence_lifetime'],
    ['F6 it would live 300 s', { iat: NOW, exp: NOW + 300 }, 'accepted'],
    ['F6 it would live 301 s and does not say since when', { iat: undefined, exp: NOW + 301 }, 'evidence_lifetime'],
    ['F1 jti is absent', { jti: undefined }, 'bad_claim'],
    ['F1 jti is empty', { jti: '' }, 'bad_claim'],
    ['F1 jti is a number', { jti: 7 }, 'bad_claim'],
    ['A11 sub is an object', { sub: { x: 1 } }, 'bad_subject'],
    ['A11 sub is empty', { sub: '' }, 'bad_subject'],
    ['A11 sub has 256 characters', { sub: 'a'.repeat(256) }, 'bad_subject'],
    ['A11 sub ends in a space', { sub: 'research ' }, 'bad_subject'],
    ['A11 sub holds NUL', { sub: 'research\0' }, 'bad_subject'],
    ['B7 iss is another than sub', { iss: 'payments' }, 'untrusted_issuer'],
    ['D21 the client is unknown', { iss: 'nobody', sub: 'nobody' }, 'unknown_client'],
    ['D21 the client is another, whose key this is not', { iss: 'payments', sub: 'payments' }, 'unknown_kid'],
  ]
  it.each(claims)('%s', async (_title, change, reason) => {
    const result = await present(await assertion(house.key, 'research', change))
    expect(reasonOf(result)).toBe(reason)
    if (result.ok) return
    expect(answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
    const api = await present(await assertion(house.key, 'research', change), { slot: 'api' })
    expect(reasonOf(api)).toBe(reason)
  })

  const headers: readonly [string, Record<string, unknown>, string][] = [
    ['A1 alg none', { alg: 'none' }, 'alg_not_allowed'],
    ['A1 alg None', { alg: 'None' }, 'alg_not_allowed'],
    ['A1 alg noNE', { alg: 'noNE' }, 'alg_not_allowed'],
    ['A1 alg empty', { alg: '' }, 'alg_not_allowed'],
    ['A1 alg absent', { alg: undefined }, 'alg_not_allowed'],
    ['A1 alg a list', { alg: ['ES256'] }, 'alg_not_allowed'],
    ['A1 alg of another key', { alg: 'EdDSA' }, 'alg_not_allowed'],
    ['A1 alg RS256', { alg: 'RS256' }, 'alg_not_allowed'],
    ['A12 crit empty', { crit: [] }, 'crit_unsupported'],
    ['A12 crit naming alg', { crit: ['alg'] }, 'crit_unsupported'],
    ['A12 b64 false', { b64: false }, 'crit_unsupported'],
    ['B1 kid with a path', { kid: '../../x' }, 'unknown_kid'],
    ['B1 kid with SQL', { kid: "' OR 1" }, 'unknown_kid'],
    ['B1 kid __proto__', { kid: '__proto__' }, 'unknown_kid'],
    ['B1 kid of 10 KB', { kid: 'k'.repeat(10_240) }, 'unknown_kid'],
    ['B1 kid a list', { kid: ['k1'] }, 'unknown_kid'],
    ['B2 jku', { jku: 'https://canary.example' }, 'header_forbidden'],
    ['B2 x5u', { x5u: 'https://canary.example' }, 'header_forbidden'],
    ['B2 x5c', { x5c: ['MIIB'] }, 'header_forbidden'],
    ['B2 jwk', { jwk: signingKey('x').jwk }, 'header_forbidden'],
    ['C1 an access token', { typ: 'at+jwt' }, 'wrong_typ'],
    ['C1 a DPoP proof', { typ: 'dpop+jwt' }, 'wrong_typ'],
    ['C2 a type with parameters', { typ: 'jwt;x=1' }, 'wrong_typ'],
    ['C2 a list as type', { typ: ['JWT'] }, 'wrong_typ'],
    ['A16 a signature of zeroes', {}, 'bad_signature'],
  ]
  it.each(headers)('%s', async (_title, change, reason) => {
    const token = raw({ alg: 'ES256', kid: 'k1', ...change }, good, Buffer.alloc(64).toString('base64url'))
    const result = await present(token)
    expect(reasonOf(result)).toBe(reason)
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
  })

  it('A2 a MAC made with our knowledge of the public key is no signature', async () => {
    const { jwk } = house.key
    for (const secret of [JSON.stringify(jwk), String(jwk.x), '']) {
      const input = raw({ alg: 'HS256', kid: 'k1' }, good, '').slice(0, -1)
      const mac = createHmac('sha256', secret || ' ')
        .update(input)
        .digest('base64url')
      expect(reasonOf(await present(`${input}.${mac}`))).toBe('alg_not_allowed')
    }
  })

  it('A4 A5 A6 A7 A10 A13 text that two readers could read differently', async () => {
    const token = await assertion(house.key, 'research')
    const [header, payload, signature] = token.split('.') as [string, string, string]
    expect(reasonOf(await present(`${token}=`))).toBe('noncanonical_encoding')
    expect(reasonOf(await present(`${token} `))).toBe('noncanonical_encoding')
    expect(reasonOf(await present(JSON.stringify({ payload, protected: header, signature })))).toBe('jws_not_compact')
    expect(reasonOf(await present(`${token}.a.b`))).toBe('jwe_not_accepted')
    const twice = raw({ alg: 'ES256', kid: 'k1' }, `{"sub":"research",${JSON.stringify(good).slice(1)}`)
    expect(reasonOf(await present(twice))).toBe('duplicate_member')
    const proto = raw({ alg: 'ES256', kid: 'k1' }, `{"__proto__":{"x":1},${JSON.stringify(good).slice(1)}`)
    expect(reasonOf(await present(proto))).toBe('unknown_claim')
    expect(({} as Record<string, unknown>)['x']).toBeUndefined()
    const large = await present('a'.repeat(16_385))
    expect(reasonOf(large)).toBe('token_too_large')
    expect(!large.ok && answerTo(large.refusal).status).toBe(413)
  })

  it('A17 a registered key that is unfit is refused, also with a good signature', async () => {
    const { alg: _alg, ...jwk } = house.key.jwk
    house.agents.set('research', agent('research', { keys: [{ ...jwk, use: 'enc' }] }))
    expect(reasonOf(await present(await assertion(house.key, 'research')))).toBe('bad_key')
  })

  it('no changed byte of a good assertion is accepted', async () => {
    const token = await assertion(house.key, 'research')
    await fc.assert(
      fc.asyncProperty(fc.nat(token.length - 1), fc.integer({ min: 1, max: 127 }), async (at, flip) => {
        const changed = Buffer.from(token)
        changed[at]! ^= flip
        const result = await present(changed.toString('latin1'))
        // An ECDSA signature is not unique, its (iss, jti) is; one changed byte never makes the other one.
        expect(result.ok).toBe(false)
      }),
      { numRuns: 1500 },
    )
  })
})

describe('what the registration has against good evidence', () => {
  it('a kind that is not registered is refused, and the agent is told', async () => {
    house.agents.set('research', agent('research', { keys: [house.key.jwk], evidence: ['x509_svid'] }))
    const result = await present(await assertion(house.key, 'research'))
    expect(result).toMatchObject({ ok: false, refusal: { reason: 'evidence_not_registered', proven: true } })
  })

  it('a tier below the registered one is refused', async () => {
    house.agents.set('research', agent('research', { keys: [house.key.jwk], minimumTier: 'platform' }))
    expect(reasonOf(await present(await assertion(house.key, 'research')))).toBe('evidence_not_registered')
  })

  it('D21 an agent that is disabled, unknown, or whose signature is wrong gets one and the same answer', async () => {
    house.agents.set('asleep', agent('asleep', { keys: [house.key.jwk], disabled: true }))
    const stranger = signingKey('k1')
    const results = [
      await present(await assertion(house.key, 'asleep')),
      await present(await assertion(house.key, 'nobody')),
      await present(await assertion(stranger, 'research')),
      await present(await assertion(signingKey('k9'), 'research')),
    ]
    expect(results.map(reasonOf)).toEqual(['agent_disabled', 'unknown_client', 'bad_signature', 'unknown_kid'])
    for (const result of results) {
      if (result.ok) throw new Error('accepted')
      const { detail, explanation, proven = false } = result.refusal
      expect({ ...answerTo(result.refusal), detail, explanation, proven }).toEqual({
        status: 401,
        error: 'invalid_client',
        detail: undefined,
        explanation: undefined,
        proven: false,
      })
    }
  })

  it('D13 a client_id of another agent does not belong to the evidence', async () => {
    const result = await present(await assertion(house.key, 'research'), { clientId: 'payments' })
    expect(reasonOf(result)).toBe('context_mismatch')
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 400, error: 'invalid_request' })
    expect(reasonOf(await present(await assertion(house.key, 'research'), { clientId: 'research' }))).toBe('accepted')
  })

  it('F5 evidence from before the agent became who it is, is refused', async () => {
    house.agents.set('research', agent('research', { keys: [house.key.jwk], instanceSince: NOW - 10 }))
    expect(reasonOf(await present(await assertion(house.key, 'research', { iat: NOW - 11 })))).toBe('instance_epoch')
    expect(reasonOf(await present(await assertion(house.key, 'research', { iat: undefined })))).toBe('instance_epoch')
    expect(reasonOf(await present(await assertion(house.key, 'research', { iat: NOW - 10 })))).toBe('accepted')
  })
})

describe('which kind it is', () => {
  it('an assertion type that is not the evidence’s is refused', async () => {
    const key = await assertion(house.key, 'research')
    const svid = await house.domain.jwtSvid('/agents/research', ISSUER)
    const ask = (type: string, token: string) => house.attest({ slot: 'client', assertion: { type, token } })
    expect(reasonOf(await ask(ASSERTION.jwtSpiffe, key))).toBe('wrong_typ')
    expect(reasonOf(await ask(ASSERTION.jwtBearer, svid))).toBe('wrong_typ')
    expect(reasonOf(await ask('urn:other', key))).toBe('wrong_typ')
    expect(reasonOf(await ask(ASSERTION.jwtSpiffe, svid))).toBe('accepted')
  })

  it('C9 nothing presented is no authentication', async () => {
    const result = await house.attest({ slot: 'client' })
    expect(reasonOf(result)).toBe('client_auth_required')
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 401, error: 'invalid_client' })
  })

  it('as an actor token bad evidence is an invalid request', async () => {
    const token = await assertion(house.key, 'nobody')
    const result = await house.attest({ slot: 'actor_token', assertion: { token } })
    expect(!result.ok && answerTo(result.refusal)).toEqual({ status: 400, error: 'invalid_request' })
  })

  it('C5 one token is one token under another encoding of its signature', () => {
    expect(isSelfActor('aa.bb.cc', 'aa.bb.dd')).toBe(true)
    expect(isSelfActor('aa.bb.cc', 'aa.bd.cc')).toBe(false)
  })
})

describe('machine clients', () => {
  it('a tool authenticates by its key, an agent does not pass for one, nor the other way round', async () => {
    const toolKey = signingKey('t1')
    const tool = {
      clientId: 'tickets',
      kind: 'tool',
      keys: [toolKey.jwk],
      audience: 'https://tickets.example',
    } as const
    house = await createAttestHouse([tool])
    const ask = async (token: string, more = {}) =>
      house.authenticateMachine({ slot: 'api', assertion: { token }, ...more })
    const result = await ask(await assertion(toolKey, 'tickets'))
    expect(result).toMatchObject({ ok: true, value: { machine: { clientId: 'tickets' } } })
    expect(result.ok && result.value.keyThumbprint).toMatch(/^[\w-]{43}$/)
    expect(reasonOf(await ask(await assertion(house.key, 'research')))).toBe('unknown_client')
    expect(reasonOf(await present(await assertion(toolKey, 'tickets')))).toBe('unknown_client')
    expect(reasonOf(await ask(await assertion(signingKey('t1'), 'tickets')))).toBe('bad_signature')
    expect(reasonOf(await ask(await assertion(toolKey, 'tickets'), { clientId: 'crm' }))).toBe('context_mismatch')
    expect(reasonOf(await house.authenticateMachine({ slot: 'api' }))).toBe('client_auth_required')
    const typed = { type: ASSERTION.jwtSpiffe, token: await assertion(toolKey, 'tickets') }
    expect(reasonOf(await house.authenticateMachine({ slot: 'client', assertion: typed }))).toBe('wrong_typ')
  })
})
