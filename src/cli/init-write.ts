/** Writes a first configuration: whole or not at all, and over nothing that is there. */
import { renameSync } from 'node:fs'
import { chmod, copyFile, mkdir, mkdtemp, readdir, rm, stat, writeFile } from 'node:fs/promises'
import { basename, dirname, join, resolve } from 'node:path'
import { formatProblems } from '../config/check.ts'
import { loadConfig } from '../config/load.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { createFile, privateFolder } from '../keys/key-file.ts'
import { generatePrivateJwk } from '../keys/private-jwk.ts'
import { type Cli, CliError, EXIT, usage } from './cli.ts'
import { safe } from './print.ts'

export interface Writing {
  readonly folder: string
  /** Path inside the folder → text. */
  readonly files: ReadonlyMap<string, string>
  /** Key pairs to make, by path inside keys/ without an ending: `agents/research`. */
  readonly pairs: readonly string[]
  /** Files of others to take over, by path inside keys/. */
  readonly copies: ReadonlyMap<string, string>
}

const PARTS = ['config', 'keys', 'data'] as const

/** Refuses a folder in which something of ours stands already: before the first question. */
export async function refuseOverwriting(folder: string): Promise<void> {
  await isFolder(folder)
  for (const part of PARTS) {
    const there = await readdir(join(folder, part)).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      if (error.code === 'ENOTDIR') return ['']
      throw usage(`${safe(join(folder, part))} cannot be read (${error.code ?? 'unknown error'})`)
    })
    if (there.length > 0)
      throw new CliError(EXIT.refused, `${safe(join(folder, part))} is there already, and is not overwritten`, [
        'Name another folder: errand init my-company. Or move that one away.',
      ])
  }
}

/** Everything is made and checked beside the place where it goes; then it is there, all at once. */
export async function writeStarter(cli: Cli, writing: Writing): Promise<Snapshot> {
  const folder = resolve(writing.folder)
  const there = await isFolder(folder)
  // Inside a folder that is there: it may be a mount of its own, or a link to one.
  const beside = there ? folder : dirname(folder)
  const unfinished = await makeBeside(beside)
  try {
    await fill(unfinished, writing)
    const loaded = await loadConfig({
      dir: join(unfinished, 'config'),
      keysDir: join(unfinished, 'keys'),
      now: cli.now,
      // The first start makes the administrator's, and the development issuer's.
      allowMissingKeys: true,
    })
    if (!loaded.ok)
      throw usage(
        'the service would not take what these answers make; nothing was written',
        ...[...formatProblems(loaded.problems).split('\n').map(safe)],
      )
    if (cli.signal.aborted) throw new CliError(EXIT.interrupted, 'interrupted; nothing was written')
    if (there) await placeInside(unfinished, folder)
    else await placeWhole(unfinished, folder)
    return loaded.snapshot
  } finally {
    await rm(unfinished, { recursive: true, force: true })
  }
}

async function fill(root: string, { files, pairs, copies }: Writing): Promise<void> {
  const keys = join(root, 'keys')
  await privateFolder(keys)
  // Goes wherever the folder goes: private keys are not committed by accident.
  await writeFile(join(keys, '.gitignore'), '*\n')
  for (const [path, text] of files) {
    await mkdir(dirname(join(root, path)), { recursive: true })
    await writeFile(join(root, path), text)
  }
  for (const [path, from] of copies) {
    await privateFolder(dirname(join(keys, path)))
    await copyFile(from, join(keys, path))
  }
  for (const pair of pairs) {
    await privateFolder(dirname(join(keys, pair)))
    const key = await generatePrivateJwk(`${basename(pair)}-`)
    await createFile(join(keys, `${pair}.jwk`), `${JSON.stringify(key.jwk, null, 2)}\n`)
    await createFile(join(keys, `${pair}.pub.jwk`), `${JSON.stringify(key.publicJwk, null, 2)}\n`, 0o644)
  }
}

const isFolder = (path: string): Promise<boolean> =>
  stat(path).then(
    (stats) => {
      if (!stats.isDirectory()) throw usage(`${safe(path)} is no folder`)
      return true
    },
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false
      throw usage(`${safe(path)} cannot be looked into (${error.code ?? 'unknown error'})`)
    },
  )

async function makeBeside(folder: string): Promise<string> {
  try {
    await mkdir(folder, { recursive: true })
    return await mkdtemp(join(folder, '.errand-init-'))
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException
    throw usage(`nothing can be made in ${safe(folder)} (${code ?? 'unknown error'})`)
  }
}

async function placeWhole(unfinished: string, folder: string): Promise<void> {
  await chmod(unfinished, 0o755)
  renameSync(unfinished, folder)
}

/** Two names, in one breath; the configuration never before its keys. */
async function placeInside(unfinished: string, folder: string): Promise<void> {
  await refuseOverwriting(folder)
  renameSync(join(unfinished, 'keys'), join(folder, 'keys'))
  try {
    renameSync(join(unfinished, 'config'), join(folder, 'config'))
  } catch (error) {
    renameSync(join(folder, 'keys'), join(unfinished, 'keys'))
    throw error
  }
}
