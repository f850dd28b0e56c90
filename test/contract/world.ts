/** What a contract suite gets: the stores of one service, a second replica of them, and a clock that moves when told. */
import { afterEach } from 'vitest'
import type { Stores } from '../../src/store/open.ts'

export interface World {
  readonly stores: Stores
  /** A second replica over the same state; where there can be only one process, the same. */
  readonly other: Stores
  readonly clock: { now: number }
  /** Closes everything and opens it again, as a restart does. */
  reopen(): Promise<World>
  close(): Promise<void>
}

export type OpenWorld = () => Promise<World>

/** Opens worlds and closes them after each test; a world that was reopened is followed. */
export function worlds(open: OpenWorld): () => Promise<World> {
  const opened: World[] = []
  afterEach(async () => {
    for (const world of opened.splice(0)) await world.close()
  })
  return async () => {
    const world = await open()
    const followed: World = {
      ...world,
      reopen: async () => {
        const again = await world.reopen()
        opened.push(again)
        return again
      },
    }
    opened.push(followed)
    return followed
  }
}

/** 2023-11-14, whole seconds: nothing here depends on today. */
export const START = 1_700_000_000

export const range = (count: number): readonly number[] => Array.from({ length: count }, (_, index) => index)

let counter = 0
/** Unique in this run. */
export const fresh = (kind: string): string => {
  counter += 1
  return `${kind}_${String(counter).padStart(22, '0')}`
}
