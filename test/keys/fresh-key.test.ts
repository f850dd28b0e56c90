/** New keys: of P-256, and never waited for. */
import { spawnSync } from 'node:child_process'
import { createPublicKey, sign, verify } from 'node:crypto'
import { describe, expect, it } from 'vitest'
import { freshKey } from '../../src/keys/fresh-key.ts'

describe('a new key', () => {
  it('is of P-256, signs, and is another each time', () => {
    const key = freshKey()
    const publicKey = createPublicKey(key)
    expect(publicKey.export({ format: 'jwk' }).crv).toBe('P-256')
    expect(verify('sha256', Buffer.from('x'), publicKey, sign('sha256', Buffer.from('x'), key))).toBe(true)
    expect(freshKey().export({ format: 'jwk' }).d).not.toBe(key.export({ format: 'jwk' }).d)
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
