/** The keys of an issuer: a file in the keys folder, or fetched from where its file says. */
import type { JWK } from '../attest/registration.ts'
import { Unavailable } from '../oauth/refusal.ts'
import { urlProblem } from './addresses.ts'
import type { RemoteKeys } from './fetch-jwks.ts'
import type { KeyAlgorithm } from './jwks.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'

export interface KeysContext {
  readonly keyFiles: KeyFiles
  readonly remoteKeys: RemoteKeys
  readonly development: boolean
  readonly report: Reporter
}

export async function readIssuerKeys(
  source: {
    readonly name: string
    readonly jwks_file?: string | undefined
    readonly jwks_uri?: string | undefined
    readonly algorithms: readonly KeyAlgorithm[]
  },
  { keyFiles, remoteKeys, development, report }: KeysContext,
): Promise<(kid: string) => Promise<JWK | undefined>> {
  const { jwks_file: file, jwks_uri: uri, algorithms } = source
  if ((file === undefined) === (uri === undefined)) {
    report(
      ['kind'],
      file === undefined ? 'missing_key' : 'bad_value',
      'exactly one of jwks_file and jwks_uri names the keys',
    )
  } else if (file !== undefined) {
    const read = await keyFiles.jwks(file, algorithms)
    if (read.ok) {
      const byKid = new Map(read.value.map((key) => [key.kid, key]))
      return async (kid) => byKid.get(kid)
    }
    report(['jwks_file'], read.code, read.message, read.suggestion)
  } else {
    const fault = urlProblem(uri!, { development })
    if (fault === undefined) return remoteKeys.of(uri!, algorithms)
    report(['jwks_uri'], 'url_forbidden', `jwks_uri ${uri} ${fault}`)
  }
  return async () => {
    throw new Unavailable('jwks_rejected', `issuer ${source.name} has no keys`)
  }
}
