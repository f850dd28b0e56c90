import { copyFile, mkdtemp, readdir, readFile, rename, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from 'node:zlib'
import { afterEach, describe, expect, it } from 'vitest'
import { checkAuditLog } from '../../../src/audit/checker.ts'
import { findDecision } from '../../../src/audit/explain.ts'
import { newLogId } from '../../../src/audit/ids.ts'
import { segmentName, sidecarName } from '../../../src/audit/layout.ts'
import { openAuditLog } from '../../../src/store/files/audit-log.ts'
import type { Reserve } from '../../../src/store/files/reserve.ts'
import { issuing, manualTimer, memorySubjectKeys, vaultOver } from '../../audit/fixtures.ts'
import { auditLogContract } from '../../contract/audit-log.ts'
import { failingFiles, waitingForDisk } from './disk.ts'

const LOG = '0a1b2c3d'
const folders: string[] = []

async function newFolder() {
  const folder = await mkdtemp(join(tmpdir(), 'errand-audit-'))
  folders.push(folder)
  return folder
}

afterEach(async () => {
  await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true, force: true })))
})

auditLogContract(async (given) => {
  const folder = await newFolder()
  // Segments of a few records, so that every part of the contract also crosses their borders.
  const open = () => openAuditLog({ folder, ...given, maxSegmentBytes: 20_000, every: manualTimer().every })
  return { log: await open(), reopen: open }
})

interface SetUp {
  readonly maxSegmentBytes?: number
  readonly folder?: string
  readonly reserve?: Reserve
}

async function setUp({ maxSegmentBytes = 1 << 20, folder, reserve }: SetUp = {}) {
  const home = folder ?? (await newFolder())
  const clock = { ms: 1_800_000_000_000, monotonic: 0 }
  const timer = manualTimer()
  const disk = failingFiles()
  const subjectVault = vaultOver(memorySubjectKeys())
  const states: string[] = []
  const open = () =>
    openAuditLog({
      folder: home,
      logId: LOG,
      now: () => clock.ms,
      monotonic: () => clock.monotonic,
      subjectVault,
      maxSegmentBytes,
      files: disk.files,
      every: timer.every,
      onChange: (state) => states.push(state),
      ...(reserve === undefined ? {} : { reserve }),
    })
  const log = await open()
  const some = async (count: number, to = log) => {
    for (let n = 0; n < count; n += 1) await to.append({ type: 'task.heartbeat', task: `task_${n}` })
  }
  return { folder: home, path: join(home, LOG), clock, timer, disk, states, open, log, some }
}

const unavailable = { name: 'Unavailable', reason: 'audit_unavailable' }
const check = (folder: string) => checkAuditLog({ folder })

