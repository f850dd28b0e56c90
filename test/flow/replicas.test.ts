import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'
import type { House } from '../house.ts'
import { openReplicas, type Site } from '../replicas.ts'
import { redisIsHere } from '../store/redis-server.ts'

const TOOLS = ['crm', 'github', 'payments', 'tickets', 'warehouse']
/** They tell one another each second. */
const SOON = { timeout: 10_000, interval: 100 }

describe.skipIf(!redisIsHere())('what one of two replicas hears or issues', () => {
  let site: Site
  let houses: Site['houses']
  beforeAll(async () => {
    site = await openReplicas()
    houses = site.houses
  }, 60_000)
  afterAll(() => site.close())

  const revoke = async (house: House) => {
    const { body } = await house.admin('POST', '/revocations', {
      match: { client_id: 'triage' },
      mode: 'cut',
      reason: 'a rehearsal',
    })
    return { id: String(body['id']), epoch: String(body['epoch']) }
  }
  const acknowledge = async (house: House, name: string, epoch: string, instance = 'one') => {
    const tool = await house.tool(name)
    expect((await tool.call('POST', '/revocations/acks', { epoch, instance })).status).toBe(204)
  }
  const look = async (house: House, id: string) => (await house.admin('GET', `/revocations/${id}`)).body

  // No time passes here: by its bound nothing is contained.
  it('an acknowledgement counts at the other: a revocation is contained once every process has acknowledged it to some replica', async () => {
    const [here, there] = houses
    const { id, epoch } = await revoke(here)
    for (const tool of TOOLS) await acknowledge(tool === 'crm' ? there : here, tool, epoch)
    for (const house of houses)
      await vi.waitFor(async () => expect(await look(house, id)).toMatchObject({ contained: true, residual: [] }), SOON)
    const { body } = await here.admin('GET', '/stats')
    expect(
      (body['verifiers'] as unknown as { verifier: string; behind: number }[]).map((each) => each.verifier).sort(),
    ).toEqual(TOOLS.map((tool) => `tool:${tool}`))
    expect((await here.fetch('GET', '/metrics')).text).toMatch(/errand_verifier_entries_behind\{verifier="tool:crm"/)
  })

  it('L7 a process that is behind, or has said nothing yet, holds a revocation up wherever it talks', async () => {
    const [here, there] = houses
    await (await there.tool('github')).call('GET', '/revocations/key?instance=lately')
    const { id, epoch } = await revoke(here)
    for (const tool of TOOLS) await acknowledge(here, tool, epoch)
    const states = async () => (await look(here, id))['verifiers'] as unknown as { tool: string; state: string }[]
    await vi.waitFor(async () => {
      const waiting = (await states()).filter(({ state }) => state === 'waiting')
      expect(waiting.map(({ tool }) => tool)).toEqual(['github'])
    }, SOON)
    await acknowledge(there, 'github', epoch, 'lately')
    await vi.waitFor(async () => expect(await look(here, id)).toMatchObject({ contained: true }), SOON)
  })

  it('a preview counts the live tokens that each of them issued, and loses those that are revoked', async () => {
    const [here, there] = houses
    for (const house of [here, there, there]) {
      const answer = await (await house.agent('research')).exchange({ form: { audience: 'tickets' } })
      expect(answer.status, answer.text).toBe(200)
    }
    const counted = async (house: House) => {
      const asked = { match: { client_id: 'research' }, mode: 'cut', reason: 'looking', dry_run: true }
      return (await house.admin('POST', '/revocations', asked)).body['live_tokens']
    }
    for (const house of houses) expect(await counted(house)).toMatchObject({ count: 3, exact: true })
    await here.admin('POST', '/revocations', { match: { client_id: 'research' }, mode: 'cut', reason: 'a rehearsal' })
    for (const house of houses)
      await vi.waitFor(async () => expect(await counted(house)).toEqual({ count: 0, exact: true }), SOON)
  })
})
