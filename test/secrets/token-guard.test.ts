/** The root key under a key in a PKCS#11 token: SoftHSM, where it and pkcs11-tool are installed. */
import { execFileSync, spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { rootSchema, type RootSource } from '../../src/config/root-source.ts'
import { loadRootKey, openRootKey } from '../../src/keys/root-key.ts'
import { openRootGuard } from '../../src/secrets/open-root-guard.ts'

const TOOL = '/usr/bin/pkcs11-tool'
const MODULE = ['/usr/lib/softhsm/libsofthsm2.so', '/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so'].find((path) =>
  existsSync(path),
)
const there = MODULE !== undefined && existsSync(TOOL) && spawnSync('softhsm2-util', ['--version']).status === 0
if (!there)
  console.warn('skipped: a root key in a PKCS#11 token needs softhsm2 and opensc (apt install softhsm2 opensc)')

const PIN = '98765432'
type Token = Partial<NonNullable<RootSource['pkcs11']>>

describe('a root key wrapped by a token', () => {
  let dir: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'errand-token-'))
    for (const [name, pin] of [
      ['pin', `${PIN}\n`],
      ['wrong', '11111111'],
    ] as const)
      await writeFile(join(dir, name), pin, { mode: 0o600 })
    if (there) await makeToken()
  }, 60_000)
  afterAll(() => rm(dir, { recursive: true }))

  const guard = (more: Token = {}) =>
    openRootGuard(
      rootSchema.parse({
        pkcs11: {
          module: MODULE ?? '/nowhere/module.so',
          token: 'errand',
          key_id: '01',
          pin_file: join(dir, 'pin'),
          environment: { SOFTHSM2_CONF: join(dir, 'softhsm2.conf') },
          ...more,
        },
      }),
      { fetch: globalThis.fetch },
    )!

  const makeToken = async () => {
    await mkdir(join(dir, 'tokens'))
    await writeFile(join(dir, 'softhsm2.conf'), `directories.tokendir = ${join(dir, 'tokens')}\nlog.level = ERROR\n`)
    const env = { SOFTHSM2_CONF: join(dir, 'softhsm2.conf'), PATH: '/usr/bin:/bin', PIN }
    const run = (command: string, ...args: readonly string[]) =>
      execFileSync(command, args, { env, stdio: ['ignore', 'ignore', 'ignore'] })
    run('softhsm2-util', '--init-token', '--free', '--label', 'errand', '--so-pin', '12345678', '--pin', PIN)
    const login = ['--module', MODULE!, '--token-label', 'errand', '--login', '--pin', 'env:PIN']
    for (const id of ['01', '02'])
      run(TOOL, ...login, '--keypairgen', '--key-type', 'rsa:2048', '--label', `errand-${id}`, '--id', id)
  }

  describe.skipIf(!there)('in SoftHSM', () => {
    it('is made and opened again by its key pair, and stands in no file', async () => {
      const path = join(dir, 'root.key')
      const { key } = await openRootKey(path, guard())
      expect(key).toHaveLength(32)
      expect(await readFile(path, 'utf8')).toMatch(/^errand-root:pkcs11:[A-Za-z0-9_-]{342}\n$/)
      expect(await loadRootKey(path, guard())).toEqual(key)
    })

    it('O5 does not open with another key or a changed file, nor without its PIN, token, key or program', async () => {
      const path = join(dir, 'kept.key')
      await openRootKey(path, guard())
      const refusals: readonly (readonly [Token, string, RegExp])[] = [
        [{ key_id: '02' }, 'key_file_unsafe', /another key/],
        [{ pin_file: join(dir, 'wrong') }, 'root_key_unavailable', /PIN is refused \(CKR_PIN_INCORRECT\)/],
        [{ token: 'nobody' }, 'root_key_unavailable', /no such token/],
        [{ module: '/nowhere/module.so' }, 'root_key_unavailable', /does not load/],
        [{ key_id: '03' }, 'root_key_unavailable', /no such token or key/],
      ]
      for (const [more, code, message] of refusals) {
        const error = await loadRootKey(path, guard(more)).catch((thrown: unknown) => thrown)
        expect(error, JSON.stringify(more)).toMatchObject({ code, message: expect.stringMatching(message) })
        expect((error as Error).message).not.toContain(PIN)
      }
      const text = await readFile(path, 'utf8')
      await rm(path)
      await writeFile(path, text.replace(/.{4}\n$/, 'AAAA\n'), { mode: 0o600 })
      await expect(loadRootKey(path, guard())).rejects.toMatchObject({ code: 'key_file_unsafe' })
    })
  })

  it('is asked of the program with the PIN in no argument, with no environment of ours, and not for ever', async () => {
    const tool = join(dir, 'tool.sh')
    const path = join(dir, 'double.key')
    await writeFile(path, `errand-root:pkcs11:${'A'.repeat(342)}\n`, { mode: 0o600 })
    const script = async (body: string) => {
      await writeFile(tool, `#!/bin/sh\n${body}\n`)
      await chmod(tool, 0o755)
    }
    await script(`echo "$@" > ${join(dir, 'args')}; /usr/bin/env > ${join(dir, 'env')}; printf '%032d' 0`)
    process.env['ERRAND_CANARY'] = 'of the service'
    try {
      expect(await loadRootKey(path, guard({ tool }))).toEqual(Buffer.from('0'.repeat(32)))
    } finally {
      delete process.env['ERRAND_CANARY']
    }
    expect(await readFile(join(dir, 'args'), 'utf8')).not.toContain(PIN)
    const env = await readFile(join(dir, 'env'), 'utf8')
    expect(env).toContain(`ERRAND_PIN=${PIN}`)
    expect(env).not.toContain('ERRAND_CANARY')

    await script(`echo "error: ${PIN} CKR_DEVICE_ERROR secret" >&2; exit 1`)
    const error = await loadRootKey(path, guard({ tool })).catch((thrown: unknown) => thrown)
    expect(error).toMatchObject({ code: 'root_key_unavailable', message: expect.stringMatching(/: CKR_DEVICE_ERROR$/) })
    await script('exec /bin/sleep 60')
    await expect(loadRootKey(path, guard({ tool, timeout_seconds: 1 }))).rejects.toMatchObject({
      code: 'root_key_unavailable',
      message: expect.stringContaining('in time'),
    })
    await expect(loadRootKey(path, guard({ tool: '/nowhere/pkcs11-tool' }))).rejects.toMatchObject({
      code: 'root_key_unavailable',
      message: expect.stringContaining('install OpenSC'),
    })
  })
})
