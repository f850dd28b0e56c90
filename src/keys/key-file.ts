/** Files that hold secrets: read only where nobody else can read or swap them, made whole or not at all. */
import { randomBytes } from 'node:crypto'
import { constants } from 'node:fs'
import { chmod, link, lstat, mkdir, open, readdir, stat, unlink } from 'node:fs/promises'
import { dirname, join } from 'node:path'

/** Key material that must not be used. The message says what to do and holds nothing of the file. */
export class KeyMaterialError extends Error {
  readonly code: 'key_file_unsafe' | 'key_file_missing' | 'root_key_unavailable' | 'dev_material'
  constructor(code: KeyMaterialError['code'], message: string) {
    super(message)
    this.name = 'KeyMaterialError'
    this.code = code
  }
}

const MAX_BYTES = 16_384

const unsafe = (path: string, what: string): KeyMaterialError =>
  new KeyMaterialError('key_file_unsafe', `${path} ${what}`)

const codeOf = (error: unknown): string | undefined => (error as NodeJS.ErrnoException | undefined)?.code

export const isMissing = (error: unknown): boolean =>
  error instanceof KeyMaterialError && error.code === 'key_file_missing'

/** The text of a secret file; throws `KeyMaterialError` where it is missing or anybody else could have read or made it. */
export async function readSecretFile(path: string): Promise<string> {
  // O_NOFOLLOW and fstat on the open descriptor: what is checked is what is read. O_NONBLOCK: a FIFO must not hang us.
  const handle = await open(path, constants.O_RDONLY | constants.O_NOFOLLOW | constants.O_NONBLOCK).catch(
    (error: unknown): never => {
      if (codeOf(error) === 'ENOENT') throw new KeyMaterialError('key_file_missing', `${path} does not exist`)
      if (codeOf(error) === 'ELOOP') throw unsafe(path, 'is a symbolic link: put the file itself there')
      throw unsafe(path, `cannot be read (${codeOf(error) ?? 'unknown error'}): run as the user that owns it`)
    },
  )
  try {
    const stats = await handle.stat()
    const { mode, uid, size } = stats
    if (!stats.isFile()) throw unsafe(path, 'is not a regular file: remove it and put the key file there')
    const self = process.getuid?.()
    if (self !== undefined && uid !== self)
      throw unsafe(path, `belongs to user ${uid}, but this process runs as ${self}: chown it or run as its owner`)
    const bits = mode & 0o7777
    if (process.platform !== 'win32' && bits !== 0o600 && bits !== 0o400)
      throw unsafe(
        path,
        `has mode ${bits.toString(8).padStart(4, '0')}: run \`chmod 600 ${path}\`, and replace the key if others could read it`,
      )
    if (size > MAX_BYTES) throw unsafe(path, `has ${size} bytes, more than any key: put the right file there`)
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

const UNFINISHED = '.unfinished-'

const unlinkIfThere = (path: string): Promise<void> =>
  unlink(path).catch((error: unknown) => {
    if (codeOf(error) !== 'ENOENT') throw error
  })

/**
 * Takes away second names that a crash left of finished files: one of a root key would keep it in the clear where its
 * first name is wrapped since. What has one name may be somebody's who is at work.
 */
export async function removeSecondNames(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(UNFINISHED)) continue
    const path = join(folder, name)
    const stats = await lstat(path).catch(() => undefined)
    if (stats?.isFile() && stats.nlink > 1) await unlinkIfThere(path)
  }
}

/**
 * Makes a file that was not there, whole and on disk, or answers false where there is one already: nothing is ever
 * overwritten, and a crash leaves no half of a key (a name appears only by linking the finished file).
 */
export async function createFile(path: string, text: string, mode: 0o600 | 0o644 = 0o600): Promise<boolean> {
  const unfinished = join(dirname(path), `${UNFINISHED}${randomBytes(8).toString('hex')}`)
  const handle = await open(
    unfinished,
    constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL | constants.O_NOFOLLOW,
    mode,
  )
  try {
    await handle.writeFile(text)
    await handle.chmod(mode) // the umask may have taken bits away
    await handle.sync()
  } finally {
    await handle.close()
  }
  try {
    await link(unfinished, path)
  } catch (error) {
    if (codeOf(error) === 'EEXIST') return false
    throw error
  } finally {
    await unlinkIfThere(unfinished)
  }
  await syncFolder(dirname(path))
  return true
}

async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, constants.O_RDONLY)
  try {
    await handle.sync()
  } finally {
    await handle.close()
  }
}

/** Makes a folder that only its owner can enter; one that is there already (a clone's umask made it) is closed to others. */
export async function privateFolder(path: string): Promise<void> {
  await mkdir(path, { recursive: true, mode: 0o700 })
  const { mode, uid } = await stat(path)
  const self = process.getuid?.()
  if (self !== undefined && uid !== self)
    throw unsafe(path, `belongs to user ${uid}, but this process runs as ${self}: chown it or run as its owner`)
  if (process.platform !== 'win32' && (mode & 0o077) !== 0) await chmod(path, 0o700)
}
