/** The key files of a first start: makes what is missing, overwrites nothing, and keeps development keys out of production. */
import { access, readdir, readFile } from 'node:fs/promises'
import { dirname, join, relative, sep } from 'node:path'
import type { JWK } from 'jose'
import { createFile, isMissing, KeyMaterialError, privateFolder, removeSecondNames } from './key-file.ts'
import {
  DEVELOPMENT_KID,
  generatePrivateJwk,
  isDevelopmentKid,
  type PrivateJwk,
  readPrivateJwkFile,
} from './private-jwk.ts'
import { openRootKey, type RootGuard } from './root-key.ts'
import { someAtOnce } from './some-at-once.ts'

export interface MaterialRequest {
  readonly keysDir: string
  readonly mode: 'development' | 'production'
  /** False where data are sealed under a root key already: another one would not open them. Default true. */
  readonly mayMakeRootKey?: boolean
  /** What the root key is wrapped by; without it, it lies in its file as it is. */
  readonly rootGuard?: RootGuard
  /** client_ids and tool names that get a key pair in development mode. */
  readonly agents: readonly string[]
  readonly tools: readonly string[]
  /** Whether development mode makes a user issuer (`users/dev-issuer.jwk`). */
  readonly userIssuer: boolean
}

export interface Material {
  readonly rootKey: Uint8Array
  /** The administrator's public key, registered by being there. */
  readonly adminKey: JWK
  /** Files that this call made, relative to the keys folder. */
  readonly made: readonly string[]
}

/** A file name is made of it: no separators, no leading dot. */
const NAME = /^[a-z][a-z0-9_.-]{0,63}$/

export async function prepareMaterial(request: MaterialRequest): Promise<Material> {
  const { keysDir, mode } = request
  if (mode === 'production') await refuseDevelopmentFiles(keysDir)
  const made: string[] = []
  const rootPath = join(keysDir, 'root.key')
  if (request.mayMakeRootKey === false && !(await exists(rootPath)))
    throw new KeyMaterialError(
      'key_file_missing',
      `${rootPath} does not exist, and the data folder is sealed under it: restore it from your backup, ` +
        'or move the data folder away to begin anew',
    )
  await privateFolder(keysDir)
  await removeSecondNames(keysDir)

  const root = await openRootKey(rootPath, request.rootGuard)
  if (root.made) made.push('root.key')

  const ofDevelopment = mode === 'development' ? await developmentPairs(request) : []
  // Not a development key: production has an administrator too.
  const pairs = [{ name: 'admin', kidPrefix: 'admin-' }, ...ofDevelopment]
  // Each pair is on disk, its private half first, before it counts as made; none waits for another.
  const ensured = await someAtOnce(pairs, ({ name, kidPrefix }) => ensurePair(join(keysDir, name), kidPrefix))
  made.push(...ensured.flatMap(({ files }) => files.map((file) => relative(keysDir, file))))
  const adminKey = ensured[0]!.key?.publicJwk ?? (await readPublicJwk(join(keysDir, 'admin.pub.jwk')))

  const issuer = ensured[pairs.findIndex(({ name }) => name === DEVELOPMENT_ISSUER)]?.key
  const jwks = join(keysDir, `${DEVELOPMENT_ISSUER}.jwks.json`)
  if (issuer && !(await exists(jwks))) {
    const text = `${JSON.stringify({ keys: [issuer.publicJwk] }, null, 2)}\n`
    if (await createFile(jwks, text, 0o644)) made.push(relative(keysDir, jwks))
  }
  return { rootKey: root.key, adminKey, made }
}

const DEVELOPMENT_ISSUER = join('users', 'dev-issuer')

/** In folders that are made here. */
async function developmentPairs({ keysDir, agents, tools, userIssuer }: MaterialRequest) {
  const names: string[] = []
  for (const [folder, own] of [
    ['agents', agents],
    ['tools', tools],
  ] as const) {
    for (const name of own) {
      if (!NAME.test(name)) throw new Error(`${JSON.stringify(name)} cannot be the name of a key file`)
      names.push(join(folder, name))
    }
  }
  if (userIssuer) names.push(DEVELOPMENT_ISSUER)
  for (const folder of new Set(names.map(dirname))) await privateFolder(join(keysDir, folder))
  return names.map((name) => ({ name, kidPrefix: DEVELOPMENT_KID }))
}

