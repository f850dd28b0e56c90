/** A tree that grows leaf by leaf and keeps of itself only the tiles at its right edge, at most 8 KB for each level. */
import { HASH_BYTES, hashOfRun, rootOver, subtreesOf } from './merkle.ts'
import { hashesAt, hashIn, placeOf, TILE_BYTES, TILE_HASHES } from './tile.ts'

export interface GrowingTree {
  readonly size: number
  append(leaf: Uint8Array): void
  root(): Buffer
  /** The hashes so far of the last tile of a level; a view that later leaves write to. */
  edge(level: number): Buffer
}

export interface GrowingTreeOptions {
  /** Told of each tile that is full, lower levels first. The bytes are its own. */
  readonly onTile?: (level: number, index: number, hashes: Buffer) => void
  /** Goes on from a tree of a multiple of 256 leaves: the edges of its levels from 1 on. */
  readonly start?: { readonly size: number; readonly edges: readonly Buffer[] }
}

export function createGrowingTree({ onTile, start }: GrowingTreeOptions = {}): GrowingTree {
  const levels: Buffer[] = []
  const levelAt = (level: number) => (levels[level] ??= Buffer.alloc(TILE_BYTES))
  let size = start?.size ?? 0
  for (const [at, edge] of (start?.edges ?? []).entries()) edge.copy(levelAt(at + 1))

  const edge = (level: number) => levelAt(level).subarray(0, (hashesAt(level, size) % TILE_HASHES) * HASH_BYTES)

  /** The tile of the level below is full: its hash is the next one here. */
  const raise = (level: number, hash: Buffer) => {
    const count = hashesAt(level, size)
    const tile = levelAt(level)
    hash.copy(tile, ((count - 1) % TILE_HASHES) * HASH_BYTES)
    if (count % TILE_HASHES === 0) fill(level, count / TILE_HASHES - 1, tile)
  }
  const fill = (level: number, index: number, tile: Buffer) => {
    onTile?.(level, index, Buffer.from(tile))
    raise(level + 1, hashOfRun(tile, 0, TILE_HASHES))
  }

  return {
    get size() {
      return size
    },
    append(leaf) {
      const tile = levelAt(0)
      tile.set(leaf, (size % TILE_HASHES) * HASH_BYTES)
      size += 1
      if (size % TILE_HASHES === 0) fill(0, size / TILE_HASHES - 1, tile)
    },
    // Every subtree of a size's binary digits stands in the last, unfilled tile of its level.
    root: () => rootOver(subtreesOf(size).map((subtree) => hashIn(edge(placeOf(subtree).level), subtree)!)),
    edge,
  }
}
