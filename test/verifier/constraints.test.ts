import type { Constraint } from '@errand/verifier/claims.ts'
import {
  canonicalConstraint,
  isWithin,
  meetConstraints,
  normalConstraint,
  readConstraint,
  violation,
} from '@errand/verifier/constraints.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { anyConstraint, anyValue } from './authority-arbitraries.ts'

type Met = Constraint | 'none'
const meet = (a: Met, b: Met): Met => (a === 'none' || b === 'none' ? 'none' : meetConstraints(a, b))
const admits = (constraint: Met, value: unknown): boolean =>
  constraint !== 'none' && violation(constraint, value) === undefined
const runs = { numRuns: 1500 }

describe('constraints form a meet-semilattice', () => {
  it('D1 meets admit exactly what both operands admit', () => {
    fc.assert(
      fc.property(anyConstraint, anyConstraint, anyValue, (a, b, value) => {
        expect(admits(meetConstraints(a, b), value)).toBe(admits(a, value) && admits(b, value))
      }),
      { numRuns: 5000 },
    )
  })

  it('D1 meets are commutative, associative and idempotent, to the letter', () => {
    fc.assert(
      fc.property(anyConstraint, anyConstraint, anyConstraint, (a, b, c) => {
        expect(JSON.stringify(meet(a, b))).toBe(JSON.stringify(meet(b, a)))
        expect(JSON.stringify(meet(meet(a, b), c))).toBe(JSON.stringify(meet(a, meet(b, c))))
        const normal = normalConstraint(a)
        expect(JSON.stringify(meet(a, a))).toBe(JSON.stringify(normal))
        expect(JSON.stringify(meet(normal, normal))).toBe(JSON.stringify(normal))
      }),
      runs,
    )
  })

  it('D1 a meet lies within both operands, and what lies within is admitted by the wider', () => {
    fc.assert(
      fc.property(anyConstraint, anyConstraint, anyValue, (a, b, value) => {
        const met = meetConstraints(a, b)
        if (met !== 'none') {
          expect(isWithin(met, a)).toBe(true)
          expect(isWithin(met, b)).toBe(true)
        }
        if (isWithin(a, b) && admits(a, value)) expect(admits(b, value)).toBe(true)
      }),
      runs,
    )
  })

  it('the normal form admits the same values, reads back as itself, and has one text', () => {
    fc.assert(
      fc.property(anyConstraint, anyValue, (constraint, value) => {
        const normal = normalConstraint(constraint)
        expect(admits(normal, value)).toBe(admits(constraint, value))
        if (normal === 'none') return
        expect(readConstraint(JSON.parse(JSON.stringify(normal)))).toEqual({ ok: true, value: normal })
        expect(canonicalConstraint(constraint)).toBe(canonicalConstraint(normal))
      }),
      runs,
    )
  })
})

describe('the normal form', () => {
  it.each<[Constraint, Constraint, Met]>([
    [{ maximum: 10 }, { minimum: 3 }, { type: 'number', minimum: 3, maximum: 10 }],
    [{ type: 'integer', maximum: 3 }, { minimum: 3 }, { enum: [3] }],
    [{ maximum: 2 }, { minimum: 3 }, 'none'],
    [{ type: 'string' }, { type: 'integer' }, 'none'],
    [{ type: 'number' }, { type: 'integer' }, { type: 'integer' }],
    [{ enum: ['b', 'a', 'a'] }, {}, { enum: ['a', 'b'] }],
    [{ enum: ['a', 1, null] }, { type: 'string' }, { enum: ['a'] }],
    [{ enum: [1, 5, 9] }, { minimum: 4 }, { enum: [5, 9] }],
    [{ enum: ['a'] }, { enum: ['b'] }, 'none'],
    [{ enum: ['short', 'far too long'] }, { maxLength: 5 }, { enum: ['short'] }],
    [{ minItems: 2 }, { maxItems: 1 }, 'none'],
    [{ items: { type: 'string' } }, { items: { type: 'integer' } }, { type: 'array', maxItems: 0 }],
    [{ items: { type: 'string' }, minItems: 1 }, { items: { type: 'integer' } }, 'none'],
    [
      { properties: { a: { maximum: 5 } }, additionalProperties: false },
      { properties: { b: { type: 'string' } } },
      { type: 'object', properties: { a: { type: 'number', maximum: 5 } }, additionalProperties: false },
    ],
    [{ properties: { a: {} }, additionalProperties: false }, { required: ['b'] }, 'none'],
    [{ properties: { a: { maximum: 1 } } }, { properties: { a: { minimum: 2 } }, required: ['a'] }, 'none'],
    [
      { properties: { a: { maximum: 1 } } },
      { properties: { a: { minimum: 2 } } },
      { type: 'object', properties: { a: { enum: [] } } },
    ],
  ])('D1 %j and %j make %j', (a, b, expected) => {
    expect(meetConstraints(a, b)).toEqual(expected)
    expect(meetConstraints(b, a)).toEqual(expected)
  })

  it('D1 a bound is not slipped by a value of another type', () => {
    const amount: Constraint = { properties: { amount: { maximum: 100 } }, required: ['amount'] }
    expect(violation(amount, { amount: 100 })).toBeUndefined()
    for (const value of ['100', '1e9', null, [1], { valueOf: 1 }, true, Number.NaN, -Infinity, undefined, 101])
      expect(violation(amount, { amount: value })).toBe('$.amount')
    expect(violation(amount, {})).toBe('$.amount')
    expect(violation(amount, [])).toBe('$')
    expect(violation(amount, null)).toBe('$')
  })

  it('counts characters as code points', () => {
    expect(violation({ maxLength: 1 }, '😀')).toBeUndefined()
    expect(violation({ minLength: 2 }, '😀')).toBe('$')
  })

  it('names the place of the first violation, and never repeats a name that is not plain', () => {
    const constraint: Constraint = {
      properties: { to: { items: { properties: { id: { type: 'integer' } } } } },
      additionalProperties: false,
    }
    expect(violation(constraint, { to: [{ id: 1 }, { id: 'x' }] })).toBe('$.to[1].id')
    expect(violation(constraint, { 'a"\r\nb': 1 })).toBe('$.*')
  })
})

