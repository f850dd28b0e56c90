/**
 * The root key wrapped by an RSA key that never leaves a PKCS#11 token, reached by OpenSC's `pkcs11-tool`: every binding
 * to Node compiles itself when it is installed, and nothing of ours runs install scripts.
 */
import { execFile } from 'node:child_process'
import { constants, createPublicKey, publicEncrypt } from 'node:crypto'
import { KeyMaterialError } from '../../keys/key-file.ts'
import type { RootGuard } from '../../keys/root-key.ts'

export interface TokenGuardDeps {
  /** The program, by its whole path. */
  readonly tool: string
  /** The token's library, by its whole path. */
  readonly module: string
  /** Label of the token. */
  readonly token: string
  /** Id of the key pair in it, hexadecimal: by a label the program finds public keys only. */
  readonly key_id: string
  readonly pin: () => Promise<string>
  /** What the library reads of its environment; it gets nothing else of ours. */
  readonly environment: Readonly<Record<string, string>>
  readonly timeoutMs: number
}

const FORM = /^[A-Za-z0-9_-]{342,1366}$/
const MAX_OUTPUT_BYTES = 65_536
// With SHA-1, which OAEP does not need to resist collisions: SoftHSM knows no other.
const OAEP = ['--mechanism', 'RSA-PKCS-OAEP', '--hash-algorithm', 'SHA-1']

export function createTokenGuard(deps: TokenGuardDeps): RootGuard {
  const { module, token, key_id } = deps
  const run = (args: readonly string[], input?: Uint8Array, pin?: string) =>
    runTool(deps, ['--module', module, '--token-label', token, '--id', key_id, ...args], { input, pin })

  return {
    kind: 'pkcs11',
    async wrap(bytes) {
      const der = await run(['--read-object', '--type', 'pubkey'])
      const publicKey = await readPublicKey(der, deps)
      const padding = constants.RSA_PKCS1_OAEP_PADDING
      return publicEncrypt({ key: publicKey, padding, oaepHash: 'sha1' }, bytes).toString('base64url')
    },
    async unwrap(wrapped) {
      if (!FORM.test(wrapped))
        throw new KeyMaterialError('key_file_unsafe', 'the wrapped root key is cut short: restore it from your backup')
      const pin = (await deps.pin()).trim()
      // The PIN in the environment of that process alone: its arguments can be read by everybody.
      return run(['--login', '--pin', 'env:ERRAND_PIN', '--decrypt', ...OAEP], Buffer.from(wrapped, 'base64url'), pin)
    },
  }
}

async function readPublicKey(der: Buffer, { token, key_id }: TokenGuardDeps) {
  try {
    const publicKey = createPublicKey({ key: der, format: 'der', type: 'spki' })
    if (publicKey.asymmetricKeyType === 'rsa') return publicKey
  } catch {
    // The same answer as for a key of another kind.
  }
  throw new KeyMaterialError('root_key_unavailable', `the token ${token} has no RSA key pair with the id ${key_id}`)
}

function runTool(
  { tool, token, key_id, environment, timeoutMs }: TokenGuardDeps,
  args: readonly string[],
  { input, pin }: { readonly input: Uint8Array | undefined; readonly pin: string | undefined },
): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const env = { ...environment, ...(pin === undefined ? {} : { ERRAND_PIN: pin }) }
    const options = { env, timeout: timeoutMs, maxBuffer: MAX_OUTPUT_BYTES, encoding: 'buffer' } as const
    const child = execFile(tool, args, options, (error, stdout, stderr) => {
      if (!error && stdout.length > 0) return resolve(stdout)
      reject(refusal(error, stderr.toString('latin1'), { tool, token, key_id }))
    })
    // One that never started, or is through before it has read, says so itself.
    child.stdin?.on('error', () => undefined)
    child.stdin?.end(input)
  })
}

/** Nothing of its output but the constants of the standard: the rest may hold what it was given. */
function refusal(
  error: (Error & { readonly code?: unknown; readonly killed?: boolean }) | null,
  stderr: string,
  { tool, token, key_id }: Pick<TokenGuardDeps, 'tool' | 'token' | 'key_id'>,
): KeyMaterialError {
  const [code] = /CKR_[A-Z_]{1,60}/.exec(stderr) ?? []
  // Of a text that does not open some tokens say only that they cannot take it in parts, which is tried next.
  if (/\bC_Decrypt(?:Update|Final)? failed/.test(stderr))
    return new KeyMaterialError(
      'key_file_unsafe',
      `the key ${key_id} of the token ${token} does not open the root key (${code}): it was wrapped by another key, or root.key was changed`,
    )
  const why =
    error?.code === 'ENOENT'
      ? `${tool} is not there: install OpenSC, or name it in keys.root.pkcs11.tool`
      : error?.killed
        ? 'it did not answer in time'
        : code === 'CKR_PIN_INCORRECT' || code === 'CKR_PIN_LOCKED'
          ? `the PIN is refused (${code}): each try counts, so correct it before the next start`
          : (code ?? `${tool} found no such token or key, or the module does not load`)
  return new KeyMaterialError('root_key_unavailable', `the root key is wrapped by the token ${token}: ${why}`)
}