describe('audit log on disk', () => {
  it('finds the newest of a kind however old it is, and of the older ones those of the time asked for', async () => {
    const { log, clock, some } = await setUp({ maxSegmentBytes: 20_000 })
    const rotated = (to: 'prepared' | 'active') =>
      log.append({ type: 'key.moved', by: 'system', details: { kid: 'k', purpose: 'token', to, cause: 'asked' } })
    const found = async (since: number, limit = 10) => {
      const records = await log.search({ type: 'key.moved', since, newest: true, limit })
      return records.map(({ i }) => i)
    }
    expect(await found(0)).toEqual([])
    await rotated('prepared')
    await some(300)
    clock.ms += 10_000
    await rotated('active')
    await some(300)
    clock.ms += 10_000
    await some(300)
    expect(await found(clock.ms)).toEqual([301])
    expect(await found(clock.ms - 10_000)).toEqual([301])
    expect(await found(0)).toEqual([301, 0])
    expect(await found(0, 1)).toEqual([301])
    expect((await log.search({ type: 'key.moved', since: clock.ms })).length).toBe(0)
    await log.close()
  })

  it('keeps files from other users and goes on in a new segment when one is full', async () => {
    const { path, folder, log, some, open } = await setUp({ maxSegmentBytes: 2_000 })
    await some(100)
    await log.close()
    const names = await readdir(path)
    expect(names.filter((name) => name.endsWith('.seg')).length).toBeGreaterThan(3)
    for (const name of names) expect((await stat(join(path, name))).mode & 0o777).toBe(0o600)
    expect((await stat(path)).mode & 0o777).toBe(0o700)
    expect(await check(folder)).toMatchObject({ ok: true, records: 100, logId: LOG })
    const again = await open()
    expect(again.size).toBe(100)
    expect((await again.from(0, 200)).map(({ i }) => i)).toEqual(Array.from({ length: 100 }, (_, n) => n))
  })

  it('serves many appends by one sync', async () => {
    const { log, disk } = await setUp()
    const before = disk.synced.length
    await Promise.all(Array.from({ length: 500 }, () => log.append({ type: 'task.heartbeat' })))
    expect(disk.synced.length - before).toBeLessThanOrEqual(2)
  })

  it('keeps its log id, and refuses another one', async () => {
    const { folder, log } = await setUp()
    await log.close()
    const given = { folder, now: () => 0, subjectVault: vaultOver(memorySubjectKeys()) }
    await expect(openAuditLog({ ...given, logId: newLogId() })).rejects.toThrow(/is 0a1b2c3d/)
    const again = await openAuditLog(given)
    expect(again.logId).toBe(LOG)
    await again.close()
  })

  it('makes lost or damaged sidecars again', async () => {
    const { path, log, some, open } = await setUp({ maxSegmentBytes: 2_000 })
    await some(60)
    await log.close()
    const sidecars = (await readdir(path)).filter((name) => name.endsWith('.idx'))
    const before = await Promise.all(sidecars.map((name) => readFile(join(path, name), 'utf8')))
    await unlink(join(path, sidecars[0]!))
    await writeFile(join(path, sidecars[1]!), before[1]!.replace('"count":', '"count":1'))
    const again = await open()
    expect(again.size).toBe(60)
    expect(await Promise.all(sidecars.map((name) => readFile(join(path, name), 'utf8')))).toEqual(before)
  })

  it('folds strangers into one record when their second is over', async () => {
    const { log, clock, timer } = await setUp()
    for (let n = 0; n < 50; n += 1) log.countStranger(`2001:db8::${n}`, 'unknown_client')
    await timer.tick()
    expect(log.size).toBe(0)
    clock.ms += 1000
    await timer.tick()
    expect(await log.search({ type: 'strangers.refused' })).toMatchObject([
      { source: '2001:db8::/64', reason: 'unknown_client', count: 50, decision: 'refuse' },
    ])
  })
})

describe('P2 a damaged tail', () => {
  const tornBy = async (harm: (file: string, size: number) => Promise<unknown>) => {
    const all = await setUp()
    await all.some(10)
    await all.log.close()
    const file = join(all.path, segmentName(0))
    await harm(file, (await stat(file)).size)
    return { ...all, file }
  }

  it.each<[string, string, number, (file: string, size: number) => Promise<unknown>]>([
    ['a torn last record', 'torn_tail', 9, (file, size) => truncate(file, size - 7)],
    [
      'half a frame header',
      'torn_tail',
      10,
      async (file) => writeFile(file, Buffer.from([1, 2, 3, 4, 5]), { flag: 'a' }),
    ],
    ['a zero-filled tail', 'zero_tail', 10, (file, size) => truncate(file, size + 5_000)],
    [
      'zeros inside the last record',
      'torn_tail',
      9,
      async (file, size) => {
        const bytes = await readFile(file)
        await writeFile(file, bytes.fill(0, size - 20))
      },
    ],
  ])('P2 %s is cut off and recorded, and the log verifies', async (_, kind, index, harm) => {
    const { folder, open } = await tornBy(harm)
    expect(await check(folder)).toMatchObject({ ok: false, damage: [{ kind, index }] })
    const log = await open()
    expect(log.size).toBe(index + 1)
    expect(await log.get(index)).toMatchObject({ type: 'recovered_tail', details: { kind, index } })
    await log.append({ type: 'service.started' })
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: index + 2 })
  })

  it('P2 a duplicate segment is set aside and recorded, and the log verifies', async () => {
    const { folder, path, log, some, open } = await setUp({ maxSegmentBytes: 2_000 })
    await some(50)
    await log.close()
    await copyFile(join(path, segmentName(0)), join(path, segmentName(50)))
    expect(await check(folder)).toMatchObject({ ok: false, damage: [{ kind: 'duplicate_segment', index: 0 }] })
    const again = await open()
    expect(await again.get(50)).toMatchObject({ type: 'recovered_tail', details: { kind: 'duplicate_segment' } })
    await again.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 51 })
  })

  it('P2 damage to what was acknowledged is no torn tail: the log does not open, and nothing is changed', async () => {
    const { folder, file, open } = await tornBy(async (file) => {
      const bytes = await readFile(file)
      bytes[bytes.indexOf('task_4')]! ^= 1
      await writeFile(file, bytes)
    })
    const before = await readFile(file)
    await expect(open()).rejects.toMatchObject({ name: 'AuditDamage', kind: 'bad_crc', index: 4 })
    expect(await readFile(file)).toEqual(before)
    expect(await check(folder)).toMatchObject({ damage: [{ kind: 'bad_crc', index: 4 }] })
  })

  it.each(['shortened', 'gone'])('P2 a closed segment that is %s is damage, never repaired', async (how) => {
    const { path, log, some, open } = await setUp({ maxSegmentBytes: 2_000 })
    await some(60)
    await log.close()
    const second = (await readdir(path)).filter((name) => name.endsWith('.seg'))[1]!
    if (how === 'gone') await unlink(join(path, second))
    else await truncate(join(path, second), (await stat(join(path, second))).size - 1)
    await expect(open()).rejects.toMatchObject({ name: 'AuditDamage' })
  })
})

