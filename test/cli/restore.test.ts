/** `errand restore` and `errand unseal --without`: what an administrator does to a store while the service stands still. */
import { copyFileSync, rmSync } from 'node:fs'
import { cp, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Redis } from 'ioredis'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openStores } from '../../src/store/open.ts'
import { redisIsHere, startRedis } from '../store/redis-server.ts'
import { type Double, serviceDouble } from './double.ts'

describe('a store that lost something', () => {
  let service: Double
  let folder: string
  beforeAll(async () => {
    service = await serviceDouble()
    folder = await mkdtemp(join(tmpdir(), 'errand-cli-'))
    await cp('config', join(folder, 'config'), { recursive: true })
    service.world.env['ERRAND_CONFIG'] = join(folder, 'config')
    service.world.env['ERRAND_DATA'] = join(folder, 'data')
  })
  afterAll(async () => {
    await service.close()
    await rm(folder, { recursive: true, force: true })
  })

  const open = () =>
    openStores({
      store: { kind: 'embedded' },
      dataDir: join(folder, 'data'),
      now: () => Date.now() / 1000,
      monotonic: () => performance.now(),
    })

  it('P L7 is made whole by errand restore, after which it opens again', async () => {
    expect(await service.cli('restore')).toMatchObject({ exit: 2, err: expect.stringContaining('data_damaged') })
    await (await open()).close()
    const [db, copy] = [join(folder, 'data', 'errand.db'), join(folder, 'copy.db')]
    copyFileSync(db, copy)
    const stores = await open()
    await stores.revocations.mark()
    // It runs: nothing is touched.
    expect(await service.cli('restore')).toMatchObject({ exit: 2, err: expect.stringContaining('store_locked') })
    await stores.close()
    for (const more of ['', '-wal', '-shm']) rmSync(`${db}${more}`, { force: true })
    copyFileSync(copy, db)
    await expect(open()).rejects.toMatchObject({ code: 'store_behind' })
    const { exit, out } = await service.cli('restore', '--everything', '--json')
    expect([exit, JSON.parse(out)]).toMatchObject([0, { added: 0, everything: expect.stringMatching(/^rev_/) }])
    await (await open()).close()
    expect(await service.cli('unseal', '--without', '5f0c22a9')).toMatchObject({ exit: 2 })
  })

  it.skipIf(!redisIsHere())('M says that Redis is empty, and whom it waits for', async () => {
    const redis = await startRedis()
    const client = new Redis(redis.url)
    try {
      const file = join(folder, 'config', 'errand.yaml')
      const text = await readFile(file, 'utf8')
      await writeFile(file, text.replace('kind: embedded', `kind: redis\n  url: ${redis.url}`))
      expect(await service.cli('restore')).toMatchObject({ exit: 0, out: expect.stringContaining('Redis is empty') })
      expect(await service.cli('restore')).toMatchObject({ exit: 0, out: expect.stringContaining('holds something') })
      await client.hset('{errand}:roster', { '5f0c22a9': 'pod-1', '00000000': '' })
      await client.sadd('{errand}:seal:done', '00000000')
      const other = await service.cli('unseal', '--without', '00000000')
      expect(other).toMatchObject({ exit: 1, err: expect.stringContaining('waits for: 5f0c22a9 (pod-1)') })
      expect(await service.cli('unseal', '--without', '5f0c22a9')).toMatchObject({ exit: 0 })
      expect(await client.smembers('{errand}:seal:without')).toEqual(['5f0c22a9'])
      await client.set('{errand}:generation', `1:${'a'.repeat(40)}.${'b'.repeat(40)}:0:0`)
      expect(await service.cli('unseal', '--without', '5f0c22a9')).toMatchObject({
        exit: 1,
        err: expect.stringContaining('waits for nobody'),
      })
    } finally {
      client.disconnect()
      await redis.remove()
    }
  })
})
