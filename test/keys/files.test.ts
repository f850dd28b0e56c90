import { execFileSync } from 'node:child_process'
import {
  chmod,
  link,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rm,
  stat,
  symlink,
  truncate,
  writeFile,
} from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, it } from 'vitest'
import { createFile, readSecretFile } from '../../src/keys/key-file.ts'
import { prepareMaterial, refuseDevelopmentKeys } from '../../src/keys/material.ts'
import { readPrivateJwkFile } from '../../src/keys/private-jwk.ts'
import { loadRootKey, openRootKey } from '../../src/keys/root-key.ts'

let dir: string
beforeEach(async () => {
  dir = await mkdtemp(join(tmpdir(), 'errand-keys-'))
})
afterEach(() => rm(dir, { recursive: true, force: true }))

const modeOf = async (path: string) => ((await stat(path)).mode & 0o7777).toString(8)
const development = () => ({
  keysDir: join(dir, 'keys'),
  mode: 'development' as const,
  agents: ['research', 'payments'],
  tools: ['tickets'],
  userIssuer: true,
})

describe('the root key', () => {
  it('is made once, with mode 0600, and is the same afterwards', async () => {
    const path = join(dir, 'root.key')
    const first = await openRootKey(path)
    expect(first.made).toBe(true)
    expect(first.key).toHaveLength(32)
    expect(await modeOf(path)).toBe('600')
    const second = await openRootKey(path)
    expect(second.made).toBe(false)
    expect([...second.key]).toEqual([...first.key])
  })

  it('is one and the same for two processes that start at once', async () => {
    const path = join(dir, 'root.key')
    const opened = await Promise.all(Array.from({ length: 8 }, () => openRootKey(path)))
    expect(new Set(opened.map(({ key }) => Buffer.from(key).toString('hex'))).size).toBe(1)
    expect(opened.filter(({ made }) => made)).toHaveLength(1)
    expect(await readdir(dir)).toEqual(['root.key'])
  })

  it('may be readable by its owner alone (0400)', async () => {
    const path = join(dir, 'root.key')
    const { key } = await openRootKey(path)
    await chmod(path, 0o400)
    expect([...(await loadRootKey(path))]).toEqual([...key])
  })

  for (const mode of [0o644, 0o640, 0o604, 0o700, 0o4600])
    it(`O5 a key file of mode ${mode.toString(8)} is refused as key_file_unsafe`, async () => {
      const path = join(dir, 'root.key')
      await openRootKey(path)
      await chmod(path, mode)
      await expect(openRootKey(path)).rejects.toMatchObject({ code: 'key_file_unsafe', message: /chmod 600/ })
    })

  it('O5 a symbolic link is refused, also to a good file', async () => {
    const real = join(dir, 'real.key')
    const { key } = await openRootKey(real)
    const path = join(dir, 'root.key')
    await symlink(real, path)
    await expect(openRootKey(path)).rejects.toMatchObject({ code: 'key_file_unsafe', message: /symbolic link/ })
    await rm(path)
    await link(real, path)
    expect([...(await openRootKey(path)).key]).toEqual([...key])
  })

  it('O5 a truncated, empty, overlong or differently encoded file is refused and left as it is', async () => {
    const path = join(dir, 'root.key')
    await openRootKey(path)
    const good = await readFile(path, 'utf8')
    const bad = [
      good.slice(0, 20),
      '',
      good.trim() + good.trim(),
      `${good.trim().slice(0, 42)}=`,
      ` ${good}`,
      `${good.trim().slice(0, 42)}_`,
    ]
    for (const text of bad) {
      await writeFile(path, text)
      await expect(openRootKey(path), JSON.stringify(text)).rejects.toMatchObject({ code: 'key_file_unsafe' })
      expect(await readFile(path, 'utf8')).toBe(text)
    }
  })

  it('O5 a folder or a pipe in its place is refused without hanging', async () => {
    const path = join(dir, 'root.key')
    await mkdir(path)
    await expect(openRootKey(path)).rejects.toMatchObject({ code: 'key_file_unsafe' })
    await rm(path, { recursive: true })
    execFileSync('mkfifo', ['-m', '600', path])
    await expect(openRootKey(path)).rejects.toMatchObject({ code: 'key_file_unsafe', message: /regular file/ })
  })

  it.runIf(process.getuid?.() === 0)('O5 a file that belongs to somebody else is refused (runs as root)', async () => {
    const path = join(dir, 'root.key')
    await openRootKey(path)
    execFileSync('chown', ['65534', path])
    await expect(openRootKey(path)).rejects.toMatchObject({ code: 'key_file_unsafe', message: /belongs to user 65534/ })
  })
})

