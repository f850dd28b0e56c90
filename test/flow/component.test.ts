import { rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkReceipt } from '../../src/revoke/receipt-check.ts'
import { type House, openHouse } from '../house.ts'
import { refusedWithoutTrace } from '../nothing-lost.ts'
import { idOf, imageOf, manifestOf, newSigner, releaseSection, signRelease } from '../releases.ts'

const BAD = 'pkg:pypi/litellm@1.82.8'
const signer = newSigner()
const release = (version: string, components: readonly string[]) =>
  manifestOf({ version, image: imageOf(`research:${version}`), components: [...components].sort() })

describe('a revocation by component', () => {
  const good = release('1.0.0', ['pkg:npm/hono@4.11.4', 'pkg:pypi/litellm@1.82.9'])
  const bad = release('1.1.0', ['pkg:npm/hono@4.11.4', BAD])
  const gone = release('0.9.0', [BAD, 'pkg:npm/left@1.0.0'])
  const options = {
    config: {
      'errand.yaml': (text: string) => `${text}\nbounds: { strangers_per_second_per_source: 100000 }\n`,
      'agents/research.yaml': (text: string) => text + releaseSection('  required: true\n'),
      'releases/good.jws': signRelease(good, signer),
      'releases/bad.jws': signRelease(bad, signer),
      'releases/gone.jws': signRelease(gone, signer),
      '../keys/releases/ci.pub.jwk': signer.file,
    },
  }
  let house: House
  let research: Awaited<ReturnType<House['agent']>>
  beforeAll(async () => {
    house = await openHouse(options)
    research = await house.agent('research')
  })
  afterAll(() => house.close())

  const ask = (manifest: typeof good) =>
    research.exchange({ form: { audience: 'tickets', scope: 'tickets:read_ticket', release: idOf(manifest) } })
  const token = async (manifest: typeof good) => {
    const answer = await ask(manifest)
    expect(answer.status, answer.text).toBe(200)
    return String(answer.body['access_token'])
  }
  const alive = async (text: string) =>
    (await (await house.tool('tickets')).form('/introspect', { token: text })).body['active']
  const revoke = (component: string, more: object = {}, match: object = {}) =>
    house.admin('POST', '/revocations', { match: { component, ...match }, reason: 'bad component', ...more })
  const readmit = (id: unknown, verb = 'readmit') =>
    house.admin('POST', `/revocations/${id}/${verb}`, { reason: 'over' })
  const register = async (name: string, manifest: typeof good) => {
    await writeFile(join(house.folder, `config/releases/${name}.jws`), signRelease(manifest, signer))
    return house.service.reload()
  }

  it('kills what each release with it was given, also one that is registered no more, and nothing else', async () => {
    const [one, other, former] = [await token(bad), await token(good), await token(gone)]
    await rm(join(house.folder, 'config/releases/gone.jws'))
    expect(await house.service.reload()).toBe(true)
    const preview = await revoke('litellm@1.82.8', { dry_run: true })
    expect(preview.body).toMatchObject({
      match: { component: 'litellm@1.82.8' },
      mode: 'ban',
      releases: { total: 2, names: [idOf(bad), idOf(gone)].sort() },
      agents: { names: ['research'] },
      live_tokens: { count: 2, exact: false },
    })
    const done = await revoke('litellm@1.82.8')
    expect(done.status, done.text).toBe(201)
    expect(done.body).toMatchObject({ match: { component: 'litellm@1.82.8' }, mode: 'ban' })
    const releases = done.body['releases'] as unknown as string[]
    expect([...releases].sort()).toEqual([idOf(bad), idOf(gone)].sort())
    expect([await alive(one), await alive(former), await alive(other)]).toEqual([false, false, true])
    await refusedWithoutTrace(
      house,
      () => ask(bad),
      { status: 400, error: 'invalid_request', reason: 'banned' },
      () => ask(good),
    )
    const { bans } = (await house.admin('GET', '/revocations/bans')).body as unknown as {
      bans: { id: string; match: object; part_of?: string }[]
    }
    expect(bans.map(({ match }) => match)).toContainEqual({ component: 'litellm@1.82.8' })
    const parts = bans.filter(({ part_of: of }) => of === done.body['id'])
    expect(parts).toHaveLength(2)

    // Each is a part of one decision, and is lifted with it.
    const part = await readmit(parts[0]?.id)
    expect([part.status, part.body['error_description']]).toEqual([
      404,
      expect.stringContaining(`it is a part of ${done.body['id']}`),
    ])
    const back = await readmit(done.body['id'])
    expect(back.status, back.text).toBe(200)
    expect((await house.admin('GET', '/revocations/bans')).body['bans']).toEqual([])
    expect(await alive(await token(bad))).toBe(true)
    expect(await alive(one)).toBe(false)
  })

  it('keeps out a release that is registered later, from its first request, and after a restart', async () => {
    const done = await revoke('left')
    const next = release('2.0.0', ['pkg:npm/left@2.0.0'])
    const fine = release('2.0.1', ['pkg:npm/right@2.0.0'])
    expect(await register('next', next)).toBe(true)
    expect(await register('fine', fine)).toBe(true)
    expect((await ask(next)).body['reason']).toBe('banned')
    await token(fine)
    const records = await house.records({ type: 'revocation.expanded', cause: String(done.body['id']) })
    expect(records.flatMap((record) => (record['details'] as { releases: string[] }).releases)).toContain(idOf(next))

    await house.stop()
    house = await openHouse({ folder: house.folder, startAt: house.now() })
    research = await house.agent('research')
    expect((await ask(next)).body['reason']).toBe('banned')
    const third = release('2.1.0', ['pkg:npm/left@2.1.0'])
    expect(await register('third', third)).toBe(true)
    expect((await ask(third)).body['reason']).toBe('banned')
    expect((await readmit(done.body['id'])).status).toBe(200)
    for (const each of [next, third]) await token(each)
  })

  it('L15 leaves no release unseen that is registered while it is made', async () => {
    for (let round = 0; round < 6; round++) {
      const component = `pkg:npm/raced-${round}@1.0.0`
      const raced = release(`3.${round}.0`, [component])
      const [, done] = await Promise.all([register(`raced-${round}`, raced), revoke(component)])
      expect((await ask(raced)).body['reason']).toBe('banned')
      await readmit(done.body['id'])
    }
  })

  it('goes with other dimensions, cuts once, and suspends until it is resumed', async () => {
    const [own, others] = [await token(good), await token(bad)]
    const cut = await revoke('hono', { mode: 'cut' }, { sub: 'dev|alice' })
    expect(cut.body).toMatchObject({ mode: 'cut', match: { component: 'hono', sub: 'dev|alice' } })
    expect([await alive(own), await alive(others)]).toEqual([false, false])
    // Nothing is kept out, and what was checked since the cut lives.
    const since = await token(good)
    expect(await alive(since)).toBe(true)
    const none = await revoke('hono', { mode: 'cut' }, { client_id: 'payments' })
    expect(none.body['releases']).toEqual([])
    expect(await alive(since)).toBe(true)

    const paused = await revoke('hono', { mode: 'suspend' })
    expect((await ask(good)).body['reason']).toBe('suspended')
    expect((await readmit(paused.body['id'], 'resume')).status).toBe(200)
    expect(await alive(since)).toBe(false)
    await token(good)
  })

  it('pauses, takes from and ends the tasks that its releases opened, and those alone', async () => {
    const opened = async (manifest: typeof good) => {
      const answer = await ask(manifest)
      const task = String(answer.body['task_id'])
      const state = async () => (await house.admin('GET', `/tasks/${task}`)).body['state']
      const again = () =>
        research.exchange({
          form: { audience: 'tickets', task_id: task, request_details: undefined, release: idOf(manifest) },
        })
      return { task, state, again }
    }
    const [one, other] = [await opened(bad), await opened(good)]
    expect((await house.admin('GET', `/tasks/${one.task}`)).body['release']).toBe(idOf(bad))
    const states = async () => [await one.state(), await other.state()]

    const paused = await revoke('litellm@1.82.8', { mode: 'suspend' })
    expect(paused.body['tasks_suspended']).toContain(one.task)
    expect(await states()).toEqual(['suspended', 'active'])
    expect((await one.again()).body['reason']).toBe('suspended')
    const resumed = await readmit(paused.body['id'], 'resume')
    expect(resumed.body['tasks_resumed']).toContain(one.task)
    expect(await states()).toEqual(['active', 'active'])
    expect((await one.again()).status).toBe(200)

    const taken = await revoke('litellm@1.82.8', { mode: 'contain', take: { tools: ['tickets'] } })
    expect(taken.status, taken.text).toBe(201)
    expect(taken.body['tasks_contained']).toContain(one.task)
    expect((await one.again()).body['reason']).toBe('authority_contained')
    expect((await other.again()).status).toBe(200)

    const preview = await revoke('litellm@1.82.8', { dry_run: true })
    expect(preview.body['tasks']).toMatchObject({ effect: 'end', ids: expect.arrayContaining([one.task]) })
    const ended = await house.admin('POST', '/revocations', { match: { release: idOf(bad) }, reason: 'bad release' })
    expect(ended.body['tasks_ended']).toContain(one.task)
    expect(await states()).toEqual(['revoked', 'active'])
    await readmit(ended.body['id'])
    expect(await states()).toEqual(['revoked', 'active'])
  })

  it('is carried out as it was previewed, once', async () => {
    const before = await token(bad)
    const preview = await revoke('litellm@1.82.8', { dry_run: true })
    const after = await token(bad)
    const bulk = { bulk_token: preview.body['bulk_token'], reason: 'as shown' }
    const done = await house.admin('POST', '/revocations', bulk)
    expect(done.status, done.text).toBe(201)
    expect(await alive(before)).toBe(false)
    // What came later is not touched, and nothing is kept out: but for the tasks of the list.
    expect(await alive(after)).toBe(true)
  })

  it('has a receipt that lists its releases', async () => {
    const done = await revoke('litellm@1.82.8', { mode: 'ban' })
    const id = String(done.body['id'])
    const last = await house.service.stores.revocations.epoch()
    expect((await house.admin('GET', `/revocations/${id}`)).body['contained']).toBe(false)
    for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
      await (await house.tool(name)).call('POST', '/revocations/acks', { epoch: `${last.generation}.${last.sequence}` })
    const keys = (await house.admin('GET', '/keys/jwks')).body
    const answer = await house.admin('GET', `/revocations/${id}/receipt`)
    expect(checkReceipt(String(answer.body['receipt']), keys)).toMatchObject({
      ok: true,
      recorded: true,
      statement: {
        revocation: { id, match: { component: 'litellm@1.82.8' } },
        releases: expect.arrayContaining([idOf(bad), idOf(gone)]),
      },
    })
    await readmit(id)
  })

  it('names a component or a release, and none of what there is not yet', async () => {
    const refused = [
      { component: 'litellm', release: idOf(bad) },
      { component: '' },
      { component: 'with a space' },
      { approver: 'alice' },
      { connection: 'warehouse' },
    ]
    for (const match of refused) {
      const answer = await house.admin('POST', '/revocations', { match, reason: 'refused' })
      expect([answer.status, answer.body['reason']], answer.text).toEqual([400, 'bad_body'])
    }
  })
})
