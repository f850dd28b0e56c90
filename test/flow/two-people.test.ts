import { createHash } from 'node:crypto'
import { readFile, writeFile } from 'node:fs/promises'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { checkReceipt } from '../../src/revoke/receipt-check.ts'
import { isBroad } from '../../src/revoke/two-people.ts'
import { type Answer, type House, newKeyPair, openHouse } from '../house.ts'

const DOMAIN = { domain: 'company.example' }
const TICKETS = 'https://tickets.example.com/'
const LISTED = 'revocation: { two_people: [everything, domain, aud, component] }\n'
const BEN = '  - { client_id: ben, keys_file: ben.pub.jwk }\n'

describe('a broad revocation takes two people', () => {
  const benKey = { ...newKeyPair(), kid: 'ben-1' }
  const options = {
    config: {
      'errand.yaml': (text: string) =>
        `${text.replace(/administrators:\n/, `administrators:\n${BEN}`)}\nbounds: { strangers_per_second_per_source: 100000 }\n${LISTED}`,
      '../keys/ben.pub.jwk': JSON.stringify({ ...benKey.publicJwk, kid: 'ben-1', alg: 'ES256', use: 'sig' }),
    },
  }
  let house: House
  let ben: House['admin']
  beforeAll(async () => {
    house = await openHouse(options)
    ben = house.administrator('ben', benKey)
  })
  afterAll(() => house.close())

  const ask = (match: object = DOMAIN, more: object = {}, headers: Record<string, string> = {}) =>
    house.admin('POST', '/revocations', { match, reason: 'a breach', ...more }, headers)
  const confirm = (answer: Answer, by = ben, digest: unknown = answer.body['digest']) =>
    by('POST', `/revocations/${answer.body['id']}/confirm`, { digest })
  const readmit = (answer: Answer) =>
    house.admin('POST', `/revocations/${answer.body['id']}/readmit`, { reason: 'over' })
  const token = async (agent = 'research', tool = 'tickets') => {
    const answer = await (await house.agent(agent)).exchange({ form: { audience: tool } })
    expect(answer.status, answer.text).toBe(200)
    return { text: String(answer.body['access_token']), task: String(answer.body['task_id']) }
  }
  const alive = async ({ text }: { text: string }) =>
    (await (await house.tool('tickets')).form('/introspect', { token: text })).body['active']
  const expectRefused = async (answer: Answer, status: number, reason: string) => {
    expect([answer.status, answer.body['reason']], answer.text).toEqual([status, reason])
    const [record] = await house.records({ type: 'admin.refused', limit: 1 })
    expect(record).toMatchObject({ reason })
  }

  it('is in force when another confirms what was shown, and both names stand in the record and the receipt', async () => {
    const one = await token()
    const asked = await ask()
    expect([asked.status, asked.body], asked.text).toEqual([
      202,
      {
        id: expect.stringMatching(/^rev_/),
        state: 'pending',
        digest: expect.stringMatching(/^[\w-]{43}$/),
        match: DOMAIN,
        mode: 'ban',
        reason: 'a breach',
        by: 'admin',
        at: house.now(),
        expires_at: house.now() + 900,
      },
    ])
    // Nothing has happened yet.
    expect(await alive(one)).toBe(true)
    expect((await house.admin('GET', `/revocations/${asked.body['id']}`)).status).toBe(404)
    expect((await ben('GET', '/revocations/pending')).body['pending']).toEqual([asked.body])
    const shown = await ben('GET', `/revocations/pending/${asked.body['id']}`)
    expect(shown.body).toMatchObject({ ...asked.body, preview: { live_tokens: { count: 1 }, agents: { total: 1 } } })

    const done = await confirm(asked)
    expect([done.status, done.body], done.text).toEqual([
      201,
      expect.objectContaining({ id: asked.body['id'], match: DOMAIN, by: 'admin', confirmed_by: 'ben', mode: 'ban' }),
    ])
    expect(await alive(one)).toBe(false)
    expect((await ben('GET', '/revocations/pending')).body['pending']).toEqual([])
    const about = async (type: 'revocation.asked' | 'revocation.added') =>
      (await house.records({ type, cause: String(asked.body['id']) }))[0]
    expect(await about('revocation.asked')).toMatchObject({ by: 'admin', details: { digest: asked.body['digest'] } })
    expect(await about('revocation.added')).toMatchObject({ by: 'admin', details: { confirmed_by: 'ben' } })
    const receipt = await house.admin('GET', `/revocations/${asked.body['id']}/receipt`)
    const keys = (await house.admin('GET', '/keys/jwks')).body
    expect(checkReceipt(String(receipt.body['receipt']), keys)).toMatchObject({
      ok: true,
      statement: { revocation: { by: 'admin', confirmed_by: 'ben' } },
    })
    await expectRefused(await confirm(asked), 400, 'confirmation_used')
    await readmit(asked)
  })

  it('is not confirmed by the same person, as something else, too late, or where nothing waits', async () => {
    const asked = await ask()
    const before = await house.service.stores.revocations.epoch()
    await expectRefused(await confirm(asked, house.admin), 403, 'confirmation_own')
    await expectRefused(await confirm(asked, ben, 'x'.repeat(43)), 400, 'confirmation_changed')
    const nothing = await ben('POST', '/revocations/rev_AAAAAAAAAAAAAAAAAAAAAA/confirm', { digest: 'x' })
    await expectRefused(nothing, 404, 'not_found')
    house.advance(901)
    expect((await ben('GET', '/revocations/pending')).body['pending']).toEqual([])
    await expectRefused(await confirm(asked), 400, 'confirmation_expired')
    expect(await house.service.stores.revocations.after(before)).toEqual([])
    const fresh = await ask()
    expect((await confirm(fresh)).status).toBe(201)
    await readmit(fresh)
  })

  it('is not confirmed when whoever asked is no administrator any more', async () => {
    const asked = await ben('POST', '/revocations', { match: DOMAIN, reason: 'a breach' })
    expect(asked.status).toBe(202)
    const path = house.config('errand.yaml')
    const text = await readFile(path, 'utf8')
    await writeFile(path, text.replace('client_id: ben,', 'client_id: eve,'))
    expect(await house.service.reload()).toBe(true)
    await expectRefused(await confirm(asked, house.admin), 400, 'confirmation_changed')
    await writeFile(path, text)
    expect(await house.service.reload()).toBe(true)
  })

  it('is asked for once by an Idempotency-Key, also after it was confirmed', async () => {
    const key = { 'idempotency-key': 'k'.repeat(22) }
    const asked = await ask({ aud: TICKETS }, { mode: 'cut' }, key)
    expect(asked.status, asked.text).toBe(202)
    house.advance(5)
    expect((await ask({ aud: TICKETS }, { mode: 'cut' }, key)).body).toEqual(asked.body)
    await expectRefused(await ask(DOMAIN, {}, key), 422, 'idempotency_conflict')
    expect((await confirm(asked)).status).toBe(201)
    const again = await ask({ aud: TICKETS }, { mode: 'cut' }, key)
    expect([again.status, again.body['confirmed_by']]).toEqual([200, 'ben'])
  })

  it('is not made of a narrower one that is asked for with its Idempotency-Key', async () => {
    const key = { 'idempotency-key': 'n'.repeat(22) }
    const asked = await ask({ aud: TICKETS }, { mode: 'cut' }, key)
    expect(asked.status, asked.text).toBe(202)
    const one = await token()
    const before = await house.service.stores.revocations.epoch()
    await expectRefused(await ask({ client_id: 'research' }, { mode: 'cut' }, key), 422, 'idempotency_conflict')
    expect(await house.service.stores.revocations.after(before)).toEqual([])
    expect(await alive(one)).toBe(true)
    const done = await confirm(asked)
    expect([done.status, done.body['match']], done.text).toEqual([201, { aud: TICKETS }])
    expect(await alive(one)).toBe(false)
  })

  it('leaves to one person what is narrower, previews included', async () => {
    const one = await token()
    const narrow = [{ client_id: 'research' }, { aud: TICKETS, sub: 'dev|alice' }, { task: one.task }]
    for (const match of narrow) {
      const done = await ask(match, { mode: 'cut' })
      expect(done.status, done.text).toBe(201)
    }
    expect(await alive(one)).toBe(false)
    expect((await ask(DOMAIN, { dry_run: true })).status).toBe(200)
    expect((await ask({}, { everything: true })).status).toBe(202)
    expect((await ask({ component: 'litellm' })).status).toBe(202)
  })

  it('carries out what a preview has pinned, and nothing that came later', async () => {
    const one = await token()
    const preview = await ask({ aud: TICKETS }, { dry_run: true, mode: 'cut' })
    const later = await token()
    const bulk = { bulk_token: preview.body['bulk_token'], reason: 'as shown' }
    const asked = await house.admin('POST', '/revocations', bulk)
    expect([asked.status, asked.body['match']], asked.text).toEqual([202, { aud: TICKETS }])
    expect((await house.admin('POST', '/revocations', bulk)).body).toEqual(asked.body)
    expect(await alive(one)).toBe(true)
    const done = await confirm(asked)
    expect([done.status, done.body['confirmed_by']], done.text).toEqual([201, 'ben'])
    expect([await alive(one), await alive(later)]).toEqual([false, true])
    await expectRefused(await confirm(asked), 400, 'confirmation_used')
  })

  it('waits over a restart, and what a stop came in between of is carried out at the next start', async () => {
    const asked = await ask({ aud: TICKETS }, { mode: 'cut' })
    const one = await token()
    const { pendingRevocations: held } = house.service.stores
    expect((await held.confirm(String(asked.body['id']), 'ben', house.now())).outcome).toBe('confirmed')
    await house.stop()
    house = await openHouse({ folder: house.folder, startAt: house.now() })
    ben = house.administrator('ben', benKey)
    expect(await alive(one)).toBe(false)
    const shown = await house.admin('GET', `/revocations/${asked.body['id']}`)
    expect(shown.body).toMatchObject({ by: 'admin', confirmed_by: 'ben' })
    await expectRefused(await confirm(asked), 400, 'confirmation_used')
  })

  it('carries out a confirmed preview also where a stop came before it began, and longer than it is good for', async () => {
    const one = await token()
    const preview = await ask({ aud: TICKETS }, { dry_run: true, mode: 'cut' })
    const bulk = { bulk_token: preview.body['bulk_token'], reason: 'as shown' }
    const asked = await house.admin('POST', '/revocations', bulk)
    const { pendingRevocations: held, bulkPins } = house.service.stores
    const [id, now] = [String(asked.body['id']), house.now()]
    const confirmed = await held.confirm(id, 'ben', now)
    const pin = confirmed.outcome === 'confirmed' ? confirmed.pending.pin : undefined
    expect(pin?.revocation).toBe(id)
    const digest = createHash('sha256').update(`confirmed ${id}`).digest('base64url')
    await bulkPins.offer(digest, { ...pin!, confirmedBy: 'ben', expiresAt: now + 900 })
    await house.stop()
    house = await openHouse({ folder: house.folder, startAt: now + 1000 })
    ben = house.administrator('ben', benKey)
    expect(await alive(one)).toBe(false)
    const shown = await house.admin('GET', `/revocations/${id}`)
    expect(shown.body, shown.text).toMatchObject({ by: 'admin', confirmed_by: 'ben' })
    expect(await house.service.stores.pendingRevocations.unfinished()).toEqual([])
  })

  it('is configured only where there are two people to ask', async () => {
    const path = house.config('errand.yaml')
    const text = await readFile(path, 'utf8')
    const reload = async (changed: string) => {
      await writeFile(path, changed)
      return house.service.reload()
    }
    expect(await reload(text.replace(BEN, ''))).toBe(false)
    expect((await house.admin('GET', '/config')).text).toContain('two administrators')
    expect(await reload(text.replace('keys_file: ben.pub.jwk', 'keys_file: admin.pub.jwk'))).toBe(false)
    expect((await house.admin('GET', '/config')).text).toContain('they are one person')
    expect(await reload(text.replace('[everything, domain', '[everthing, domain'))).toBe(false)
    expect(await reload(text)).toBe(true)
  })
})

it('a match is broad by what is listed and nothing narrower beside it', () => {
  const listed = ['everything', 'domain', 'sub', 'component']
  const table: [object, boolean][] = [
    [{}, true],
    [{ domain: 'a' }, true],
    [{ domain: 'a', aud: 'b' }, true],
    [{ domain: 'a', task: 'b' }, false],
    [{ domain: 'a', sub: 'b' }, true],
    [{ sub: 'b' }, true],
    [{ sub: 'b', client_id: 'c' }, false],
    [{ aud: 'b' }, false],
    [{ release: 'component:litellm' }, true],
    [{ release: 'component:litellm', client_id: 'c' }, false],
  ]
  for (const [match, broad] of table) expect([match, isBroad(match, listed)]).toEqual([match, broad])
  expect(isBroad({}, ['domain'])).toBe(false)
  expect(isBroad({}, [])).toBe(false)
})
