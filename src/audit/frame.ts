/**
 * How records rest in a segment file: a header of 32 bytes, then frames of CRC-32, length and payload.
 *
 *     header  "ERRANDAL" | u16 version | u16 header length | 4 bytes log id | u64 first index | u32 zero | u32 CRC
 *     frame   u32 CRC of what follows | u32 length | u32 back | payload
 *
 * `back` is the distance to the first frame of the same write. Writes are synced one by one, so a good frame of a
 * later write proves that all before it had reached the disk: that tells a torn tail (repairable, nobody was told it
 * was there) from damage to what was acknowledged.
 */
import { crc32 } from 'node:zlib'

const FORMAT_VERSION = 1
export const SEGMENT_HEADER_BYTES = 32
export const FRAME_HEADER_BYTES = 12
export const MAX_RECORD_BYTES = 1 << 20
const MAGIC = Buffer.from('ERRANDAL', 'latin1')
const CHUNK_BYTES = 4 << 20
const OPENING = Buffer.from('{"', 'latin1')

/** Something that can be read at a position: a file, or bytes in a test. */
export interface Bytes {
  readonly size: number
  /** Reads into the whole of `into` where there is that much; returns the number of bytes read. */
  read(into: Buffer, position: number): Promise<number>
}

export interface Frame {
  readonly offset: number
  readonly end: number
  /** Offset of the first frame of the same write. */
  readonly batch: number
}

export function segmentHeader(logId: string, first: number): Buffer {
  const header = Buffer.alloc(SEGMENT_HEADER_BYTES)
  MAGIC.copy(header)
  header.writeUInt16BE(FORMAT_VERSION, 8)
  header.writeUInt16BE(SEGMENT_HEADER_BYTES, 10)
  header.write(logId, 12, 4, 'hex')
  header.writeBigUInt64BE(BigInt(first), 16)
  header.writeUInt32BE(crc32(header.subarray(0, 28)), 28)
  return header
}

export type SegmentHeader =
  | { readonly ok: true; readonly logId: string; readonly first: number }
  | { readonly ok: false; readonly kind: 'format_newer' | 'bad_segment_header' }

/** Magic, version and CRC stand at these places in every version, so a newer one is told from a damaged one. */
export function readSegmentHeader(bytes: Buffer): SegmentHeader {
  const whole = bytes.length >= SEGMENT_HEADER_BYTES && bytes.subarray(0, 8).equals(MAGIC)
  if (!whole || crc32(bytes.subarray(0, 28)) !== bytes.readUInt32BE(28))
    return { ok: false, kind: 'bad_segment_header' }
  const version = bytes.readUInt16BE(8)
  if (version > FORMAT_VERSION) return { ok: false, kind: 'format_newer' }
  const first = Number(bytes.readBigUInt64BE(16))
  if (version !== FORMAT_VERSION || !Number.isSafeInteger(first)) return { ok: false, kind: 'bad_segment_header' }
  return { ok: true, logId: bytes.toString('hex', 12, 16), first }
}

/** Writes one frame and returns its length; there must be room for three bytes per UTF-16 unit. */
export function writeFrame(into: Buffer, at: number, text: string, back: number): number {
  const length = into.write(text, at + FRAME_HEADER_BYTES, 'utf8')
  into.writeUInt32BE(length, at + 4)
  into.writeUInt32BE(back, at + 8)
  const end = at + FRAME_HEADER_BYTES + length
  into.writeUInt32BE(crc32(into.subarray(at + 4, end)), at)
  return end - at
}

/** Length of the good frame at `at`; 0 where more bytes are needed to say, -1 where there is none. */
export function frameLength(bytes: Buffer, at: number, end: number): number {
  if (end - at < FRAME_HEADER_BYTES) return 0
  const length = bytes.readUInt32BE(at + 4)
  if (length < 2 || length > MAX_RECORD_BYTES) return -1
  const whole = FRAME_HEADER_BYTES + length
  if (end - at < whole) return 0
  return crc32(bytes.subarray(at + 4, at + whole)) === bytes.readUInt32BE(at) ? whole : -1
}

/**
 * Visits good frames in order and returns where it stopped: the size where all are good. The payload is a view of a
 * buffer that is used again, and is to be read before returning. Memory is bounded by the chunk.
 */
export async function scanFrames(
  bytes: Bytes,
  from: number,
  visit: (payload: Buffer, frame: Frame) => void,
): Promise<number> {
  const buffer = Buffer.allocUnsafe(Math.max(0, Math.min(CHUNK_BYTES, bytes.size - from)))
  let base = from
  let have = 0
  for (;;) {
    have += await fill(bytes, buffer.subarray(have), base + have)
    let at = 0
    for (;;) {
      const length = frameLength(buffer, at, have)
      if (length < 0) return base + at
      if (length === 0) break
      const offset = base + at
      visit(buffer.subarray(at + FRAME_HEADER_BYTES, at + length), {
        offset,
        end: offset + length,
        batch: offset - buffer.readUInt32BE(at + 8),
      })
      at += length
    }
    if (base + have >= bytes.size || at === 0) return base + at
    buffer.copyWithin(0, at, have)
    base += at
    have -= at
  }
}

async function fill(bytes: Bytes, into: Buffer, position: number): Promise<number> {
  const wanted = Math.min(into.length, bytes.size - position)
  let have = 0
  while (have < wanted) {
    const read = await bytes.read(into.subarray(have, wanted), position + have)
    if (read === 0) break
    have += read
  }
  return have
}

/** The next good frame that begins at `from` or later, wherever it begins. */
export async function nextFrame(bytes: Bytes, from: number): Promise<Frame | undefined> {
  const window = Buffer.allocUnsafe(Math.max(0, Math.min(CHUNK_BYTES, bytes.size - from)))
  for (let base = from; base < bytes.size; base += Math.max(1, window.length - FRAME_HEADER_BYTES - 1)) {
    const have = await fill(bytes, window, base)
    let found = window.indexOf(OPENING, FRAME_HEADER_BYTES)
    for (; found >= 0 && found < have; found = window.indexOf(OPENING, found + 1)) {
      const at = found - FRAME_HEADER_BYTES
      const length = window.readUInt32BE(at + 4)
      if (length < 2 || length > MAX_RECORD_BYTES || base + found + length > bytes.size) continue
      const frame = Buffer.allocUnsafe(FRAME_HEADER_BYTES + length)
      const whole = (await fill(bytes, frame, base + at)) === frame.length
      if (!whole || frameLength(frame, 0, frame.length) < 0) continue
      const offset = base + at
      return { offset, end: offset + frame.length, batch: offset - frame.readUInt32BE(8) }
    }
    if (base + have >= bytes.size) return undefined
  }
  return undefined
}

export type Tail = 'torn_tail' | 'zero_tail' | 'bad_crc'

/** What stands after the last good frame of the last segment. */
export async function classifyTail(bytes: Bytes, at: number): Promise<Tail> {
  for (let from = at; ; ) {
    const next = await nextFrame(bytes, from)
    if (next === undefined) break
    if (next.batch > at) return 'bad_crc'
    from = next.end
  }
  const buffer = Buffer.allocUnsafe(Math.min(CHUNK_BYTES, bytes.size - at))
  for (let position = at; position < bytes.size; position += buffer.length) {
    const have = await fill(bytes, buffer, position)
    if (buffer.subarray(0, have).some((byte) => byte !== 0)) return 'torn_tail'
  }
  return 'zero_tail'
}
