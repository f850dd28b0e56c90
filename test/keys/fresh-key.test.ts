/** New keys: of the kind that was asked for, and never waited for. */
import { spawnSync } from 'node:child_process'
import { createPublicKey, sign, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { freshKey } from '../../src/keys/fresh-key.ts'

describe('a new key', () => {
  it('is of the kind that was asked for, signs, and is another each time', () => {
    for (const kind of ['P-256', 'P-384', 'Ed25519'] as const) {
      const key = freshKey(kind)
      const publicKey = createPublicKey(key)
      expect(publicKey.export({ format: 'jwk' }).crv).toBe(kind)
      const digest = kind === 'Ed25519' ? null : 'sha256'
      expect(verify(digest, Buffer.from('x'), publicKey, sign(digest, Buffer.from('x'), key))).toBe(true)
      expect(freshKey(kind).export({ format: 'jwk' }).d).not.toBe(key.export({ format: 'jwk' }).d)
    }
  })

  it('can be shown as a JWK while others are collected', () => {
    const file = new URL('../../src/keys/fresh-key.ts', import.meta.url).href
    const source = `import { freshKey } from ${JSON.stringify(file)}
      for (let made = 0; made < 10_000; made++) freshKey().export({ format: 'jwk' })`
    const run = spawnSync(process.execPath, ['--import', 'tsx', '--input-type=module', '--eval', source], {
      timeout: 25_000,
    })
    expect(run.signal).toBe(null)
    expect(run.status).toBe(0)
  }, 30_000)
})
