import { createHash } from 'node:crypto'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createGrowingTree } from '../../src/audit/growing-tree.ts'
import { leafHash } from '../../src/audit/leaf.ts'
import {
  consistencyProof,
  emptyRoot,
  inclusionProof,
  type ReadHashes,
  rootAt,
  verifyConsistency,
  verifyInclusion,
} from '../../src/audit/merkle.ts'
import { hashIn, parseTilePath, placeOf, tileIn, tilePath } from '../../src/audit/tile.ts'

const sha256 = (...parts: Uint8Array[]) =>
  parts.reduce((digest, part) => digest.update(part), createHash('sha256')).digest()

/** The definition of RFC 9162 §2.1.1 as it is written there. */
function naiveRoot(leaves: readonly Buffer[]): Buffer {
  if (leaves.length === 0) return sha256()
  if (leaves.length === 1) return leaves[0]!
  let split = 1
  while (split * 2 < leaves.length) split *= 2
  return sha256(Buffer.of(1), naiveRoot(leaves.slice(0, split)), naiveRoot(leaves.slice(split)))
}

const leavesOf = (count: number) => Array.from({ length: count }, (_, n) => leafHash(Buffer.from(`record ${n}`)))
const overLeaves =
  (leaves: readonly Buffer[]): ReadHashes =>
  async (subtrees) =>
    subtrees.map(({ level, index }) => naiveRoot(leaves.slice(index * 2 ** level, (index + 1) * 2 ** level)))

// The leaves and roots by which implementations of RFC 6962 are commonly compared.
const INPUTS = ['', '00', '10', '2021', '3031', '40414243', '5051525354555657', '606162636465666768696a6b6c6d6e6f']
const ROOTS = [
  '6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d',
  'fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125',
  'aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77',
  'd37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7',
  '4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4',
  '76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef',
  'ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c',
  '5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328',
]

