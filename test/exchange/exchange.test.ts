import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { decode, type House, openHouse } from '../house.ts'

describe('an exchange', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  it('gives an attested agent a token for its task, and writes it down before it leaves', async () => {
    const research = await house.agent('research')
    const answer = await research.exchange({ form: { audience: 'tickets', scope: 'tickets:read_ticket' } })
    expect(answer.status, answer.text).toBe(200)
    const { header, payload } = decode(answer.body['access_token'] as unknown as string)
    expect(header['typ']).toBe('at+jwt')
    expect(payload).toMatchObject({
      iss: 'http://127.0.0.1:4460',
      aud: 'https://tickets.example.com/',
      sub: 'dev|alice',
      client_id: 'research',
      act: { sub: 'spiffe://company.example/agents/research' },
      scope: 'tickets:read_ticket',
      cnf: { jkt: house.thumbprint(research.proofKey) },
    })
    const [record] = await house.records({ jti: payload['jti'] as string })
    expect(record).toMatchObject({ type: 'token.issuing', decision: 'permit', agent: 'research', tool: 'tickets' })
  })
})
