/** An identity provider has everything of one of its users ended (draft-parecki-oauth-global-token-revocation). */
import { randomBytes } from 'node:crypto'
import { afterEach, describe, expect, it } from 'vitest'
import { TOKEN_TYPE } from '../../src/oauth/words.ts'
import { DEV_ISSUER, type House, ISSUER, newKeyPair, openHouse, signJws } from '../house.ts'
import { refusedWithoutTrace, strangersWithoutTrace } from '../nothing-lost.ts'

const PATH = '/global-token-revocation'
const ENDPOINT = `${ISSUER}${PATH}`
const OTHER = 'https://other-idp.example'

const houses: House[] = []
const open = async (options: Parameters<typeof openHouse>[0] = {}) => {
  const house = await openHouse({
    ...options,
    config: {
      'issuers/dev.yaml': (text) => `${text}\nglobal_token_revocation: true\n`,
      'issuers/other.yaml': `kind: user\nname: other\nissuer: ${OTHER}\njwks_file: other.json\nalgorithms: [ES256]\naudiences: [errand]\n`,
      '../keys/other.json': JSON.stringify({ keys: [{ ...newKeyPair().publicJwk, kid: 'o1', alg: 'ES256' }] }),
    },
  })
  houses.push(house)
  return house
}
afterEach(async () => {
  for (const house of houses.splice(0)) await house.close()
})

const order = (house: House, claims: object = {}, header: object = {}, key = house.userKey): string =>
  signJws(
    { typ: 'global-token-revocation+jwt', kid: house.userKey.kid, ...header },
    {
      iss: DEV_ISSUER,
      sub: 'the provider',
      aud: ENDPOINT,
      jti: randomBytes(9).toString('hex'),
      iat: house.now(),
      exp: house.now() + 300,
      ...claims,
    },
    key.privateKey,
  )
const named = (sub: string, more: object = {}) => ({ sub_id: { format: 'iss_sub', iss: DEV_ISSUER, sub, ...more } })
const send = (house: House, token: string, body: object = named('alice')) =>
  house.fetch('POST', PATH, {
    headers: { authorization: `Bearer ${token}`, 'content-type': 'application/json' },
    body: JSON.stringify(body),
  })

