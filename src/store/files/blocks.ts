/** The sparse index of a segment: one entry for so many records, with the times that may be found in them. */
import { REGRESSION_MS } from '../../audit/layout.ts'

export const BLOCK_RECORDS = 128

/** Offset of the block's first frame, and the least and greatest time in it. */
export type Block = readonly [offset: number, minTime: number, maxTime: number]

export interface Blocks {
  readonly list: Block[]
  count: number
  /** The highest time seen; starts anew where the clock was set back. */
  high: number
}

export const newBlocks = (high: number): Blocks => ({ list: [], count: 0, high })

export const regressed = (high: number, timeMs: number): boolean => timeMs < high - REGRESSION_MS

/** Adds a record. Where the clock was set back its block also covers the time before: ids made then are found here. */
export function noteRecord(blocks: Blocks, offset: number, timeMs: number): void {
  const back = regressed(blocks.high, timeMs)
  const until = back ? blocks.high : timeMs
  if (blocks.count % BLOCK_RECORDS === 0) blocks.list.push([offset, timeMs, until])
  else {
    const last = blocks.list.length - 1
    const [start, min, max] = blocks.list[last]!
    if (timeMs < min || until > max) blocks.list[last] = [start, Math.min(min, timeMs), Math.max(max, until)]
  }
  blocks.high = back ? timeMs : Math.max(blocks.high, timeMs)
  blocks.count += 1
}
