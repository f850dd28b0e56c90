/**
 * Tiles of 256 hashes, by which the tree is stored and served (C2SP tlog-tiles): tile N of level L holds the hashes of
 * the subtrees of 256^L leaves from number 256·N on. A full one never changes again.
 */
import { HASH_BYTES, hashOfRun, type Subtree } from './merkle.ts'

export const TILE_HASHES = 256
export const TILE_BYTES = TILE_HASHES * HASH_BYTES
/** Two to the eighth, so that eight levels of the tree are one of tiles. */
const TILE_HEIGHT = 8

export interface Tile {
  readonly level: number
  readonly index: number
  /** 256, or fewer hashes of one at the right edge. */
  readonly width: number
}

/** `tile/<L>/<N>[.p/<W>]`, N in groups of three digits, all but the last with an x before: 1234067 is x001/x234/067. */
export function tilePath({ level, index, width }: Tile): string {
  const digits = String(index)
  const groups = digits.padStart(Math.ceil(digits.length / 3) * 3, '0').match(/.{3}/g)!
  const place = groups.map((group, at) => (at === groups.length - 1 ? group : `x${group}`)).join('/')
  return `tile/${level}/${place}${width === TILE_HASHES ? '' : `.p/${width}`}`
}

const PATH = /^tile\/([0-9]|[1-5][0-9]|6[0-3])\/((?:x[0-9]{3}\/){0,4}[0-9]{3})(?:\.p\/([1-9][0-9]{0,2}))?$/

/** Undefined for whatever is not the one spelling of a tile. */
export function parseTilePath(path: string): Tile | undefined {
  const [, level = '', place = '', partial] = PATH.exec(path) ?? []
  if (place === '') return undefined
  const tile = {
    level: Number(level),
    index: Number(place.replace(/[x/]/g, '')),
    width: partial === undefined ? TILE_HASHES : Number(partial),
  }
  return tilePath(tile) === path && (partial === undefined || tile.width < TILE_HASHES) ? tile : undefined
}

/** How many hashes of that level a tree has. */
export const hashesAt = (level: number, size: number): number => Math.floor(size / TILE_HASHES ** level)

/** As wide as a tree of that size makes it; undefined where it has none of it. */
export function tileIn(level: number, index: number, size: number): Tile | undefined {
  const width = Math.min(TILE_HASHES, hashesAt(level, size) - index * TILE_HASHES)
  return width > 0 ? { level, index, width } : undefined
}

/** The tile a subtree's hash is made from, and where in it. */
export function placeOf({ level, index }: Subtree): {
  readonly level: number
  readonly index: number
  readonly from: number
  readonly count: number
} {
  const count = 2 ** (level % TILE_HEIGHT)
  const first = index * count
  const tile = Math.floor(first / TILE_HASHES)
  return { level: Math.floor(level / TILE_HEIGHT), index: tile, from: first - tile * TILE_HASHES, count }
}

/** The hash of a subtree out of its tile; undefined where the tile is too narrow. */
export function hashIn(tile: Buffer, subtree: Subtree): Buffer | undefined {
  const { from, count } = placeOf(subtree)
  return tile.length < (from + count) * HASH_BYTES ? undefined : hashOfRun(tile, from, count)
}