const exists = (path: string): Promise<boolean> =>
  access(path).then(
    () => true,
    (error: NodeJS.ErrnoException) => error.code !== 'ENOENT' && error.code !== 'ENOTDIR',
  )

/**
 * `<base>.jwk` and `<base>.pub.jwk`. The private half is made first, so a crash between the two is mended at the next
 * start. Only a public half is somebody's who keeps the private one elsewhere: left as it is.
 */
async function ensurePair(
  base: string,
  kidPrefix: string,
): Promise<{ readonly key: PrivateJwk | undefined; readonly files: readonly string[] }> {
  const [privatePath, publicPath] = [`${base}.jwk`, `${base}.pub.jwk`]
  const files: string[] = []
  const registered = await readPublicJwk(publicPath).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  const present = await readPrivateJwkFile(privatePath).catch((error: unknown) => {
    if (isMissing(error)) return undefined
    throw error
  })
  if (registered && !present) return { key: undefined, files }
  if (!present) {
    const fresh = await generatePrivateJwk(kidPrefix)
    if (await createFile(privatePath, `${JSON.stringify(fresh.jwk, null, 2)}\n`)) files.push(privatePath)
  }
  // Read back: another process that starts at the same time may have been first.
  const key = present ?? (await readPrivateJwkFile(privatePath))
  if (registered && (registered.x !== key.publicJwk.x || registered.kid !== key.kid))
    throw new KeyMaterialError(
      'key_file_unsafe',
      `${publicPath} is not the public half of ${privatePath}: delete the public file to have it made again, ` +
        'or put the private key that belongs to it in place',
    )
  // Tried where one is there, it would cost every start a write and a sync for nothing.
  if (!registered && (await createFile(publicPath, `${JSON.stringify(key.publicJwk, null, 2)}\n`, 0o644)))
    files.push(publicPath)
  return { key, files }
}

async function readPublicJwk(path: string): Promise<JWK> {
  const text = await readFile(path, 'utf8').catch((error: NodeJS.ErrnoException): never => {
    if (error.code === 'ENOENT') throw new KeyMaterialError('key_file_missing', `${path} does not exist`)
    throw new KeyMaterialError('key_file_unsafe', `${path} cannot be read (${error.code ?? 'unknown error'})`)
  })
  try {
    const { kty, crv, x, y, kid, d } = JSON.parse(text) as JWK
    if (kty === 'EC' && crv === 'P-256' && x !== undefined && y !== undefined && kid !== undefined && d === undefined)
      return { kid, kty, crv, x, y, alg: 'ES256', use: 'sig' }
  } catch {
    // The same answer as for any other content.
  }
  throw new KeyMaterialError('key_file_unsafe', `${path} is not a public P-256 JWK with a kid: delete it or restore it`)
}

/** U5: what development mode made must not speak for anybody in production. `from` names where each key was found. */
export function refuseDevelopmentKeys(
  keys: Iterable<{ readonly kid?: string | undefined; readonly from: string }>,
): void {
  const found = [...new Set([...keys].filter(({ kid }) => isDevelopmentKid(kid)).map(({ from }) => from))]
  if (found.length > 0)
    throw new KeyMaterialError(
      'dev_material',
      `development keys in production mode: ${found.join(', ')}. Register keys of your own and remove these, ` +
        'or set mode: development in errand.yaml',
    )
}

async function refuseDevelopmentFiles(keysDir: string): Promise<void> {
  const entries = await readdir(keysDir, { recursive: true, withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return []
      throw error
    },
  )
  const found: { kid: string | undefined; from: string }[] = []
  for (const entry of entries) {
    if (!entry.isFile() || !/\.(jwk|json)$/.test(entry.name)) continue
    const path = join(entry.parentPath, entry.name)
    // Each tenant's keys are judged when it opens: one that may not does not keep the others from it.
    if (relative(keysDir, path).startsWith(`tenants${sep}`)) continue
    const text = await readFile(path, 'utf8').catch(() => '')
    // Whatever the shape of the file (one key, a set, a bundle), its kids are strings in it.
    for (const [, kid] of text.matchAll(/"kid"\s*:\s*"([^"]{1,200})"/g)) found.push({ kid, from: path })
  }
  refuseDevelopmentKeys(found)
}
