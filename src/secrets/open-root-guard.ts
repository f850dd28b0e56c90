/** Opens what the configuration names as the guard of the root key. */
import { createReadStream } from 'node:fs'
import type { RootSource } from '../config/root-source.ts'
import { KeyMaterialError, readSecretFile } from '../keys/key-file.ts'
import { createPassphraseGuard } from '../keys/passphrase.ts'
import type { RootGuard } from '../keys/root-key.ts'

export interface RootGuardDeps {
  /** Asks at the terminal; absent where nobody sits there. */
  readonly prompt?: (() => Promise<string>) | undefined
}

export function openRootGuard(source: RootSource | undefined, deps: RootGuardDeps): RootGuard | undefined {
  const { passphrase } = source ?? {}
  if (passphrase) return createPassphraseGuard(() => passphraseFrom(passphrase, deps))
  return undefined
}

async function passphraseFrom(
  { file, fd }: NonNullable<RootSource['passphrase']>,
  { prompt }: RootGuardDeps,
): Promise<string> {
  if (file !== undefined) return readSecretFile(file)
  if (fd !== undefined) return readDescriptor(fd)
  if (!prompt)
    throw new KeyMaterialError('root_key_unavailable', 'there is no terminal to ask for the passphrase of the root key')
  return prompt()
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
