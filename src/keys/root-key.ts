/** The root key: 32 bytes in a file, under which everything secret at rest is sealed; in the clear, or under a guard. */
import { randomBytes } from 'node:crypto'
import { createFile, isMissing, KeyMaterialError, readSecretFile } from './key-file.ts'

const BYTES = 32
const FORM = /^[A-Za-z0-9_-]{43}$/
const GUARDED = /^errand-root:([a-z0-9_]{1,32}):([!-~]{1,8192})$/

/** What the root key is wrapped by at rest: a passphrase, a key in Vault, a key in a token. Asked once, at start. */
export interface RootGuard {
  /** Stands in the file, so that one guard's file is not taken for another's. */
  readonly kind: string
  /** One line of printable ASCII. */
  wrap(key: Uint8Array): Promise<string>
  /** Throws `KeyMaterialError`: `key_file_unsafe` where it does not open, `root_key_unavailable` where nobody answers. */
  unwrap(wrapped: string): Promise<Uint8Array>
}

export async function loadRootKey(path: string, guard?: RootGuard): Promise<Uint8Array> {
  const text = (await readSecretFile(path)).trimEnd()
  const guarded = GUARDED.exec(text)
  if (guarded || guard) return guardedRootKey(path, guarded, guard)
  const bytes = FORM.test(text) ? Buffer.from(text, 'base64url') : undefined
  if (bytes?.length !== BYTES || bytes.toString('base64url') !== text)
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${path} is truncated or is no root key (32 bytes in base64url): restore it from your backup; ` +
        'delete it only together with the data folder, which cannot be opened without it',
    )
  return bytes
}

async function guardedRootKey(
  path: string,
  guarded: RegExpExecArray | null,
  guard: RootGuard | undefined,
): Promise<Uint8Array> {
  const [, kind, wrapped] = guarded ?? []
  if (kind !== guard?.kind || wrapped === undefined || guard === undefined)
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${path} holds ${kind === undefined ? 'no wrapped root key' : `a root key wrapped by ${kind}`}, and keys.root of ` +
        `errand.yaml names ${guard?.kind ?? 'nothing'}: correct it, or wrap the key anew with errand keys rewrap`,
    )
  const key = await guard.unwrap(wrapped)
  if (key.length !== BYTES)
    throw new KeyMaterialError('key_file_unsafe', `what ${path} opens to is no root key: restore it from your backup`)
  return key
}

const textOf = async (key: Uint8Array, guard: RootGuard | undefined): Promise<string> =>
  guard ? `errand-root:${guard.kind}:${await guard.wrap(key)}\n` : `${Buffer.from(key).toString('base64url')}\n`

/** Loads the root key, or makes one where there is none. Of two processes that start at once, both get the same. */
export async function openRootKey(
  path: string,
  guard?: RootGuard,
): Promise<{ readonly key: Uint8Array; readonly made: boolean }> {
  try {
    return { key: await loadRootKey(path, guard), made: false }
  } catch (error) {
    if (!isMissing(error)) throw error
  }
  const made = await createFile(path, await textOf(randomBytes(BYTES), guard))
  return { key: await loadRootKey(path, guard), made }
}

/** The same key under another guard, in a file of its own: `path` stays as it is until somebody puts that in its place. */
export async function rewrapRootKey(
  path: string,
  { from, to, into }: { readonly from?: RootGuard; readonly to?: RootGuard; readonly into: string },
): Promise<boolean> {
  const key = await loadRootKey(path, from)
  const text = await textOf(key, to)
  const made = await createFile(into, text)
  // Read back: a file that does not open must be known of while the old one is still there.
  if (made && !Buffer.from(await loadRootKey(into, to)).equals(Buffer.from(key)))
    throw new KeyMaterialError('key_file_unsafe', `${into} does not open to the same key: remove it`)
  return made
}
