/** Checkpoints beside the log: the newest as `checkpoint`, some of those before in `checkpoints/`, and the keys to both. */
import { join } from 'node:path'
import type { KeptCheckpoints } from '../../audit/checkpoints.ts'
import { CHECKPOINT_FILE, CHECKPOINT_FOLDER, CHECKPOINT_KEYS_FILE, EDGE_FILE } from '../../audit/layout.ts'
import type { LogFiles } from './log-files.ts'
import { putFile, putUnsynced } from './segments.ts'

/** One a minute: most of a day, then every second one of what came before, and so on. */
const MAX_KEPT = 1024

export function createKeptCheckpoints({
  files,
  folder,
}: {
  readonly files: LogFiles
  readonly folder: string
}): KeptCheckpoints {
  const keptFolder = join(folder, CHECKPOINT_FOLDER)
  const put = (name: string, text: string) => putFile(files, folder, name, Buffer.from(text, 'utf8'))
  return {
    newest: async () => (await files.readWhole(join(folder, CHECKPOINT_FILE)))?.toString('utf8'),
    hasOthers: async () => {
      await files.makeFolder(keptFolder)
      return (await files.list(keptFolder)).length > 0
    },
    put: async (note, edge) => {
      // Not synced: after a crash it may be anything, and a check believes it of nothing but where to look.
      await putUnsynced(files, folder, EDGE_FILE, edge)
      await put(CHECKPOINT_FILE, note)
    },
    keep: async (size, note) => {
      await files.makeFolder(keptFolder)
      await putFile(files, keptFolder, String(size).padStart(16, '0'), Buffer.from(note, 'utf8'))
      const names = [...(await files.list(keptFolder))].sort()
      if (names.length <= MAX_KEPT) return
      const old = names.slice(0, MAX_KEPT / 2)
      for (const name of old.filter((_, at) => at % 2 === 1)) await files.remove(join(keptFolder, name))
    },
    putKeys: async (jwks) => {
      const there = await files.readWhole(join(folder, CHECKPOINT_KEYS_FILE))
      if (there?.toString('utf8') !== jwks) await put(CHECKPOINT_KEYS_FILE, jwks)
    },
  }
}
