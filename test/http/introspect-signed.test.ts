/** Signed answers of introspection (RFC 9701), read by a library that is not ours. */
import { createLocalJWKSet, type JSONWebKeySet, jwtVerify } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type Answer, decode, type House, ISSUER, openHouse } from '../house.ts'
import { strangersWithoutTrace } from '../nothing-lost.ts'

const TYPE = 'application/token-introspection+jwt'

describe('a signed answer of introspection', () => {
  let house: House
  let research: Awaited<ReturnType<House['agent']>>
  let tickets: Awaited<ReturnType<House['tool']>>
  let crm: Awaited<ReturnType<House['tool']>>
  beforeAll(async () => {
    house = await openHouse()
    research = await house.agent('research')
    tickets = await house.tool('tickets')
    crm = await house.tool('crm')
  })
  afterAll(() => house.close())

  const honest = () => research.exchange({ form: { audience: 'tickets' } })
  const token = async () => String((await honest()).body['access_token'])
  const read = async ({ text }: Answer, audience: string) => {
    const keys = (await house.fetch('GET', '/.well-known/jwks.json')).body as unknown as JSONWebKeySet
    const currentDate = new Date(house.now() * 1000)
    return jwtVerify(text, createLocalJWKSet(keys), {
      issuer: ISSUER,
      audience,
      typ: TYPE,
      algorithms: ['ES256'],
      currentDate,
    })
  }

  it('says the same as the plain one, to its asker alone, by a key that signs nothing else', async () => {
    const mine = await token()
    const plain = await tickets.form('/introspect', { token: mine })
    const signed = await tickets.form('/introspect', { token: mine }, { accept: TYPE })
    expect([signed.status, signed.headers.get('content-type'), signed.headers.get('cache-control')]).toEqual([
      200,
      TYPE,
      'no-store',
    ])
    const { payload, protectedHeader } = await read(signed, 'tool:tickets')
    // Neither `sub` nor `exp` at the top: nobody takes it for a token (RFC 9701 §5).
    expect(payload).toEqual({ iss: ISSUER, aud: 'tool:tickets', iat: house.now(), token_introspection: plain.body })
    expect(plain.body).toMatchObject({ active: true, sub: 'dev|alice' })
    await expect(read(signed, 'tool:crm')).rejects.toThrow('aud')
    const { keys } = (await house.fetch('GET', '/.well-known/jwks.json')).body as unknown as JSONWebKeySet
    expect(keys.find(({ kid }) => kid === protectedHeader.kid)).toMatchObject({ errand_use: 'status' })
    expect(decode(mine).header['kid']).not.toBe(protectedHeader.kid)
    const metadata = await house.fetch('GET', '/.well-known/oauth-authorization-server')
    expect(metadata.body['introspection_signing_alg_values_supported']).toEqual(['ES256'])
  })

  it.each([
    [`${TYPE};q=0.5, application/json`, false],
    [`application/json;q=0.5, ${TYPE}`, true],
    [`application/json, ${TYPE}`, true],
    [`*/*, ${TYPE};q=0`, false],
    ['*/*', false],
    ['application/*', false],
    ['application/jwt', false],
  ])('is given to Accept: %s? %s', async (accept, signed) => {
    const answer = await tickets.form('/introspect', { token: await token() }, { accept })
    expect([answer.status, answer.headers.get('content-type') === TYPE]).toEqual([200, signed])
    expect(answer.headers.get('vary')).toBe('Accept')
    if (!signed) expect(answer.body['active']).toBe(true)
  })

  it('C8 says no more than active: false of what is revoked, of another audience, or nothing at all', async () => {
    const mine = await token()
    const index = house.service.log.size
    const others = await crm.form('/introspect', { token: mine }, { accept: TYPE })
    expect((await read(others, 'tool:crm')).payload['token_introspection']).toEqual({ active: false })
    const [record] = await house.service.log.from(index, 10)
    expect([record?.reason, record?.['by']]).toEqual(['caller_not_audience', 'tool:crm'])
    const none = await tickets.form('/introspect', { token: 'a.b.c' }, { accept: TYPE })
    expect((await read(none, 'tool:tickets')).payload['token_introspection']).toEqual({ active: false })
    await tickets.form('/revoke', { token: mine })
    const dead = await tickets.form('/introspect', { token: mine }, { accept: TYPE })
    expect((await read(dead, 'tool:tickets')).payload['token_introspection']).toEqual({ active: false })
  })

  it('C1 is no token where tokens are taken, not even introspected itself', async () => {
    const { text } = await tickets.form('/introspect', { token: await token() }, { accept: TYPE })
    const again = await tickets.form('/introspect', { token: text }, { accept: TYPE })
    expect((await read(again, 'tool:tickets')).payload['token_introspection']).toEqual({ active: false })
  })

  it('C9 is refused in JSON to whoever does not say who asks', async () => {
    const mine = await token()
    await strangersWithoutTrace(
      house,
      [
        {
          title: 'nobody',
          status: 401,
          error: 'invalid_client',
          reason: 'client_auth_required',
          send: () =>
            house.fetch('POST', '/introspect', {
              headers: { 'content-type': 'application/x-www-form-urlencoded', accept: TYPE },
              body: new URLSearchParams({ token: mine }).toString(),
            }),
        },
      ],
      honest,
    )
  })
})