describe('making files', () => {
  it('a second name that a crash left of a finished file goes at the next start, and nobody’s unfinished one', async () => {
    const { keysDir } = development()
    await prepareMaterial(development())
    await link(join(keysDir, 'root.key'), join(keysDir, '.unfinished-00'))
    await writeFile(join(keysDir, '.unfinished-01'), 'another process is at work', { mode: 0o600 })
    await prepareMaterial(development())
    expect((await readdir(keysDir)).filter((name) => name.startsWith('.'))).toEqual(['.unfinished-01'])
    expect((await stat(join(keysDir, 'root.key'))).nlink).toBe(1)
  })

  it('overwrites nothing and leaves nothing unfinished behind', async () => {
    const path = join(dir, 'a')
    expect(await createFile(path, 'first')).toBe(true)
    expect(await createFile(path, 'second')).toBe(false)
    expect(await readFile(path, 'utf8')).toBe('first')
    expect(await readdir(dir)).toEqual(['a'])
  })

  it('reads no file that is larger than any key', async () => {
    const path = join(dir, 'a')
    await createFile(path, '')
    await truncate(path, 1_000_000)
    await expect(readSecretFile(path)).rejects.toMatchObject({ code: 'key_file_unsafe' })
  })
})

describe('the material of a first start', () => {
  it('makes what is missing, closed to others, and says what it made', async () => {
    const { made, adminKey, rootKey } = await prepareMaterial(development())
    expect(rootKey).toHaveLength(32)
    expect([...made].sort()).toEqual([
      'admin.jwk',
      'admin.pub.jwk',
      'agents/payments.jwk',
      'agents/payments.pub.jwk',
      'agents/research.jwk',
      'agents/research.pub.jwk',
      'root.key',
      'tools/tickets.jwk',
      'tools/tickets.pub.jwk',
      'users/dev-issuer.jwk',
      'users/dev-issuer.jwks.json',
      'users/dev-issuer.pub.jwk',
    ])
    const keys = join(dir, 'keys')
    for (const folder of ['', 'agents', 'tools', 'users']) expect(await modeOf(join(keys, folder))).toBe('700')
    for (const file of made.filter((name) => !/\.pub\.jwk$|jwks\.json$/.test(name)))
      expect(await modeOf(join(keys, file)), file).toBe('600')
    const research = await readPrivateJwkFile(join(keys, 'agents/research.jwk'))
    expect(research.kid).toMatch(/^dev-/)
    const published = JSON.parse(await readFile(join(keys, 'agents/research.pub.jwk'), 'utf8'))
    expect(published).toEqual(research.publicJwk)
    expect(published.d).toBeUndefined()
    expect(JSON.parse(await readFile(join(keys, 'users/dev-issuer.jwks.json'), 'utf8')).keys[0].d).toBeUndefined()
    const admin = await readPrivateJwkFile(join(keys, 'admin.jwk'))
    expect(admin.kid).toMatch(/^admin-/)
    expect(adminKey).toEqual(admin.publicJwk)
  })

  it('writes nothing at the second start, where all of it is there', async () => {
    await prepareMaterial(development())
    const folders = ['', 'agents', 'tools', 'users'].map((folder) => join(dir, 'keys', folder))
    const times = () => Promise.all(folders.map(async (folder) => (await stat(folder)).mtimeMs))
    const before = await times()
    expect((await prepareMaterial(development())).made).toEqual([])
    expect(await times()).toEqual(before)
  })

  it('makes nothing the second time, and the same public half where only that is missing', async () => {
    await prepareMaterial(development())
    const path = join(dir, 'keys/agents/research.pub.jwk')
    const before = await readFile(path, 'utf8')
    expect((await prepareMaterial(development())).made).toEqual([])
    await rm(path)
    expect((await prepareMaterial(development())).made).toEqual(['agents/research.pub.jwk'])
    expect(await readFile(path, 'utf8')).toBe(before)
  })

  it('makes no private key beside a public one that somebody registered', async () => {
    await prepareMaterial(development())
    await rm(join(dir, 'keys/agents/research.jwk'))
    expect((await prepareMaterial(development())).made).toEqual([])
  })

  it('says so where the two halves belong to different keys', async () => {
    await prepareMaterial(development())
    const at = (name: string) => join(dir, 'keys/agents', name)
    await writeFile(at('research.pub.jwk'), await readFile(at('payments.pub.jwk')))
    await expect(prepareMaterial(development())).rejects.toMatchObject({
      code: 'key_file_unsafe',
      message: /not the public half/,
    })
  })

  it('closes a folder that a clone left open', async () => {
    await mkdir(join(dir, 'keys'), { mode: 0o755 })
    await prepareMaterial(development())
    expect(await modeOf(join(dir, 'keys'))).toBe('700')
  })

  it('takes no name that leads out of its folder', async () => {
    for (const name of ['../x', 'a/b', '.x', 'A', ''])
      await expect(prepareMaterial({ ...development(), agents: [name] }), name).rejects.toThrow('cannot be the name')
  })

  it('makes the root key and the administrator alone in production', async () => {
    const { made } = await prepareMaterial({ ...development(), mode: 'production' })
    expect(made).toEqual(['root.key', 'admin.jwk', 'admin.pub.jwk'])
    expect((await prepareMaterial({ ...development(), mode: 'production' })).made).toEqual([])
  })

  it('U5 production refuses to start while development keys lie in the folder, and names them', async () => {
    await prepareMaterial(development())
    await expect(prepareMaterial({ ...development(), mode: 'production' })).rejects.toMatchObject({
      code: 'dev_material',
      message: /agents\/research\.jwk/,
    })
  })

  it('U5 development keys that the configuration names are refused too', () => {
    expect(() => refuseDevelopmentKeys([{ kid: 'mine', from: 'a' }, { from: 'b' }])).not.toThrow()
    expect(() => refuseDevelopmentKeys([{ kid: 'dev-x', from: 'config/agents/a.yaml' }])).toThrow(
      /config\/agents\/a\.yaml/,
    )
  })
})

