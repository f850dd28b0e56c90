/** What stands beside the folders that are read: a folder or file that nobody reads is probably misspelt or misplaced. */
import { join, resolve } from 'node:path'
import type { Problem } from '../policy/problem.ts'
import { didYouMean } from '../policy/suggest.ts'

const FOLDERS = ['agents', 'tools', 'issuers', 'policies', 'releases', 'schemas'] as const

export async function strayProblems({
  dir,
  keysDir,
  label,
  readFolder,
  tenant = false,
}: {
  readonly dir: string
  readonly keysDir: string
  readonly label: string
  readonly readFolder: (path: string) => Promise<readonly string[]>
  /** A tenant has no tenants of its own. */
  readonly tenant?: boolean
}): Promise<readonly Problem[]> {
  const folders: readonly string[] = tenant ? FOLDERS : [...FOLDERS, 'tenants']
  const problems: Problem[] = []
  for (const name of [...((await namesIn(dir, readFolder)) ?? [])].sort()) {
    // Editors, version control and mounts leave hidden names and copies behind; notes may stand where people look.
    if (name.startsWith('.') || name.endsWith('~') || name === 'errand.yaml') continue
    if (folders.includes(name)) continue
    const path = join(dir, name)
    if (/\.(?:ya?ml|cedar)$/.test(name)) {
      problems.push({
        file: `${label}/${name}`,
        code: 'unknown_key',
        message: 'nothing reads this file: of the files here only errand.yaml counts',
        suggestion: name.endsWith('.cedar')
          ? `move it to ${label}/policies/`
          : (didYouMean(name, ['errand.yaml']).suggestion ??
            `move it to ${label}/agents/, ${label}/tools/ or ${label}/issuers/`),
      })
    } else if (resolve(path) !== resolve(keysDir) && (await namesIn(path, readFolder)) !== undefined) {
      problems.push({
        file: `${label}/${name}`,
        code: 'unknown_key',
        message: 'nothing reads this folder',
        suggestion: didYouMean(name, folders).suggestion ?? `the folders are ${folders.join(', ')}`,
      })
    }
  }
  return problems
}

/** Undefined where `path` is no folder. */
async function namesIn(
  path: string,
  readFolder: (path: string) => Promise<readonly string[]>,
): Promise<readonly string[] | undefined> {
  try {
    return await readFolder(path)
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return undefined
    throw error
  }
}
