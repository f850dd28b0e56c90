/** Every connection to Redis is set up so that nothing is resent, queued or waited for (SECURITY-CASES, traps). */
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { Redis } from 'ioredis'
import { describe, expect, it } from 'vitest'
import { CLIENT_OPTIONS } from '../../src/store/redis/client.ts'

const src = fileURLToPath(new URL('../../src/', import.meta.url))

describe('connections to Redis', () => {
  it('resend nothing, queue nothing, retry nothing, and wait for no command longer than half a second', () => {
    expect(CLIENT_OPTIONS).toMatchObject({
      autoResendUnfulfilledCommands: false,
      enableOfflineQueue: false,
      maxRetriesPerRequest: 0,
    })
    expect(CLIENT_OPTIONS.commandTimeout).toBeGreaterThan(0)
    expect(CLIENT_OPTIONS.commandTimeout).toBeLessThan(500)
    const made = new Redis('redis://127.0.0.1:1', CLIENT_OPTIONS)
    expect(made.options).toMatchObject(CLIENT_OPTIONS)
    // The listening connection is a duplicate, and takes all of it over.
    expect(made.duplicate().options).toMatchObject(CLIENT_OPTIONS)
    made.disconnect()
  })

  it('are made in one place, and every command runs as a script, but for the check of the server and of its generation', () => {
    const files = readdirSync(src, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'))
    const made = files.filter((name) => /new (Redis|Cluster)\b/.test(readFileSync(join(src, name), 'utf8')))
    expect(made).toEqual(['store/redis/connect.ts'])
    const imports = files.filter((name) => /from 'ioredis'/.test(readFileSync(join(src, name), 'utf8')))
    // What speaks before a script is let through: the check of the server, and which generation its data are of.
    const bare = ['connect', 'generation', 'restore', 'server-check']
    expect(imports.sort()).toEqual(['client', ...bare].sort().map((name) => `store/redis/${name}.ts`))
    const pipelines = files.filter((name) => /\.(multi|pipeline)\(/.test(readFileSync(join(src, name), 'utf8')))
    expect(pipelines).toEqual([])
  })

  it('use the clock of the server for lateness alone, and its time to live for nothing', () => {
    const folder = join(src, 'store/redis')
    const texts = readdirSync(folder).map((name) => readFileSync(join(folder, name), 'utf8'))
    expect(texts.join('').match(/redis\.call\('TIME'\)/g)).toHaveLength(1)
    expect(texts.filter((text) => /'(P?EXPIRE(AT)?|P?SETEX|PX|EX|PXAT|EXAT)'/i.test(text))).toEqual([])
  })
})
