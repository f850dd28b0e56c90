import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { createSealer, SealBroken } from '../../src/keys/seal.ts'

const root = (fill: number) => new Uint8Array(32).fill(fill)
const bytes = (text: string) => new TextEncoder().encode(text)

describe('sealing', () => {
  const sealer = createSealer(root(1))

  it('opens what it sealed, whatever the bytes', () => {
    fc.assert(
      fc.property(fc.string(), fc.string(), fc.uint8Array({ maxLength: 500 }), (label, context, content) => {
        expect([...sealer.open(label, context, sealer.seal(label, context, content))]).toEqual([...content])
      }),
    )
  })

  it('never makes the same text twice, and shows nothing of the content', () => {
    const secret = 'canary-canary-canary'
    const sealed = Array.from({ length: 50 }, () => sealer.seal('a', 'b', bytes(secret)))
    expect(new Set(sealed).size).toBe(50)
    expect(sealed.join()).not.toContain(Buffer.from(secret).toString('base64url').slice(4, 20))
  })

  it('opens at no other label, context or root key', () => {
    const sealed = sealer.seal('label', 'context', bytes('x'))
    expect(() => sealer.open('other', 'context', sealed)).toThrow(SealBroken)
    expect(() => sealer.open('label', 'other', sealed)).toThrow(SealBroken)
    expect(() => createSealer(root(2)).open('label', 'context', sealed)).toThrow(SealBroken)
    expect(Buffer.from(createSealer(root(1)).open('label', 'context', sealed)).toString()).toBe('x')
  })

  it('opens nothing of which one bit was changed', () => {
    const sealed = sealer.seal('label', 'context', bytes('some content'))
    const raw = Buffer.from(sealed.slice(3), 'base64url')
    for (let bit = 0; bit < raw.length * 8; bit++) {
      const changed = Buffer.from(raw)
      changed[bit >> 3]! ^= 1 << (bit & 7)
      expect(() => sealer.open('label', 'context', `s1.${changed.toString('base64url')}`)).toThrow(SealBroken)
    }
    for (const text of ['', 's1.', 's2.AAAA', sealed.slice(0, 30), sealed.slice(3)])
      expect(() => sealer.open('label', 'context', text), text).toThrow(SealBroken)
  })

  it('derives the same key at each start, another for each use and root, and keeps no tie to the caller’s buffer', () => {
    const buffer = root(7)
    const first = createSealer(buffer)
    const feed = first.derive('feed', 32)
    buffer.fill(0)
    expect([...createSealer(root(7)).derive('feed', 32)]).toEqual([...feed])
    expect([...first.derive('nonce', 32)]).not.toEqual([...feed])
    expect([...createSealer(root(8)).derive('feed', 32)]).not.toEqual([...feed])
    expect(first.derive('feed', 16)).toHaveLength(16)
  })

  it('takes a root key of 32 bytes only', () => {
    expect(() => createSealer(new Uint8Array(16))).toThrow()
  })
})
