/** FI-7: wall clocks set ahead and back, standing still and running fast, at the service and at a verifier. */
import { existsSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as pause } from 'node:timers/promises'
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest'
import { claimsOf } from '../flow/real-process.ts'
import { type House, newKeyPair, openHouse } from '../house.ts'
import { inv8, inv2, tokenSeen, type Verdict } from '../invariants.ts'
import { openSite, type Site, verdictOf } from './site.ts'

const HOUR = 3600
const TICKETS = { audience: 'tickets', scope: 'tickets:read_ticket' }
const UNRATIONED = {
  'errand.yaml': (text: string) =>
    `${text}\nbounds: { strangers_per_second_per_source: 100000, requests_per_second_per_client: 100000 }\n`,
}

describe('the service by a clock that is set', () => {
  let house: House
  afterEach(() => house.close())

  async function opened() {
    house = await openHouse({ config: UNRATIONED })
    // Long enough after its start that it may forget things.
    house.advance(1_000)
    const research = await house.agent('research')
    const token = async () => {
      await house.learnNonce('research')
      const answer = await research.exchange({ form: TICKETS })
      expect(answer.status, answer.text).toBe(200)
      return { text: String(answer.body['access_token']), task: String(answer.body['task_id']) }
    }
    const active = async (text: string) => {
      const { body } = await (await house.tool('tickets')).form('/introspect', { token: text })
      return body['active']
    }
    const revoke = async (text: string) => {
      await house.learnNonce('admin')
      const match = { jti: String(claimsOf(text)['jti']) }
      const answer = await house.admin('POST', '/revocations', { match, reason: 'a test' })
      expect(answer.status, answer.text).toBe(201)
    }
    return { research, token, active, revoke }
  }
  const logOf = () => inv8(join(house.folder, 'data', 'audit'))

  it('FI-7 Inv2 Inv6 Inv8 ahead by an hour and back: nothing revoked lives, nothing honest has died', async () => {
    const { token, active, revoke } = await opened()
    const [honest, revoked, completed] = [await token(), await token(), await token()]
    await revoke(revoked.text)
    const research = await house.agent('research')
    expect((await research.call('POST', `/tasks/${completed.task}/complete`)).status).toBe(200)
    for (const settled of [1, 5]) {
      house.setClock(HOUR)
      for (let second = 0; second < settled; second += 1) {
        await house.service.sweep()
        house.advance(1)
      }
      const during = await token()
      expect(await active(during.text)).toBe(true)
      expect(await active(honest.text)).toBe(false)
      expect(await active(revoked.text)).toBe(false)
      await revoke(during.text)
      house.setClock(-HOUR)
      await house.service.sweep()
      expect(await active(honest.text)).toBe(true)
      expect(await active(revoked.text)).toBe(false)
      expect(await active(completed.text)).toBe(false)
      // Made by a clock that was wrong: not valid yet, and revoked when it would be.
      expect(await active(during.text)).toBe(false)
      await token()
      expect((await house.service.stores.tasks.get(honest.task))?.state).toBe('active')
    }
    expect((await house.records({ type: 'clock_regressed' })).length).toBe(2)
    expect((await logOf()).found).toEqual([])
  })

  it('FI-7 Inv2 L7 restarted while it is ahead: what was revoked is revoked when the clock is right', async () => {
    const { token, active, revoke } = await opened()
    const revoked = await token()
    await revoke(revoked.text)
    await house.stop()
    const { folder } = house
    house = await openHouse({ folder, startAt: house.now() + HOUR })
    for (let second = 0; second < 5; second += 1) {
      await house.service.sweep()
      house.advance(1)
    }
    house.setClock(-HOUR)
    expect(await active(revoked.text)).toBe(false)
    expect(await house.service.stores.revocations.after()).toHaveLength(1)
  })

  it('FI-7 Inv2 a token made while the clock was ahead, revoked after it came back, is dead when its time comes', async () => {
    const { token, active, revoke } = await opened()
    house.setClock(HOUR)
    const early = await token()
    await house.service.sweep()
    house.setClock(-HOUR)
    await revoke(early.text)
    for (let minute = 0; minute < 61; minute += 1) {
      house.advance(60)
      await house.service.sweep()
      expect(await active(early.text)).toBe(false)
    }
  })

  it('FI-7 E1 Inv5 ahead and back: an assertion and a proof that were used stay used', async () => {
    const { research, token } = await opened()
    await house.learnNonce('research')
    const assertion = research.assertion()
    const used = { client_assertion: assertion }
    const spent = { claims: { jti: 'used-before-the-jump' } }
    expect((await research.exchange({ form: { ...TICKETS, ...used }, proof: spent })).status).toBe(200)
    house.setClock(HOUR)
    // As many as it takes until what has expired is swept.
    for (let i = 0; i < 150; i += 1) await token()
    house.setClock(-HOUR)
    await house.learnNonce('research')
    const again = await research.exchange({ form: { ...TICKETS, ...used } })
    expect([again.status, again.body['error']]).toEqual([401, 'invalid_client'])
    const proof = await research.exchange({ form: TICKETS, proof: spent })
    expect([proof.status, proof.body['error']]).toEqual([400, 'invalid_dpop_proof'])
  })

  it('FI-7 Q6 back by an hour: order in the log is by index, and honest work goes on', async () => {
    const { token, active, revoke } = await opened()
    const before = await token()
    await revoke(before.text)
    house.setClock(-HOUR)
    const after = await token()
    expect(await active(after.text)).toBe(true)
    expect(await active(before.text)).toBe(false)
    const records = await house.service.log.from(0, 10_000)
    expect(records.map(({ i }) => i)).toEqual(records.map((_, index) => index))
    const [regressed] = records.filter(({ type }) => type === 'clock_regressed')
    expect(records.filter(({ type }) => type === 'clock_regressed')).toHaveLength(1)
    expect(records[regressed!.i - 1]!.t).toBeGreaterThan(records[regressed!.i + 1]!.t)
    expect((await logOf()).found).toEqual([])
  })

  it('FI-7 Inv1 standing still, and running ten times as fast: what is revoked is dead, what is new is good', async () => {
    const { token, active, revoke } = await opened()
    const fast = () => {
      house.setClock(54)
      house.advance(6)
    }
    for (const pass of [() => house.freeze(60), fast]) {
      for (let round = 0; round < 5; round += 1) {
        const [kept, revoked] = [await token(), await token()]
        pass()
        await revoke(revoked.text)
        expect(await active(revoked.text)).toBe(false)
        expect(await active(kept.text)).toBe(true)
        await house.service.sweep()
        expect(await active(revoked.text)).toBe(false)
        for (let i = 0; i < 6; i += 1) pass()
        expect(await active(revoked.text)).toBe(false)
      }
    }
    expect((await logOf()).found).toEqual([])
  })
})

