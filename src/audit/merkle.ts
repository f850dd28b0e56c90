/**
 * The Merkle tree of RFC 6962 and RFC 9162 §2.1: which hashes make a root or a proof, and the verification of proofs.
 * Who holds the hashes is not said here. Indexes may pass 2^31, so nothing is shifted.
 */
import { hash } from 'node:crypto'

export const HASH_BYTES = 32
const NODE_PREFIX = 0x01

/** A complete subtree: the `index`-th (from 0) of those that have 2^level leaves. */
export interface Subtree {
  readonly level: number
  readonly index: number
}

/** Leaves `from` up to but not including `to`. */
type Range = readonly [from: number, to: number]

/** Answers the hash of each, in the same order. */
export type ReadHashes = (subtrees: readonly Subtree[]) => Promise<readonly Uint8Array[]>

function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  const input = Buffer.allocUnsafe(1 + 2 * HASH_BYTES)
  input[0] = NODE_PREFIX
  input.set(left, 1)
  input.set(right, 1 + HASH_BYTES)
  return hash('sha256', input, 'buffer')
}

/** The hash over `count` hashes, a power of two, that stand one after the other. */
export function hashOfRun(hashes: Buffer, from: number, count: number): Buffer {
  const row = Buffer.from(hashes.subarray(from * HASH_BYTES, (from + count) * HASH_BYTES))
  const input = Buffer.allocUnsafe(1 + 2 * HASH_BYTES)
  input[0] = NODE_PREFIX
  for (let left = count; left > 1; left /= 2) {
    for (let at = 0; at < left / 2; at += 1) {
      row.copy(input, 1, at * 2 * HASH_BYTES, (at + 1) * 2 * HASH_BYTES)
      row.write(hash('sha256', input, 'binary'), at * HASH_BYTES, 'binary') // the fastest way out of the hash function
    }
  }
  return row.subarray(0, HASH_BYTES)
}

/** Of a tree without leaves (RFC 9162 §2.1.1). */
export const emptyRoot = (): Buffer => hash('sha256', Buffer.alloc(0), 'buffer')

/** The complete subtrees that make up the whole tree of that size, left to right: the binary digits of the size. */
export const subtreesOf = (size: number): readonly Subtree[] => subtreesIn([0, size])

/** The root over hashes of `subtreesOf(size)`. */
export const rootOver = (hashes: readonly Uint8Array[]): Buffer =>
  hashes.length === 0 ? emptyRoot() : Buffer.from(hashes.reduceRight((right, left) => nodeHash(left, right)))

export async function rootAt(size: number, read: ReadHashes): Promise<Buffer> {
  return rootOver(await read(subtreesOf(size)))
}

/** RFC 9162 §2.1.3.1, from the leaf upwards. */
export function inclusionProof(index: number, size: number, read: ReadHashes): Promise<readonly Buffer[]> {
  if (!(index >= 0 && index < size)) throw new RangeError('no such leaf in a tree of that size')
  const ranges: Range[] = []
  let from = 0
  let to = size
  while (to - from > 1) {
    const middle = from + split(to - from)
    if (index < middle) {
      ranges.push([middle, to])
      to = middle
    } else {
      ranges.push([from, middle])
      from = middle
    }
  }
  return hashesOf(ranges.reverse(), read)
}

/** That the tree of the smaller size is the beginning of the larger one: RFC 9162 §2.1.4.1. */
export function consistencyProof(smaller: number, larger: number, read: ReadHashes): Promise<readonly Buffer[]> {
  if (!(smaller >= 1 && smaller <= larger)) throw new RangeError('no such pair of sizes')
  const ranges: Range[] = []
  let from = 0
  let to = larger
  while (smaller !== to) {
    const middle = from + split(to - from)
    if (smaller <= middle) {
      ranges.push([middle, to])
      to = middle
    } else {
      ranges.push([from, middle])
      from = middle
    }
  }
  // Whoever asks has the hash of the smaller tree, which it is where nothing was cut off on the left.
  if (from > 0) ranges.push([from, to])
  return hashesOf(ranges.reverse(), read)
}

/** RFC 9162 §2.1.3.2. */
export function verifyInclusion(
  leaf: Uint8Array,
  index: number,
  size: number,
  path: readonly Uint8Array[],
  root: Uint8Array,
): boolean {
  if (!isCount(index) || !isCount(size) || index >= size || !areHashes([leaf, root, ...path])) return false
  let at = index
  let last = size - 1
  let computed: Uint8Array = leaf
  for (const sibling of path) {
    if (last === 0) return false
    if (isOdd(at) || at === last) {
      computed = nodeHash(sibling, computed)
      while (!isOdd(at) && at !== 0) {
        at = half(at)
        last = half(last)
      }
    } else computed = nodeHash(computed, sibling)
    at = half(at)
    last = half(last)
  }
  return last === 0 && equal(computed, root)
}

/** RFC 9162 §2.1.4.2. Every tree is consistent with the empty one. */
export function verifyConsistency(
  smaller: number,
  smallerRoot: Uint8Array,
  larger: number,
  largerRoot: Uint8Array,
  proof: readonly Uint8Array[],
): boolean {
  if (!isCount(smaller) || !isCount(larger) || smaller > larger) return false
  if (!areHashes([smallerRoot, largerRoot, ...proof])) return false
  if (smaller === larger) return proof.length === 0 && equal(smallerRoot, largerRoot)
  if (smaller === 0) return proof.length === 0 && equal(smallerRoot, emptyRoot())
  const [seed, ...rest] = isPowerOfTwo(smaller) ? [smallerRoot, ...proof] : proof
  if (seed === undefined) return false
  let at = smaller - 1
  let last = larger - 1
  while (isOdd(at)) {
    at = half(at)
    last = half(last)
  }
  let first: Uint8Array = seed
  let second: Uint8Array = seed
  for (const hash of rest) {
    if (last === 0) return false
    if (isOdd(at) || at === last) {
      first = nodeHash(hash, first)
      second = nodeHash(hash, second)
      while (!isOdd(at) && at !== 0) {
        at = half(at)
        last = half(last)
      }
    } else second = nodeHash(second, hash)
    at = half(at)
    last = half(last)
  }
  return last === 0 && equal(first, smallerRoot) && equal(second, largerRoot)
}

async function hashesOf(ranges: readonly Range[], read: ReadHashes): Promise<readonly Buffer[]> {
  const parts = ranges.map(subtreesIn)
  const hashes = await read(parts.flat())
  let at = 0
  return parts.map((part) => {
    at += part.length
    return rootOver(hashes.slice(at - part.length, at))
  })
}

/** Of a range that the recursion of RFC 9162 §2.1 comes to: it begins at a multiple of its largest subtree. */
function subtreesIn([from, to]: Range): readonly Subtree[] {
  const found: Subtree[] = []
  for (let at = from; at < to; ) {
    let level = 0
    let size = 1
    while (size * 2 <= to - at) {
      size *= 2
      level += 1
    }
    found.push({ level, index: at / size })
    at += size
  }
  return found
}

/** The largest power of two below `count`. */
function split(count: number): number {
  let size = 1
  while (size * 2 < count) size *= 2
  return size
}

const half = (number: number) => Math.floor(number / 2)
const isOdd = (number: number) => number % 2 === 1
const isCount = (number: number) => Number.isSafeInteger(number) && number >= 0
const isPowerOfTwo = (number: number) => number === 1 || split(number) * 2 === number
const equal = (one: Uint8Array, other: Uint8Array) => Buffer.compare(one, other) === 0
const areHashes = (all: readonly Uint8Array[]) => all.every(({ length }) => length === HASH_BYTES)