describe('the Merkle tree of the log', () => {
  it('RFC 6962 §2.1: has the roots that others compute', async () => {
    const leaves = INPUTS.map((input) => leafHash(Buffer.from(input, 'hex')))
    const tree = createGrowingTree()
    expect(tree.root()).toEqual(emptyRoot())
    for (const [at, root] of ROOTS.entries()) {
      tree.append(leaves[at]!)
      expect(tree.root().toString('hex')).toBe(root)
      expect((await rootAt(at + 1, overLeaves(leaves))).toString('hex')).toBe(root)
    }
  })

  it('RFC 9162 §2.1.3: proves every leaf of every small tree, and nothing else by the same path', async () => {
    const leaves = leavesOf(34)
    const read = overLeaves(leaves)
    for (let size = 1; size <= leaves.length; size += 1) {
      const root = naiveRoot(leaves.slice(0, size))
      for (let index = 0; index < size; index += 1) {
        const path = await inclusionProof(index, size, read)
        expect(verifyInclusion(leaves[index]!, index, size, path, root)).toBe(true)
        expect(verifyInclusion(leaves[(index + 1) % 34]!, index, size, path, root)).toBe(false)
        // What proves the place next to it is another path, but where there is one leaf only.
        if (size > 1) expect(verifyInclusion(leaves[index]!, (index + 1) % size, size, path, root)).toBe(false)
        expect(verifyInclusion(leaves[index]!, index, size, [...path, root], root)).toBe(false)
        if (path.length > 0) expect(verifyInclusion(leaves[index]!, index, size, path.slice(1), root)).toBe(false)
      }
    }
  })

  it('RFC 9162 §2.1.4: proves that each small tree is the beginning of each larger one', async () => {
    const leaves = leavesOf(34)
    const read = overLeaves(leaves)
    const roots = Array.from({ length: 35 }, (_, size) => naiveRoot(leaves.slice(0, size)))
    for (let larger = 1; larger <= 34; larger += 1) {
      for (let smaller = 1; smaller <= larger; smaller += 1) {
        const proof = await consistencyProof(smaller, larger, read)
        expect(verifyConsistency(smaller, roots[smaller]!, larger, roots[larger]!, proof)).toBe(true)
        expect(verifyConsistency(smaller, roots[smaller - 1]!, larger, roots[larger]!, proof)).toBe(false)
        expect(verifyConsistency(smaller, roots[smaller]!, larger, roots[smaller - 1]!, proof)).toBe(false)
        expect(verifyConsistency(smaller, roots[smaller]!, larger, roots[larger]!, [...proof, roots[1]!])).toBe(false)
        for (let at = 0; at < proof.length; at += 1) {
          const bent = proof.with(at, roots[0]!)
          expect(verifyConsistency(smaller, roots[smaller]!, larger, roots[larger]!, bent)).toBe(false)
        }
      }
    }
    expect(verifyConsistency(0, emptyRoot(), 9, roots[9]!, [])).toBe(true)
    expect(verifyConsistency(9, roots[9]!, 8, roots[8]!, [])).toBe(false)
  })

  it('Q4 finds no proof between two trees of one size that differ anywhere', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 200 }), fc.nat(), fc.nat(), async (size, place, more) => {
        const leaves = leavesOf(size)
        const other = leaves.with(place % size, leafHash(Buffer.from('something else')))
        const larger = [...other, ...leavesOf(more % 20)]
        const proof = await consistencyProof(size, larger.length, overLeaves(larger))
        expect(verifyConsistency(size, naiveRoot(other), larger.length, naiveRoot(larger), proof)).toBe(true)
        expect(verifyConsistency(size, naiveRoot(leaves), larger.length, naiveRoot(larger), proof)).toBe(false)
      }),
      { numRuns: 60 },
    )
  })

  it('grows by tiles into the tree of the definition, and proves from its tiles alone', async () => {
    await fc.assert(
      fc.asyncProperty(fc.integer({ min: 1, max: 2500 }), fc.nat(), fc.nat(), async (count, one, other) => {
        const leaves = leavesOf(count)
        const tiles = new Map<string, Buffer>()
        const tree = createGrowingTree({
          onTile: (level, index, hashes) => void tiles.set(tilePath({ level, index, width: 256 }), hashes),
        })
        for (const leaf of leaves) tree.append(leaf)
        expect(tree.root()).toEqual(naiveRoot(leaves))
        const tileOf = (level: number, index: number) =>
          tiles.get(tilePath({ level, index, width: 256 })) ?? tree.edge(level)
        const read: ReadHashes = async (subtrees) =>
          subtrees.map((subtree) => {
            const { level, index } = placeOf(subtree)
            return hashIn(tileOf(level, index), subtree)!
          })
        const size = 1 + (one % count)
        const index = other % size
        const root = naiveRoot(leaves.slice(0, size))
        expect(await rootAt(size, read)).toEqual(root)
        expect(verifyInclusion(leaves[index]!, index, size, await inclusionProof(index, size, read), root)).toBe(true)
        const proof = await consistencyProof(size, count, read)
        expect(verifyConsistency(size, root, count, naiveRoot(leaves), proof)).toBe(true)
        expect(tiles.size).toBe(Math.floor(count / 256))
      }),
      { numRuns: 25 },
    )
  })

  it('goes on from full tiles as if it had never stopped', () => {
    const edges: Buffer[] = []
    const whole = createGrowingTree()
    for (const leaf of leavesOf(1000)) {
      whole.append(leaf)
      if (whole.size === 768) edges.push(Buffer.from(whole.edge(1)))
    }
    const resumed = createGrowingTree({ start: { size: 768, edges } })
    for (const leaf of leavesOf(1000).slice(768)) resumed.append(leaf)
    expect(resumed.root()).toEqual(whole.root())
  })

  it.each([
    [0, 0, 256, 'tile/0/000'],
    [1, 999, 256, 'tile/1/999'],
    [0, 1000, 17, 'tile/0/x001/000.p/17'],
    [63, 1_234_067, 255, 'tile/63/x001/x234/067.p/255'],
  ])('tlog-tiles: spells tile %i/%i of %i hashes %s, and reads it back', (level, index, width, path) => {
    expect(tilePath({ level, index, width })).toBe(path)
    expect(parseTilePath(path)).toEqual({ level, index, width })
  })

  it.each([
    'tile/00/000',
    'tile/64/000',
    'tile/0/0',
    'tile/0/x000/000',
    'tile/0/001/000',
    'tile/0/000.p/0',
    'tile/0/000.p/256',
    'tile/0/000.p/01',
    'tile/0/../000',
    'tile/data/000',
    'tile/0/000/',
  ])('tlog-tiles: takes %s for no tile', (path) => {
    expect(parseTilePath(path)).toBeUndefined()
  })

  it('tlog-tiles: a tree of 70,000 has the tiles of the example there', () => {
    const widths = (level: number) => {
      let full = 0
      while (tileIn(level, full, 70_000)?.width === 256) full += 1
      return [full, tileIn(level, full, 70_000)?.width ?? 0]
    }
    expect([0, 1, 2, 3].map(widths)).toEqual([
      [273, 112],
      [1, 17],
      [0, 1],
      [0, 0],
    ])
  })
})
