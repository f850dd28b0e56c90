/** Server-sent frames to many readers at once: one buffer for all of them, and nobody is waited for. */
import type { ServerResponse } from 'node:http'
import type { FeedFrame } from '../revoke/feed.ts'

/** A reader this many frames behind is cut off: it comes back for what it missed, and nothing piles up here. */
const MAX_BEHIND = 64

export type StreamResponse = Pick<ServerResponse, 'write' | 'end' | 'destroy' | 'once' | 'writableLength' | 'destroyed'>

export interface Reader {
  /** What comes before the frames; those that came meanwhile follow it. */
  begin(first: Uint8Array): void
  leave(): void
}

export interface Fanout {
  /** Frames are held for it until it begins. */
  add(response: StreamResponse, left?: () => void): Reader
  send(frame: FeedFrame): void
  /** Ends every stream. */
  end(): void
  readers(): number
}

interface Open {
  readonly response: StreamResponse
  /** Until it begins. */
  held: Uint8Array[] | undefined
  /** Frames in a row that found the one before not sent yet. */
  behind: number
}

export function createFanout(): Fanout {
  const readers = new Set<Open>()

  function give(reader: Open, event: Uint8Array): void {
    const { response, held } = reader
    if (held) {
      if (held.length >= MAX_BEHIND) cut(reader)
      else held.push(event)
      return
    }
    reader.behind = response.writableLength > 0 ? reader.behind + 1 : 0
    if (reader.behind >= MAX_BEHIND) cut(reader)
    else response.write(event)
  }
  function cut(reader: Open): void {
    readers.delete(reader)
    reader.response.destroy()
  }

  return {
    add(response, left) {
      const reader: Open = { response, held: [], behind: 0 }
      readers.add(reader)
      response.once('close', () => {
        readers.delete(reader)
        left?.()
      })
      return {
        begin(first) {
          const { held } = reader
          reader.held = undefined
          if (!readers.has(reader)) return
          response.write(first)
          for (const event of held ?? []) response.write(event)
        },
        leave: () => void readers.delete(reader),
      }
    },
    send(frame) {
      for (const reader of readers) give(reader, frame.event)
    },
    end() {
      for (const { response } of [...readers]) response.end()
      readers.clear()
    },
    readers: () => readers.size,
  }
}
