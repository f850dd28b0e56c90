import { mkdir, mkdtemp, readdir, readFile, rm, stat, truncate, unlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, it, vi } from 'vitest'
import { canonicalize } from '../../../src/audit/canonical.ts'
import { openCheckpoint, originOf } from '../../../src/audit/checkpoint.ts'
import { createGrowingTree } from '../../../src/audit/growing-tree.ts'
import { segmentName } from '../../../src/audit/layout.ts'
import { leafHash } from '../../../src/audit/leaf.ts'
import type { Json } from '../../../src/audit/log.ts'
import {
  consistencyProof,
  inclusionProof,
  rootAt,
  verifyConsistency,
  verifyInclusion,
} from '../../../src/audit/merkle.ts'
import { type OpenedLog, openAuditLog } from '../../../src/store/files/audit-log.ts'
import { manualTimer, memorySubjectKeys, vaultOver } from '../../audit/fixtures.ts'
import { checkpointsOf, ISSUER, signerOf } from '../../audit/signer.ts'
import { failingFiles, lossyDisk } from './disk.ts'

const LOG = '0a1b2c3d'
const folders: string[] = []
afterEach(async () => {
  await Promise.all(folders.splice(0).map((folder) => rm(folder, { recursive: true, force: true })))
})

async function setUp(maxSegmentBytes = 1 << 20) {
  const folder = await mkdtemp(join(tmpdir(), 'errand-tree-'))
  folders.push(folder)
  const disk = failingFiles()
  const progress: number[] = []
  const open = () =>
    openAuditLog({
      folder,
      logId: LOG,
      now: () => 0,
      subjectVault: vaultOver(memorySubjectKeys()),
      maxSegmentBytes,
      files: disk.files,
      every: manualTimer().every,
      onTree: (done) => progress.push(done),
    })
  return { folder, path: join(folder, LOG), disk, open, progress }
}

const fill = (log: OpenedLog, count: number) =>
  Promise.all(Array.from({ length: count }, (_, n) => log.append({ type: 'task.heartbeat', task: `task_${n}` })))

/** By the records themselves, read back. */
async function treeOfRecords(log: OpenedLog) {
  const tree = createGrowingTree()
  const leaves: Buffer[] = []
  for (let at = 0; at < log.size; at += 10_000)
    for (const record of await log.from(at, 10_000)) leaves.push(leafHash(Buffer.from(canonicalize(record as Json))))
  for (const leaf of leaves) tree.append(leaf)
  return { leaves, root: tree.root() }
}

async function tilesIn(path: string): Promise<string[]> {
  const names = await readdir(join(path, 'tile'), { recursive: true, withFileTypes: true }).catch(() => [])
  return names
    .filter((each) => each.isFile())
    .map((each) => join(each.parentPath, each.name).slice(path.length + 1))
    .sort()
}

