/** The first start of an agent with nothing else: a join token registers a key that is made here and never leaves. */
import { constants } from 'node:fs'
import { lstat, open, rename, unlink } from 'node:fs/promises'
import { createDpop } from './dpop.ts'
import { badArgument, ErrandError } from './errors.ts'
import { type Evidence, type Provided, privateKeyJwt, provided } from './evidence.ts'
import { freshKey, readPrivateKey, signingKey } from './jws.ts'
import { opaque } from './opaque.ts'
import { createService, isIssuer } from './service.ts'

export interface JoinOptions {
  /** The service's issuer identifier, exactly. https, or http on this machine. */
  readonly issuer: string
  readonly clientId: string
  /** Where the key is kept, mode 0600. Where the file is there already, nothing is asked for and no token is needed. */
  readonly keyFile: string
  /** What `errand agent join-token` printed; asked for only where there is no key yet. */
  readonly token: Provided<string>
  readonly timeoutSeconds?: number
  readonly fetch?: typeof fetch
  readonly now?: () => number
  readonly wait?: (milliseconds: number) => Promise<void>
}

/**
 * The evidence of an agent that joins by a token at its first start, and by the key it then has at every later one.
 * Stopped anywhere it can be started again with the same token: the same key asks, and gets the same answer.
 *
 * @example
 * ```ts
 * import { readFile } from 'node:fs/promises'
 * import { createAgent, joinByToken } from '@errand/agent'
 *
 * const issuer = 'http://127.0.0.1:4460'
 * const agent = createAgent({
 *   issuer,
 *   evidence: await joinByToken({
 *     issuer,
 *     clientId: 'research',
 *     keyFile: '/var/lib/research/key.jwk',
 *     token: () => readFile('/run/secrets/join-token', 'utf8'),
 *   }),
 * })
 * ```
 */
export async function joinByToken(options: JoinOptions): Promise<Evidence> {
  const { issuer, clientId, keyFile } = options
  if (!isIssuer(issuer)) throw badArgument('issuer must be an https URL (http only on 127.0.0.1, ::1 or localhost)')
  const kept = await readKeyFile(keyFile)
  if (kept !== undefined) return privateKeyJwt({ clientId, key: kept })

  // On disk before it is registered: a key that is registered and lost could never be told from a stolen one.
  const unfinished = `${keyFile}.joining`
  const text = (await readKeyFile(unfinished)) ?? (await makeKeyFile(unfinished))
  const token = (await provided(options.token)).trim()
  try {
    await register(options, text, token)
  } catch (error) {
    // Refused for good: the next token brings the next key.
    if (error instanceof ErrandError && error.status === 403) await unlink(unfinished)
    throw error
  }
  await rename(unfinished, keyFile)
  return privateKeyJwt({ clientId, key: text })
}

async function register(options: JoinOptions, keyText: string, token: string): Promise<void> {
  const { issuer, clientId } = options
  const now = options.now ?? (() => Date.now() / 1000)
  const service = createService({
    issuer,
    // The token is all there is: it goes into the body, and the proof shows the key.
    evidence: opaque('Evidence', () => ({ kind: 'join_token', clientId }), {
      kind: 'join_token' as const,
      present: async () => ({}),
    }),
    dpop: createDpop({ now, key: readPrivateKey(keyText) }),
    fetch: options.fetch ?? globalThis.fetch,
    now,
    wait: options.wait ?? ((milliseconds) => new Promise<void>((done) => setTimeout(done, milliseconds))),
    timeoutSeconds: options.timeoutSeconds ?? 10,
  })
  await service.api('POST', `/agents/${encodeURIComponent(clientId)}/keys`, { join_token: token })
}

const codeOf = (error: unknown): unknown => (error as { readonly code?: unknown } | undefined)?.code

/** Undefined where there is none. A key that others could read, or that a link leads to, is no secret of ours. */
async function readKeyFile(path: string): Promise<string | undefined> {
  const stats = await lstat(path).catch((error: unknown) => {
    if (codeOf(error) === 'ENOENT') return undefined
    throw error
  })
  if (stats === undefined) return undefined
  const readable = process.platform !== 'win32' && (stats.mode & 0o077) !== 0
  if (!stats.isFile() || readable) throw badArgument(`${path} must be a regular file of mode 0600`)
  const handle = await open(path, constants.O_RDONLY | (constants.O_NOFOLLOW ?? 0))
  try {
    return await handle.readFile('utf8')
  } finally {
    await handle.close()
  }
}

async function makeKeyFile(path: string): Promise<string> {
  const privateKey = freshKey()
  // The service calls a key by its RFC 7638 thumbprint.
  const kid = signingKey(privateKey).thumbprint
  const text = `${JSON.stringify({ ...privateKey.export({ format: 'jwk' }), kid, alg: 'ES256', use: 'sig' })}\n`
  const handle = await open(path, 'wx', 0o600)
  try {
    await handle.writeFile(text)
    await handle.sync()
  } finally {
    await handle.close()
  }
  return text
}