describe('names that plain objects inherit', () => {
  const NAMES = ['__proto__', 'constructor', 'toString', 'hasOwnProperty', 'prototype']

  it.each(NAMES)('A10 %s is no property of a constraint that is read', (name) => {
    const constraint: unknown = JSON.parse(`{"type":"object","properties":{"${name}":{"type":"string"}}}`)
    expect(readConstraint(constraint)).toMatchObject({ fault: 'bad_authorization_details' })
    expect(readConstraint({ required: [name] })).toMatchObject({ fault: 'bad_authorization_details' })
    expect(readConstraint(JSON.parse(`{"${name}":{}}`))).toMatchObject({ fault: 'bad_authorization_details' })
  })

  it.each(NAMES)('A10 %s is an ordinary name where a constraint or a value holds it all the same', (name) => {
    const closed: Constraint = { properties: { a: { type: 'string' } }, additionalProperties: false }
    const value: unknown = JSON.parse(`{"a":"x","${name}":{"x":1}}`)
    expect(violation(closed, value)).toBe(`$.${name}`)
    const own = JSON.parse(`{"properties":{"${name}":{"maximum":1}}}`) as Constraint
    expect(violation(own, JSON.parse(`{"${name}":2}`))).toBe(`$.${name}`)
    expect(violation(own, {})).toBeUndefined()
    const met = meetConstraints(own, { properties: { a: {} }, required: [name] })
    expect(violation(met as Constraint, { a: 1 })).toBe(`$.${name}`)
    expect(({} as { x?: unknown; maximum?: unknown }).x).toBeUndefined()
    expect(({} as { maximum?: unknown }).maximum).toBeUndefined()
  })
})

describe('reading a constraint', () => {
  it.each([
    ['an unknown keyword', { pattern: 'a+' }],
    ['a keyword of JSON Schema that cannot be enforced', { anyOf: [{}] }],
    ['a misspelt keyword', { maxlength: 3 }],
    ['an unknown keyword deep inside', { properties: { a: { items: { format: 'uri' } } } }],
    ['a list of types', { type: ['string', 'null'] }],
    ['an unknown type', { type: 'text' }],
    ['a bound as text', { maximum: '5' }],
    ['a fraction', { maximum: 0.5 }],
    ['an infinite bound', { maximum: Number.POSITIVE_INFINITY }],
    ['a negative length', { minLength: -1 }],
    ['an enum of objects', { enum: [{}] }],
    ['an enum that is no list', { enum: 'a' }],
    ['an empty enum', { enum: [] }],
    ['a lone surrogate', { enum: ['\ud800'] }],
    ['additionalProperties: true', { additionalProperties: true }],
    ['additionalProperties as a schema', { additionalProperties: {} }],
    ['required as text', { required: 'a' }],
    ['keywords of two types', { type: 'string', minimum: 3 }],
    ['what admits nothing', { minimum: 3, maximum: 2 }],
    ['a list', []],
    ['null', null],
    ['text', 'string'],
    ['too deep', JSON.parse(`${'{"items":'.repeat(7)}{}${'}'.repeat(7)}`)],
    ['very deep', JSON.parse(`${'{"items":'.repeat(5000)}{}${'}'.repeat(5000)}`)],
    ['too many values', { enum: Array.from({ length: 129 }, (_, index) => index) }],
    ['too many properties', { properties: Object.fromEntries(Array.from({ length: 129 }, (_, i) => [`p${i}`, {}])) }],
    ['a long name', { properties: { ['n'.repeat(65)]: {} } }],
    ['a long text', { enum: ['x'.repeat(257)] }],
  ])('D1 refuses %s', (_, value) => {
    expect(readConstraint(value)).toMatchObject({ ok: false, fault: 'bad_authorization_details' })
  })

  it('says the type that the keywords imply, so that another validator agrees', () => {
    expect(readConstraint({ properties: { n: { maximum: 5 } } })).toEqual({
      ok: true,
      value: { type: 'object', properties: { n: { type: 'number', maximum: 5 } } },
    })
    expect(readConstraint({})).toEqual({ ok: true, value: {} })
  })
})
