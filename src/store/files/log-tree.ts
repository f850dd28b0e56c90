/**
 * The Merkle tree of a log beside its segments: full tiles as files (`tile/0/000`, C2SP tlog-tiles), what is not full
 * yet in memory. Everything here follows from the records, so tiles of leaves are written without waiting for the disk,
 * which would hold up the records' own writes. A tile of the next level is written, and synced, once its 256 are: a
 * start goes on from there, and hashes the records after it again, 65,535 at most.
 */
import { join } from 'node:path'
import type { LogTree } from '../../audit/checkpoints.ts'
import { FRAME_HEADER_BYTES } from '../../audit/frame.ts'
import { createGrowingTree, type GrowingTree } from '../../audit/growing-tree.ts'
import { leafHash } from '../../audit/leaf.ts'
import { HASH_BYTES, hashOfRun } from '../../audit/merkle.ts'
import {
  hashesAt,
  hashIn,
  parseTilePath,
  placeOf,
  TILE_BYTES,
  TILE_HASHES,
  type Tile,
  tileIn,
  tilePath,
} from '../../audit/tile.ts'
import type { LogFiles } from './log-files.ts'
import { putFile, putUnsynced } from './segments.ts'

export interface WrittenTree extends LogTree {
  /** Records that have just become durable, from that index on. */
  grown(first: number, leaves: Buffer): void
  /** Waits for what is under way. */
  close(): Promise<void>
}

export interface LogTreeDeps {
  readonly files: LogFiles
  /** Of the log. */
  readonly folder: string
  /** Durable records. */
  readonly logSize: () => number
  /** The bytes of some records from that index on, one at least. */
  readonly payloadsFrom: (index: number) => Promise<readonly Buffer[]>
  /** Told now and then where there is much to catch up with. */
  readonly onProgress?: (done: number, of: number) => void
}

/** 32 MB: where tiles cannot be written for so long, they are made again from the records later. */
const MAX_PENDING_TILES = 4096
const PROGRESS_EVERY = 100_000
const LEAVES = 'tile/0/'

/** The leaves of the records in the frames of one write. */
export function leavesOf(frames: Buffer): Buffer {
  const leaves: Buffer[] = []
  for (let at = 0; at < frames.length; ) {
    const end = at + FRAME_HEADER_BYTES + frames.readUInt32BE(at + 4)
    leaves.push(leafHash(frames.subarray(at + FRAME_HEADER_BYTES, end)))
    at = end
  }
  return Buffer.concat(leaves)
}

const whole = (level: number, index: number): Tile => ({ level, index, width: TILE_HASHES })

