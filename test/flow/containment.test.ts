import { rm } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { type House, openHouse } from '../house.ts'

const TOOLS = ['crm', 'github', 'payments', 'tickets', 'warehouse']
const ID = 'urn:ietf:params:oauth:token-type:id_token'

interface State {
  readonly contained: boolean
  readonly contained_by: number
  readonly verifiers: readonly { readonly tool: string; readonly state: string; readonly until: number }[]
}

describe('containment of a revocation', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  const revoke = async (match: object, more: object = {}, on = house) => {
    const { body, status, text } = await on.admin('POST', '/revocations', { match, reason: 'key leaked', ...more })
    expect(status, text).toBe(201)
    return { id: String(body['id']), epoch: String(body['epoch']), body }
  }
  const look = async (id: string, on = house) =>
    (await on.admin('GET', `/revocations/${id}`)).body as unknown as State & { pending_downstream: number }
  const acknowledge = async (name: string, epoch: string, instance = 'one', on = house) => {
    const tool = await on.tool(name)
    expect((await tool.call('POST', '/revocations/acks', { epoch, instance })).status).toBe(204)
  }
  const open = async (more: object = {}) => {
    const research = await house.agent('research')
    const answer = await research.call('POST', '/tasks', {
      subject_token: house.userToken('alice'),
      subject_token_type: ID,
      ...JSON.parse(house.details()),
      ...more,
    })
    expect(answer.status, answer.text).toBe(201)
    return String(answer.body['id'])
  }

  it('says by when at first, and that it is there once every verifier has acknowledged', async () => {
    const { id, epoch } = await revoke({ client_id: 'triage' }, { mode: 'cut' })
    const first = await look(id)
    expect(first).toMatchObject({ contained: false, pending_downstream: 0 })
    expect(first.contained_by).toBeLessThanOrEqual(house.now() + 31)
    expect(first.verifiers.map(({ tool, state }) => [tool, state])).toEqual(TOOLS.map((tool) => [tool, 'waiting']))
    for (const tool of TOOLS) await acknowledge(tool, epoch)
    expect(await look(id)).toMatchObject({ contained: true, contained_at: house.now(), residual: [] })
  })

  it('one process of a tool that is behind holds it up, until its bound has passed', async () => {
    await acknowledge('tickets', (await revoke({ client_id: 'triage' }, { mode: 'cut' })).epoch, 'behind')
    const { id, epoch } = await revoke({ client_id: 'triage' }, { mode: 'cut' })
    for (const tool of TOOLS) await acknowledge(tool, epoch)
    const before = await look(id)
    expect(before.contained).toBe(false)
    expect(before.verifiers.filter(({ state }) => state === 'waiting')).toMatchObject([{ tool: 'tickets' }])
    house.advance(before.contained_by - house.now() - 1)
    await house.learnNonce('admin')
    expect((await look(id)).contained).toBe(false)
    house.advance(1)
    expect((await look(id)).verifiers).toContainEqual(
      expect.objectContaining({ tool: 'tickets', state: 'bound_passed' }),
    )
    expect((await look(id)).contained).toBe(true)
  })

  it('a process that began lately and has said nothing holds its tool up', async () => {
    const { call } = await house.tool('crm')
    expect((await call('GET', '/revocations/key?instance=lately')).status).toBe(200)
    const { id, epoch } = await revoke({ client_id: 'triage' }, { mode: 'cut' })
    for (const tool of TOOLS) if (tool !== 'tickets') await acknowledge(tool, epoch)
    const state = async () => (await look(id)).verifiers.find(({ tool }) => tool === 'crm')?.state
    expect(await state()).toBe('waiting')
    await acknowledge('crm', epoch, 'lately')
    expect(await state()).toBe('acknowledged')
    const refused = await call('GET', '/revocations/key?instance=no%20name')
    expect([refused.status, refused.body['reason']]).toEqual([400, 'bad_param'])
  })

  it('the log names every task that was ended or suspended, also a thousand and more', async () => {
    const { tasks, revocations } = house.service.stores
    const model = (await tasks.get(await open()))!
    const ids = Array.from({ length: 1200 }, (_, at) => `task_${String(at).padStart(22, 'A')}`)
    await Promise.all(ids.map((id) => tasks.open({ ...model, id, root: id, authority: model.authority }, house.now())))
    const held = await revoke({ client_id: 'research' }, { mode: 'suspend' })
    const ban = await revoke({ client_id: 'research' })
    const expected = [model.id, ...ids].sort()
    expect([...(held.body['tasks_suspended'] as unknown as string[])].sort()).toEqual(expected)
    expect([...(ban.body['tasks_ended'] as unknown as string[])].sort()).toEqual(expected)
    const listed = async (type: 'task.ended' | 'task.suspended', member: string, cause: string) => {
      const records = await house.records({ type, cause })
      expect(records.length).toBe(2)
      return records.flatMap(({ details }) => (details as unknown as Record<string, string[]>)[member]!).sort()
    }
    expect(await listed('task.suspended', 'suspended', held.id)).toEqual(expected)
    expect(await listed('task.ended', 'ended', ban.id)).toEqual(expected)
    expect(await revocations.get(ban.id)).toBeDefined()
    await house.admin('POST', `/revocations/${ban.id}/readmit`, { reason: 'a new key' })
    await house.admin('POST', `/revocations/${held.id}/resume`, { reason: 'a new key' })
  })

  it('L7 after a restart what verifiers said is not known, and what bound has passed still is', async () => {
    const own = await openHouse()
    const early = await revoke({ client_id: 'triage' }, { mode: 'cut' }, own)
    own.advance(40)
    const late = await revoke({ client_id: 'triage' }, { mode: 'cut' }, own)
    for (const tool of TOOLS) await acknowledge(tool, late.epoch, 'one', own)
    expect((await look(late.id, own)).contained).toBe(true)
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: own.now() + 5 })
    expect((await look(early.id, again)).contained).toBe(true)
    expect((await look(late.id, again)).contained).toBe(false)
    for (const tool of TOOLS) await acknowledge(tool, late.epoch, 'one', again)
    // One of their processes may live that has not found the restarted service yet: it refuses past its bound.
    expect((await look(late.id, again)).contained).toBe(false)
    again.advance(31)
    expect((await look(late.id, again)).contained).toBe(true)
    await again.close()
  })

  it('an audience that is gone from the configuration is waited for while a token of its may live', async () => {
    const own = await openHouse({
      config: {
        'tools/legacy.yaml':
          'name: legacy\naudience: https://legacy.example.com/\nfollows_feed: false\noperations: {look: {effect: read}}\n',
      },
    })
    const waiting = async (id: string, on: House) =>
      (await look(id, on)).verifiers.filter(({ state }) => state === 'waiting').map(({ tool }) => tool)
    const acknowledged = async (epoch: string, on: House) => {
      for (const tool of TOOLS) await acknowledge(tool, epoch, 'one', on)
    }
    await rm(own.config('tools/legacy.yaml'))
    expect(await own.service.reload()).toBe(true)
    const early = await revoke({ client_id: 'triage' }, { mode: 'cut' }, own)
    await acknowledged(early.epoch, own)
    expect(await waiting(early.id, own)).toEqual(['legacy'])
    expect((await look(early.id, own)).contained_by).toBeLessThanOrEqual(own.now() + 91)
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: own.now() + 40 })
    expect(await waiting(early.id, again)).toEqual(['legacy'])
    again.advance(330)
    await again.learnNonce('admin')
    const late = await revoke({ client_id: 'triage' }, { mode: 'cut' }, again)
    await acknowledged(late.epoch, again)
    expect(await look(late.id, again)).toMatchObject({ contained: true })
    await again.close()
  })
})
