import { execFile, spawn } from 'node:child_process'
import { mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { prepareMaterial } from '../../src/keys/material.ts'

const BIN = fileURLToPath(new URL('../../bin/errand.js', import.meta.url))
const run = promisify(execFile)

let dir: string
beforeAll(async () => {
  dir = await mkdtemp(join(tmpdir(), 'errand-bin-'))
  await prepareMaterial({
    keysDir: join(dir, 'keys'),
    mode: 'development',
    agents: ['research'],
    tools: [],
    userIssuer: true,
  })
})
afterAll(() => rm(dir, { recursive: true, force: true }))

interface Ended {
  readonly code: number | null
  readonly signal: string | null
  readonly out: string
  readonly err: string
}

function errand(
  argv: readonly string[],
  env: { readonly [name: string]: string } = {},
  act?: (pid: number) => void,
): Promise<Ended> {
  return new Promise((resolve, reject) => {
    const child = spawn(process.execPath, [BIN, ...argv], {
      cwd: dir,
      env: { PATH: process.env['PATH'] ?? '', ...env },
    })
    let out = ''
    let err = ''
    child.stdout.on('data', (chunk) => {
      out += chunk
    })
    child.stderr.on('data', (chunk) => {
      err += chunk
    })
    child.on('error', reject)
    child.on('close', (code, signal) => resolve({ code, signal, out, err }))
    act?.(child.pid!)
  })
}

describe('bin/errand.js', () => {
  it('runs from any folder, without a build', async () => {
    const { code, out } = await errand(['--help'])
    expect(code).toBe(0)
    expect(out).toContain('token get|inspect|verify')
  })

  it('T3 ends quietly when the reader of its output has read enough', async () => {
    // The reader is gone before the first word.
    const { stderr } = await run('/bin/sh', ['-c', '"$NODE" "$BIN" revoke --help | true'], {
      env: { PATH: process.env['PATH'] ?? '', NODE: process.execPath, BIN },
    })
    expect(stderr).toBe('')
  })

  it('T3 Ctrl-C in mid-exchange ends with 130 and prints no token', async () => {
    const asked = deferred()
    const server = createServer((request, response) => {
      if (request.method === 'GET') response.end(JSON.stringify({ issuer: base() }))
      // The exchange is under way, and is never answered.
      else asked.resolve()
    })
    const base = () => `http://127.0.0.1:${(server.address() as AddressInfo).port}`
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve))
    try {
      const ended = await errand(
        ['token', 'get', '--agent', 'research', '--tool', 'tickets'],
        { ERRAND_URL: base() },
        (pid) => void asked.promise.then(() => process.kill(pid, 'SIGINT')),
      )
      expect(ended).toEqual({ code: 130, signal: null, out: '', err: '' })
    } finally {
      server.closeAllConnections()
      server.close()
    }
  })

  it('colours nothing that is piped', async () => {
    expect((await errand(['nonsense'], { FORCE_COLOR: '1' })).err).toMatch(/^errand: unknown command nonsense/)
  })
})

function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let resolve = () => {}
  const promise = new Promise<void>((done) => {
    resolve = done
  })
  return { promise, resolve }
}
