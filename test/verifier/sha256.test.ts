import { hmacSha256By } from '@errand/verifier/crypto.ts'
import { hmacSha256, sha256 } from '@errand/verifier/sha256.ts'
import fc from 'fast-check'
import { createHash, createHmac } from 'node:crypto'
import { describe, expect, it } from 'vitest'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')
const ascii = (text: string): Uint8Array => Buffer.from(text, 'latin1')

describe('SHA-256 and HMAC without a library', () => {
  it.each([
    ['', 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'],
    ['abc', 'ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad'],
    [
      'abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq',
      '248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1',
    ],
    ['a'.repeat(1_000_000), 'cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0'],
  ])('gives the digests that NIST publishes (%#)', (text, digest) => {
    expect(hex(sha256(ascii(text)))).toBe(digest)
  })

  it.each([
    [Buffer.alloc(20, 0x0b), ascii('Hi There'), 'b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7'],
    [
      ascii('Jefe'),
      ascii('what do ya want for nothing?'),
      '5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843',
    ],
    [
      Buffer.alloc(131, 0xaa),
      ascii('Test Using Larger Than Block-Size Key - Hash Key First'),
      '60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54',
    ],
  ])('gives the codes of RFC 4231 (%#)', (key, text, code) => {
    expect(hex(hmacSha256(key, text))).toBe(code)
  })

  it('agrees with node:crypto around every edge of a block', () => {
    for (let length = 0; length <= 200; length++) {
      const bytes = Buffer.alloc(length, length)
      expect(hex(sha256(bytes))).toBe(createHash('sha256').update(bytes).digest('hex'))
      expect(hex(hmacSha256(bytes, bytes))).toBe(createHmac('sha256', bytes).update(bytes).digest('hex'))
    }
  })

  it('agrees with node:crypto on any bytes', () => {
    const bytes = fc.uint8Array({ maxLength: 2000 })
    fc.assert(
      fc.property(bytes, bytes, (key, text) => {
        expect(hex(sha256(text))).toBe(createHash('sha256').update(text).digest('hex'))
        expect(hex(hmacSha256(key, text))).toBe(createHmac('sha256', key).update(text).digest('hex'))
      }),
    )
  })

  it('gives the same codes by a key that is prepared once', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.array(fc.string({ unit: 'binary' })), (key, texts) => {
        const code = hmacSha256By(key)
        for (const text of texts) expect(hex(code(text))).toBe(createHmac('sha256', key).update(text).digest('hex'))
      }),
    )
  })
})
