import { createHash } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { type Brought, createWitness } from '@errand/verifier/witness.ts'

const note = (size: number, tree = 'honest', origin = 'errand.example') =>
  `${origin}\n${size}\n${createHash('sha256').update(`${tree} ${size}`).digest('base64')}\n\n— ${origin} c2lnbmF0dXJl\n`
const by = (s: number, more: Partial<Brought> = {}): Brought => ({
  run: 'run-a',
  s,
  at: s,
  notBefore: undefined,
  ...more,
})

describe('a verifier as a witness of the audit log', () => {
  test('keeps the newest checkpoint of each log', () => {
    const witness = createWitness()
    expect(witness.see(note(3), by(1))).toBeUndefined()
    expect(witness.see(note(9), by(2))).toBeUndefined()
    expect(witness.see(note(9), by(3))).toBeUndefined()
    expect(witness.see(note(2, 'honest', 'replica-2'), by(4))).toBeUndefined()
    expect(witness.newest()).toEqual([note(9), note(2, 'honest', 'replica-2')])
  })

  test('Q3 a log that shrank is noticed, and goes on being held against what was seen', () => {
    const witness = createWitness()
    witness.see(note(9), by(1))
    expect(witness.see(note(8), by(2))).toEqual({ before: note(9), after: note(8) })
    expect(witness.newest()).toEqual([note(9)])
    expect(witness.see(note(10, 'rewritten'), by(3))).toBeUndefined()
  })

  test('Q4 two trees of one size are noticed, whichever came first', () => {
    const witness = createWitness()
    witness.see(note(9), by(5))
    expect(witness.see(note(9, 'another'), by(1, { run: 'old' }))).toEqual({
      before: note(9),
      after: note(9, 'another'),
    })
  })

  test('what a cache or a relay kept for a while is older, and no log that shrank', () => {
    const witness = createWitness()
    witness.see(note(9), by(5))
    expect(witness.see(note(8), by(4))).toBeUndefined()
    expect(witness.see(note(8), by(5))).toBeUndefined()
    expect(witness.see(note(8), by(900, { run: 'run-b', at: 900 }))).toBeUndefined()
    expect(witness.see(note(8), by(901, { run: 'run-b', at: 901, notBefore: 4 }))).toBeUndefined()
    expect(witness.see(note(8), by(902, { run: 'run-b', at: 902, notBefore: 6 }))).toBeDefined()
  })

  test('Q3 what was kept before a restart counts after it', () => {
    const witness = createWitness([note(9)])
    expect(witness.see(note(8), by(1, { notBefore: 0 }))).toEqual({ before: note(9), after: note(8) })
  })

  test('Q3 of more logs than it keeps it forgets the one seen longest ago, and goes on watching new ones', () => {
    const witness = createWitness()
    const log = (at: number) => `replica-${at}`
    for (let at = 0; at < 64; at++) witness.see(note(5, 'honest', log(at)), by(at))
    witness.see(note(5, 'honest', log(0)), by(100))
    witness.see(note(5, 'honest', 'new'), by(101))
    expect(witness.newest()).toHaveLength(64)
    expect(witness.see(note(4, 'honest', 'new'), by(102))).toBeDefined()
    expect(witness.see(note(4, 'honest', log(0)), by(103))).toBeDefined()
    expect(witness.see(note(4, 'honest', log(1)), by(104))).toBeUndefined()
    // In the same order after a restart.
    expect(createWitness(witness.newest()).newest()).toEqual(witness.newest())
  })

  test('what is no checkpoint says nothing', () => {
    const witness = createWitness()
    for (const text of ['', 'a\n1\nshort\n', `a\n01\n${'A'.repeat(43)}=\n`, `${'a'.repeat(5000)}`])
      expect(witness.see(text, by(1))).toBeUndefined()
    expect(witness.newest()).toEqual([])
  })
})