/** libfaketime, which sets the clock of a process from a file; from Debian's package of that name. */
function libfaketime(): string | undefined {
  const folders = [
    '/usr/lib',
    ...(existsSync('/usr/lib') ? readdirSync('/usr/lib').map((name) => `/usr/lib/${name}`) : []),
  ]
  const found = [
    process.env['ERRAND_TEST_LIBFAKETIME'] ?? '',
    ...folders.map((each) => `${each}/faketime/libfaketimeMT.so.1`),
  ]
  const path = found.find((each) => each !== '' && existsSync(each))
  if (path === undefined)
    console.log('libfaketime is not installed (apt-get install faketime): no real process is run by a wrong clock')
  return path
}

const library = libfaketime()

describe.skipIf(library === undefined)('a real process by a wrong clock', () => {
  let site: Site
  beforeAll(async () => {
    site = await openSite()
  })
  afterAll(() => site.close())

  it('FI-7 Inv1 Inv2 Inv8 Inv12 ahead, back, standing still and fast: its verifier never takes what is dead, and recovers with it', async () => {
    const file = join(site.folder, 'clock')
    const clock = (text: string) => writeFileSync(file, `${text}\n`)
    clock('+0 x1')
    const service = await site.start({
      env: {
        LD_PRELOAD: library!,
        FAKETIME_TIMESTAMP_FILE: file,
        FAKETIME_NO_CACHE: '1',
        // Only the wall clock is wrong: nothing in a machine sets the other.
        FAKETIME_DONT_FAKE_MONOTONIC: '1',
      },
    })
    const research = await site.agent(service.base, 'research')
    const admin = await site.admin(service.base)
    const asAlice = await site.alice()
    const verifier = await site.verifier(service.base, { stalenessSeconds: { read: 2 } })
    const exchange = async () => {
      const proofKey = newKeyPair()
      const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey }).catch(() => undefined)
      const text = reply?.body['access_token']
      return typeof text === 'string' ? { text, proofKey } : undefined
    }
    const tokens = new Map<string, ReturnType<typeof tokenSeen>>()
    const verdicts: Verdict[] = []
    const look = async (token: { readonly text: string; readonly proofKey: ReturnType<typeof newKeyPair> }) => {
      const code = await verdictOf(verifier, token.text, token.proofKey)
      const seen = tokenSeen(token.text)
      tokens.set(seen.claims.jti, seen)
      const verdict = code === 'accepted' || code === 'revoked' ? code : code === 'expired' ? 'expired' : 'stale'
      verdicts.push({ jti: seen.claims.jti, at: performance.now(), verdict })
      return code
    }
    for (const wrong of ['+1h x1', '-1h x1', '@2026-11-23 10:00:00 x0.0001', '+0 x20']) {
      const honest = (await exchange())!
      const doomed = (await exchange())!
      const match = { jti: claimsOf(doomed.text)['jti'] }
      const revoke = () => admin.call('POST', '/revocations', { match, reason: 'a test' }).catch(() => undefined)
      expect(await look(honest)).toBe('accepted')
      expect(await look(doomed)).toBe('accepted')
      clock(wrong)
      await pause(2_500)
      // The administrator's clock is right: where that is not believed, nothing was promised.
      if ((await revoke())?.status === 201)
        await expect.poll(() => look(doomed), { timeout: 5_000 }).not.toBe('accepted')
      clock('+0 x1')
      const right = performance.now()
      await expect.poll(async () => (await revoke())?.status, { timeout: 10_000 }).toBe(201)
      await expect.poll(() => look(doomed), { timeout: 5_000 }).toBe('revoked')
      // Inv12: old tokens and new ones, within ten seconds of the clock's being right.
      await expect.poll(() => look(honest), { timeout: 10_000 }).toBe('accepted')
      await expect.poll(async () => (await exchange()) !== undefined, { timeout: 10_000 }).toBe(true)
      expect(await look((await exchange())!)).toBe('accepted')
      expect(performance.now() - right).toBeLessThan(15_000)
    }
    expect(inv2(tokens, verdicts, []).filter((text) => !text.includes('R4'))).toEqual([])
    service.signal('SIGTERM')
    expect(await service.ended).toBe(0)
    expect((await inv8(join(service.dataDir, 'audit'))).found).toEqual([])
  })
})