describe('the tree of a log on disk', () => {
  it('grows with the records as they become durable, and writes each tile once it is full', async () => {
    const { path, open } = await setUp(40_000)
    const log = await open()
    expect(log.tree.caughtUp()).toBe(true)
    await fill(log, 700)
    expect(log.tree.size).toBe(700)
    await log.tree.settle()
    expect(await tilesIn(path)).toEqual(['tile/0/000', 'tile/0/001'])
    const { leaves, root } = await treeOfRecords(log)
    expect(log.tree.root()).toEqual(root)
    expect(await log.tree.tile({ level: 0, index: 1, width: 256 })).toEqual(Buffer.concat(leaves.slice(256, 512)))
    expect(await log.tree.tile({ level: 0, index: 1, width: 7 })).toEqual(Buffer.concat(leaves.slice(256, 263)))
    expect(await log.tree.tile({ level: 0, index: 2, width: 188 })).toEqual(Buffer.concat(leaves.slice(512)))
    expect(await log.tree.tile({ level: 0, index: 2, width: 189 })).toBeUndefined()
    expect(await log.tree.tile({ level: 1, index: 0, width: 2 })).toHaveLength(64)
    const path400 = await inclusionProof(400, 700, log.tree.read)
    expect(verifyInclusion(leaves[400]!, 400, 700, path400, root)).toBe(true)
    const before = await rootAt(300, log.tree.read)
    expect(verifyConsistency(300, before, 700, root, await consistencyProof(300, 700, log.tree.read))).toBe(true)
    await log.close()
  })

  it('makes the tree of a log that has none from its records, while new ones come', async () => {
    const { open, path } = await setUp(100_000)
    const old = await open()
    await fill(old, 3000)
    await old.close()
    await rm(join(path, 'tile'), { recursive: true, force: true })
    const log = await open()
    expect(log.tree.caughtUp()).toBe(false)
    const settled = log.tree.settle()
    await Promise.all([fill(log, 500), settled])
    await log.tree.settle()
    expect(log.tree.caughtUp()).toBe(true)
    expect(log.tree.root()).toEqual((await treeOfRecords(log)).root)
    expect(await tilesIn(path)).toHaveLength(Math.floor(3500 / 256))
    await log.close()
  })

  it('goes on after a restart from the tiles of its second level, and makes others again that were lost or are none', async () => {
    const { open, path, disk } = await setUp(1 << 24)
    const log = await open()
    for (let n = 0; n < 17; n += 1) {
      await fill(log, 3900)
      await log.tree.settle()
    }
    const hardened = () =>
      vi.waitFor(async () => expect((await stat(join(path, 'tile/1/000'))).size).toBe(8192), 20_000)
    await hardened()
    const root = log.tree.root()
    await log.close()
    let reads = 0
    const { read } = disk.files
    disk.files.read = (...args) => {
      reads += 1
      return read(...args)
    }
    const restarted = async () => {
      const again = await open()
      reads = 0
      await again.tree.settle()
      const blocks = reads
      expect(again.tree.root()).toEqual(root)
      const tile = await again.tree.tile({ level: 0, index: 7, width: 256 })
      const upper = await again.tree.tile({ level: 1, index: 0, width: 256 })
      await again.tree.settle()
      await hardened()
      await again.close()
      return { blocks, tile, upper }
    }
    const whole = await restarted()
    // Blocks of 128 records: what stands after the first 65,536, and no more.
    expect(whole.blocks).toBe(Math.ceil((17 * 3900 - 65_536) / 128))
    await unlink(join(path, 'tile/0/007'))
    expect(await restarted()).toEqual(whole)
    await truncate(join(path, 'tile/0/007'), 100)
    expect(await restarted()).toEqual(whole)
    for (const harm of [unlink, (file: string) => truncate(file, 100)]) {
      await harm(join(path, 'tile/1/000'))
      const { blocks, tile, upper } = await restarted()
      expect(blocks).toBe(Math.ceil((17 * 3900) / 128))
      expect({ tile, upper }).toEqual({ tile: whole.tile, upper: whole.upper })
    }
    expect(await readFile(join(path, 'tile/1/000'))).toEqual(whole.upper)
  }, 60_000)

  it('keeps tiles for later while they cannot be written, and proves from them meanwhile', async () => {
    const { open, path, disk } = await setUp()
    const log = await open()
    await fill(log, 600)
    disk.faults.room = 0
    await expect(log.tree.settle()).rejects.toMatchObject({ code: 'ENOSPC' })
    expect(await tilesIn(path)).toEqual(expect.not.arrayContaining(['tile/0/000']))
    const { leaves, root } = await treeOfRecords(log)
    expect(verifyInclusion(leaves[3]!, 3, 600, await inclusionProof(3, 600, log.tree.read), root)).toBe(true)
    disk.faults.room = Number.POSITIVE_INFINITY
    await log.tree.settle()
    expect(await tilesIn(path)).toEqual(expect.arrayContaining(['tile/0/000', 'tile/0/001']))
    await log.close()
  })
})

