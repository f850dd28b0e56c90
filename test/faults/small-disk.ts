/** A file system of a few megabytes, and everything on it that is not ours. */
import { execFileSync } from 'node:child_process'
import { appendFileSync, mkdirSync, rmSync } from 'node:fs'
import { join } from 'node:path'

export interface SmallDisk {
  /** Until not a byte more goes in. */
  fill(): void
  free(): void
  unmount(): void
}

/** Undefined, and said so, where none can be mounted: that takes root. */
export function mountSmallDisk(path: string, megabytes: number): SmallDisk | undefined {
  mkdirSync(path, { recursive: true })
  try {
    execFileSync('mount', ['-t', 'tmpfs', '-o', `size=${megabytes}m,mode=0700`, 'tmpfs', path], { stdio: 'ignore' })
  } catch {
    console.log('no small file system can be mounted here, which takes root: the test of a full disk is skipped')
    return undefined
  }
  const ballast = join(path, 'ballast')
  return {
    fill: () => {
      try {
        for (;;) appendFileSync(ballast, Buffer.alloc(4096, 1))
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code !== 'ENOSPC') throw error
      }
    },
    free: () => rmSync(ballast, { force: true }),
    // Lazily: libsql holds a closed file until its statements are collected.
    unmount: () => execFileSync('umount', ['-l', path]),
  }
}
