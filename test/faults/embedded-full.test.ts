/** FI-5: the disk of the embedded store is full, then freed. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, existsSync, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { fresh, range, START } from '../contract/world.ts'

const folder = mkdtempSync(join(tmpdir(), 'errand-full-'))
const mounted = mountSmall(folder)
afterAll(() => {
  // Lazily: libsql holds a closed file until its statements are collected.
  if (mounted) execFileSync('umount', ['-l', folder])
  rmSync(folder, { recursive: true, force: true })
})

function mountSmall(path: string): boolean {
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=16m', 'tmpfs', path], { stdio: 'ignore' })
    return true
  } catch {
    console.log('no small file system can be mounted here: the test of a full disk is skipped')
    return false
  }
}

describe.skipIf(!mounted)('the embedded store on a full disk', () => {
  it('mints nothing, still revokes from the space set aside for it, and recovers by itself', async () => {
    const dataDir = join(folder, 'data')
    const ballast = join(folder, 'ballast')
    const stores = await openStores({
      store: { kind: 'embedded' },
      dataDir,
      now: () => START,
      monotonic: () => performance.now(),
    })
    const spent: string[] = []
    await expect(async () => {
      for (;;) appendFileSync(ballast, Buffer.alloc(64 * 1024, 1))
    }).rejects.toThrow('ENOSPC')
    await expect(async () => {
      for (;;) {
        const ids = range(100).map(() => fresh('id').padEnd(120, 'x'))
        await Promise.all(ids.map((id) => stores.replayGuard.spend(id, START + 60)))
        spent.push(...ids)
      }
    }).rejects.toMatchObject({ reason: 'replay_guard_unavailable' })
    expect(await stores.healthy()).toBe(false)
    expect(existsSync(join(dataDir, 'errand.reserve'))).toBe(true)

    const rev = await stores.revocations.epoch()
    for (const n of range(20)) {
      const match = { jti: `stolen-${n}` }
      await stores.revocations.add({
        id: fresh('rev'),
        match,
        mode: 'ban',
        reason: 'test',
        by: 'admin',
        at: START,
        expiresAt: START + 60,
      })
      expect((await stores.revocations.check({ hops: [{ facts: match, rev }] })).dead?.hop).toBe(0)
    }

    rmSync(ballast)
    expect(await stores.healthy()).toBe(true)
    expect(existsSync(join(dataDir, 'errand.reserve'))).toBe(true)
    for (const id of spent) expect(await stores.replayGuard.spend(id, START + 60)).toBe(false)
    expect(await stores.replayGuard.spend(fresh('id'), START + 60)).toBe(true)
    await stores.close()
  })
})
