/** Proofs remembered in memory: one use each while their nonces are good, however many there are. */
import { beforeEach, describe, expect, it } from 'vitest'
import { createProofMemory } from '../../src/attest/proof-memory.ts'

describe('the memory of proofs', () => {
  let window: number
  beforeEach(() => {
    window = 7
  })

  it('E1 lets each through once, in this window and in the next, however many others there are', () => {
    const memory = createProofMemory({ window: () => window })
    const ids = Array.from({ length: 5_000 }, (_, n) => `proof ${n}`)
    expect(ids.filter((id) => memory.spend(id))).toHaveLength(ids.length)
    expect(ids.some((id) => memory.spend(id))).toBe(false)
    window += 1
    expect(ids.some((id) => memory.spend(id))).toBe(false)
    expect(memory.spend('another')).toBe(true)
    expect(memory.spend('another')).toBe(false)
  })

  it('forgets them when no nonce of theirs can be good any more, also after a time without any', () => {
    const memory = createProofMemory({ window: () => window })
    expect(memory.spend('one')).toBe(true)
    window += 2
    expect(memory.spend('one')).toBe(true)
    window += 5
    expect(memory.spend('one')).toBe(true)
  })

  it('E9 refuses the next one where there is no room, and still knows those that were used', () => {
    const memory = createProofMemory({ window: () => window, maxProofs: 10 })
    for (let n = 0; n < 10; n++) expect(memory.spend(`${n}`)).toBe(true)
    expect(() => memory.spend('eleventh')).toThrow(expect.objectContaining({ reason: 'replay_guard_unavailable' }))
    expect(memory.spend('3')).toBe(false)
    window += 2
    expect(memory.spend('eleventh')).toBe(true)
  })
})