describe('P4 a sync that fails', () => {
  it('P4 stops appending at once, and never tries to sync that file again', async () => {
    const { folder, log, some, disk, timer, states } = await setUp()
    await some(3)
    disk.faults.sync = 'EIO'
    const before = disk.synced.length
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    const [failed] = disk.synced.slice(before)
    expect(log.healthy()).toBe(false)
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    for (let n = 0; n < 5; n += 1) await timer.tick()
    expect(disk.synced.slice(before).filter((file) => file === failed)).toEqual([failed])
    expect(log.healthy()).toBe(false)
    expect(log.size).toBe(3)

    // FI-5: once a new file can be synced the log goes on there, and what was not acknowledged is not in it.
    disk.faults.sync = undefined
    await timer.tick()
    expect(log.healthy()).toBe(true)
    expect(await log.append({ type: 'task.ended' })).toMatchObject({ index: 3 })
    expect(disk.synced.slice(before).filter((file) => file === failed)).toEqual([failed])
    expect(states).toEqual(['sync_failed', 'working'])
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 4, segments: 2 })
  })

  it('P4 also in a segment that has no record yet', async () => {
    const { folder, log, some, disk, timer } = await setUp()
    disk.faults.sync = 'EIO'
    await expect(some(1)).rejects.toMatchObject(unavailable)
    disk.faults.sync = undefined
    await timer.tick()
    await some(2)
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 2, segments: 1 })
  })

  it('P4 takes a write that the disk failed for a sync that failed: a file that waits for the disk says it there', async () => {
    const { folder, log, some, disk, timer, states } = await setUp()
    await some(3)
    disk.faults.write = 'EIO'
    const before = disk.synced.length
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    expect(disk.synced).toHaveLength(before)
    disk.faults.write = undefined
    await timer.tick()
    expect(await log.append({ type: 'task.ended' })).toMatchObject({ index: 3 })
    expect(states).toEqual(['sync_failed', 'working'])
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 4, segments: 2 })
  })

  it('P4 also where it is the look for room that the disk failed', async () => {
    const { folder, log, some, disk, timer, states } = await setUp()
    await some(3)
    disk.faults.room = 40
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    disk.faults.room = Number.POSITIVE_INFINITY
    disk.faults.write = 'EIO'
    await timer.tick()
    disk.faults.write = undefined
    await timer.tick()
    expect(await log.append({ type: 'task.ended' })).toMatchObject({ index: 3 })
    expect(states).toEqual(['full', 'sync_failed', 'working'])
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 4, segments: 2 })
  })

  it.runIf(process.platform === 'linux')('P4 has each write to the log wait for the disk', async () => {
    const { path, some } = await setUp()
    await some(1)
    expect(await waitingForDisk(join(path, segmentName(0)))).toEqual([true])
  })

  it('P4 fails all that was waiting, not the one whose sync it was', async () => {
    const { log, disk } = await setUp()
    disk.faults.sync = 'EIO'
    const results = await Promise.allSettled(Array.from({ length: 5_000 }, () => log.append({ type: 'task.opened' })))
    expect(results.every(({ status }) => status === 'rejected')).toBe(true)
    expect(log.size).toBe(0)
  })
})

