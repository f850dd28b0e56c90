/** Reads key material that the configuration names by path inside the keys folder. */
import { join } from 'node:path'
import type { JWK } from '../attest/registration.ts'
import { readCertificates } from '../attest/x509/pem.ts'
import type { ProblemCode } from '../policy/problem.ts'
import { type KeyAlgorithm, readPublicKeys } from './jwks.ts'

export type ReadFile = (path: string) => Promise<string>

type Outcome<T> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly code: ProblemCode; readonly message: string; readonly suggestion?: string }

export interface KeyFiles {
  /** Public keys of an agent, a tool or an administrator. */
  ownKeys(spec: {
    readonly keys_file?: string | undefined
    readonly keys?: readonly unknown[] | undefined
  }): Promise<Outcome<readonly JWK[]>>
  /** A JWKS of a user issuer. */
  jwks(file: string, algorithms: readonly KeyAlgorithm[]): Promise<Outcome<readonly JWK[]>>
  /** Certificates (PEM, or a JWKS with x5c): DER, at least one, each found good by `problem`. */
  certificates(file: string, problem: (der: Uint8Array) => string | undefined): Promise<Outcome<readonly Uint8Array[]>>
  /** A file that somebody else reads: a SPIFFE bundle. */
  text(file: string): Promise<Outcome<string>>
  /** Everything that was read so far, for the digest of the configuration. */
  readonly texts: ReadonlyMap<string, string>
  /** Whether a file that does not exist is no problem: before the first start has made the material. */
  readonly allowMissing: boolean
}

const MAX_BYTES = 262_144

export function createKeyFiles({
  keysDir,
  readFile,
  allowMissing,
}: {
  readonly keysDir: string
  readonly readFile: ReadFile
  readonly allowMissing: boolean
}): KeyFiles {
  const texts = new Map<string, string>()

  async function textOf(file: string): Promise<Outcome<string>> {
    let text: string
    try {
      text = await readFile(join(keysDir, file))
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error
      return {
        ok: false,
        code: 'file_missing',
        message: `${join(keysDir, file)} does not exist`,
        suggestion: 'in development mode `npm start` makes the keys of the sample; elsewhere put the public key there',
      }
    }
    if (Buffer.byteLength(text) > MAX_BYTES)
      return { ok: false, code: 'too_large', message: `${file} is above ${MAX_BYTES} bytes` }
    texts.set(file, text)
    return { ok: true, value: text }
  }

  async function jwks(file: string, algorithms: readonly KeyAlgorithm[]): Promise<Outcome<readonly JWK[]>> {
    const text = await textOf(file)
    if (!text.ok) return text.code === 'file_missing' && allowMissing ? { ok: true, value: [] } : text
    let value: unknown
    try {
      value = JSON.parse(text.value)
    } catch {
      return { ok: false, code: 'bad_key', message: `${file} is not JSON` }
    }
    const keys = readPublicKeys(value, algorithms)
    return keys.ok ? { ok: true, value: keys.keys } : { ok: false, code: 'bad_key', message: `${file}: ${keys.why}` }
  }

  async function certificates(
    file: string,
    problem: (der: Uint8Array) => string | undefined,
  ): Promise<Outcome<readonly Uint8Array[]>> {
    const text = await textOf(file)
    if (!text.ok) return text.code === 'file_missing' && allowMissing ? { ok: true, value: [] } : text
    const pem = readCertificates(text.value)
    const fault = pem.ok ? pem.certificates.map(problem).find((each) => each !== undefined) : pem.problem
    if (!pem.ok || fault !== undefined) return { ok: false, code: 'bad_key', message: `${file}: ${fault}` }
    return { ok: true, value: pem.certificates }
  }

  return {
    texts,
    allowMissing,
    text: textOf,
    jwks,
    certificates,
    async ownKeys({ keys_file, keys }) {
      if (keys_file !== undefined && keys !== undefined) {
        return { ok: false, code: 'bad_value', message: 'keys and keys_file exclude one another' }
      }
      if (keys_file !== undefined) return jwks(keys_file, ['ES256', 'EdDSA'])
      if (keys === undefined) return { ok: true, value: [] }
      const read = readPublicKeys(keys, ['ES256', 'EdDSA'])
      return read.ok ? { ok: true, value: read.keys } : { ok: false, code: 'bad_key', message: read.why }
    },
  }
}
