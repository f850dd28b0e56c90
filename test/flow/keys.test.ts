/** The signing keys as administrators see and turn them, over HTTP. */
import { importJWK, jwtVerify, type JWK } from 'jose'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

describe('the keys of the service', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  it('are exported with those of the past, which verify what they signed and are published no more', async () => {
    const research = await house.agent('research')
    const token = String((await research.exchange({ form: { audience: 'tickets' } })).body['access_token'])
    const kid = (JSON.parse(Buffer.from(token.split('.')[0]!, 'base64url').toString()) as { kid: string }).kid
    await house.admin('POST', '/keys/rotate', { immediately: true })
    await house.admin('POST', '/keys/compromise', { kid, reason: 'found in a backup' })
    const published = (await house.fetch('GET', '/.well-known/jwks.json')).body['keys'] as unknown as JWK[]
    expect(published.map((key) => key.kid)).not.toContain(kid)
    const ever = (await house.admin('GET', '/keys/jwks')).body['keys'] as unknown as JWK[]
    const old = ever.find((key) => key.kid === kid)!
    expect(old).toMatchObject({ alg: 'ES256', use: 'sig', errand_use: 'token', errand_state: 'compromised' })
    expect(Object.keys(old)).not.toContain('d')
    expect(
      (await jwtVerify(token, await importJWK(old), { currentDate: new Date(house.now() * 1000) })).payload,
    ).toEqual(expect.objectContaining({ client_id: 'research' }))
    expect(ever.map((key) => key.kid)).toEqual(expect.arrayContaining(published.map((key) => key.kid)))
  })

  it('are rotated for purposes that there are keys for, and others are refused by name', async () => {
    for (const purpose of ['feed', 'id_jag'])
      expect((await house.admin('POST', '/keys/rotate', { purpose })).body).toMatchObject({
        purpose,
        state: 'prepared',
      })
    const before = (await house.admin('GET', '/keys')).body
    const unused = await house.admin('POST', '/keys/rotate', { purpose: 'nothing' })
    expect([unused.status, unused.body['reason']]).toEqual([400, 'bad_param'])
    expect((await house.admin('GET', '/keys')).body).toEqual(before)
  })
})
