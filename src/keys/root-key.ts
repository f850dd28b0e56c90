/** The root key: 32 bytes in a file, under which everything secret at rest is sealed. */
import { randomBytes } from 'node:crypto'
import { createFile, isMissing, KeyMaterialError, readSecretFile } from './key-file.ts'

const BYTES = 32
const FORM = /^[A-Za-z0-9_-]{43}$/

export async function loadRootKey(path: string): Promise<Uint8Array> {
  const text = (await readSecretFile(path)).trimEnd()
  const bytes = FORM.test(text) ? Buffer.from(text, 'base64url') : undefined
  if (bytes?.length !== BYTES || bytes.toString('base64url') !== text)
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${path} is truncated or is no root key (32 bytes in base64url): restore it from your backup; ` +
        'delete it only together with the data folder, which cannot be opened without it',
    )
  return bytes
}

/** Loads the root key, or makes one where there is none. Of two processes that start at once, both get the same. */
export async function openRootKey(path: string): Promise<{ readonly key: Uint8Array; readonly made: boolean }> {
  try {
    return { key: await loadRootKey(path), made: false }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  const made = await createFile(path, `${randomBytes(BYTES).toString('base64url')}\n`)
  return { key: await loadRootKey(path), made }
}
