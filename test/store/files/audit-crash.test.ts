import { describe, expect, it } from 'vitest'
import type { AuditLog, AuditReader } from '../../../src/audit/log.ts'
import { openAuditLog } from '../../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../../audit/fixtures.ts'
import { type Image, lossyDisk } from './disk.ts'

const open = (disk: ReturnType<typeof lossyDisk>, maxSegmentBytes: number): Promise<AuditLog & AuditReader> =>
  openAuditLog({
    folder: '/audit',
    logId: '0a1b2c3d',
    now: () => 0,
    subjectVault: vaultOver(memorySubjectKeys()),
    maxSegmentBytes,
    files: disk.files,
    every: manualTimer().every,
  })

/** Writes batches of several sizes and notes which records were acknowledged at every point a crash may come. */
async function run(maxSegmentBytes: number, start?: Image) {
  const acknowledged: string[] = []
  const disk = lossyDisk(() => acknowledged.length, start)
  const log = await open(disk, maxSegmentBytes)
  for (const size of [1, 3, 2, 5, 1]) {
    const tasks = Array.from({ length: size }, (_, n) => `task_${acknowledged.length}_${n}`)
    await Promise.all(
      tasks.map(async (task) => {
        await log.append({ type: 'task.heartbeat', task })
        acknowledged.push(task)
      }),
    )
  }
  return { acknowledged, points: disk.points }
}

async function holds(image: Image, acknowledged: readonly string[], maxSegmentBytes: number) {
  const disk = lossyDisk(() => 0, image)
  const log = await open(disk, maxSegmentBytes)
  const records = await log.from(0, 100)
  expect(records.map(({ i }) => i)).toEqual(records.map((_, index) => index))
  const tasks = records.flatMap(({ task }) => (task === undefined ? [] : [task]))
  // All that was acknowledged, in order; more only where it had been written and not yet answered.
  expect(tasks.slice(0, acknowledged.length)).toEqual(acknowledged)
  const { index } = await log.append({ type: 'service.started' })
  expect(index).toBe(records.length)
}

describe('FI-6 un-synced writes lost at a crash', () => {
  it.each([
    ['one segment', 1 << 20],
    ['a segment every few records', 300],
  ])(
    'FI-6 every prefix of what was not synced, with %s: what was acknowledged is there, and the log goes on',
    async (_, max) => {
      const { acknowledged, points } = await run(max)
      let images = 0
      for (const point of points) {
        for (const image of point.images()) {
          images += 1
          await holds(image, acknowledged.slice(0, point.acknowledged), max)
        }
      }
      expect(images).toBeGreaterThan(2_000)
    },
  )

  it('FI-6 a crash during the repair of a crash loses nothing either', async () => {
    const { acknowledged, points } = await run(1 << 20)
    const point = points.at(-1)!
    const torn = [...point.images()].filter((_, n) => n % 23 === 5)
    for (const image of torn) {
      const disk = lossyDisk(() => 0, image)
      await open(disk, 1 << 20)
      for (const again of disk.points.flatMap((it) => [...it.images()].filter((_, n) => n % 7 === 0)))
        await holds(again, acknowledged.slice(0, point.acknowledged), 1 << 20)
    }
  })
})
