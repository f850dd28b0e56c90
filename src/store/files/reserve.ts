/**
 * Space set aside in the data folder, so that what ends something is written also where the disk is full. It is given
 * back to the disk a part at a time: whoever else fills the disk gets no more than a part. From the first part on only
 * what is urgent is written, until all of it is set aside again.
 */
import { closeSync, constants, fstatSync, ftruncateSync, openSync, writeSync } from 'node:fs'
import { join } from 'node:path'

export interface Reserve {
  /** Whether only what is urgent may be written. */
  tapped(): boolean
  /** Gives a part back to the disk; false where none is left. */
  release(): boolean
  /** Sets aside what is missing, as far as there is room. Answers whether it is whole. */
  refill(): boolean
  /** Whether what is not urgent may be written: where it may not, now and then looks whether there is room again. */
  spares(): boolean
}

const RESERVE_BYTES = 4 << 20
const PART_BYTES = 256 << 10
const LOOK_EVERY_MS = 250

export function openReserve(dataDir: string, monotonic: () => number = () => performance.now()): Reserve {
  const path = join(dataDir, 'errand.reserve')
  let whole = false
  let lookedAt = Number.NEGATIVE_INFINITY

  const sized = <T>(step: (fd: number, size: number) => T): T => {
    const fd = openSync(path, constants.O_RDWR | constants.O_CREAT | constants.O_NOFOLLOW, 0o600)
    try {
      return step(fd, fstatSync(fd).size)
    } finally {
      closeSync(fd)
    }
  }

  const refill = (): boolean => {
    if (whole) return true
    lookedAt = monotonic()
    try {
      whole = sized((fd, size) => {
        // Zeroes would be stored as a hole by some file systems.
        const part = Buffer.alloc(PART_BYTES, 0x5a)
        for (let at = size; at < RESERVE_BYTES; ) {
          const count = writeSync(fd, part, 0, Math.min(part.length, RESERVE_BYTES - at), at)
          if (count === 0) return false
          at += count
        }
        return true
      })
    } catch {
      // The disk is full still, and has given what it could.
    }
    return whole
  }

  refill()
  return {
    tapped: () => !whole,
    refill,
    spares: () => whole || (monotonic() - lookedAt >= LOOK_EVERY_MS && refill()),
    release: () => {
      whole = false
      lookedAt = monotonic()
      try {
        return sized((fd, size) => {
          ftruncateSync(fd, Math.max(0, size - PART_BYTES))
          return size > 0
        })
      } catch {
        return false
      }
    },
  }
}

/** Of a write, the errors that are no word about what was already written. */
export const isRoomGone = (cause: unknown): boolean =>
  cause instanceof Error && 'code' in cause && ['ENOSPC', 'EDQUOT', 'EFBIG', 'EROFS'].includes(String(cause.code))
