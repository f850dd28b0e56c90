/** The files of config/: found, bounded, read and held against their schemas; what is wrong with one is told at once. */
import { join } from 'node:path'
import { someAtOnce } from '../keys/some-at-once.ts'
import type { Problem } from '../policy/problem.ts'
import type { SchemaName } from './json-schemas.ts'
import type { ReadFile } from './key-files.ts'
import { labelOf, type Reading, type Readings } from './readings.ts'
import { createReporter, type Reporter } from './reporter.ts'
import { FILE_BOUNDS } from './yaml.ts'

/** What a file says, and where to tell what else is wrong with it. */
export type ConfigFile<N extends SchemaName> = Extract<Reading<N>, { ok: true }> & { readonly report: Reporter }

export interface ConfigFolder {
  read<N extends SchemaName>(name: N, path: string): Promise<ConfigFile<N> | undefined>
  readAll<N extends SchemaName>(name: N, folder: string): Promise<readonly ConfigFile<N>[]>
  textOf(path: string): Promise<string | undefined>
  /** None where there is no such folder. */
  namesIn(folder: string): Promise<readonly string[]>
  filesOf(folder: string, extension: '.yaml' | '.cedar'): Promise<readonly string[]>
  /** What was read, by path. */
  readonly texts: ReadonlyMap<string, string>
  /** Whether every file that was asked for is there and has the form of its schema. */
  complete(): boolean
}

export function createConfigFolder({
  dir,
  readFile,
  readFolder,
  readings,
  problems,
}: {
  readonly dir: string
  readonly readFile: ReadFile
  readonly readFolder: (path: string) => Promise<readonly string[]>
  readonly readings: Readings
  readonly problems: Problem[]
}): ConfigFolder {
  const label = labelOf(dir)
  const texts = new Map<string, string>()
  let complete = true

  async function readingOf<N extends SchemaName>(name: N, path: string): Promise<Reading<N> | undefined> {
    const text = await textOf(path)
    return text === undefined ? undefined : readings.read(name, `${label}/${path}`, text)
  }

  function taken<N extends SchemaName>(reading: Reading<N> | undefined): ConfigFile<N> | undefined {
    if (reading?.ok) return { ...reading, report: createReporter(reading.yaml, problems) }
    complete = false
    if (reading) problems.push(...reading.problems)
    return undefined
  }

  async function textOf(path: string): Promise<string | undefined> {
    try {
      const text = await readFile(join(dir, path))
      texts.set(path, text)
      return text
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      problems.push({ file: `${label}/${path}`, code: 'file_missing', message: 'the file does not exist' })
      return undefined
    }
  }

  async function namesIn(folder: string): Promise<readonly string[]> {
    try {
      return await readFolder(join(dir, folder))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return []
    }
  }

  async function filesOf(folder: string, extension: '.yaml' | '.cedar'): Promise<readonly string[]> {
    const names = await namesIn(folder)
    // Editors leave hidden files and copies behind.
    const files = names
      .filter((name) => !name.startsWith('.') && !name.endsWith('~') && name !== 'schema.cedarschema')
      .sort()
    for (const name of files) {
      if (name.endsWith(extension)) continue
      problems.push({
        file: `${label}/${folder}/${name}`,
        code: 'bad_value',
        message: `only ${extension} files are read in ${folder}/`,
        ...(name.endsWith('.yml') ? { suggestion: `rename it to ${name.replace(/\.yml$/, '.yaml')}` } : {}),
      })
    }
    const own = files.filter((name) => name.endsWith(extension))
    if (own.length > FILE_BOUNDS.files) {
      problems.push({ file: `${label}/${folder}`, code: 'too_large', message: `more than ${FILE_BOUNDS.files} files` })
      return []
    }
    return own
  }

  return {
    read: async <N extends SchemaName>(name: N, path: string) => taken<N>(await readingOf(name, path)),
    async readAll<N extends SchemaName>(name: N, folder: string) {
      const files = await filesOf(folder, '.yaml')
      const found = await someAtOnce(files, (file) => readingOf(name, `${folder}/${file}`))
      return found.map((reading) => taken<N>(reading)).filter((one) => one !== undefined)
    },
    textOf,
    namesIn,
    filesOf,
    texts,
    complete: () => complete,
  }
}