export async function openLogTree(deps: LogTreeDeps): Promise<WrittenTree> {
  const { files, folder, logSize, payloadsFrom, onProgress } = deps
  const pending = new Map<string, Buffer>()
  const made = new Set<string>()
  const onTile = (level: number, index: number, hashes: Buffer) =>
    void pending.set(tilePath(whole(level, index)), hashes)

  const fromDisk = async (level: number, index: number): Promise<Buffer | undefined> => {
    const bytes = await files.readWhole(join(folder, tilePath(whole(level, index))))
    return bytes?.length === TILE_BYTES ? bytes : undefined
  }
  const start = await resume({ files, folder, fromDisk, logSize: logSize() })
  const tree: GrowingTree = createGrowingTree({ onTile, start })
  let live = tree.size === logSize()
  let closed = false
  let hardening: Promise<void> | undefined
  let settling: Promise<void> | undefined

  const tileAt = async (level: number, index: number): Promise<Buffer> => {
    if (index === Math.floor(hashesAt(level, tree.size) / TILE_HASHES)) return Buffer.from(tree.edge(level))
    const path = tilePath(whole(level, index))
    const there = pending.get(path) ?? (await fromDisk(level, index))
    if (there !== undefined) return there
    const again = await madeAgain(level, index)
    pending.set(path, again)
    return again
  }

  /** One that was lost, out of what it was made from. */
  const madeAgain = async (level: number, index: number): Promise<Buffer> => {
    const hashes: Buffer[] = []
    while (hashes.length < TILE_HASHES) {
      const next = index * TILE_HASHES + hashes.length
      const records = level === 0 ? await payloadsFrom(next) : []
      if (level === 0 && records.length === 0) throw new RangeError('no such tile in a tree of that size')
      if (level === 0) hashes.push(...records.map(leafHash))
      else hashes.push(hashOfRun(await tileAt(level - 1, next), 0, TILE_HASHES))
    }
    return Buffer.concat(hashes.slice(0, TILE_HASHES))
  }

  const catchUp = async () => {
    let told = tree.size
    while (!live && !closed && pending.size < MAX_PENDING_TILES) {
      if (tree.size === logSize()) {
        live = true
        return
      }
      for (const payload of await payloadsFrom(tree.size)) tree.append(leafHash(payload))
      if (tree.size - told >= PROGRESS_EVERY) {
        told = tree.size
        onProgress?.(tree.size, logSize())
      }
      if (pending.size >= TILE_HASHES) await writeTiles()
    }
  }

  const homeOf = async (path: string): Promise<readonly [home: string, name: string]> => {
    const at = path.lastIndexOf('/')
    const home = join(folder, path.slice(0, at))
    if (!made.has(home)) await files.makeFolder(home)
    made.add(home)
    return [home, path.slice(at + 1)]
  }

  /** Those of leaves; a crash may leave anything of them. */
  const writeTiles = async () => {
    for (const [path, bytes] of pending) {
      if (closed) return
      if (!path.startsWith(LEAVES)) continue
      const [home, name] = await homeOf(path)
      await putUnsynced(files, home, name, bytes)
      pending.delete(path)
    }
    // What fails here is tried again with the next tiles: a start goes on from an earlier place meanwhile.
    if (pending.size > 0)
      hardening ??= harden()
        .catch(() => undefined)
        .finally(() => {
          hardening = undefined
        })
  }

  /** Those above, each once all below it is on disk. By now nearly all of that is, so the syncs cost little. */
  const harden = async () => {
    for (const [path, bytes] of pending) {
      const tile = parseTilePath(path)!
      if (tile.level === 0) continue
      for (let below = 0; tile.level === 1 && below < TILE_HASHES; below += 1) {
        if (closed) return
        const index = tile.index * TILE_HASHES + below
        const [home, name] = await homeOf(tilePath(whole(0, index)))
        await syncFile(files, join(home, name)).catch(async () => putFile(files, home, name, await madeAgain(0, index)))
      }
      const [home, name] = await homeOf(path)
      await putFile(files, home, name, bytes)
      pending.delete(path)
    }
  }

  return {
    get size() {
      return tree.size
    },
    caughtUp: () => live,
    root: () => tree.root(),
    edge: () => Buffer.from(tree.edge(0)),
    read: async (subtrees) => {
      const tiles = new Map<string, Promise<Buffer>>()
      return Promise.all(
        subtrees.map(async (subtree) => {
          const { level, index } = placeOf(subtree)
          const name = `${level}/${index}`
          const reading = tiles.get(name) ?? tileAt(level, index)
          tiles.set(name, reading)
          const tile = await reading
          const hash = hashIn(tile, subtree)
          if (hash === undefined) throw new RangeError('no such subtree in a tree of that size')
          return hash
        }),
      )
    },
    tile: async ({ level, index, width }) => {
      if ((tileIn(level, index, tree.size)?.width ?? 0) < width) return undefined
      const bytes = await tileAt(level, index)
      return bytes.subarray(0, width * HASH_BYTES)
    },
    grown: (first, leaves) => {
      if (!live) return
      if (first !== tree.size || pending.size >= MAX_PENDING_TILES) live = false
      else for (let at = 0; at < leaves.length; at += HASH_BYTES) tree.append(leaves.subarray(at, at + HASH_BYTES))
    },
    settle: () => {
      settling ??= (async () => {
        await catchUp()
        await writeTiles()
      })().finally(() => {
        settling = undefined
      })
      return settling
    },
    close: async () => {
      closed = true
      await settling?.catch(() => undefined)
      await hardening
    },
  }
}

async function syncFile(files: LogFiles, path: string): Promise<void> {
  const fd = await files.open(path, 'update')
  try {
    await files.sync(fd)
  } finally {
    await files.close(fd)
  }
}

/** How much of the tree is surely on disk: what stands under tiles of the second level, without a gap. */
async function resume({
  files,
  folder,
  fromDisk,
  logSize,
}: {
  readonly files: LogFiles
  readonly folder: string
  readonly fromDisk: (level: number, index: number) => Promise<Buffer | undefined>
  readonly logSize: number
}): Promise<{ readonly size: number; readonly edges: readonly Buffer[] }> {
  let tiles = Math.min(Math.floor(logSize / TILE_HASHES ** 2), await countTiles(files, folder, 1)) * TILE_HASHES
  for (let level = 2; Math.floor(tiles / TILE_HASHES ** level) > 0; level += 1) {
    const wanted = Math.floor(tiles / TILE_HASHES ** level)
    const there = await countTiles(files, folder, level)
    if (there < wanted) tiles = there * TILE_HASHES ** level
  }
  for (;;) {
    const edges = await edgesOf(tiles, fromDisk)
    if (typeof edges !== 'number') return { size: tiles * TILE_HASHES, edges }
    tiles = edges
  }
}

/** The edges of the levels from 1 on; or with how many tiles to try again, where one of them cannot be read. */
async function edgesOf(
  tiles: number,
  fromDisk: (level: number, index: number) => Promise<Buffer | undefined>,
): Promise<readonly Buffer[] | number> {
  const edges: Buffer[] = []
  for (let level = 0, count = tiles; count > 0; level += 1) {
    const hashes: Buffer[] = []
    const first = Math.floor(count / TILE_HASHES) * TILE_HASHES
    for (let index = first; index < count; index += 1) {
      const tile = await fromDisk(level, index)
      if (tile === undefined) return index * TILE_HASHES ** level
      hashes.push(hashOfRun(tile, 0, TILE_HASHES))
    }
    edges.push(Buffer.concat(hashes))
    count = first / TILE_HASHES
  }
  return edges
}

async function countTiles(files: LogFiles, folder: string, level: number): Promise<number> {
  let listed = { home: '', names: new Set<string>() }
  for (let index = 0; ; index += 1) {
    const path = tilePath(whole(level, index))
    const at = path.lastIndexOf('/')
    const home = join(folder, path.slice(0, at))
    if (listed.home !== home) listed = { home, names: new Set(await files.list(home).catch(() => [])) }
    if (!listed.names.has(path.slice(at + 1))) return index
  }
}
