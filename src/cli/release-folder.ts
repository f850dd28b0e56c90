/**
 * Reads an agent's folder for its release: regular files inside it and nothing else. A digest of a short secret gives
 * the secret away to whoever guesses, so what looks like one is never read at all.
 */
import { constants } from 'node:fs'
import { lstat, open, readdir, realpath } from 'node:fs/promises'
import { join, resolve, sep } from 'node:path'
import { RELEASE_PATH } from '../config/release-file.ts'
import { usage } from './cli.ts'
import { safe } from './print.ts'

const FOLDER_BOUNDS = { fileBytes: 16_777_216, files: 5000, depth: 16 } as const

/** Names of files that hold secrets: environments, keys, credentials, tokens of package managers. */
const SECRET =
  /^(?:\.env(?:\..*)?|.*\.(?:env|pem|key|p12|pfx|jks|jwk|kdbx|keystore)|id_(?:rsa|dsa|ecdsa|ed25519)|credentials(?:\..*)?|secrets?(?:\..*)?|\.npmrc|\.pypirc|\.netrc|_netrc|\.git-credentials)$/i

export interface Found {
  /** Relative to the folder of the agent, with slashes. */
  readonly path: string
  readonly bytes: Buffer
}

export interface ReleaseFolder {
  readonly root: string
  /** One file, by relative path. */
  read(path: string): Promise<Found>
  /** The file, or all files below the folder, sorted by path; what was passed over is told to `passed`. */
  readAll(path: string, passed: (path: string) => void): Promise<readonly Found[]>
  /** Names of the folders directly inside `path`. */
  folders(path: string): Promise<readonly string[]>
  /** Whether there is a regular file of that name directly in the folder. */
  has(name: string): Promise<boolean>
}

export async function openReleaseFolder(folder: string): Promise<ReleaseFolder> {
  const root = await realpath(folder).catch((): never => {
    throw usage(`${safe(folder)} is no folder`)
  })
  let files = 0

  /** Every step of the way must be what it looks like: a link may lead out of the folder. */
  async function placeOf(path: string): Promise<string> {
    if (!RELEASE_PATH.test(path) || path.split('/').some((part) => part === '..' || part === '.'))
      throw usage(`${safe(path)} is no path inside the folder of the agent`)
    let at = root
    for (const part of path.split('/')) {
      at = join(at, part)
      const stats = await lstat(at).catch((): never => {
        throw usage(`${safe(path)} is not in ${safe(folder)}`)
      })
      if (stats.isSymbolicLink()) throw usage(`${safe(path)} leads over a symbolic link: put the file itself there`)
    }
    if (!`${resolve(at)}${sep}`.startsWith(`${root}${sep}`)) throw usage(`${safe(path)} is outside the folder`)
    return at
  }

  async function read(path: string): Promise<Found> {
    if (SECRET.test(path.slice(path.lastIndexOf('/') + 1)))
      throw usage(`${safe(path)} looks like a file of secrets: no release is made of it`)
    const place = await placeOf(path)
    files += 1
    if (files > FOLDER_BOUNDS.files) throw usage(`more than ${FOLDER_BOUNDS.files} files`)
    const handle = await open(place, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK)
    try {
      const stats = await handle.stat()
      if (!stats.isFile()) throw usage(`${safe(path)} is no regular file`)
      if (stats.size > FOLDER_BOUNDS.fileBytes) throw usage(`${safe(path)} is above ${FOLDER_BOUNDS.fileBytes} bytes`)
      return { path, bytes: await handle.readFile() }
    } finally {
      await handle.close()
    }
  }

  async function readAll(path: string, passed: (path: string) => void, depth = 0): Promise<readonly Found[]> {
    const place = await placeOf(path)
    if (!(await lstat(place)).isDirectory()) return [await read(path)]
    if (depth >= FOLDER_BOUNDS.depth) throw usage(`${safe(path)} is nested too deep`)
    const found: Found[] = []
    for (const entry of (await readdir(place, { withFileTypes: true })).sort((a, b) => (a.name < b.name ? -1 : 1))) {
      const inner = `${path}/${entry.name}`
      if (entry.isSymbolicLink()) throw usage(`${safe(inner)} is a symbolic link: put the file itself there`)
      if (SECRET.test(entry.name)) passed(inner)
      // Hidden names are those of editors and version control.
      else if (!entry.name.startsWith('.') && !entry.name.endsWith('~'))
        found.push(...(await readAll(inner, passed, depth + 1)))
    }
    return found
  }

  return {
    root,
    read,
    readAll: (path, passed) => readAll(path, passed),
    async folders(path) {
      const entries = await readdir(await placeOf(path), { withFileTypes: true })
      return entries
        .filter((entry) => entry.isDirectory() && !entry.name.startsWith('.'))
        .map(({ name }) => name)
        .sort()
    },
    has: (name) =>
      lstat(join(root, name)).then(
        (stats) => stats.isFile(),
        () => false,
      ),
  }
}
