import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { type Double, NOW, serviceDouble } from './double.ts'

const REV = 'rev_AAAAAAAAAAAAAAAAAAAAAA'
const REVOKE = ['revoke', '--agent', 'research', '--reason', 'key leaked', '--anyway']

const verifier = (tool: string, state: string, until = NOW + 30) => ({ tool, state, until, by: 'feed' })

describe('errand revoke --wait', () => {
  let service: Double
  let looks: number
  beforeEach(async () => {
    service = await serviceDouble()
    looks = 0
    service.answers.set('POST /revocations', { id: REV, epoch: '1.7', match: { client_id: 'research' }, mode: 'cut' })
    service.answers.set(`GET /revocations/${REV}/receipt`, { receipt: 'a.b.c', contained: true, contained_by: NOW })
    service.world.wait = async (milliseconds) => {
      service.world.now += milliseconds / 1000
    }
  })
  afterEach(() => service.close())

  /** Contained at the `n`-th look. */
  const containedAfter = (n: number) =>
    service.answers.set(`GET /revocations/${REV}`, () => {
      looks += 1
      const done = looks >= n
      return {
        contained: done,
        ...(done ? { contained_at: NOW + 1 } : {}),
        contained_by: NOW + 30,
        verifiers: [
          verifier('crm', looks > 1 ? 'acknowledged' : 'waiting'),
          verifier('tickets', done ? 'acknowledged' : 'waiting'),
        ],
      }
    })

  it('says what remains and until when, then writes the receipt', async () => {
    containedAfter(4)
    const out = join(service.keysDir, 'out.json')
    const { exit, out: told, err } = await service.cli(...REVOKE, '--wait', '--receipt', out)
    expect(exit).toBe(0)
    expect(err).toBe(`in force at 0 of 2 tools; waiting for crm (in 30 s at the latest), tickets (in 30 s at the latest)
in force at 1 of 2 tools; waiting for tickets (in 30 s at the latest)
in force at 2 of 2 tools
`)
    expect(told).toMatch(/contained +2027-01-15 08:00:01Z\nreceipt +.*out\.json\n$/)
    expect(JSON.parse(await readFile(out, 'utf8'))).toEqual({ receipt: 'a.b.c' })
  })

  it('exits with 4 when the time is over, and still writes a receipt with what remains', async () => {
    containedAfter(Number.POSITIVE_INFINITY)
    const out = join(service.keysDir, 'out.json')
    const { exit, err } = await service.cli(...REVOKE, '--wait', '--timeout', '3', '--receipt', out)
    expect(exit).toBe(4)
    expect(err).toContain(
      'not contained in time: in force at 1 of 2 tools; waiting for tickets (in 27 s at the latest)',
    )
    expect(JSON.parse(await readFile(out, 'utf8'))).toEqual({ receipt: 'a.b.c' })
    const waited = await service.cli(...REVOKE, '--wait')
    expect(waited.exit).toBe(4)
    expect(service.world.now).toBeGreaterThanOrEqual(NOW + 40)
  })

  it('goes on where the service is away for a moment', async () => {
    containedAfter(3)
    const wait = service.world.wait
    let times = 0
    service.world.wait = async (milliseconds) => {
      times += 1
      service.world.reachable = times % 2 === 0
      await wait(milliseconds)
    }
    expect((await service.cli(...REVOKE, '--wait')).exit).toBe(0)
    expect(times).toBeGreaterThan(2)
  })

  it('answers in JSON with all of both', async () => {
    containedAfter(2)
    const { exit, out } = await service.cli(...REVOKE, '--wait', '--json')
    expect([exit, JSON.parse(out)]).toMatchObject([
      0,
      { id: REV, mode: 'cut', contained: true, contained_by: NOW + 30 },
    ])
  })

  it('Ctrl-C leaves the revocation in force, and says so', async () => {
    containedAfter(Number.POSITIVE_INFINITY)
    service.world.wait = async () => service.interrupt()
    const { exit, err } = await service.cli(...REVOKE, '--wait')
    expect(exit).toBe(130)
    expect(err).toContain(`interrupted: revocation ${REV} stays in force`)
    expect(err).toContain(`errand receipt get ${REV}`)
    expect(service.received.filter(({ method }) => method === 'POST')).toHaveLength(1)
  })

  it.each([
    [['--wait', '--dry-run'], '--dry-run changes nothing'],
    [['--timeout', '3'], '--timeout is of --wait'],
    [['--wait', '--timeout', 'soon'], '--timeout must be a number'],
  ])('%j is refused before anything is revoked', async (flags, message) => {
    const { exit, err } = await service.cli(...REVOKE, ...flags)
    expect([exit, err]).toEqual([2, expect.stringContaining(message)])
    expect(service.received).toEqual([])
  })
})
