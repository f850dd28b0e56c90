import { createRecent } from '@errand/verifier/recent.ts'
import { describe, expect, it } from 'vitest'

describe('what was used lately', () => {
  it('holds at most so many, and keeps what is asked for', () => {
    const recent = createRecent<number>(8)
    for (let number = 0; number < 100; number++) {
      recent.put(`${number}`, number)
      expect(recent.get('0')).toBe(0)
    }
    const held = Array.from({ length: 100 }, (_, number) => recent.get(`${number}`)).filter(
      (value) => value !== undefined,
    )
    expect(held.length).toBeLessThanOrEqual(8)
    expect(recent.get('99')).toBe(99)
    expect(recent.get('50')).toBeUndefined()
  })

  it('answers with the value that was put last', () => {
    const recent = createRecent<number>(4)
    recent.put('a', 1)
    recent.put('b', 2)
    recent.put('c', 3)
    recent.put('a', 4)
    expect(recent.get('a')).toBe(4)
  })
})
