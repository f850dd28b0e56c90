/** What is remembered, and what is not worth it. */
import { createHash, randomBytes } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { createSecondSight, digestOf } from '../../src/attest/remembered.ts'

describe('second sight', () => {
  const text = () => `the same beginning of all.${randomBytes(64).toString('base64url')}`

  it('says of a text whether it came before', () => {
    const cameBefore = createSecondSight()
    const one = text()
    expect([cameBefore(one), cameBefore(one), cameBefore(text()), cameBefore(one)]).toEqual([false, true, false, true])
    expect([cameBefore('a'), cameBefore('a'), cameBefore('')]).toEqual([false, true, false])
  })

  it('forgets what is long ago, and takes next to none for another', () => {
    const cameBefore = createSecondSight(1024)
    const texts = Array.from({ length: 20_000 }, text)
    expect(texts.filter((each) => cameBefore(each)).length).toBeLessThan(5)
    expect(texts.slice(0, 1000).filter(cameBefore).length).toBeLessThan(5)
    expect(texts.slice(900, 1000).filter(cameBefore).length).toBeGreaterThan(80)
  })
})

describe('digests', () => {
  it('of one text are those of a list of one', () => {
    for (const text of ['', 'a', 'ü€', 'x'.repeat(700)]) {
      const whole = createHash('sha256')
        .update(`${Buffer.byteLength(text)}:`)
        .update(text)
        .digest('base64url')
      expect(digestOf([text])).toBe(whole)
      expect(digestOf([Buffer.from(text)])).toBe(whole)
    }
  })
})
