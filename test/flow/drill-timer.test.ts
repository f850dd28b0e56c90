/** Fire drills that the service carries out by the clock. */
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, describe, expect, it } from 'vitest'
import { DRILL_CONFIG } from '../drills.ts'
import { type House, openHouse } from '../house.ts'

const DAY = 86_400
const TOOLS = ['crm', 'github', 'payments', 'tickets', 'warehouse']
const errandYaml = (text: string) =>
  `${text}\ndrill: { every_seconds: ${DAY}, agent: fire-drill, tasks: 2, timeout_seconds: 10 }\n`

const houses: House[] = []
afterEach(async () => {
  for (const house of houses.splice(0)) await house.close()
})
async function open(more: Parameters<typeof openHouse>[0] = {}): Promise<House> {
  const house = await openHouse({ config: { ...DRILL_CONFIG, 'errand.yaml': errandYaml }, ...more })
  houses.push(house)
  return house
}

/** Waits, while the house's clock stands still unless `meanwhile` moves it. */
async function drilled(house: House, count: number, meanwhile: () => Promise<unknown> | unknown = () => undefined) {
  for (;;) {
    const records = await house.records({ type: 'drill.finished' })
    if (records.length >= count) return records
    await meanwhile()
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}
/** What verifiers do in the background. */
async function acknowledge(house: House) {
  const { generation, sequence } = await house.service.stores.revocations.epoch()
  for (const name of TOOLS)
    await (await house.tool(name)).call('POST', '/revocations/acks', { epoch: `${generation}.${sequence}` })
}
const ready = async (house: House) => {
  const { status, body } = await house.fetch('GET', '/ready')
  return [status, body['status'], (body['checks'] as unknown as Record<string, string>)['drill']]
}
const metric = async (house: House, name: string) =>
  Number(new RegExp(`^${name} (\\S+)$`, 'm').exec((await house.fetch('GET', '/metrics')).text)?.[1])

describe('a drill by the clock', () => {
  it('ends real tokens of its agent once a day, tells how long that took, and lets the agent be used again', async () => {
    const house = await open()
    const [record] = await drilled(house, 1, () => acknowledge(house))
    expect(record).toMatchObject({
      agent: 'fire-drill',
      by: 'system',
      details: { contained: true, verifiers: 5, acknowledged: 5, tasks: 2, tokens: 4, probes: [] },
    })
    expect(await house.records({ type: 'token.issuing', agent: 'fire-drill' })).toHaveLength(4)
    expect(await house.service.stores.revocations.bans(house.now())).toEqual([])
    expect(await ready(house)).toEqual([200, 'ok', 'ok'])
    expect(await metric(house, 'errand_drill_failing')).toBe(0)
    const history = await house.admin('GET', '/drills')
    expect((history.body['drills'] as unknown as unknown[]).length).toBe(1)
    // Not again today, whatever restarts; and again tomorrow.
    await house.service.close()
    houses.splice(0)
    const again = await open({ folder: house.folder, startAt: house.now() + 60, config: {} })
    await new Promise((resolve) => setTimeout(resolve, 1_300))
    expect(await again.records({ type: 'drill.finished' })).toHaveLength(1)
    again.advance(DAY)
    await drilled(again, 2, () => acknowledge(again))
  })

  it('that is not contained in time is a failure, and seen as one', async () => {
    const house = await open()
    await acknowledge(house)
    const records = await drilled(house, 1, () => house.advance(1))
    expect(records[0]).toMatchObject({ details: { contained: false } })
    expect(await ready(house)).toEqual([200, 'degraded', 'degraded'])
    expect(await metric(house, 'errand_drill_failing')).toBe(1)
    expect(await metric(house, 'errand_drill_seconds')).toBeGreaterThanOrEqual(10)
    expect(await house.service.stores.revocations.bans(house.now())).toEqual([])
  })

  it('that cannot begin says why, and the next one mends what was left', async () => {
    const house = await open()
    await drilled(house, 1, () => acknowledge(house))
    await rm(join(house.folder, 'keys/agents/fire-drill.jwk'))
    house.advance(DAY)
    const records = await drilled(house, 2)
    const failed = records.find(({ details }) => (details as { failed?: string }).failed !== undefined)
    expect(failed).toMatchObject({
      details: { contained: false, tokens: 0, failed: expect.stringContaining('fire-drill.jwk') },
    })
    expect(await ready(house)).toEqual([200, 'degraded', 'degraded'])
    const listed = (await house.admin('GET', '/drills')).body['drills'] as unknown as unknown[]
    expect(listed).toHaveLength(2)
  })

  it('is refused where its agent is one in earnest', async () => {
    const config = { 'errand.yaml': (text: string) => `${text}\ndrill: { every_seconds: 60, agent: research }\n` }
    await expect(openHouse({ config })).rejects.toThrow('no agent research has drill: true')
  })

  it('is nothing where none is configured', async () => {
    const house = await openHouse()
    houses.push(house)
    expect((await ready(house))[2]).toBeUndefined()
    expect(await metric(house, 'errand_drill_failing')).toBe(0)
  })
})
