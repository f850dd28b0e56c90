import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkReceipt } from '../../src/revoke/receipt-check.ts'
import { type House, openHouse } from '../house.ts'

describe('the receipt of a revocation', () => {
  let house: House
  beforeAll(async () => {
    house = await openHouse()
  })
  afterAll(() => house.close())

  const keys = async () => (await house.admin('GET', '/keys/jwks')).body
  const revoke = async (match: object, more: object = {}) => {
    const { body } = await house.admin('POST', '/revocations', { match, reason: 'key leaked', ...more })
    return String(body['id'])
  }

  it('10,000 tasks revoked by one match: it lists every one, and verifies with the public keys alone', async () => {
    const research = await house.agent('research')
    const opened = await research.call('POST', '/tasks', {
      subject_token: house.userToken('alice'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(house.details()),
    })
    const { tasks } = house.service.stores
    const model = (await tasks.get(String(opened.body['id'])))!
    const ids = Array.from({ length: 9_999 }, (_, at) => `task_${String(at).padStart(22, 'A')}`)
    await Promise.all(ids.map((id) => tasks.open({ ...model, id, root: id }, house.now())))
    const id = await revoke({ sub: 'dev|alice' })
    const answer = await house.admin('GET', `/revocations/${id}/receipt`)
    expect(answer.status, answer.text.slice(0, 500)).toBe(200)
    const checked = checkReceipt(String(answer.body['receipt']), await keys())
    expect(checked).toMatchObject({ ok: true, recorded: true, statement: { revocation: { id, by: 'admin' } } })
    const { ended } = (checked as unknown as { statement: { tasks: { ended: string[] } } }).statement.tasks
    expect([...ended].sort()).toEqual([model.id, ...ids].sort())
    expect(JSON.stringify(checked)).not.toContain('alice')
    expect((await house.records({ type: 'receipt.issued', cause: id }))[0]).toMatchObject({ by: 'admin' })
    await house.admin('POST', `/revocations/${id}/readmit`, { reason: 'for what follows' })
  })

  it('names the subject where an administrator asks for it, and old keys verify it for ever', async () => {
    const id = await revoke({ sub: 'dev|bob' }, { mode: 'cut' })
    const answer = await house.admin('GET', `/revocations/${id}/receipt?subject=clear`)
    await house.admin('POST', '/keys/rotate', { purpose: 'checkpoint', immediately: true })
    expect(checkReceipt(String(answer.body['receipt']), await keys())).toMatchObject({
      ok: true,
      statement: { revocation: { subject_name: 'dev|bob', match: { sub: '(subject)' } } },
    })
  })

  it('of a containment it says what was taken from which tasks, and waits for the entry that closes it', async () => {
    const research = await house.agent('research')
    const opened = await research.call('POST', '/tasks', {
      subject_token: house.userToken('alice'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(house.details()),
    })
    const task = String(opened.body['id'])
    const id = await revoke({ task }, { mode: 'contain', take: { tools: ['crm'] } })
    const first = (await house.admin('GET', `/revocations/${id}`)).body['epoch']
    const last = await house.service.stores.revocations.epoch()
    const acknowledge = async (epoch: unknown) => {
      for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
        await (await house.tool(name)).call('POST', '/revocations/acks', { epoch })
    }
    const contained = async () => (await house.admin('GET', `/revocations/${id}`)).body['contained']
    await acknowledge(first)
    expect(await contained()).toBe(false)
    await acknowledge(`${last.generation}.${last.sequence}`)
    expect(await contained()).toBe(true)
    const answer = await house.admin('GET', `/revocations/${id}/receipt`)
    expect(checkReceipt(String(answer.body['receipt']), await keys())).toMatchObject({
      ok: true,
      statement: { revocation: { mode: 'contain', taken: ['crm'] }, tasks: { ended: [], contained: [task] } },
    })
  })

  it('one can be had of a revocation that is over and forgotten', async () => {
    const id = await revoke({ sub: 'dev|carol' }, { mode: 'cut' })
    house.advance(1200)
    await house.service.sweep()
    await house.learnNonce('admin')
    expect(await house.service.stores.revocations.get(id)).toBeUndefined()
    const answer = await house.admin('GET', `/revocations/${id}/receipt?subject=clear`)
    expect(checkReceipt(String(answer.body['receipt']), await keys())).toMatchObject({
      ok: true,
      recorded: true,
      statement: { contained: true, revocation: { id, mode: 'cut', subject_name: 'dev|carol' } },
    })
  })

  it.each([
    ['/revocations/rev_AAAAAAAAAAAAAAAAAAAAAA/receipt', 404, 'not_found'],
    ['/revocations/nonsense/receipt', 404, 'not_found'],
    ['/revocations/rev_AAAAAAAAAAAAAAAAAAAAAA/receipt?subject=all', 400, 'bad_param'],
  ])('refuses %s with %i %s, and records no receipt', async (path, status, reason) => {
    const before = (await house.records({ type: 'receipt.issued' })).length
    const answer = await house.admin('GET', path)
    expect([answer.status, answer.body['reason']]).toEqual([status, reason])
    expect((await house.records({ type: 'receipt.issued' })).length).toBe(before)
  })
})
