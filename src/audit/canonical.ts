/** Canonical JSON (RFC 8785): one text for one value, so that a hash of the text is a hash of the value. */
import type { Json } from './log.ts'

const PLAIN = /^[\x20\x21\x23-\x5b\x5d-\x7e]*$/
/** With the u flag a pair is one code point, so this class finds lone surrogates only. */
const LONE_SURROGATE = /[\ud800-\udfff]/u
const LONE_SURROGATES = /[\ud800-\udfff]/gu
const MAX_DEPTH = 64

/** The texts of values that are frozen through and through, and so stay what they are. */
export type Written = WeakMap<object, string>

/**
 * Throws TypeError for what has no canonical form: numbers that are not finite, lone surrogates, anything not JSON.
 * With `written`, what is frozen is written once: whoever freezes a value freezes all of it.
 */
export function canonicalize(value: Json, written?: Written): string {
  return write(value, 0, written)
}

/** Printable ASCII that needs no escape. */
export const isPlain = (text: string): boolean => PLAIN.test(text)

/** The same text with every lone surrogate replaced (U+FFFD): then it has a canonical form. */
export const wellFormed = (text: string): string =>
  isPlain(text) ? text : text.replace(LONE_SURROGATES, String.fromCharCode(0xfffd))

export function canonicalString(text: string): string {
  if (isPlain(text)) return `"${text}"`
  if (LONE_SURROGATE.test(text)) throw new TypeError('no canonical form: lone surrogate')
  return JSON.stringify(text) // RFC 8785 §3.2.2.2 is ECMAScript's own serialisation
}

function write(value: unknown, depth: number, written: Written | undefined): string {
  switch (typeof value) {
    case 'string':
      return canonicalString(value)
    case 'number':
      if (!Number.isFinite(value)) throw new TypeError('no canonical form: number is not finite')
      return String(value) // RFC 8785 §3.2.2.3; minus zero becomes 0
    case 'boolean':
      return value ? 'true' : 'false'
    case 'object':
      if (value === null) return 'null'
      if (depth >= MAX_DEPTH) throw new TypeError('no canonical form: nested too deep')
      return written && Object.isFrozen(value) ? writeOnce(value, depth, written) : writeMembers(value, depth, written)
    default:
      throw new TypeError(`no canonical form: ${typeof value}`)
  }
}

const writeMembers = (value: object, depth: number, written: Written | undefined): string =>
  Array.isArray(value) ? writeArray(value, depth, written) : writeObject(value, depth, written)

function writeOnce(value: object, depth: number, written: Written): string {
  const known = written.get(value)
  if (known !== undefined) return known
  const text = writeMembers(value, depth, undefined)
  written.set(value, text)
  return text
}

function writeArray(items: readonly unknown[], depth: number, written: Written | undefined): string {
  let text = '['
  for (let at = 0; at < items.length; at += 1) text += (at === 0 ? '' : ',') + write(items[at], depth + 1, written)
  return `${text}]`
}

function writeObject(value: object, depth: number, written: Written | undefined): string {
  const proto: unknown = Object.getPrototypeOf(value)
  if (proto !== null && Object.getPrototypeOf(proto) !== null)
    throw new TypeError('no canonical form: not a plain object')
  const names = Object.keys(value)
  // Most of what we write is in order already; sorting is by UTF-16 code units (§3.2.3), as JavaScript compares.
  for (let at = 1; at < names.length; at += 1) {
    if (names[at - 1]! > names[at]!) {
      names.sort()
      break
    }
  }
  let text = '{'
  for (const name of names) {
    const member: unknown = (value as Record<string, unknown>)[name]
    if (member === undefined) continue
    text += `${text.length === 1 ? '' : ','}${canonicalString(name)}:${write(member, depth + 1, written)}`
  }
  return `${text}}`
}