describe('FI-5 a full disk', () => {
  it('FI-5 cuts off what was half written, refuses while there is no room, and recovers by itself', async () => {
    const { folder, path, log, some, disk, timer } = await setUp()
    await some(3)
    const { size } = await stat(join(path, segmentName(0)))
    disk.faults.room = 40
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    expect((await stat(join(path, segmentName(0)))).size).toBe(size)
    expect(log.healthy()).toBe(false)
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    await timer.tick()
    expect(log.healthy()).toBe(false)
    disk.faults.room = Number.POSITIVE_INFINITY
    await timer.tick()
    expect(log.healthy()).toBe(true)
    expect(await log.append({ type: 'task.ended' })).toMatchObject({ index: 3 })
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 4 })
  })

  it.each([
    ['in the middle of a segment', 1 << 20],
    ['at the change of segments', 100],
  ])(
    'FI-5 %s, records what somebody ended in the space set aside for it, and nothing else until that is whole',
    async (_, maxSegmentBytes) => {
      const parts = { left: 2, whole: true, room: false }
      const reserve: Reserve = {
        tapped: () => !parts.whole,
        refill: () => (parts.whole ||= parts.room),
        spares: () => reserve.refill(),
        release: () => {
          parts.whole = false
          parts.left -= 1
          disk.faults.room = parts.left >= 0 ? 5_000 : 0
          return parts.left >= 0
        },
      }
      const { folder, log, some, disk, timer } = await setUp({ reserve, maxSegmentBytes })
      await some(2)
      disk.faults.room = 0
      const both = await Promise.allSettled([
        log.append({ type: 'task.opened' }),
        log.append({ type: 'revocation.added', by: 'admin' }),
        log.append({ type: 'task.ended', by: 'system' }),
      ])
      expect(both.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'rejected'])
      await timer.tick()
      // There is some room by now, and it is not for this.
      expect(log.healthy()).toBe(false)
      await expect(some(1)).rejects.toMatchObject(unavailable)
      expect(await log.append({ type: 'task.ended', by: 'admin' })).toMatchObject({ index: 3 })
      disk.faults.room = 0
      expect(await log.append({ type: 'revocation.added', by: 'admin' })).toMatchObject({ index: 4 })
      disk.faults.room = 0
      await expect(log.append({ type: 'revocation.added', by: 'admin' })).rejects.toMatchObject(unavailable)
      disk.faults.room = Number.POSITIVE_INFINITY
      parts.room = true
      await timer.tick()
      await timer.tick()
      expect(log.healthy()).toBe(true)
      await some(1)
      await log.close()
      expect(await check(folder)).toMatchObject({ ok: true, records: 6 })
    },
  )

  it('FI-5 also when it fills up at the change of segments', async () => {
    const { folder, log, some, disk, timer } = await setUp({ maxSegmentBytes: 500 })
    await some(4)
    disk.faults.room = 0
    await expect(some(1)).rejects.toMatchObject(unavailable)
    disk.faults.room = Number.POSITIVE_INFINITY
    await timer.tick()
    await some(6)
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 10 })
  })
})

