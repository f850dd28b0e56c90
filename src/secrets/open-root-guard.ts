/** Opens what the configuration names as the guard of the root key. */
import { createReadStream } from 'node:fs'
import type { Fetch } from '@errand/verifier/http.ts'
import type { RootSource } from '../config/root-source.ts'
import { KeyMaterialError, readSecretFile } from '../keys/key-file.ts'
import { type AskPassphrase, createPassphraseGuard } from '../keys/passphrase.ts'
import type { RootGuard } from '../keys/root-key.ts'
import { createTokenGuard } from './pkcs11/token-guard.ts'
import { createTransitGuard } from './vault/transit-guard.ts'
import { loginFrom } from './vault/vault-login.ts'

export interface RootGuardDeps {
  readonly fetch: Fetch
  /** Asks at the terminal; absent where nobody sits there. */
  readonly prompt?: AskPassphrase | undefined
}

export function openRootGuard(source: RootSource | undefined, deps: RootGuardDeps): RootGuard | undefined {
  const { passphrase, vault_transit: vault, pkcs11 } = source ?? {}
  if (passphrase) return createPassphraseGuard((anew) => passphraseFrom(passphrase, deps, anew))
  if (vault) return transitGuard(vault, deps)
  if (pkcs11) {
    const { pin_file, timeout_seconds, ...token } = pkcs11
    return createTokenGuard({ ...token, pin: () => readSecretFile(pin_file), timeoutMs: timeout_seconds * 1000 })
  }
  return undefined
}

function transitGuard(source: NonNullable<RootSource['vault_transit']>, { fetch }: RootGuardDeps): RootGuard {
  const { address, namespace, mount, key, timeout_seconds } = source
  return createTransitGuard({
    address,
    namespace,
    mount,
    key,
    fetch,
    timeoutMs: timeout_seconds * 1000,
    login: loginFrom(source),
  })
}

async function passphraseFrom(
  { file, fd }: NonNullable<RootSource['passphrase']>,
  { prompt }: RootGuardDeps,
  anew: boolean,
): Promise<string> {
  if (file !== undefined) return readSecretFile(file)
  if (fd !== undefined) return readDescriptor(fd)
  if (!prompt)
    throw new KeyMaterialError('root_key_unavailable', 'there is no terminal to ask for the passphrase of the root key')
  return prompt(anew)
}

const MAX_BYTES = 4096

async function readDescriptor(fd: number): Promise<string> {
  const parts: Buffer[] = []
  let length = 0
  try {
    for await (const part of createReadStream('', { fd }) as AsyncIterable<Buffer>) {
      length += part.length
      if (length > MAX_BYTES) throw new Error('too long')
      parts.push(part)
    }
  } catch (error) {
    const why = (error as NodeJS.ErrnoException).code ?? (error as Error).message
    throw new KeyMaterialError('root_key_unavailable', `file descriptor ${fd} gives no passphrase (${why})`)
  }
  return Buffer.concat(parts).toString('utf8')
}
