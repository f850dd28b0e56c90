import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, it, describe } from 'vitest'
import { createSealer } from '../../../src/keys/seal.ts'
import { createKeptBundles } from '../../../src/store/files/kept-bundles.ts'

const NAME = 'company.example'

describe('bundles on disk', () => {
  it('open whole under the key they were sealed with, for their own trust domain, and else are not there', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'errand-bundles-'))
    const { seal, open } = createSealer(new Uint8Array(32).fill(1))
    const kept = createKeptBundles({ folder, seal, open })
    const bundle = { url: 'https://spire.company.example/bundle', text: '{}', confirmedAt: 1_800_000_000 }
    expect(await kept.read(NAME)).toBeUndefined()
    await kept.write(NAME, { ...bundle, confirmedAt: 1 })
    await kept.write(NAME, bundle)
    expect(await kept.read(NAME)).toEqual(bundle)
    const path = join(folder, `${NAME}.sealed`)
    expect([(await readdir(folder)).length, (await stat(path)).mode & 0o777]).toEqual([1, 0o600])
    const text = await readFile(path, 'latin1')
    await writeFile(join(folder, 'other.example.sealed'), text)
    expect(await kept.read('other.example')).toBeUndefined()
    await writeFile(path, text.slice(0, -2))
    expect(await kept.read(NAME)).toBeUndefined()
    const stranger = createSealer(new Uint8Array(32).fill(2))
    await writeFile(path, text)
    expect(await createKeptBundles({ folder, seal: stranger.seal, open: stranger.open }).read(NAME)).toBeUndefined()
    await rm(folder, { recursive: true })
  })
})
