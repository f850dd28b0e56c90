import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { canonicalize, wellFormed } from '../../src/audit/canonical.ts'
import type { Json } from '../../src/audit/log.ts'

describe('canonical JSON (RFC 8785)', () => {
  it('writes the example of §3.2.2 and §3.2.3 as the standard does', () => {
    const value = JSON.parse(
      '{"numbers":[333333333.33333329,1E30,4.50,2e-3,0.000000000000000000000000001],"string":"\\u20ac$\\u000F\\u000aA\'\\u0042\\u0022\\u005c\\\\\\"\\/","literals":[null,true,false]}',
    ) as Json
    expect(canonicalize(value)).toBe(
      '{"literals":[null,true,false],"numbers":[333333333.3333333,1e+30,4.5,0.002,1e-27],"string":"€$\\u000f\\nA\'B\\"\\\\\\\\\\"/"}',
    )
  })

  it('orders names by UTF-16 code units (§3.2.3)', () => {
    const value = { '\u20ac': 1, '\r': 2, '\ufb33': 3, '1': 4, '\ud83d\ude00': 5, '\u0080': 6, '\u00f6': 7 }
    expect([...canonicalize(value).matchAll(/:(\d)/g)].map((match) => match[1]).join('')).toBe('2467153')
  })

  it.each([
    [0, '0'],
    [-0, '0'],
    [1e21, '1e+21'],
    [Number.MIN_VALUE, '5e-324'],
    [Number.MAX_VALUE, '1.7976931348623157e+308'],
    [9007199254740994, '9007199254740994'],
  ])('writes the number %s as %s (appendix B)', (value, text) => {
    expect(canonicalize(value)).toBe(text)
  })

  it.each<[string, unknown]>([
    ['NaN', Number.NaN],
    ['infinity', Number.POSITIVE_INFINITY],
    ['a lone high surrogate', '\ud800'],
    ['a lone low surrogate in a name', { '\udc00x': 1 }],
    ['a bigint', 1n],
    ['a date', new Date(0)],
    ['undefined in an array', [undefined]],
  ])('refuses %s', (_, value) => {
    expect(() => canonicalize(value as Json)).toThrow(TypeError)
  })

  it('refuses what is nested too deep instead of overflowing the stack', () => {
    let value: Json = 1
    for (let depth = 0; depth < 100_000; depth += 1) value = [value]
    expect(() => canonicalize(value)).toThrow(TypeError)
  })

  it('gives one text whatever the order of names, and reading it back gives the value', () => {
    fc.assert(
      fc.property(fc.jsonValue({ maxDepth: 5 }), (value) => {
        const json = JSON.parse(JSON.stringify(value)) as Json
        const text = canonicalize(json)
        expect(JSON.parse(text)).toEqual(json)
        expect(canonicalize(reversed(json))).toBe(text)
        expect(canonicalize(JSON.parse(text) as Json)).toBe(text)
      }),
    )
  })

  it('keeps an own member called __proto__ a member', () => {
    const text = '{"__proto__":{"x":1},"a":2}'
    expect(canonicalize(JSON.parse(text) as Json)).toBe(text)
  })

  it('makes text well-formed by replacing lone surrogates only', () => {
    expect(wellFormed('a\ud800b\ud83d\ude00')).toBe('a\ufffdb\ud83d\ude00')
  })
})

function reversed(value: Json): Json {
  if (typeof value !== 'object' || value === null) return value
  if (Array.isArray(value)) return value.map((item: Json) => reversed(item))
  return Object.fromEntries(
    Object.entries(value)
      .map(([name, item]) => [name, reversed(item as Json)] as const)
      .reverse(),
  )
}
