import { afterEach, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

const TICKETS = { audience: 'tickets' }

describe('an administrator’s seal', () => {
  const houses: House[] = []
  afterEach(async () => {
    for (const house of houses.splice(0)) await house.close()
  })
  const open = async (folder?: string) => {
    const house = await openHouse(folder === undefined ? {} : { folder })
    houses.push(house)
    return house
  }
  const ask = async (house: House) => (await house.agent('research')).exchange({ form: TICKETS })
  const active = async (house: House, text: string) =>
    (await (await house.tool('tickets')).form('/introspect', { token: text })).body['active']

  it('L7 L15 lets nothing out, also after a restart, while tokens live on and can be revoked, until it is lifted', async () => {
    const house = await open()
    const before = await ask(house)
    expect(before.status, before.text).toBe(200)
    const token = String(before.body['access_token'])
    const sealed = await house.admin('POST', '/seal', { reason: 'who has the key?' })
    expect(sealed.body).toEqual({ sealed: true, by: 'admin', reason: 'who has the key?', at: house.now() })
    // The first word stays.
    expect((await house.admin('POST', '/seal', { reason: 'another' })).body).toEqual(sealed.body)

    const issued = (await house.records({ type: 'token.issuing' })).length
    const refused = await ask(house)
    expect([refused.status, refused.body['error'], refused.headers.get('retry-after')]).toEqual([
      503,
      'temporarily_unavailable',
      '30',
    ])
    expect(await house.records({ type: 'token.issuing' })).toHaveLength(issued)
    const task = await (await house.agent('triage')).call('POST', '/tasks', JSON.parse(house.details()))
    expect(task.status).toBe(503)
    expect((await house.fetch('GET', '/ready')).body).toMatchObject({
      status: 'degraded',
      checks: { seal: 'degraded' },
    })
    expect(await active(house, token)).toBe(true)

    const again = await openAgain(house)
    expect((await ask(again)).status).toBe(503)
    const match = { client_id: 'research' }
    const cut = await again.admin('POST', '/revocations', { match, mode: 'cut', reason: 'all of it' })
    expect(cut.status).toBe(201)
    expect(await active(again, token)).toBe(false)

    expect((await again.admin('POST', '/unseal', { reason: 'a drill' })).body).toEqual({ sealed: false })
    expect((await ask(again)).status).toBe(200)
    expect((await again.fetch('GET', '/ready')).body['checks']).not.toHaveProperty('seal')
    const [lifted] = await again.records({ type: 'service.unsealed' })
    expect(lifted).toMatchObject({ by: 'admin', details: { reason: 'a drill' } })
    expect(await again.records({ type: 'service.sealed' })).toHaveLength(2)
  })

  async function openAgain(house: House): Promise<House> {
    houses.splice(houses.indexOf(house), 1)
    await house.stop()
    return open(house.folder)
  }

  it('is for administrators, who say why', async () => {
    const house = await open()
    expect((await (await house.agent('research')).call('POST', '/seal', { reason: 'because' })).status).toBe(403)
    expect((await (await house.tool('tickets')).call('POST', '/unseal', { reason: 'because' })).status).toBe(403)
    expect((await house.admin('POST', '/seal', {})).status).toBe(400)
    expect((await house.admin('GET', '/seal')).body).toEqual({ sealed: false })
    expect((await ask(house)).status).toBe(200)
  })
})
