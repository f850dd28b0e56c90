/** How far a mirror has come, in the data folder: a file that is replaced whole. */
import { join } from 'node:path'
import type { MirrorPosition } from '../../audit/mirror.ts'
import { realLogFiles } from '../files/log-files.ts'
import { putFile } from '../files/segments.ts'

/** Of another log, one begun anew, it says nothing. */
export function createMirrorPosition(folder: string, name: string, logId: string): MirrorPosition {
  const files = realLogFiles()
  return {
    read: async () => {
      const text = (await files.readWhole(join(folder, `${name}.json`)))?.toString('utf8')
      if (text === undefined) return undefined
      try {
        const { log, next } = JSON.parse(text) as { readonly log?: unknown; readonly next?: unknown }
        return log === logId && Number.isSafeInteger(next) ? (next as number) : undefined
      } catch {
        return undefined
      }
    },
    keep: async (next) => {
      await files.makeFolder(folder)
      await putFile(files, folder, `${name}.json`, Buffer.from(`${JSON.stringify({ log: logId, next })}\n`))
    },
  }
}
