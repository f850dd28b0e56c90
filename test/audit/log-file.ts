/** A log's folder made by hand, so that it can be harmed in any way. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { FRAME_HEADER_BYTES, segmentHeader, writeFrame } from '../../src/audit/frame.ts'
import { segmentName } from '../../src/audit/layout.ts'

export const LOG = '0a1b2c3d'

export const frameOf = (text: string, back = 0): Buffer => {
  const bytes = Buffer.alloc(FRAME_HEADER_BYTES + Buffer.byteLength(text) * 3)
  return bytes.subarray(0, writeFrame(bytes, 0, text, back))
}

/** Frames as the writer makes them, several to a write. */
export function framesOf(texts: readonly string[], perWrite = 4): Buffer[] {
  const frames: Buffer[] = []
  let back = 0
  for (const [at, text] of texts.entries()) {
    if (at % perWrite === 0) back = 0
    const frame = frameOf(text, back)
    back += frame.length
    frames.push(frame)
  }
  return frames
}

export async function withLog<T>(
  segments: readonly { readonly first: number; readonly frames: readonly Buffer[] }[],
  use: (folder: string, files: readonly string[]) => Promise<T>,
): Promise<T> {
  const folder = await mkdtemp(join(tmpdir(), 'errand-check-'))
  try {
    const files: string[] = []
    for (const { first, frames } of segments) {
      const file = join(folder, segmentName(first))
      await writeFile(file, Buffer.concat([segmentHeader(LOG, first), ...frames]))
      files.push(file)
    }
    return await use(folder, files)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}
