/** FI-5: the disk of the embedded store is full, then freed. */
import { mkdtempSync, rmSync, statSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { previewsWait } from '../contract/bulk-pins.ts'
import { fresh, range, START } from '../contract/world.ts'
import { mountSmallDisk } from './small-disk.ts'

const folder = mkdtempSync(join(tmpdir(), 'errand-full-'))
const disk = mountSmallDisk(folder, 16)
afterAll(() => {
  disk?.unmount()
  rmSync(folder, { recursive: true, force: true })
})

describe.skipIf(!disk)('the embedded store on a full disk, as root', () => {
  it('mints nothing, still revokes from the space set aside for it, and recovers by itself', async () => {
    const dataDir = join(folder, 'data')
    const stores = await openStores({
      store: { kind: 'embedded' },
      dataDir,
      now: () => START,
      monotonic: () => performance.now(),
    })
    const spent: string[] = []
    const reserved = () => statSync(join(dataDir, 'errand.reserve')).size
    const whole = reserved()
    disk?.fill()
    await expect(async () => {
      for (;;) {
        const ids = range(100).map(() => fresh('id').padEnd(120, 'x'))
        await Promise.all(ids.map((id) => stores.replayGuard.spend(id, START + 60)))
        spent.push(...ids)
      }
    }).rejects.toMatchObject({ reason: 'replay_guard_unavailable' })
    expect(await stores.healthy()).toBe(false)
    expect(reserved()).toBe(whole)

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

    await previewsWait(stores)

    // Its space is for what ends something, and nothing else gets into it.
    expect(reserved()).toBeLessThan(whole)
    await expect(stores.replayGuard.spend(fresh('id'), START + 60)).rejects.toMatchObject({
      reason: 'replay_guard_unavailable',
    })
    expect(await stores.replayGuard.spend(fresh('id'), START + 60, true)).toBe(true)

    disk?.free()
    expect(await stores.healthy()).toBe(true)
    expect(reserved()).toBe(whole)
    for (const id of spent) expect(await stores.replayGuard.spend(id, START + 60)).toBe(false)
    expect(await stores.replayGuard.spend(fresh('id'), START + 60)).toBe(true)
    await stores.close()
  })
})
