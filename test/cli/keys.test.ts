/** `errand keys rewrap`: the root key under another guard, beside the one in force. */
import { cp, readFile, rename, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPassphraseGuard } from '../../src/keys/passphrase.ts'
import { loadRootKey, openRootKey } from '../../src/keys/root-key.ts'
import { openVaultDouble } from '../vault/double.ts'
import { type Double, serviceDouble } from './double.ts'
import { errand, typing } from './own.ts'

describe('errand keys rewrap', () => {
  let service: Double
  let path: string
  const phrase = (file: string) => join(service.keysDir, '..', file)
  beforeAll(async () => {
    service = await serviceDouble()
    path = join(service.keysDir, 'root.key')
    const config = join(service.keysDir, '..', 'config')
    await cp('config', config, { recursive: true })
    service.world.env['ERRAND_CONFIG'] = config
    for (const file of ['one', 'two']) await writeFile(phrase(file), `passphrase number ${file}`, { mode: 0o600 })
  })
  afterAll(() => service.close())

  const rooted = async (file: string | undefined) => {
    const errandYaml = join(service.world.env['ERRAND_CONFIG']!, 'errand.yaml')
    const text = (await readFile(errandYaml, 'utf8')).replace(/\nkeys: .*\n$/, '')
    await writeFile(
      errandYaml,
      file === undefined ? text : `${text}\nkeys: { root: { passphrase: { file: ${phrase(file)} } } }\n`,
    )
  }
  const guard = (file: string) => createPassphraseGuard(async () => `passphrase number ${file}`)

  it('wraps it by what the configuration names, from what the flags say, and back, without changing the key', async () => {
    const key = Buffer.from(await loadRootKey(path))
    expect(await service.cli('keys', 'rewrap')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('names nothing'),
    })
    await rooted('one')
    const made = await service.cli('keys', 'rewrap')
    expect(made).toMatchObject({ exit: 0, out: expect.stringContaining('wrapped by passphrase; it was read back') })
    expect(Buffer.from(await loadRootKey(path))).toEqual(key)
    expect(await service.cli('keys', 'rewrap')).toMatchObject({
      exit: 1,
      err: expect.stringContaining('is there already'),
    })
    await rename(`${path}.new`, path)

    await rooted('two')
    expect(await service.cli('keys', 'rewrap')).toMatchObject({
      exit: 2,
      err: expect.stringContaining('key_file_unsafe'),
    })
    expect((await service.cli('keys', 'rewrap', '--from-passphrase-file', phrase('one'), '--json')).exit).toBe(0)
    await rename(`${path}.new`, path)
    expect(Buffer.from(await loadRootKey(path, guard('two')))).toEqual(key)

    await rooted(undefined)
    const plain = await service.cli('keys', 'rewrap', '--plain', '--from-passphrase-file', phrase('two'))
    expect(plain.out).toContain('unwrapped')
    expect(Buffer.from(await loadRootKey(`${path}.new`))).toEqual(key)
    for (const { out, err } of [made, plain])
      for (const text of [out, err]) expect(text).not.toContain('passphrase number')
    await rename(`${path}.new`, path)
  })

  it('asks for a new passphrase twice, for the one in force once, and wraps nothing where the two differ', async () => {
    const key = Buffer.from(await loadRootKey(path))
    const errandYaml = join(service.world.env['ERRAND_CONFIG']!, 'errand.yaml')
    const before = await readFile(errandYaml, 'utf8')
    await writeFile(errandYaml, `${before}\nkeys: { root: { passphrase: { prompt: true } } }\n`)
    const rewrap = (answers: readonly string[], ...flags: string[]) =>
      typing(
        answers.map((text) => `${text}\r`),
        (terminal) => errand(['keys', 'rewrap', ...flags], { env: service.world.env, terminal }),
      )
    const [right, slip, next] = ['a long new passphrase', 'a long mew passphrase', 'another long passphrase']
    const differed = await rewrap([right, slip, right, slip, slip, right])
    expect(differed).toMatchObject({ exit: 2, err: expect.stringContaining('differed each time') })
    await expect(readFile(`${path}.new`)).rejects.toThrow('ENOENT')
    const made = await rewrap([slip, right, right, right])
    expect(made, made.err).toMatchObject({ exit: 0 })
    expect(made.shown).toContain('The same again')
    await rename(`${path}.new`, path)
    expect(
      Buffer.from(
        await loadRootKey(
          path,
          createPassphraseGuard(async () => right),
        ),
      ),
    ).toEqual(key)

    const again = await rewrap([right, next, next], '--from-prompt')
    expect(again, again.err).toMatchObject({ exit: 0 })
    await rename(`${path}.new`, path)
    expect(
      Buffer.from(
        await loadRootKey(
          path,
          createPassphraseGuard(async () => next),
        ),
      ),
    ).toEqual(key)
    for (const secret of [right, slip, next])
      for (const { shown, out, err } of [differed, made, again]) expect(shown + out + err).not.toContain(secret)
    await writeFile(errandYaml, before)
    await writeFile(path, `${key.toString('base64url')}\n`, { mode: 0o600 })
  })

  it('leaves a guard that flags cannot name by the errand.yaml of before', async () => {
    const key = Buffer.from(await loadRootKey(path))
    const vault = await openVaultDouble()
    try {
      const errandYaml = join(service.world.env['ERRAND_CONFIG']!, 'errand.yaml')
      const before = await readFile(errandYaml, 'utf8')
      await writeFile(phrase('token'), vault.token, { mode: 0o600 })
      const transit = `{ address: '${vault.address}', key: errand-root, token_file: ${phrase('token')} }`
      await writeFile(errandYaml, `${before}\nkeys: { root: { vault_transit: ${transit} } }\n`)
      const world = { env: service.world.env }
      expect((await errand(['keys', 'rewrap'], world)).out).toContain('wrapped by vault_transit')
      await rename(`${path}.new`, path)

      const old = phrase('errand.yaml.before')
      await cp(errandYaml, old)
      await rooted('one')
      const rewrap = (...flags: string[]) => errand(['keys', 'rewrap', ...flags], world)
      for (const [flags, said] of [
        [['--from-config', phrase('nowhere.yaml')], 'no errand.yaml that can be read'],
        [['--from-config', phrase('one')], 'no errand.yaml that can be read'],
        [['--from-config', 'config/errand.yaml'], 'names nothing'],
        [['--from-config', old, '--from-prompt'], 'wrapped by one thing'],
        [[], 'key_file_unsafe'],
      ] as const)
        expect(await rewrap(...flags), said).toMatchObject({ exit: 2, err: expect.stringContaining(said) })
      const made = await rewrap('--from-config', old)
      expect(made, made.err).toMatchObject({ exit: 0, out: expect.stringContaining('wrapped by passphrase') })
      await rename(`${path}.new`, path)
      expect(Buffer.from(await loadRootKey(path, guard('one')))).toEqual(key)
      await writeFile(errandYaml, before)
      await writeFile(path, `${key.toString('base64url')}\n`, { mode: 0o600 })
    } finally {
      await vault.close()
    }
  })

  it('a first start that asks for the passphrase asks for a new one', async () => {
    const asked: boolean[] = []
    const ask = async (anew: boolean) => {
      asked.push(anew)
      return 'a long new passphrase'
    }
    const other = join(service.keysDir, 'other.key')
    expect((await openRootKey(other, createPassphraseGuard(ask))).made).toBe(true)
    expect((await openRootKey(other, createPassphraseGuard(ask))).made).toBe(false)
    expect(asked).toEqual([true, false])
  })
})
