/**
 * Notices that a folder's files changed, by looking: how often a file was replaced by rename, mounted anew or behind a
 * symlink is nothing that the kernel's notices tell reliably.
 */
import { readdir, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'
import { someAtOnce } from '../keys/some-at-once.ts'

const EVERY_MS = 1000
/** Looking at ten thousand files takes a third of a second: it is done for at most a twentieth of the time. */
const SHARE = 20
const MOST_MS = 30_000

/** Calls `changed` after names, sizes, times or places of files below `path` differ. Answers how to stop. */
export function watchFiles(
  path: string,
  changed: () => void,
  { everyMs = EVERY_MS, except }: { readonly everyMs?: number; readonly except?: string } = {},
): () => void {
  let before: string | undefined
  let timer: NodeJS.Timeout | undefined
  let stopped = false
  const look = async () => {
    const began = performance.now()
    const now = await signature(path, except)
    if (stopped) return
    const wait = Math.max(everyMs, Math.min(MOST_MS, (performance.now() - began) * SHARE))
    timer = setTimeout(() => void look(), wait)
    timer.unref()
    if (before !== undefined && now !== before) changed()
    before = now
  }
  void look()
  return () => {
    stopped = true
    clearTimeout(timer)
  }
}

async function signature(path: string, except?: string): Promise<string> {
  // A folder that goes away (a deployment by symlink) is a change like any other.
  const all = await readdir(path, { recursive: true }).catch(() => [])
  const names = except === undefined ? all : all.filter((name) => name.split(sep, 1)[0] !== except)
  const lines = await someAtOnce(names.sort(), async (name) => {
    const found = await stat(join(path, name)).catch(() => undefined)
    return found?.isFile() ? `${name} ${found.size} ${found.mtimeMs} ${found.ino}` : ''
  })
  return lines.join('\n')
}
