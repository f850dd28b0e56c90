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

  it('O3 a new key signs once every tool has told one of them that it holds it, after the half minute that they have', async () => {
    const [here, there] = houses
    const { body } = await here.admin('POST', '/keys/rotate', { purpose: 'token' })
    const kid = String(body['kid'])
    const later = async (seconds: number) => {
      for (const house of houses) {
        house.advance(seconds)
        await house.learnNonce('admin')
      }
    }
    const state = async (house: House) =>
      ((await house.admin('GET', '/keys')).body['keys'] as unknown as { kid: string; state: string }[]).find(
        (key) => key.kid === kid,
      )?.state
    await later(31)
    for (const house of houses) await vi.waitFor(async () => expect(await state(house)).toBe('prepared'), SOON)
    const hold = async (house: House, name: string, kids: readonly string[]) => {
      const tool = await house.tool(name)
      const epoch = (await here.admin('GET', '/stats')).body['epoch']
      const said = { epoch, kids, instance: `of-${house === here ? 'here' : 'there'}` }
      expect((await tool.call('POST', '/revocations/acks', said)).status).toBe(204)
    }
    // What was said before under other names is long forgotten.
    await later(190)
    for (const tool of TOOLS) await hold(tool === 'crm' ? there : here, tool, tool === 'crm' ? [] : [kid])
    await new Promise((resolve) => setTimeout(resolve, 2_500))
    expect([await state(here), await state(there)]).toEqual(['prepared', 'prepared'])
    await hold(there, 'crm', [kid])
    for (const house of houses) await vi.waitFor(async () => expect(await state(house)).toBe('active'), SOON)
  })
})
