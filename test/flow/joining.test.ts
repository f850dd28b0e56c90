/** An agent with nothing else: an administrator's command line, the agent's own, and its SDK, at a real service. */
import { chmod, mkdtemp, readdir, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { inspect } from 'node:util'
import { createAgent, ErrandError, joinByToken } from '@errand/agent'
import pc from 'picocolors'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { run } from '../../src/cli/main.ts'
import { openRunning, type Running } from '../running.ts'

let running: Running
let folder: string
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'errand-joining-'))
  running = await openRunning(undefined, {
    'agents/triage.yaml': (text) =>
      text.replace('evidence: [private_key_jwt]', 'evidence: [private_key_jwt, join_token]'),
  })
})
afterAll(async () => {
  await running.close()
  await rm(folder, { recursive: true })
})

/** `keys`: whose machine it is. */
async function cli(keys: string, stdin: string, ...argv: readonly string[]) {
  const out: string[] = []
  const err: string[] = []
  const exit = await run(argv, {
    out: (line) => void out.push(line),
    err: (line) => void err.push(line),
    stdin: async () => stdin,
    env: { ERRAND_URL: running.issuer, ERRAND_KEYS: keys, ERRAND_CONFIG: join(folder, 'none') },
    fetch: globalThis.fetch,
    now: () => Date.now() / 1000,
    wait: async () => {},
    signal: new AbortController().signal,
    colors: pc.createColors(false),
    command: 'errand',
    nodeVersion: process.versions.node,
  })
  return { exit, out: out.join('\n'), err: err.join('\n') }
}
const adminKeys = () => join(running.folder, 'keys')
const newToken = async () => (await cli(adminKeys(), '', 'agent', 'join-token', 'triage')).out
const works = async (keyFile: string, token: string | (() => never)) => {
  const evidence = await joinByToken({ issuer: running.issuer, clientId: 'triage', keyFile, token })
  const agent = createAgent({ issuer: running.issuer, evidence })
  const task = await agent.task({
    autonomous: true,
    purpose: 'nightly triage',
    environment: 'staging',
    dataClassification: 'internal',
  })
  const token_ = await task.token({ tool: 'tickets' })
  agent.close()
  return token_
}
const unasked = () => {
  throw new Error('asked for a token')
}

describe('an agent with nothing else', () => {
  it('F1 T1 joins from the command line, is shown, works, and is removed', async () => {
    const made = await cli(adminKeys(), '', 'agent', 'join-token', 'triage', '--lifetime', '60')
    expect([made.exit, made.err]).toEqual([0, expect.stringContaining('one use')])
    expect(made.out).toMatch(/^errand_join_[\w-]{43}$/)
    const own = join(folder, 'own')
    const joined = await cli(own, `${made.out}\n`, 'agent', 'join', 'triage')
    expect([joined.exit, joined.err]).toEqual([0, ''])
    expect(joined.out + joined.err).not.toContain(made.out)
    const keyFile = join(own, 'agents/triage.jwk')
    expect((await stat(keyFile)).mode & 0o777).toBe(0o600)
    const { kid } = JSON.parse(await readFile(keyFile, 'utf8')) as { kid: string }
    expect((await cli(adminKeys(), '', 'agent', 'show', 'triage')).out).toContain(kid)
    expect((await works(keyFile, unasked)).scope.length).toBeGreaterThan(0)

    // By then somebody else has it: refused, told, and nothing left behind.
    const late = await cli(join(folder, 'late'), made.out, 'agent', 'join', 'triage')
    expect([late.exit, late.err]).toEqual([1, expect.stringContaining('evidence_replayed')])
    expect(late.err).toContain('errand agent join-token')
    expect(await readdir(join(folder, 'late/agents'))).toEqual([])

    const removed = await cli(adminKeys(), '', 'agent', 'remove-key', 'triage', kid, '--reason', 'host lost')
    expect([removed.exit, removed.out]).toEqual([0, `removed ${kid}`])
    await expect(works(keyFile, unasked)).rejects.toMatchObject({ code: 'invalid_token' })
  })

  it('goes on where it was stopped, with the key it had made', async () => {
    const token = await newToken()
    const keyFile = join(folder, 'stopped.jwk')
    const lost: typeof fetch = async (url, init) => {
      const response = await globalThis.fetch(url, init)
      // The service has done it, and its answer is lost.
      if (response.status === 201) throw new TypeError('fetch failed')
      return response
    }
    const options = { issuer: running.issuer, clientId: 'triage', keyFile, token, wait: async () => {} }
    await expect(joinByToken({ ...options, fetch: lost })).rejects.toMatchObject({ code: 'network_error' })
    expect((await readdir(folder)).filter((name) => name.startsWith('stopped'))).toEqual(['stopped.jwk.joining'])
    expect((await works(keyFile, token)).scope.length).toBeGreaterThan(0)
    expect((await readdir(folder)).filter((name) => name.startsWith('stopped'))).toEqual(['stopped.jwk'])
    expect((await works(keyFile, unasked)).scope.length).toBeGreaterThan(0)
  })

  it('T1 T2 shows nothing of what it holds, and uses no key that others could read or that a link leads to', async () => {
    const token = await newToken()
    const keyFile = join(folder, 'safe.jwk')
    const options = { issuer: running.issuer, clientId: 'triage', keyFile, token }
    const evidence = await joinByToken(options)
    const { d } = JSON.parse(await readFile(keyFile, 'utf8')) as { d: string }
    for (const text of [inspect(evidence), JSON.stringify(evidence), String(evidence)]) expect(text).not.toContain(d)
    await chmod(keyFile, 0o644)
    await expect(joinByToken(options)).rejects.toThrow(/mode 0600/)
    await chmod(keyFile, 0o600)
    await symlink(keyFile, join(folder, 'link.jwk'))
    await expect(joinByToken({ ...options, keyFile: join(folder, 'link.jwk') })).rejects.toThrow(/regular file/)
    const refused = joinByToken({ ...options, keyFile: join(folder, 'new.jwk') })
    await expect(refused).rejects.toSatisfy(
      (error) => error instanceof ErrandError && error.reason === 'evidence_replayed',
    )
    await expect(refused).rejects.not.toThrow(token)
    await expect(joinByToken({ ...options, issuer: 'http://example.com' })).rejects.toThrow(/https/)
    const loose = join(folder, 'token')
    await writeFile(loose, token, { mode: 0o644 })
    const read = await cli(join(folder, 'x'), '', 'agent', 'join', 'triage', '--token-file', loose)
    expect([read.exit, read.err]).toEqual([2, expect.stringContaining('key_file_unsafe')])
  })
})
