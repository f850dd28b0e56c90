/** A JSON reader for what strangers send: where two readers could disagree about a text, this one refuses it. */
import { type Checked, type Fault, fail, pass, type TokenFault } from './checked.ts'

export type JsonValue = null | boolean | number | string | readonly JsonValue[] | JsonObject
export interface JsonObject {
  readonly [name: string]: JsonValue | undefined
}

export interface JsonLimits {
  /** Nested objects and arrays, 16 by default. */
  readonly maxDepth?: number
  /** Members and items in the whole text, 2000 by default. */
  readonly maxMembers?: number
  /** Numbers must be written as integers (the default); otherwise any finite number is read. */
  readonly integersOnly?: boolean
  /** Bytes, or UTF-16 units where text is given; not bounded by default. */
  readonly maxBytes?: number
  /** The value is frozen, all of it: where it is walked through anyway, that costs least. */
  readonly frozen?: boolean
}

// What plain objects inherit, and the names through which prototypes are reached: never data.
const INHERITED: ReadonlySet<string> = new Set([...Object.getOwnPropertyNames(Object.prototype), 'prototype'])
export const isInheritedName = (name: string): boolean => INHERITED.has(name)

export const isJsonObject = (value: unknown): value is JsonObject =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })
const INTEGER = /-?(?:0|[1-9][0-9]*)(?![0-9.eE])/y
const NUMBER = /-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?/y
const HEX4 = /[0-9A-Fa-f]{4}/y
const DATES: ReadonlySet<string> = new Set(['exp', 'iat', 'nbf'])
const ESCAPES: ReadonlyMap<number, string> = new Map([
  [0x22, '"'],
  [0x5c, '\\'],
  [0x2f, '/'],
  [0x62, '\b'],
  [0x66, '\f'],
  [0x6e, '\n'],
  [0x72, '\r'],
  [0x74, '\t'],
])

/**
 * Reads RFC 8259 text, and refuses what it leaves to the reader: duplicate members, a byte order mark, broken UTF-8,
 * lone surrogates, names that plain objects inherit, numbers that do not survive a double.
 */
export function parseStrictJson(input: string | Uint8Array, limits: JsonLimits = {}): Checked<JsonValue> {
  if (limits.maxBytes !== undefined && input.length > limits.maxBytes) return fail('json_limits')
  let text: string
  if (typeof input === 'string') text = input
  else {
    try {
      text = utf8.decode(input)
    } catch {
      return fail('bad_utf8')
    }
  }
  if (text.charCodeAt(0) === 0xfeff) return fail('bad_utf8')
  const { maxDepth = 16, maxMembers = 2000, integersOnly = true, frozen = false } = limits
  const plain = parsePlain(text, maxDepth, maxMembers, frozen)
  if (plain !== undefined) return pass(plain)
  const read = parseByHand(text, maxDepth, maxMembers, integersOnly)
  if (frozen && read.ok) namesOf(read.value, true)
  return read
}

function parseByHand(text: string, maxDepth: number, maxMembers: number, integersOnly: boolean): Checked<JsonValue> {
  let room = maxMembers
  let at = 0
  let found: Fault | undefined
  const no = (fault: TokenFault, detail?: string): undefined => {
    found = fail(fault, detail)
    return undefined
  }
  const skip = (): number => {
    for (;;) {
      const code = text.charCodeAt(at)
      if (code !== 0x20 && code !== 0x0a && code !== 0x0d && code !== 0x09) return code
      at++
    }
  }

  /** `at` is behind the opening quote. `owner` is the name of the member whose value this is. */
  const string = (owner: string): string | undefined => {
    let start = at
    let built = ''
    for (;;) {
      const code = text.charCodeAt(at)
      if (code === 0x22) {
        built += text.slice(start, at++)
        return built
      }
      if (code === 0x5c) {
        built += text.slice(start, at++)
        const escaped = text.charCodeAt(at++)
        if (escaped === 0x75) {
          const unit = hex()
          if (unit === undefined) return no('bad_json')
          let low: number | undefined
          if (unit >= 0xd800 && unit <= 0xdbff && text.startsWith('\\u', at)) {
            at += 2
            low = hex()
          }
          if (unit >= 0xd800 && unit <= 0xdfff) {
            if (low === undefined || low < 0xdc00 || low > 0xdfff) return loneSurrogate(owner)
            built += String.fromCharCode(unit, low)
          } else built += String.fromCharCode(unit)
        } else {
          const character = ESCAPES.get(escaped)
          if (character === undefined) return no('bad_json')
          built += character
        }
        start = at
        continue
      }
      // Also the end of the text: charCodeAt is NaN there.
      if (!(code >= 0x20)) return no('bad_json')
      if (code >= 0xd800 && code <= 0xdfff) {
        const next = text.charCodeAt(at + 1)
        if (code > 0xdbff || !(next >= 0xdc00 && next <= 0xdfff)) return loneSurrogate(owner)
        at++
      }
      at++
    }
  }
  const loneSurrogate = (owner: string): undefined => no(owner === 'sub' ? 'bad_subject' : 'bad_utf8')
  const hex = (): number | undefined => {
    HEX4.lastIndex = at
    if (!HEX4.test(text)) return undefined
    at += 4
    return Number.parseInt(text.slice(at - 4, at), 16)
  }

  const number = (owner: string): number | undefined => {
    NUMBER.lastIndex = at
    if (!NUMBER.test(text)) return no('bad_json')
    const end = NUMBER.lastIndex
    INTEGER.lastIndex = at
    const integer = INTEGER.test(text)
    const value = Number(text.slice(at, end))
    at = end
    if (integer ? Number.isSafeInteger(value) : !integersOnly && Number.isFinite(value)) return value
    return no(DATES.has(owner) ? 'bad_numeric_date' : 'bad_json', 'numbers must be integers below 2^53')
  }

  const word = <T extends JsonValue>(spelling: string, value: T): T | undefined => {
    if (!text.startsWith(spelling, at)) return no('bad_json')
    at += spelling.length
    return value
  }

  const object = (depth: number): JsonObject | undefined => {
    const members: { [name: string]: JsonValue } = {}
    at++
    if (skip() === 0x7d) {
      at++
      return members
    }
    for (;;) {
      if (skip() !== 0x22) return no('bad_json')
      if (--room < 0) return no('json_limits')
      at++
      const name = string('')
      if (name === undefined) return undefined
      if (INHERITED.has(name)) return no('unknown_claim', `a member may not be named ${name}`)
      // No inherited name reaches this line, so the look-up sees own members only.
      if (members[name] !== undefined) return no('duplicate_member')
      if (skip() !== 0x3a) return no('bad_json')
      at++
      const member = value(depth, name)
      if (member === undefined) return undefined
      members[name] = member
      const code = skip()
      at++
      if (code === 0x7d) return members
      if (code !== 0x2c) return no('bad_json')
    }
  }

  const array = (depth: number, owner: string): readonly JsonValue[] | undefined => {
    const items: JsonValue[] = []
    at++
    if (skip() === 0x5d) {
      at++
      return items
    }
    for (;;) {
      if (--room < 0) return no('json_limits')
      const item = value(depth, owner)
      if (item === undefined) return undefined
      items.push(item)
      const code = skip()
      at++
      if (code === 0x5d) return items
      if (code !== 0x2c) return no('bad_json')
    }
  }

  const value = (depth: number, owner: string): JsonValue | undefined => {
    switch (skip()) {
      case 0x22:
        at++
        return string(owner)
      case 0x7b:
        return depth >= maxDepth ? no('json_limits') : object(depth + 1)
      case 0x5b:
        return depth >= maxDepth ? no('json_limits') : array(depth + 1, owner)
      case 0x74:
        return word('true', true)
      case 0x66:
        return word('false', false)
      case 0x6e:
        return word('null', null)
      default:
        return number(owner)
    }
  }

  const whole = value(0, '')
  if (whole === undefined) return found ?? fail('bad_json')
  skip()
  return at === text.length ? pass(whole) : fail('bad_json')
}

