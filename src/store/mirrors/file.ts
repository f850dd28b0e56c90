/** A mirror as a file of lines, which others may rotate away; or as standard output. */
import { constants } from 'node:fs'
import { type FileHandle, open, stat } from 'node:fs/promises'
import type { MirroredRecord, MirrorSink } from '../../audit/mirror.ts'

type Line = (record: MirroredRecord) => string

/** `mayWrite`: where the log has no room, a copy of it takes none. */
export function createFileSink(path: string, line: Line, mayWrite: () => boolean): MirrorSink {
  let file: { readonly handle: FileHandle; readonly ino: number } | undefined

  const opened = async (): Promise<FileHandle> => {
    const there = await stat(path).catch(() => undefined)
    if (file !== undefined && there?.ino === file.ino) return file.handle
    await file?.handle.sync()
    await file?.handle.close()
    file = undefined
    // O_NOFOLLOW: a link that somebody planted leads nowhere.
    const flags = constants.O_WRONLY | constants.O_CREAT | constants.O_APPEND | constants.O_NOFOLLOW
    const handle = await open(path, flags, 0o600)
    file = { handle, ino: (await handle.stat()).ino }
    return handle
  }

  return {
    send: async (batch) => {
      if (!mayWrite()) throw new Error('the log has no room, so its copy takes none')
      const handle = await opened()
      const { size } = await handle.stat()
      try {
        await handle.appendFile(batch.map((record) => `${line(record)}\n`).join(''))
      } catch (error) {
        // Half a line would spoil the next one too.
        await handle.truncate(size).catch(() => undefined)
        throw error
      }
    },
    sync: async () => {
      await file?.handle.sync()
    },
    close: async () => {
      await file?.handle.sync()
      await file?.handle.close()
      file = undefined
      return true
    },
  }
}

export function createStreamSink(stream: NodeJS.WritableStream, line: Line): MirrorSink {
  return {
    send: (batch) =>
      new Promise((resolve, reject) => {
        stream.write(batch.map((record) => `${line(record)}\n`).join(''), (error) =>
          error ? reject(error) : resolve(),
        )
      }),
    close: async () => true,
  }
}
