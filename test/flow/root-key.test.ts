/** A service whose root key is wrapped: it starts with what opens it, and with nothing else. */
import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, it } from 'vitest'
import { openHouse } from '../house.ts'

describe('a service whose root key is under a passphrase', () => {
  let place: string
  let passphrase: string
  beforeAll(async () => {
    place = await mkdtemp(join(tmpdir(), 'errand-phrase-'))
    passphrase = join(place, 'passphrase')
    await writeFile(passphrase, 'correct horse battery staple\n', { mode: 0o600 })
  })
  afterAll(() => rm(place, { recursive: true }))
  const root = (source: string) => (text: string) => `${text}\nkeys: { root: { passphrase: ${source} } }\n`

  it('O5 starts with it, and not with another, with none, or with one that others can read', async () => {
    const first = await openHouse({ config: { 'errand.yaml': root(`{ file: ${passphrase} }`) } })
    const { folder } = first
    const signed = await (await first.agent('research')).exchange({ form: { audience: 'tickets' } })
    expect(signed.status).toBe(200)
    const kids = async (house: typeof first) =>
      (await house.admin('GET', '/keys')).body['keys'] as unknown as { kid: string }[]
    const before = await kids(first)
    expect(await readFile(join(folder, 'keys/root.key'), 'utf8')).toMatch(/^errand-root:passphrase:/)
    await first.service.close()

    const errandYaml = await readFile(join(folder, 'config/errand.yaml'), 'utf8')
    const refused = async (source: string, code: string) => {
      const config = { 'errand.yaml': errandYaml.replace(/\nkeys: .*\n$/, source === '' ? '' : `\nkeys: ${source}\n`) }
      await expect(openHouse({ folder, config }), source).rejects.toMatchObject({ code })
    }
    const wrong = join(place, 'wrong')
    await writeFile(wrong, 'incorrect horse battery staple', { mode: 0o600 })
    const open = join(place, 'open')
    await writeFile(open, 'correct horse battery staple', { mode: 0o644 })
    await refused(`{ root: { passphrase: { file: ${wrong} } } }`, 'key_file_unsafe')
    await refused(`{ root: { passphrase: { file: ${open} } } }`, 'key_file_unsafe')
    await refused('', 'key_file_unsafe')
    await refused('{ root: { passphrase: { file: /nowhere/passphrase } } }', 'key_file_missing')
    await refused('{ root: { passphrase: { prompt: true } } }', 'root_key_unavailable')
    await refused('{ root: { passphrase: { fd: 987 } } }', 'root_key_unavailable')
    await refused(`{ root: { passphrase: { file: ${passphrase}, fd: 3 } } }`, 'config_rejected')
    await refused('{ root: { passphrase: { text: correct horse battery staple } } }', 'config_rejected')

    const again = await openHouse({ folder, config: { 'errand.yaml': errandYaml } })
    expect((await kids(again)).map(({ kid }) => kid)).toEqual(before.map(({ kid }) => kid))
    await again.close()
  })

  it('makes no root key where nobody can read how it is to be kept', async () => {
    const folder = await mkdtemp(join(place, 'broken-'))
    await expect(
      openHouse({ folder, config: { 'errand.yaml': 'keys: { root: { pasphrase: { prompt: true } } }' } }),
    ).rejects.toMatchObject({ code: 'config_rejected' })
    expect(await readdir(folder)).toEqual(['config'])
  })
})
