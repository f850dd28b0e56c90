import { join } from 'node:path'
import pc from 'picocolors'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from '../../src/cli/main.ts'
import { DRILL_CONFIG } from '../drills.ts'
import { type House, ISSUER, openHouse } from '../house.ts'

describe('errand drill', () => {
  let house: House
  /** How the tool answers the probe, before and after the revocation. */
  let answers: number[]
  beforeAll(async () => {
    house = await openHouse({ config: DRILL_CONFIG })
  })
  afterAll(() => house.close())

  const cli = async (...argv: string[]) => {
    const out: string[] = []
    const err: string[] = []
    const exit = await run(argv, {
      out: (line) => void out.push(line),
      err: (line) => void err.push(line),
      stdin: async () => '',
      env: { ERRAND_KEYS: join(house.folder, 'keys'), ERRAND_CONFIG: join(house.folder, 'config') },
      fetch: async (url, init) => {
        if (!String(url).startsWith(ISSUER)) {
          const headers = new Headers(init?.headers)
          expect(headers.get('authorization')).toMatch(/^DPoP ey/)
          expect(headers.get('dpop')).toMatch(/^ey/)
          return new Response('{}', { status: answers.shift() ?? 500 })
        }
        return house.service.app.fetch(new Request(url, init), { base: ISSUER, peer: '127.0.0.1' })
      },
      now: house.now,
      wait: async () => {
        house.advance(1)
        // What verifiers do in the background.
        const epoch = await house.service.stores.revocations.epoch()
        for (const name of ['crm', 'github', 'payments', 'tickets', 'warehouse'])
          await (await house.tool(name)).call('POST', '/revocations/acks', {
            epoch: `${epoch.generation}.${epoch.sequence}`,
          })
      },
      signal: new AbortController().signal,
      colors: pc.createColors(false),
      command: 'errand',
      nodeVersion: '24.11.0',
    })
    return { exit, out: out.join('\n'), err: err.join('\n') }
  }

  it('ends real tokens of its agent, waits until every tool refuses them, and keeps it in the log', async () => {
    const { exit, out, err } = await cli('drill', '--agent', 'fire-drill', '--tasks', '2')
    expect([exit, err]).toEqual([0, expect.stringContaining('4 tokens in 2 tasks, for ')])
    expect(out).toMatch(/drill +held\n/)
    expect(out).toMatch(/tasks ended +2\ntokens +4\ncontained +after 1\.00 s/)
    const [record] = await house.records({ type: 'drill.finished' })
    expect(record).toMatchObject({
      agent: 'fire-drill',
      by: 'admin',
      details: { contained: true, verifiers: 5, acknowledged: 5, tasks: 2, tokens: 4, milliseconds: 1000, probes: [] },
    })
    const history = await cli('drill', 'history')
    expect(history.out).toMatch(/fire-drill +2 +4 +after 1\.00 s +5 of 5 acknowledged/)
    expect(await house.service.stores.revocations.bans(house.now())).toEqual([])
  })

  it('probes the tool itself, before and after', async () => {
    const probe = ['--tasks', '1', '--tool', 'tickets', '--probe', 'https://tickets.example.com/tickets/0']
    answers = [200, 401]
    expect((await cli('drill', '--agent', 'fire-drill', ...probe)).out).toMatch(/probe +200 before, 401 after/)
    answers = [200, 200]
    const deaf = await cli('drill', '--agent', 'fire-drill', ...probe)
    expect([deaf.exit, deaf.out]).toEqual([1, expect.stringMatching(/drill +did not hold/)])
    const before = (await house.records({ type: 'revocation.added' })).length
    answers = [503]
    const none = await cli('drill', '--agent', 'fire-drill', ...probe)
    expect([none.exit, none.err]).toEqual([1, expect.stringContaining('nothing was drilled')])
    expect((await house.records({ type: 'revocation.added' })).length).toBe(before)
  })

  it('never touches an agent in earnest', async () => {
    const before = (await house.records({ type: 'revocation.added' })).length
    const { exit, err } = await cli('drill', '--agent', 'research')
    expect([exit, err]).toEqual([1, expect.stringContaining('research is an agent in earnest')])
    const asked = await house.admin('POST', '/drills', { agent: 'research' })
    expect([asked.status, asked.body['reason']]).toEqual([404, 'not_found'])
    expect((await house.records({ type: 'revocation.added' })).length).toBe(before)
    // A ban in earnest is no drill, so it cannot be ended as one.
    const ban = await house.admin('POST', '/revocations', { match: { client_id: 'research' }, reason: 'fire drill' })
    const observed = { tokens: 1, milliseconds: 1, probes: [] }
    expect((await house.admin('POST', `/drills/${ban.body['id']}/finish`, observed)).status).toBe(404)
    const cut = await house.admin('POST', '/revocations', {
      match: { client_id: 'fire-drill' },
      mode: 'cut',
      reason: 'fire drill',
    })
    expect((await house.admin('POST', `/drills/${cut.body['id']}/finish`, observed)).status).toBe(404)
    expect(await house.service.stores.revocations.bans(house.now())).toHaveLength(1)
  })

  it.each([
    [['drill'], 'say which agent'],
    [['drill', 'often'], 'errand drill, or errand drill history'],
    [['drill', '--agent', 'fire-drill', '--probe', 'https://tickets.example.com/'], '--probe needs --tool'],
    [['drill', '--agent', 'fire-drill', '--tool', 'payments'], 'fire-drill has nothing at payments'],
  ])('%j is refused with what is wrong', async (argv, message) => {
    const { exit, err } = await cli(...argv)
    expect([exit, err]).toEqual([2, expect.stringContaining(message)])
  })
})
