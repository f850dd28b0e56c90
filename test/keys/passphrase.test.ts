/** The root key under a passphrase: what opens it, and what does not. */
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { createPassphraseGuard } from '../../src/keys/passphrase.ts'
import { loadRootKey, openRootKey, rewrapRootKey } from '../../src/keys/root-key.ts'

const PHRASE = 'correct horse battery staple'
const guard = (phrase = PHRASE) => createPassphraseGuard(async () => phrase)

describe('a root key under a passphrase', () => {
  let dir: string
  let path: string
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'errand-passphrase-'))
    path = join(dir, 'root.key')
  })
  afterAll(() => rm(dir, { recursive: true }))

  it('is made once, is not in its file, and opens again with the same passphrase', async () => {
    const { key, made } = await openRootKey(path, guard())
    expect([key.length, made]).toEqual([32, true])
    const text = await readFile(path, 'utf8')
    expect(text).toMatch(/^errand-root:passphrase:131072\.[\w-]{22}\.[\w-]{80}\n$/)
    for (const form of ['base64', 'base64url', 'hex'] as const)
      expect(text).not.toContain(Buffer.from(key).toString(form))
    expect((await stat(path)).mode & 0o777).toBe(0o600)
    expect(await openRootKey(path, guard())).toEqual({ key, made: false })
    // However the line ends, and however its letters are composed.
    expect(await loadRootKey(path, guard(`${PHRASE}\n`))).toEqual(key)
  })

  it('O5 does not open with another passphrase, a changed file, or none: key_file_unsafe', async () => {
    const text = await readFile(path, 'utf8')
    const other = join(dir, 'changed.key')
    const refused = (message: RegExp) =>
      expect.objectContaining({ code: 'key_file_unsafe', message: expect.stringMatching(message) })
    await expect(loadRootKey(path, guard('correct horse battery stable'))).rejects.toEqual(refused(/wrong one/))
    await expect(loadRootKey(path)).rejects.toEqual(refused(/wrapped by passphrase.*names nothing/))
    await expect(loadRootKey(path, { ...guard(), kind: 'vault_transit' })).rejects.toEqual(
      refused(/names vault_transit/),
    )
    for (const [from, to, message] of [
      [/.\n$/, text.at(-2) === 'A' ? 'B\n' : 'A\n', /wrong one/],
      [/131072/, '65536', /wrong one/],
      [/131072/, '131071', /cut short/],
      [/131072/, '4194304', /cut short/],
      [/.{4}\n$/, '\n', /cut short/],
    ] as const) {
      await rm(other, { force: true })
      await writeFile(other, text.replace(from, to), { mode: 0o600 })
      await expect(loadRootKey(other, guard()), String(from)).rejects.toEqual(refused(message))
    }
  })

  it('says nothing of the passphrase where it refuses it, and takes none that is short or of several lines', async () => {
    for (const phrase of ['short', 'two lines\nof passphrase', 'x'.repeat(1025), '']) {
      const error = await loadRootKey(path, guard(phrase)).catch((thrown: Error) => thrown)
      expect(error).toMatchObject({ code: 'key_file_unsafe' })
      if (phrase !== '') expect((error as Error).message).not.toContain(phrase)
    }
  })

  it('is not asked for twice, and a key in the clear is not taken for a wrapped one', async () => {
    let asked = 0
    const counting = createPassphraseGuard(async () => {
      asked++
      return PHRASE
    })
    await loadRootKey(path, counting)
    await loadRootKey(path, counting)
    expect(asked).toBe(1)
    const plain = join(dir, 'plain.key')
    await openRootKey(plain)
    await expect(loadRootKey(plain, guard())).rejects.toMatchObject({
      code: 'key_file_unsafe',
      message: /no wrapped root key/,
    })
  })

  it('moves to another guard as the same key, in a file of its own, never over another', async () => {
    const key = await loadRootKey(path, guard())
    const into = join(dir, 'root.key.new')
    expect(await rewrapRootKey(path, { from: guard(), to: guard('another passphrase'), into })).toBe(true)
    expect(await loadRootKey(into, guard('another passphrase'))).toEqual(key)
    expect(await rewrapRootKey(path, { from: guard(), into })).toBe(false)
    expect(await loadRootKey(path, guard())).toEqual(key)
    const plain = join(dir, 'unwrapped.key')
    expect(await rewrapRootKey(path, { from: guard(), into: plain })).toBe(true)
    expect([...(await loadRootKey(plain))]).toEqual([...key])
  })
})
