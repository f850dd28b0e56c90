import { expect, it } from 'vitest'
import { openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'

const TICKETS = { audience: 'tickets' }

it('L11 Inv2 a window of issue that has passed kills what was issued until then, and lets live what came after it', async () => {
  const house = await openHouse()
  const agent = await house.agent('research')
  const token = async () => {
    await house.learnNonce('research')
    const answer = await agent.exchange({ form: TICKETS })
    expect(answer.status, answer.text).toBe(200)
    return String(answer.body['access_token'])
  }
  const active = async (text: string) =>
    (await (await house.tool('tickets')).form('/introspect', { token: text })).body['active']
  const cut = (time: number, more: object = {}) =>
    house.admin('POST', '/revocations', {
      match: { client_id: 'research' },
      checked_before: time,
      reason: 'a bad hour',
      ...more,
    })
  await refusedWithoutTrace(
    house,
    () => cut(house.now() + 1),
    { status: 400, error: 'invalid_request', reason: 'time_in_future', record: 'admin.refused' },
    undefined,
  )
  await house.service.sweep()
  const [early, until] = [await token(), house.now() + 1]
  house.advance(61)
  await house.service.sweep()
  house.advance(1)
  const late = await token()
  const first = await cut(until)
  expect(first.status, first.text).toBe(201)
  expect(first.body['mode']).toBe('cut')
  expect([await active(early), await active(late)]).toEqual([false, true])
  const twice = await cut(until)
  const decreasing = await cut(until - 30)
  for (const { body } of [twice, decreasing]) expect(body['checked_before']).toBe(first.body['checked_before'])
  expect(await active(late)).toBe(true)
  // Agents may ask again: it is a cut.
  expect(await active(await token())).toBe(true)
  for (const more of [{ mode: 'ban' }, { mode: 'suspend' }, { dry_run: true }])
    expect((await cut(until, more)).status).toBe(400)
  expect((await cut(house.now())).status).toBe(201)
  expect(await active(late)).toBe(false)
  await house.close()
})
