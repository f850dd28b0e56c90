/** Reads DER (X.690 §10): bounded, one value at a time, and nothing of what only BER allows. */

/** Thrown inside the readers of this folder; `parseCertificate` turns it into a refusal. */
export class DerError extends Error {
  constructor(message: string) {
    super(message)
    this.name = 'DerError'
  }
}

export interface Der {
  readonly tag: number
  readonly body: Uint8Array
  /** Header and body. */
  readonly whole: Uint8Array
}

export const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  utf8String: 0x0c,
  printableString: 0x13,
  ia5String: 0x16,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
} as const

/** Context-specific tags: primitive for implicit strings, constructed for explicit or structured values. */
export const context = (n: number): number => 0x80 | n
export const contextConstructed = (n: number): number => 0xa0 | n

/** Lengths of four bytes cannot occur below the size bound of a certificate. */
const MAX_LENGTH_BYTES = 3

function readAt(bytes: Uint8Array, at: number): { der: Der; next: number } {
  const tag = bytes[at]
  const first = bytes[at + 1]
  if (tag === undefined || first === undefined) throw new DerError('ends within a header')
  if ((tag & 0x1f) === 0x1f) throw new DerError('tag of several bytes')
  let length = first
  let start = at + 2
  if (first >= 0x80) {
    const count = first & 0x7f
    if (count === 0) throw new DerError('indefinite length')
    if (count > MAX_LENGTH_BYTES) throw new DerError('length out of bounds')
    length = 0
    for (let i = 0; i < count; i++) {
      const byte = bytes[start + i]
      if (byte === undefined) throw new DerError('ends within a length')
      length = length * 256 + byte
    }
    // X.690 §10.1: the shortest form that holds the length.
    if (length < 0x80 || length < 256 ** (count - 1)) throw new DerError('length not in its shortest form')
    start += count
  }
  const next = start + length
  if (next > bytes.length) throw new DerError('longer than what holds it')
  return { der: { tag, body: bytes.subarray(start, next), whole: bytes.subarray(at, next) }, next }
}

/** Walks the values that follow one another in `bytes`. */
export interface Cursor {
  readonly done: () => boolean
  /** The next value, which must have this tag. */
  readonly take: (tag: number) => Der
  /** The next value where it has this tag. */
  readonly maybe: (tag: number) => Der | undefined
  readonly any: () => Der
  /** Nothing may follow. */
  readonly end: () => void
}

export function cursor(bytes: Uint8Array): Cursor {
  let at = 0
  const any = (): Der => {
    const { der, next } = readAt(bytes, at)
    at = next
    return der
  }
  return {
    done: () => at === bytes.length,
    any,
    take: (tag) => {
      const der = any()
      if (der.tag !== tag) throw new DerError(`expected tag ${tag}, found ${der.tag}`)
      return der
    },
    maybe: (tag) => (bytes[at] === tag ? any() : undefined),
    end: () => {
      if (at !== bytes.length) throw new DerError('something follows')
    },
  }
}

/** The one value in `bytes`, with this tag. */
export function only(bytes: Uint8Array, tag: number): Der {
  const at = cursor(bytes)
  const der = at.take(tag)
  at.end()
  return der
}

/** All values in `bytes`, at least one. */
export function several(bytes: Uint8Array): Der[] {
  const at = cursor(bytes)
  const all: Der[] = []
  do all.push(at.any())
  while (!at.done())
  return all
}

export function readBoolean({ body }: Der): boolean {
  if (body.length !== 1 || (body[0] !== 0 && body[0] !== 0xff)) throw new DerError('BOOLEAN is neither 00 nor FF')
  return body[0] === 0xff
}

/** The bytes of an INTEGER in two's complement, in their shortest form. */
export function readInteger({ body }: Der): Uint8Array {
  const [first, second] = body
  if (first === undefined) throw new DerError('empty INTEGER')
  if (second !== undefined && ((first === 0 && second < 0x80) || (first === 0xff && second >= 0x80))) {
    throw new DerError('INTEGER not in its shortest form')
  }
  return body
}

/** An INTEGER from 0 to 2^31 − 1. */
export function readSmallInteger(der: Der): number {
  const bytes = readInteger(der)
  if (bytes[0]! >= 0x80 || bytes.length > 4) throw new DerError('INTEGER out of bounds')
  return bytes.reduce((sum, byte) => sum * 256 + byte, 0)
}

/** A BIT STRING of whole bytes, as keys and signatures are. */
export function readBytesOfBits({ body }: Der): Uint8Array {
  if (body[0] !== 0) throw new DerError('BIT STRING with unused bits')
  return body.subarray(1)
}

/** A BIT STRING whose bits are named (X.690 §11.2.2: no trailing zero bits), most significant first. */
export function readNamedBits({ body }: Der): number {
  const unused = body[0]
  if (unused === undefined || unused > 7 || body.length > 3) throw new DerError('malformed BIT STRING')
  const last = body.length > 1 ? body[body.length - 1]! : 0
  if (body.length === 1 ? unused !== 0 : ((last >> unused) & 1) === 0 || (last & ((1 << unused) - 1)) !== 0) {
    throw new DerError('BIT STRING not in its shortest form')
  }
  return ((body[1] ?? 0) << 8) | (body[2] ?? 0)
}

export function readOid({ tag, body }: Der): string {
  if (tag !== TAG.oid || body.length === 0 || body.length > 64) throw new DerError('malformed OBJECT IDENTIFIER')
  const arcs: number[] = []
  let arc = 0
  let fresh = true
  for (const byte of body) {
    if (fresh && byte === 0x80) throw new DerError('OBJECT IDENTIFIER not in its shortest form')
    arc = arc * 128 + (byte & 0x7f)
    if (!Number.isSafeInteger(arc)) throw new DerError('OBJECT IDENTIFIER out of bounds')
    fresh = byte < 0x80
    if (!fresh) continue
    if (arcs.length === 0) {
      const root = arc < 40 ? 0 : arc < 80 ? 1 : 2
      arcs.push(root, arc - root * 40)
    } else arcs.push(arc)
    arc = 0
  }
  if (!fresh) throw new DerError('ends within an OBJECT IDENTIFIER')
  return arcs.join('.')
}

/** Unix seconds. RFC 5280 §4.1.2.5: UTCTime through 2049, GeneralizedTime after it, both with seconds and in Z. */
export function readTime({ tag, body }: Der): number {
  const text = Buffer.from(body).toString('latin1')
  if (tag === TAG.utcTime && /^\d{12}Z$/.test(text)) {
    return toUnix(`${Number(text.slice(0, 2)) < 50 ? '20' : '19'}${text}`)
  }
  if (tag === TAG.generalizedTime && /^\d{14}Z$/.test(text) && Number(text.slice(0, 4)) >= 2050) return toUnix(text)
  throw new DerError('malformed time')
}

function toUnix(text: string): number {
  const part = (from: number, to: number) => text.slice(from, to)
  const iso = `${part(0, 4)}-${part(4, 6)}-${part(6, 8)}T${part(8, 10)}:${part(10, 12)}:${part(12, 14)}.000Z`
  const time = new Date(iso)
  // 30 February would otherwise quietly become 1 March.
  if (Number.isNaN(time.getTime()) || time.toISOString() !== iso) throw new DerError('no such time')
  return time.getTime() / 1000
}

export const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0