describe('global token revocation', () => {
  it('ends the tasks and tokens of the user, and lets them come again by a new sign-in only', async () => {
    const house = await open()
    const research = await house.agent('research')
    const tickets = await house.tool('tickets')
    const held = house.userToken('alice')
    const asked = { audience: 'tickets', subject_token: held }
    const first = await research.exchange({ form: asked })
    const bobs = await research.exchange({ form: { audience: 'tickets' }, user: 'bob' })
    expect([first.status, bobs.status]).toEqual([200, 200])
    const active = async (token: unknown) =>
      (await tickets.form('/introspect', { token: String(token) })).body['active'] as unknown
    expect(await active(first.body['access_token'])).toBe(true)

    const answer = await send(house, order(house))
    expect([answer.status, answer.text]).toEqual([204, ''])
    expect(await active(first.body['access_token'])).toBe(false)
    expect(await active(bobs.body['access_token'])).toBe(true)
    const task = await house.admin('GET', `/tasks/${String(first.body['task_id'])}`)
    expect(task.body['state']).toBe('revoked')

    // The token that the user (or whoever took over) still holds opens nothing, at either endpoint.
    const again = await research.exchange({ form: asked })
    expect([again.status, again.body['error'], again.body['reason'], again.body['next_action']]).toEqual([
      400,
      'invalid_request',
      'signed_out',
      'sign_in_again',
    ])
    const opened = await research.call('POST', '/tasks', {
      ...JSON.parse(house.details()),
      subject_token: held,
      subject_token_type: TOKEN_TYPE.idToken,
    })
    expect([opened.status, opened.body['reason']]).toEqual([400, 'signed_out'])
    const dry = await research.exchange({ form: { ...asked, dry_run: 'true' } })
    expect(dry.body['reason']).toBe('signed_out')

    // Refreshed at the provider it is newer, and its sign-in is not.
    house.advance(5)
    const refreshed = house.userToken('alice', { auth_time: house.now() - 600 })
    expect((await research.exchange({ form: { ...asked, subject_token: refreshed } })).body['reason']).toBe(
      'signed_out',
    )
    const anew = await research.exchange({ form: { audience: 'tickets' } })
    expect(anew.status, anew.text).toBe(200)
    expect(await active(anew.body['access_token'])).toBe(true)

    const [record] = await house.records({ type: 'subject.signed_out' })
    expect(record).toMatchObject({ by: 'issuer:dev', details: { added: true, tasks: 1, before: house.now() - 5 } })
    expect(JSON.stringify(record)).not.toContain('alice')
    expect(await house.service.log.unseal(record!)).toMatchObject({ subject: 'dev|alice' })
  })

  it('L7 L14 holds across a restart, and takes the same order again without a second effect', async () => {
    const house = await open()
    const held = house.userToken('alice')
    expect((await send(house, order(house))).status).toBe(204)
    const epoch = await house.service.stores.revocations.epoch()
    expect((await send(house, order(house))).status).toBe(204)
    // Nobody here has ever seen zoe: ended all the same, and recorded.
    expect((await send(house, order(house), named('zoe'))).status).toBe(204)
    const records = await house.records({ type: 'subject.signed_out' })
    expect(records.map(({ details }) => (details as { added: boolean }).added)).toEqual([true, false, true])
    expect(await house.service.stores.revocations.after(epoch)).toHaveLength(1)
    await house.stop()
    const after = await openHouse({ folder: house.folder, startAt: house.now() + 5 })
    houses.splice(houses.indexOf(house), 1, after)
    const research = await after.agent('research')
    const old = await research.exchange({ form: { audience: 'tickets', subject_token: held } })
    expect(old.body['reason']).toBe('signed_out')
    expect((await research.exchange({ form: { audience: 'tickets' } })).status).toBe(200)
  })

  it('L1 L15 an exchange under way when the order comes gets no token that lives', async () => {
    const house = await open()
    const research = await house.agent('research')
    const tickets = await house.tool('tickets')
    const tried = Array.from({ length: 20 }, () => research.exchange({ form: { audience: 'tickets' } }))
    await send(house, order(house))
    for (const answer of await Promise.all(tried)) {
      if (answer.status !== 200) {
        expect(['signed_out', 'banned', 'task_not_active']).toContain(answer.body['reason'])
        continue
      }
      const token = String(answer.body['access_token'])
      expect((await tickets.form('/introspect', { token })).body).toEqual({ active: false })
    }
  })

  it('takes the word of an administrator about the users of any issuer, by either identifier', async () => {
    const house = await open()
    for (const body of [
      named('alice'),
      { sub_id: { format: 'opaque', id: 'other|7' } },
      { sub_id: { format: 'iss_sub', iss: OTHER, sub: '7' } },
    ]) {
      const answer = await house.admin('POST', PATH, body)
      expect([answer.status, answer.text]).toEqual([204, ''])
    }
    expect(await house.service.stores.signOuts.before('other|7')).toBe(house.now())
    const [record] = await house.records({ type: 'subject.signed_out' })
    expect(record).toMatchObject({ by: 'admin' })
    const unknown = await house.admin('POST', PATH, {
      sub_id: { format: 'iss_sub', iss: 'https://x.example', sub: '7' },
    })
    expect([unknown.status, unknown.body['reason']]).toEqual([404, 'not_found'])
  })

  it.each([
    ['an email address', { format: 'email', email: 'alice@example.com' }, 400, 'bad_body'],
    ['a telephone number', { format: 'phone_number', phone_number: '+12065550100' }, 400, 'bad_body'],
    ['a list of aliases', { format: 'aliases', identifiers: [] }, 400, 'bad_body'],
    ['a format of its own', { format: 'x', id: '7' }, 400, 'bad_body'],
    ['no subject', { format: 'iss_sub', iss: DEV_ISSUER }, 400, 'bad_body'],
    ['a subject that is no text', { format: 'iss_sub', iss: DEV_ISSUER, sub: { a: 1 } }, 400, 'bad_body'],
    ['another issuer’s user', { format: 'iss_sub', iss: OTHER, sub: '7' }, 403, 'not_permitted'],
    ['a user of nobody here', { format: 'iss_sub', iss: 'https://x.example', sub: '7' }, 403, 'not_permitted'],
    ['another issuer’s user by our name', { format: 'opaque', id: 'other|7' }, 403, 'not_permitted'],
  ])('D21 refuses %s, with one answer for whom it may not name', async (_, subId, status, reason) => {
    const house = await open()
    const research = await house.agent('research')
    await refusedWithoutTrace(
      house,
      () => send(house, order(house), { sub_id: subId }),
      { status, error: status === 400 ? 'invalid_request' : 'access_denied', reason, record: 'signal.refused' },
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })

  it('B7 C2 C3 F1 turns away whoever is not the provider, without a trace', async () => {
    const house = await open()
    const research = await house.agent('research')
    const used = order(house)
    expect((await send(house, used, named('zoe'))).status).toBe(204)
    const stolen = newKeyPair()
    const cases: readonly [string, string, string][] = [
      ['used before', used, 'evidence_replayed'],
      ['another endpoint', order(house, { aud: ISSUER }), 'wrong_audience'],
      ['two audiences', order(house, { aud: [ENDPOINT, 'https://x.example'] }), 'wrong_audience'],
      ['expired', order(house, { iat: house.now() - 400, exp: house.now() }), 'expired'],
      ['ahead', order(house, { iat: house.now() + 31, exp: house.now() + 60 }), 'not_yet_valid'],
      ['two hours long', order(house, { exp: house.now() + 7200 }), 'evidence_lifetime'],
      ['no end', order(house, { exp: undefined }), 'bad_numeric_date'],
      ['no jti', order(house, { jti: undefined }), 'bad_claim'],
      ['another key', order(house, {}, {}, stolen), 'bad_signature'],
      ['an unknown key', order(house, {}, { kid: 'x' }, stolen), 'unknown_kid'],
      ['another type', order(house, {}, { typ: 'JWT' }), 'wrong_typ'],
      ['unsigned', order(house, {}, { alg: 'none' }), 'alg_not_allowed'],
      ['an issuer without the right', order(house, { iss: OTHER }), 'untrusted_issuer'],
      ['an unknown issuer', order(house, { iss: `${DEV_ISSUER}/` }), 'untrusted_issuer'],
    ]
    await strangersWithoutTrace(
      house,
      cases.map(([title, token, reason]) => ({
        title,
        status: 401,
        error: 'invalid_token',
        reason,
        send: () => send(house, token),
      })),
      () => research.exchange({ form: { audience: 'tickets' } }),
    )
  })

  it('is told in the metadata', async () => {
    const house = await open()
    const { body } = await house.fetch('GET', '/.well-known/oauth-authorization-server')
    expect(body['global_token_revocation_endpoint']).toBe(ENDPOINT)
  })
})
