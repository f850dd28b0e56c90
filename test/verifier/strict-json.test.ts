import { type JsonLimits, parseStrictJson } from '@errand/verifier/strict-json.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

const faultOf = (input: string | Uint8Array, limits?: JsonLimits) => {
  const read = parseStrictJson(input, limits)
  return read.ok ? 'accepted' : read.fault
}
const bytes = (...values: number[]) => Uint8Array.from(values)

describe('strict JSON', () => {
  it('agrees with JSON.parse on everything it accepts, and accepts what JSON.stringify writes of honest data', () => {
    const name = fc.string({ unit: 'binary', maxLength: 8 }).filter((text) => !(text in {}) && text !== 'prototype')
    const { tree } = fc.letrec((tie) => ({
      tree: fc.oneof(
        { depthSize: 'small', maxDepth: 6 },
        fc.constantFrom(null, true, false),
        fc.maxSafeInteger(),
        fc.string({ unit: 'binary', maxLength: 12 }),
        fc.array(tie('tree'), { maxLength: 4 }),
        fc.dictionary(name, tie('tree'), { maxKeys: 4, noNullPrototype: true }),
      ),
    }))
    fc.assert(
      fc.property(tree, fc.constantFrom(undefined, 1, '\t'), (value, indent) => {
        const text = JSON.stringify(value, null, indent)
        const read = parseStrictJson(text)
        expect(read).toEqual({ ok: true, value: JSON.parse(text) })
        expect(parseStrictJson(Buffer.from(text))).toEqual(read)
      }),
      { numRuns: 500 },
    )
  })

  it('never accepts a text that JSON.parse refuses, and reads the same from what both accept', () => {
    const scraps = fc.constantFrom(
      ...[
        '{',
        '}',
        '[',
        ']',
        ',',
        ':',
        '"',
        '\\',
        '\\u',
        'd800',
        '0041',
        '"a"',
        '"b"',
        'true',
        'null',
        'fals',
        '-',
        '0',
      ],
      ...['1', '.5', 'e3', '01', ' ', '\n', '\u00a0', '\ufeff', '\u0000', '\ud800', '"exp":', '"a":1', '\\n', '\\x'],
    )
    fc.assert(
      fc.property(fc.array(scraps, { maxLength: 8 }), fc.boolean(), (parts, integersOnly) => {
        const text = parts.join('')
        const read = parseStrictJson(text, { integersOnly })
        if (read.ok) expect(read.value).toEqual(JSON.parse(text))
      }),
      { numRuns: 20_000 },
    )
  })

  it('A7 judges a text that the runtime could read as one that only its own reader can: an escape in front of it', () => {
    const gap = fc.constantFrom('', '', '', ' ', '\n')
    const name = fc.constantFrom('a', 'b', ':', '1', '', 'é', 'e', 'exp', 'sub', '__proto__', 'toString', 'prototype')
    const leaf = fc.constantFrom(
      ...['0', '-0', '7', '1e3', '1E2', '1.0', '-1', '01', '9007199254740991', '9007199254740993', '1e999', '+1', '1e'],
      ...[
        'true',
        'false',
        'null',
        'tru',
        '""',
        '"a"',
        '":"',
        '"\\"',
        '","',
        '"e3"',
        '"{"',
        '"é"',
        '"😀"',
        '"\ud800"',
        '"\n"',
      ],
    )
    const { text } = fc.letrec<{ text: string }>((tie) => ({
      text: fc.oneof(
        { depthSize: 'small', maxDepth: 4 },
        leaf,
        fc.array(tie('text'), { maxLength: 3 }).map((items) => `[${items.join()}]`),
        fc
          .array(fc.tuple(name, gap, gap, tie('text')), { maxLength: 4 })
          .map((members) => `{${members.map(([key, one, two, value]) => `"${key}"${one}:${two}${value}`).join()}}`),
      ),
    }))
    const verdict = (whole: string, limits: JsonLimits) => {
      const read = parseStrictJson(whole, limits)
      return read.ok ? { value: (read.value as unknown[])[1] } : read
    }
    let accepted = 0
    fc.assert(
      fc.property(text, fc.boolean(), fc.integer({ min: 1, max: 6 }), (part, integersOnly, bound) => {
        const limits = { integersOnly, maxDepth: bound, maxMembers: bound * 2 }
        const read = verdict(`["a",${part}]`, limits)
        expect(read).toEqual(verdict(`["\\u0061",${part}]`, limits))
        if ('value' in read) accepted++
      }),
      { numRuns: 20_000 },
    )
    expect(accepted).toBeGreaterThan(1000)
  })

  it.each([
    ['duplicate', '{"sub":"a","sub":"b"}'],
    ['same duplicate', '{"a":1,"a":1}'],
    ['escaped duplicate', '{"sub":"a","s\\u0075b":"b"}'],
    ['nested duplicate', '{"act":{"sub":"a","sub":"b"}}'],
    ['duplicate after null', '{"a":null,"a":1}'],
    ['empty name', '{"":1,"":2}'],
  ])('A7 refuses a member that stands twice: %s', (_, text) => {
    expect(faultOf(text)).toBe('duplicate_member')
  })

  it.each(['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'valueOf', 'prototype', '__defineGetter__'])(
    'A10 refuses %s as a member name, at any depth and however spelt, and leaves every other object alone',
    (name) => {
      expect(faultOf(`{"${name}":{"x":1}}`)).toBe('unknown_claim')
      expect(faultOf(`{"a":[{"${name}":{"x":1}}]}`)).toBe('unknown_claim')
      expect(faultOf(`{"\\u00${name.charCodeAt(0).toString(16)}${name.slice(1)}":1}`)).toBe('unknown_claim')
      expect(({} as { x?: unknown }).x).toBeUndefined()
    },
  )

  it.each([
    ['a byte order mark', bytes(0xef, 0xbb, 0xbf, 0x7b, 0x7d)],
    ['UTF-16LE', Buffer.from('\ufeff{}', 'utf16le')],
    ['an overlong slash', bytes(0x22, 0xc0, 0xaf, 0x22)],
    ['an encoded surrogate', bytes(0x22, 0xed, 0xa0, 0x80, 0x22)],
    ['a cut sequence', bytes(0x22, 0xe2, 0x82, 0x22)],
    ['above U+10FFFF', bytes(0x22, 0xf4, 0x90, 0x80, 0x80, 0x22)],
  ])('A14 refuses %s', (_, input) => {
    expect(faultOf(input)).toBe('bad_utf8')
  })

  it('A14 refuses UTF-16 without a mark too: what it reads as UTF-8 holds NUL', () => {
    expect(faultOf(Buffer.from('{}', 'utf16le'))).toBe('bad_json')
  })

  it.each(['"\\ud800"', '"\\udc00"', '"\\ud800\\u0041"', '"\\ud800x"', '"\ud800"', '"\udc00\ud800"', '{"\\ud800":1}'])(
    'A14 refuses a lone surrogate: %j',
    (text) => {
      expect(faultOf(text)).toBe('bad_utf8')
    },
  )

  it('A11 calls a lone surrogate in sub a bad subject', () => {
    expect(faultOf('{"sub":"a\\ud800"}')).toBe('bad_subject')
    expect(faultOf('{"sub":"\\ud83d\\ude00"}')).toBe('accepted')
  })

  it.each([
    '-',
    '01',
    '+1',
    '.5',
    '1.',
    '0x10',
    'NaN',
    'Infinity',
    '-Infinity',
    '1e',
    '1_0',
    "'a'",
    '{a:1}',
    '[1,]',
    '{"a":1,}',
  ])('refuses %s, which is not JSON', (text) => {
    expect(faultOf(text, { integersOnly: false })).toBe('bad_json')
  })

  it.each([
    '',
    ' ',
    '{',
    '[',
    '"',
    '"\\',
    '"\\u12',
    '"\t"',
    '{}{}',
    '{} x',
    '{"a"}',
    '{"a":}',
    'tru',
    '"\\q"',
    '{}\u00a0',
  ])('refuses %j, which is cut short or followed by something', (text) => {
    expect(faultOf(text)).toBe('bad_json')
  })

  it('A8 reads integers that a double holds and refuses the others, by their own name where they are dates', () => {
    expect(parseStrictJson('[9007199254740991,-9007199254740991,0]')).toEqual({
      ok: true,
      value: [9007199254740991, -9007199254740991, 0],
    })
    for (const number of ['9007199254740992', '9007199254740993', '1.5', '1.0', '1e3', '1E400', '9007199254740991.4']) {
      expect(faultOf(number), number).toBe('bad_json')
      for (const date of ['exp', 'iat', 'nbf'])
        expect(faultOf(`{"${date}":${number}}`), number).toBe('bad_numeric_date')
      expect(faultOf(`{"expires":${number}}`), number).toBe('bad_json')
    }
  })

  it('reads finite fractions where a body may hold them, and still no number that changes when it is read', () => {
    expect(parseStrictJson('[0.5,-1e-3,1.0,2E2]', { integersOnly: false })).toEqual({
      ok: true,
      value: [0.5, -0.001, 1, 200],
    })
    expect(faultOf('1e400', { integersOnly: false })).toBe('bad_json')
    expect(faultOf('12345678901234567890', { integersOnly: false })).toBe('bad_json')
  })

  it('D12 bounds nesting before it recurses', () => {
    expect(faultOf('['.repeat(16) + ']'.repeat(16))).toBe('accepted')
    expect(faultOf('['.repeat(17) + ']'.repeat(17))).toBe('json_limits')
    expect(faultOf('{"a":'.repeat(100_000))).toBe('json_limits')
    expect(faultOf('[[]]', { maxDepth: 1 })).toBe('json_limits')
  })

  it('bounds members and items of the whole text, and its bytes', () => {
    const list = (length: number) => JSON.stringify(Array.from({ length }, () => 0))
    expect(faultOf(list(2000))).toBe('accepted')
    expect(faultOf(list(2001))).toBe('json_limits')
    expect(faultOf('{"a":[1],"b":[2]}', { maxMembers: 3 })).toBe('json_limits')
    expect(faultOf('{"a":[1],"b":[2]}', { maxMembers: 4 })).toBe('accepted')
    expect(faultOf('[1234]', { maxBytes: 5 })).toBe('json_limits')
  })
})