describe('checkpoints of a log on disk', () => {
  it('Inv8 signs what has grown, once; and after a restart goes on from what it signed', async () => {
    const { open, path } = await setUp()
    const log = await open()
    const first = checkpointsOf(log)
    await first.tick()
    expect(first.newest()).toBeUndefined()
    await fill(log, 300)
    await first.tick()
    const { note } = first.newest()!
    const keys = [signerOf(1).key(originOf(ISSUER, LOG))]
    expect(openCheckpoint(note, keys)).toEqual({ origin: originOf(ISSUER, LOG), size: 300, root: log.tree.root() })
    expect(await readFile(join(path, 'checkpoint'), 'utf8')).toBe(note)
    await first.tick()
    expect(first.newest()!.note).toBe(note)
    expect(await first.covering(299, 10)).toEqual(first.newest())
    expect(await first.covering(300, 10)).toBeUndefined()
    await log.close()

    const again = await open()
    const next = checkpointsOf(again)
    await next.tick()
    expect(next.newest()!.note).toBe(note)
    await fill(again, 1)
    await next.tick()
    expect(next.newest()!.checkpoint.size).toBe(301)
    expect(next.damage()).toBeUndefined()
    await again.close()
  })

  it('takes up after a key was rotated, and after the issuer moved to another URL', async () => {
    const { open, path } = await setUp()
    const log = await open()
    await fill(log, 3)
    await checkpointsOf(log, { keys: [1] }).tick()
    const rotated = checkpointsOf(log, { keys: [2, 1] })
    await fill(log, 1)
    await rotated.tick()
    expect(rotated.newest()!.checkpoint.size).toBe(4)
    expect(JSON.parse(await readFile(join(path, 'checkpoint-keys.json'), 'utf8')).keys).toHaveLength(2)
    const moved = checkpointsOf(log, { keys: [2, 1], issuer: 'https://moved.example' })
    await moved.tick()
    expect(moved.newest()!.checkpoint).toMatchObject({ origin: `moved.example/log/${LOG}`, size: 4 })
    await log.close()
  })

  const signedBefore = async () => {
    const all = await setUp()
    const log = await all.open()
    await fill(log, 20)
    const sizeAt20 = (await readFile(join(all.path, segmentName(0)))).length
    await fill(log, 20)
    await checkpointsOf(log).tick()
    await log.close()
    return { ...all, sizeAt20 }
  }
  const damageAfter = async ({ open }: Pick<Awaited<ReturnType<typeof setUp>>, 'open'>, keys = [1]) => {
    const log = await open()
    const checkpoints = checkpointsOf(log, { keys })
    await fill(log, 1)
    await checkpoints.tick()
    await fill(log, 1)
    await checkpoints.tick()
    const signed = checkpoints.newest()
    await log.close()
    return { kind: checkpoints.damage()?.kind, told: checkpoints.told.length, signed }
  }

  it('Q3 Inv8 signs nothing more over a log that is shorter than what it signed', async () => {
    const all = await signedBefore()
    await truncate(join(all.path, segmentName(0)), all.sizeAt20)
    expect(await damageAfter(all)).toEqual({ kind: 'checkpoint_ahead', told: 1, signed: undefined })
  })

  it('Q4 Inv8 signs nothing more over records that are not those it signed', async () => {
    const all = await signedBefore()
    const other = await setUp()
    const log = await other.open()
    await Promise.all(Array.from({ length: 50 }, () => log.append({ type: 'task.opened' })))
    await log.close()
    await writeFile(join(all.path, segmentName(0)), await readFile(join(other.path, segmentName(0))))
    expect(await damageAfter(all)).toEqual({ kind: 'checkpoint_mismatch', told: 1, signed: undefined })
  })

  it.each<[string, (note: string) => string]>([
    ['of nobody', () => 'not a note'],
    ['of another log', (note) => note.replaceAll(LOG, '99999999')],
    ['with another size', (note) => note.replace('\n40\n', '\n30\n')],
  ])('Q3 Inv8 signs nothing more beside a checkpoint %s', async (_, forge) => {
    const all = await signedBefore()
    const file = join(all.path, 'checkpoint')
    await writeFile(file, forge(await readFile(file, 'utf8')))
    expect(await damageAfter(all)).toMatchObject({ kind: 'bad_checkpoint', signed: undefined })
  })

  it('Q3 Inv8 believes no checkpoint by a key that never was its own', async () => {
    expect(await damageAfter(await signedBefore(), [2])).toMatchObject({ kind: 'bad_checkpoint', signed: undefined })
  })

  it('thins out the oldest of those it keeps', async () => {
    const { open, path } = await setUp()
    const log = await open()
    await mkdir(join(path, 'checkpoints'))
    for (let size = 1; size <= 1024; size += 1)
      await writeFile(join(path, 'checkpoints', String(size).padStart(16, '0')), 'a note')
    for (const size of [1080, 1090, 1100]) await log.checkpoints.keep(size, `note ${size}`)
    const names = await readdir(join(path, 'checkpoints'))
    expect(names.length).toBeLessThanOrEqual(1024)
    expect(names.length).toBeGreaterThan(512)
    expect(names).toContain('0000000000000001')
    expect(names).toContain('0000000000001100')
    await log.close()
  })
})

describe('FI-6 the tree at a crash', () => {
  it('FI-6 Inv8 every prefix of what was not synced: what was signed is the beginning of what is there', async () => {
    const signed: string[] = []
    const disk = lossyDisk(() => signed.length)
    const open = (files = disk.files) =>
      openAuditLog({
        folder: '/audit',
        logId: LOG,
        now: () => 0,
        subjectVault: vaultOver(memorySubjectKeys()),
        maxSegmentBytes: 20_000,
        files,
        every: manualTimer().every,
      })
    const log = await open()
    const checkpoints = checkpointsOf(log)
    for (const count of [3, 254, 1, 260, 5]) {
      await fill(log, count)
      await checkpoints.tick()
      signed.push(checkpoints.newest()!.note)
    }
    const keys = [signerOf(1).key(originOf(ISSUER, LOG))]
    let images = 0
    for (const point of disk.points) {
      const all = [...point.images()]
      for (const image of all.filter((_, n) => n % Math.ceil(all.length / 5) === 0)) {
        images += 1
        const crashed = lossyDisk(() => 0, image)
        const again = await open(crashed.files)
        const next = checkpointsOf(again)
        await next.tick()
        expect(next.damage()).toBeUndefined()
        for (const note of signed.slice(0, point.acknowledged)) {
          const before = openCheckpoint(note, keys)!
          expect(again.tree.size).toBeGreaterThanOrEqual(before.size)
          expect(await rootAt(before.size, again.tree.read)).toEqual(before.root)
        }
      }
    }
    expect(images).toBeGreaterThan(50)
  }, 60_000)
})