/**
 * The runtime's own reader, several times faster, for a text of which it is certain that the reader above would read
 * the same and refuse nothing. Undefined says nothing: then that one reads it, and names what is wrong.
 */
function parsePlain(text: string, maxDepth: number, maxMembers: number, frozen: boolean): JsonValue | undefined {
  const written = namesIn(text, maxDepth, maxMembers)
  if (written < 0) return undefined
  let value: JsonValue
  try {
    value = JSON.parse(text) as JsonValue
  } catch {
    return undefined
  }
  // Of two members of one name only the last is left: there are as many names as were written, or one stood twice.
  return namesOf(value, frozen) === written ? value : undefined
}

/**
 * How many names are written in a JSON text: a colon outside a string is behind one. Negative where the text is not
 * plain: escapes, surrogates, fractions, exponents, or perhaps too deep or too large.
 */
function namesIn(text: string, maxDepth: number, maxMembers: number): number {
  let names = 0
  let depth = 0
  // Commas and opening brackets: as many as there are members and items, or more.
  let room = maxMembers
  for (let at = 0; at < text.length; at++) {
    switch (text.charCodeAt(at)) {
      case 0x22:
        for (;;) {
          const code = text.charCodeAt(++at)
          if (code === 0x22) break
          // Also the end of the text: charCodeAt is NaN there.
          if (!(code < 0xd800) || code === 0x5c) return -1
        }
        break
      case 0x3a:
        names++
        break
      case 0x2c:
        if (--room < 0) return -1
        break
      case 0x7b:
      case 0x5b:
        if (--room < 0 || ++depth > maxDepth) return -1
        break
      case 0x7d:
      case 0x5d:
        depth--
        break
      case 0x2e:
      case 0x45:
        return -1
      case 0x65:
        // Of true and false, or of an exponent.
        if (text.charCodeAt(at - 1) <= 0x39) return -1
        break
    }
  }
  return names
}

/** How many names a value has; NaN where a name or a number may not be. Freezes on its way. */
function namesOf(value: JsonValue | undefined, frozen: boolean): number {
  if (typeof value === 'number') return Number.isSafeInteger(value) ? 0 : Number.NaN
  if (typeof value !== 'object' || value === null) return 0
  let names = 0
  if (Array.isArray(value)) {
    for (let index = 0; index < value.length; index++) names += namesOf((value as readonly JsonValue[])[index], frozen)
  } else
    for (const name of Object.keys(value)) {
      if (INHERITED.has(name)) names = Number.NaN
      const member = (value as JsonObject)[name]
      names += typeof member === 'string' ? 1 : 1 + namesOf(member, frozen)
    }
  if (frozen) Object.freeze(value)
  return names
}

/** As parseStrictJson, for what must be an object. */
export function parseStrictObject(input: string | Uint8Array, limits: JsonLimits = {}): Checked<JsonObject> {
  const read = parseStrictJson(input, limits)
  if (!read.ok) return read
  return isJsonObject(read.value) ? pass(read.value) : fail('bad_json', 'not an object')
}
