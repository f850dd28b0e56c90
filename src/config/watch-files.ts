/**
 * Notices that a folder's files changed, by looking: how often a file was replaced by rename, mounted anew or behind a
 * symlink is nothing that the kernel's notices tell reliably.
 */
import { readdir, stat } from 'node:fs/promises'
import { join, sep } from 'node:path'

const EVERY_MS = 1000

/** Calls `changed` after names, sizes, times or places of files below `path` differ. Answers how to stop. */
export function watchFiles(
  path: string,
  changed: () => void,
  { everyMs = EVERY_MS, except }: { readonly everyMs?: number; readonly except?: string } = {},
): () => void {
  let before: string | undefined
  let looking = false
  const look = async () => {
    if (looking) return
    looking = true
    try {
      const now = await signature(path, except)
      if (before !== undefined && now !== before) changed()
      before = now
    } finally {
      looking = false
    }
  }
  void look()
  const timer = setInterval(() => void look(), everyMs)
  timer.unref()
  return () => clearInterval(timer)
}

async function signature(path: string, except?: string): Promise<string> {
  // A folder that goes away (a deployment by symlink) is a change like any other.
  const all = await readdir(path, { recursive: true }).catch(() => [])
  const names = except === undefined ? all : all.filter((name) => name.split(sep, 1)[0] !== except)
  const lines = await Promise.all(
    names.sort().map(async (name) => {
      const found = await stat(join(path, name)).catch(() => undefined)
      return found?.isFile() ? `${name} ${found.size} ${found.mtimeMs} ${found.ino}` : ''
    }),
  )
  return lines.join('\n')
}
