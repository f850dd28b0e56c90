import { decodeBase64url, encodeBase64url } from '@errand/verifier/base64url.ts'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'

describe('base64url', () => {
  it('reads back exactly what it writes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => {
        const text = encodeBase64url(bytes)
        expect(text).toBe(Buffer.from(bytes).toString('base64url'))
        expect([...decodeBase64url(text)!]).toEqual([...bytes])
      }),
    )
  })

  it('A4 accepts a text only where encoding it again gives the same text', () => {
    const near = fc.string({ unit: fc.constantFrom(...'AQgwEIZz09-_+/= \n\réK'), maxLength: 12 })
    fc.assert(
      fc.property(near, (text) => {
        const bytes = decodeBase64url(text)
        const canonical = Buffer.from(text, 'base64url').toString('base64url') === text
        expect(bytes !== undefined).toBe(canonical)
      }),
      { numRuns: 2000 },
    )
  })

  it.each(['A', 'AA=', 'AA==', 'AB', 'AAB', 'A A', 'AA\n', '\rAA', '+A', '/A', 'AAAAA', 'ＡＡ'])(
    'A4 refuses %j',
    (text) => {
      expect(decodeBase64url(text)).toBeUndefined()
    },
  )
})
