/** The root key wrapped by a key in the transit engine of Vault or OpenBao: asked for once, at start. */
import type { Fetch } from '@errand/verifier/http.ts'
import { KeyMaterialError } from '../../keys/key-file.ts'
import type { RootGuard } from '../../keys/root-key.ts'
import { logIn, segments, type VaultLogin } from './vault-login.ts'
import { createVaultPort, VaultFailure, type VaultPath, type VaultPort } from './vault-port.ts'

export interface TransitGuardDeps {
  readonly address: string
  readonly namespace?: string | undefined
  /** Where the engine is mounted. */
  readonly mount: string
  readonly key: string
  readonly login: () => Promise<VaultLogin>
  readonly fetch: Fetch
  readonly timeoutMs: number
}

const CIPHERTEXT = /^vault:v[0-9]{1,9}:[A-Za-z0-9+/]{16,512}={0,2}$/

export function createTransitGuard(deps: TransitGuardDeps): RootGuard {
  const { address, namespace, fetch, timeoutMs } = deps
  const open = (token?: string) =>
    createVaultPort({ address, namespace, fetch, timeoutMs, ...(token === undefined ? {} : { token }) })

  /** With a token of its own where there is a login for one, which ends with the question. */
  async function asking<T>(ask: (vault: VaultPort) => Promise<T>): Promise<T> {
    const login = await deps.login()
    try {
      if ('token' in login) return await ask(await open(login.token))
      const { token } = await logIn(await open(), login)
      const vault = await open(token)
      try {
        return await ask(vault)
      } finally {
        // It would end by itself: what keeps it from ending now is no reason not to start.
        await vault.write(['auth', 'token', 'revoke-self'], {}).catch(() => undefined)
      }
    } catch (error) {
      throw error instanceof VaultFailure ? refusal(error, deps) : error
    }
  }

  const path = (verb: string): VaultPath => [...segments(deps.mount), verb, deps.key]
  const member = (answer: Readonly<Record<string, unknown>>, name: string): string => {
    const value = (answer['data'] as Readonly<Record<string, unknown>> | undefined)?.[name]
    if (typeof value !== 'string') throw new VaultFailure(`Vault answered without ${name}`)
    return value
  }
  return {
    kind: 'vault_transit',
    wrap: (key) =>
      asking(async (vault) => {
        const plaintext = Buffer.from(key).toString('base64')
        const wrapped = member(await vault.write(path('encrypt'), { plaintext }), 'ciphertext')
        if (!CIPHERTEXT.test(wrapped)) throw new VaultFailure('Vault answered no ciphertext of its transit engine')
        return wrapped
      }),
    async unwrap(wrapped) {
      if (!CIPHERTEXT.test(wrapped))
        throw new KeyMaterialError('key_file_unsafe', 'the wrapped root key is cut short: restore it from your backup')
      return asking(async (vault) =>
        Buffer.from(member(await vault.write(path('decrypt'), { ciphertext: wrapped }), 'plaintext'), 'base64'),
      )
    },
  }
}

function refusal({ status, message }: VaultFailure, { address, mount, key }: TransitGuardDeps): KeyMaterialError {
  const { host } = new URL(address)
  if (status === 400)
    return new KeyMaterialError(
      'key_file_unsafe',
      `Vault at ${host} does not open the root key with ${mount}/${key}: it was wrapped by another key, or root.key was changed`,
    )
  const why =
    status === 403
      ? `Vault answered 403: may this login update ${mount}/encrypt/${key} and ${mount}/decrypt/${key}?`
      : status === 404
        ? `Vault answered 404: is the transit engine mounted at ${mount}, with a key ${key}?`
        : status === 503
          ? 'Vault answered 503: it is sealed'
          : message
  return new KeyMaterialError('root_key_unavailable', `the root key is wrapped by Vault at ${host}. ${why}`)
}