describe('Q a log that cannot append', () => {
  it('Q8 unlinked or rotated away: unhealthy at the next look, working again when it is back', async () => {
    const { path, log, some, timer } = await setUp()
    await some(2)
    const file = join(path, segmentName(0))
    await rename(file, `${file}.1`)
    await timer.tick()
    expect(log.healthy()).toBe(false)
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    await writeFile(file, await readFile(`${file}.1`))
    await timer.tick()
    expect(log.healthy()).toBe(false) // a copy is not the file we write to
    await rename(`${file}.1`, file)
    await timer.tick()
    expect(log.healthy()).toBe(true)
    await some(1)
    expect(log.size).toBe(3)
    await unlink(file)
    await timer.tick()
    expect(log.healthy()).toBe(false)
  })

  it('Q8 cut short under us, or made read-only: unhealthy at the next look', async () => {
    const { path, log, some, timer, disk } = await setUp()
    await some(2)
    disk.faults.readOnly = true
    await timer.tick()
    expect(log.healthy()).toBe(false)
    disk.faults.readOnly = false
    await timer.tick()
    expect(log.healthy()).toBe(true)
    await truncate(join(path, segmentName(0)), 40)
    await timer.tick()
    expect(log.healthy()).toBe(false)
  })

  it('a disk that hangs: appends fail after the time-out, others at once, and it recovers', async () => {
    const { folder, log, some, timer, disk, clock } = await setUp()
    await some(2)
    let release = () => {}
    disk.faults.stall = new Promise((resolve) => {
      release = resolve
    })
    const first = log.append({ type: 'task.opened' })
    const refused = expect(first).rejects.toMatchObject(unavailable)
    await timer.tick()
    const waiting = log.append({ type: 'task.opened' })
    const refusedToo = expect(waiting).rejects.toMatchObject(unavailable)
    clock.monotonic += 5_000
    await timer.tick()
    await Promise.all([refused, refusedToo])
    expect(log.healthy()).toBe(false)
    await expect(log.append({ type: 'task.opened' })).rejects.toMatchObject(unavailable)
    release()
    disk.faults.stall = undefined
    await expect.poll(() => log.healthy()).toBe(true)
    await some(1)
    await log.close()
    expect(await check(folder)).toMatchObject({ ok: true, records: 4 })
  })

  it('Q6 clock set back an hour: recorded once, order is by index, and ids from before are still found', async () => {
    const { folder, log, clock, some, open } = await setUp()
    await some(2)
    const before = issuing(LOG, clock.ms)
    clock.ms -= 3_600_000
    await log.append(before)
    await some(3)
    clock.ms -= 500 // disciplined, not set back
    await some(1)
    await log.close()
    const again = await open()
    const types = (await again.from(0, 100)).map(({ type }) => type)
    expect(types.filter((type) => type === 'clock_regressed').length).toBe(1)
    expect(types.indexOf('clock_regressed')).toBe(2)
    const details = { from: 1_800_000_000_000, to: 1_800_000_000_000 - 3_600_000 }
    expect(await again.get(2)).toMatchObject({ i: 2, details })
    expect(await findDecision(again, before.jti)).toMatchObject({ i: 3 })
    expect(await check(folder)).toMatchObject({ ok: true, regressions: 1 })
  })

  it('Q6 also when it was set back while the service was down', async () => {
    const { log, clock, some, open } = await setUp({ maxSegmentBytes: 400 })
    await some(5)
    await log.close()
    clock.ms -= 3_600_000
    const again = await open()
    await again.append({ type: 'service.started' })
    expect((await again.from(5, 5)).map(({ type }) => type)).toEqual(['clock_regressed', 'service.started'])
  })
})

describe('P6 a newer format', () => {
  it('P6 is refused as format_newer, and no byte is changed', async () => {
    const { folder, path, log, some, open } = await setUp()
    await some(3)
    await log.close()
    const file = join(path, segmentName(0))
    const bytes = await readFile(file)
    bytes.writeUInt16BE(2, 8)
    bytes.writeUInt32BE(crc32(bytes.subarray(0, 28)), 28)
    await writeFile(file, bytes)
    await writeFile(join(path, sidecarName(7)), 'of a newer version')
    await expect(open()).rejects.toMatchObject({ name: 'AuditDamage', kind: 'format_newer' })
    expect(await readFile(file)).toEqual(bytes)
    expect(await check(folder)).toMatchObject({ ok: false, damage: [{ kind: 'format_newer' }] })
  })
})

describe('P5 restart', () => {
  it('P5 reads only the last segment whole: closed ones are known by their sidecars', async () => {
    const { log, some, open, disk } = await setUp({ maxSegmentBytes: 5_000 })
    await some(300)
    await log.close()
    let bytes = 0
    const { read } = disk.files
    disk.files.read = async (fd, into, position) => {
      const count = await read(fd, into, position)
      bytes += count
      return count
    }
    const again = await open()
    expect(again.size).toBe(300)
    expect(bytes).toBeLessThan(8_000)
  })
})
