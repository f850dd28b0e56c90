/** Acknowledgements that verifiers sign, and a relay brings: they count as if each had come itself, and are nothing else. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, ISSUER, newKeyPair, openHouse, signJws } from '../house.ts'
import { strangersWithoutTrace } from '../nothing-lost.ts'

const TOOLS = ['crm', 'github', 'payments', 'tickets', 'warehouse']

describe('an acknowledgement that a relay brings', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse({
      config: { 'errand.yaml': (text) => `${text}\nbounds: { strangers_per_second_per_source: 20 }\n` },
    })
  })
  afterAll(() => house.close())

  const signed = async (tool: string, claims: object, header: object = {}, key?: ReturnType<typeof newKeyPair>) => {
    const own = await house.keyOf(`tools/${tool}.jwk`)
    const said = { iss: `tool:${tool}`, aud: ISSUER, iat: house.now(), instance: 'one', ...claims }
    return signJws({ typ: 'errand-ack+jwt', kid: own.kid, ...header }, said, (key ?? own).privateKey)
  }
  const bring = (ack: unknown) =>
    house.fetch('POST', '/revocations/acks/relayed', {
      headers: { 'content-type': 'application/json' },
      body: JSON.stringify({ ack }),
    })
  const revoke = async () => {
    const { body } = await house.admin('POST', '/revocations', { match: { jti: 'x'.repeat(27) }, reason: 'a test' })
    const look = async () => (await house.admin('GET', `/revocations/${String(body['id'])}`)).body['contained']
    return { epoch: String(body['epoch']), look }
  }

  it('counts for containment, and takes nothing of the share of strangers', async () => {
    const { epoch, look } = await revoke()
    expect(await look()).toBe(false)
    for (let round = 0; round < 20; round++)
      for (const tool of TOOLS) expect((await bring(await signed(tool, { epoch, kids: [] }))).status).toBe(204)
    expect(await look()).toBe(true)
  })

  it('C1 that is changed, another’s, too old or for another issuer is refused, and contains nothing', async () => {
    const { epoch, look } = await revoke()
    const ahead = `${epoch.split('.')[0]}.999999999`
    const good = await signed('tickets', { epoch })
    const [header, , signature] = good.split('.')
    const other = Buffer.from(JSON.stringify({ iss: 'tool:tickets', aud: ISSUER, iat: house.now(), epoch }))
    const agent = await house.agent('research')
    house.advance(2)
    const cases = [
      ['another key', await signed('tickets', { epoch }, {}, newKeyPair()), 'bad_signature'],
      ['the name of another tool', await signed('tickets', { epoch, iss: 'tool:crm' }), 'unknown_kid'],
      ['an agent', await signed('tickets', { epoch, iss: 'research' }), 'unknown_client'],
      ['an administrator', await signed('tickets', { epoch, iss: 'admin' }), 'unknown_client'],
      ['another issuer', await signed('tickets', { epoch, aud: 'https://x.example' }), 'wrong_audience'],
      ['two audiences', await signed('tickets', { epoch, aud: [ISSUER] }), 'wrong_audience'],
      ['two minutes ago', await signed('tickets', { epoch, iat: house.now() - 120 }), 'expired'],
      ['a time ahead', await signed('tickets', { epoch, iat: house.now() + 60 }), 'not_yet_valid'],
      ['no time', await signed('tickets', { epoch, iat: undefined }), 'bad_numeric_date'],
      ['other words', `${header}.${other.toString('base64url')}.${signature}`, 'bad_signature'],
      ['an assertion', agent.assertion(), 'wrong_typ'],
      ['a word', 'acknowledged', 'not_a_token'],
    ] as const
    await strangersWithoutTrace(
      house,
      cases.map(([title, ack, reason]) => ({
        title,
        status: 400,
        error: 'invalid_request',
        reason,
        send: () => bring(ack),
      })),
      () => house.admin('GET', '/tools'),
    )
    house.advance(2)
    for (const claims of [{ epoch: ahead }, { epoch: 'x' }, { epoch, more: 1 }, {}]) {
      const answer = await bring(await signed('tickets', claims))
      expect([answer.status, answer.body['error']]).toEqual([400, 'invalid_request'])
    }
    expect(await look()).toBe(false)
  })

  it('authenticates nothing: neither as an assertion nor anywhere else', async () => {
    house.advance(2)
    const ack = await signed('tickets', { epoch: '1.0', sub: 'tool:tickets', jti: 'x', exp: house.now() + 60 })
    const answer = await house.fetch('GET', '/revocations/key', {
      headers: { authorization: `ClientAssertion ${ack}` },
    })
    expect(answer.status).toBe(401)
  })
})