describe('a private JWK file', () => {
  const canary = 'Q0FOQVJZLUNBTkFSWS1DQU5BUlktQ0FOQVJZLUNBTkE'
  const cases: readonly (readonly [string, string])[] = [
    ['no JSON', `{"kty":"EC","d":"${canary}"`],
    ['bare text', canary],
    ['a public key', '{"kty":"EC","crv":"P-256","x":"a","y":"b","kid":"k"}'],
    ['another kind', `{"kty":"OKP","crv":"Ed25519","x":"a","d":"${canary}","kid":"k"}`],
    ['another algorithm', `{"kty":"EC","crv":"P-256","alg":"ES384","x":"a","y":"b","d":"${canary}","kid":"k"}`],
    ['no point of the curve', `{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"${canary}","kid":"k"}`],
    ['no kid', `{"kty":"EC","crv":"P-256","x":"a","y":"b","d":"${canary}"}`],
    ['null', 'null'],
  ]
  for (const [name, text] of cases)
    it(`O5 with ${name} is refused, and the message holds nothing of it`, async () => {
      const path = join(dir, 'key.jwk')
      await createFile(path, text)
      const error: unknown = await readPrivateJwkFile(path).catch((thrown: unknown) => thrown)
      expect(error).toMatchObject({ code: 'key_file_unsafe' })
      expect(String((error as Error).stack) + JSON.stringify(error)).not.toContain('CANA')
      expect(String((error as Error).stack)).not.toContain(canary.slice(0, 8))
    })

  it('is told apart when it is missing', async () => {
    await expect(readPrivateJwkFile(join(dir, 'none.jwk'))).rejects.toMatchObject({ code: 'key_file_missing' })
  })

  it('O5 whose public numbers belong to another key is refused', async () => {
    await prepareMaterial(development())
    const at = (name: string) => join(dir, 'keys/agents', name)
    const other = JSON.parse(await readFile(at('payments.jwk'), 'utf8'))
    const mixed = { ...JSON.parse(await readFile(at('research.jwk'), 'utf8')), x: other.x, y: other.y }
    await writeFile(at('research.jwk'), JSON.stringify(mixed))
    await expect(readPrivateJwkFile(at('research.jwk'))).rejects.toMatchObject({ code: 'key_file_unsafe' })
  })
})
