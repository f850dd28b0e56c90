/** FI-5: the data disk of the running service is full: nothing is issued, everything can be ended, and it comes back by itself. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { claimsOf } from '../flow/real-process.ts'
import { newKeyPair } from '../house.ts'
import { openSite, verdictOf } from './site.ts'
import { mountSmallDisk } from './small-disk.ts'

const probe = mkdtempSync(join(tmpdir(), 'errand-probe-'))
const mountable = mountSmallDisk(probe, 1)
mountable?.unmount()
rmSync(probe, { recursive: true, force: true })

describe.skipIf(!mountable)('the service on a full disk, as root', () => {
  const closing: (() => unknown)[] = []
  afterAll(async () => {
    for (const close of closing.reverse()) await close()
  })

  it('FI-5 Inv2 Inv3 Inv6 Inv8 refuses every exchange, still takes revocations, which verifiers hear, and forgets none', async () => {
    const site = await openSite()
    closing.push(() => site.close())
    const disk = mountSmallDisk(join(site.folder, 'one', 'data'), 24)!
    closing.push(() => disk.unmount())
    let service = await site.start()
    const tool = await site.verifier(service.base)
    const research = await site.agent(service.base, 'research')
    const asAlice = await site.alice()
    const admin = await site.admin(service.base)
    const exchange = async () => {
      const proofKey = newKeyPair()
      const reply = await research.token({ ...asAlice(), audience: 'tickets' }, { proofKey })
      return { ...reply, proofKey, token: String(reply.body['access_token']) }
    }
    const one = await exchange()
    const other = await exchange()
    expect(await verdictOf(tool, one.token, one.proofKey)).toBe('accepted')

    // What the service gives back of its own is taken at once: somebody else wants the disk too.
    const filling = setInterval(() => disk.fill(), 20)
    closing.push(() => clearInterval(filling))
    disk.fill()
    await expect.poll(async () => (await exchange()).status, { timeout: 5_000 }).toBe(503)
    for (let n = 0; n < 20; n += 1) expect(await exchange()).toMatchObject({ status: 503 })

    const revoke = (match: object, mode: string) =>
      admin.call('POST', '/revocations', { match, mode, reason: 'the disk is full and this must end' })
    const task = (token: string) => (claimsOf(token)['task'] as { id: string }).id
    const ban = await revoke({ task: task(one.token) }, 'ban')
    expect(ban).toMatchObject({ status: 201, body: { tasks_ended: [task(one.token)] } })
    expect(await revoke({ sub: 'dev|alice', aud: 'https://tickets.example.com/' }, 'cut')).toMatchObject({
      status: 201,
    })
    for (let n = 0; n < 20; n += 1) expect(await revoke({ jti: `stolen-${n}` }, 'cut')).toMatchObject({ status: 201 })
    await expect.poll(() => verdictOf(tool, one.token, one.proofKey), { timeout: 5_000 }).toBe('revoked')
    expect(await verdictOf(tool, other.token, other.proofKey)).toBe('revoked')
    expect(await exchange()).toMatchObject({ status: 503, body: { error: 'temporarily_unavailable' } })
    expect(await admin.call('POST', '/seal', { reason: 'until we know why' })).toMatchObject({ status: 200 })

    service.signal('SIGKILL')
    await service.ended
    clearInterval(filling)
    disk.free()
    service = await site.start()
    expect(await admin.call('GET', `/revocations/${String(ban.body['id'])}`)).toMatchObject({ status: 200 })
    const told = await admin.call('GET', '/audit/records?type=revocation.added&limit=100')
    expect(told.body['records']).toHaveLength(22)
    expect(await verdictOf(tool, one.token, one.proofKey)).toBe('revoked')
    expect(await exchange()).toMatchObject({ status: 503 })
    expect(await admin.call('POST', '/unseal', { reason: 'we know why' })).toMatchObject({ status: 200 })
    const next = await exchange()
    expect(next).toMatchObject({ status: 200 })
    await expect.poll(() => verdictOf(tool, next.token, next.proofKey), { timeout: 5_000 }).toBe('accepted')
  }, 60_000)
})
