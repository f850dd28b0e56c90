/** New keys: of the kind that their algorithm needs, and none that is never done with. */
import { spawnSync } from 'node:child_process'
import { createPublicKey, sign, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { freshKey, freshKeyFor } from '../../src/keys/fresh-key.ts'

describe('a new key', () => {
  it('is of P-256, signs, and is another each time', () => {
    const key = freshKey()
    const publicKey = createPublicKey(key)
    expect(publicKey.export({ format: 'jwk' }).crv).toBe('P-256')
    expect(verify('sha256', Buffer.from('x'), publicKey, sign('sha256', Buffer.from('x'), key))).toBe(true)
    expect(freshKey().export({ format: 'jwk' }).d).not.toBe(key.export({ format: 'jwk' }).d)
  })

  it('is of the kind its algorithm needs', async () => {
    for (const [alg, jwk] of [
      ['ES256', { kty: 'EC', crv: 'P-256' }],
      ['EdDSA', { kty: 'OKP', crv: 'Ed25519' }],
      ['RS256', { kty: 'RSA', e: 'AQAB' }],
    ] as const)
      expect((await freshKeyFor(alg)).export({ format: 'jwk' })).toMatchObject(jwk)
    const { n } = (await freshKeyFor('RS256')).export({ format: 'jwk' })
    expect(Buffer.from(n!, 'base64url')).toHaveLength(256)
  })

  it.each([
    ['ES256', 4000],
    ['EdDSA', 2000],
    ['RS256', 20],
  ])(
    'of %s can be shown as a JWK while others are collected',
    (alg, count) => {
      const file = new URL('../../src/keys/fresh-key.ts', import.meta.url).href
      const source = `import { freshKeyFor } from ${JSON.stringify(file)}
      for (let made = 0; made < ${count}; made++) (await freshKeyFor('${alg}')).export({ format: 'jwk' })`
      const run = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', source], {
        timeout: 25_000,
      })
      expect(run.signal).toBe(null)
      expect(run.status).toBe(0)
    },
    30_000,
  )
})
