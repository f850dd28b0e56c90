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

  it('of a pinned revocation: contained once each entry of its tasks is applied', async () => {
    const research = await house.agent('research')
    const opened = await research.call('POST', '/tasks', {
      subject_token: house.userToken('alice'),
      subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
      ...JSON.parse(house.details()),
    })
    const task = String(opened.body['id'])
    const seen = await house.admin('POST', '/revocations', {
      match: { client_id: 'research' },
      reason: 'looking',
      dry_run: true,
    })
    const { body } = await house.admin('POST', '/revocations', {
      bulk_token: seen.body['bulk_token'],
      reason: 'as it was shown',
    })
    const id = String(body['id'])
    const last = await house.service.stores.revocations.epoch()
    const contained = async () => (await house.admin('GET', `/revocations/${id}`)).body['contained']
    for (const [epoch, expected] of [
      [body['epoch'], false],
      [`${last.generation}.${last.sequence}`, true],
    ]) {
      for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
        await (await house.tool(name)).call('POST', '/revocations/acks', { epoch })
      expect(await contained()).toBe(expected)
    }
    const answer = await house.admin('GET', `/revocations/${id}/receipt`)
    expect(checkReceipt(String(answer.body['receipt']), await keys())).toMatchObject({
      ok: true,
      statement: { revocation: { before: expect.any(String) }, tasks: { ended: expect.arrayContaining([task]) } },
    })
  })

  it('names also the tasks that ended in the moment of a crash, before that was written down', async () => {
    const own = await openHouse()
    const research = await own.agent('research')
    const task = async () => {
      const opened = await research.call('POST', '/tasks', {
        subject_token: own.userToken('alice'),
        subject_token_type: 'urn:ietf:params:oauth:token-type:id_token',
        ...JSON.parse(own.details()),
      })
      return String(opened.body['id'])
    }
    const [written, unwritten, other] = [await task(), await task(), await task()]
    const { body } = await own.admin('POST', '/revocations', {
      match: { task: written },
      mode: 'ban',
      reason: 'leaked',
    })
    const id = String(body['id'])
    const { tasks } = own.service.stores
    expect((await tasks.get(written))?.endedReason).toBe(`leaked (${id})`)
    await tasks.end(unwritten, 'revoked', `leaked (${id})`, own.now())
    await tasks.end(other, 'revoked', `after ${id}`, own.now())
    await own.stop()
    const again = await openHouse({ folder: own.folder, startAt: own.now() + 1 })
    const answer = await again.admin('GET', `/revocations/${id}/receipt`)
    const checked = checkReceipt(String(answer.body['receipt']), (await again.admin('GET', '/keys/jwks')).body)
    expect(checked).toMatchObject({ ok: true, statement: { tasks: { ended: [written, unwritten] } } })
    await again.close()
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
