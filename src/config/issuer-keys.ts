/** The keys of an issuer: a file in the keys folder, or fetched from where its file says. */
import type { JWK } from '../attest/registration.ts'
import { authorityProblem } from '../attest/tls-client-auth.ts'
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
    readonly jwks_ca_file?: string | undefined
    readonly algorithms: readonly KeyAlgorithm[]
  },
  { keyFiles, remoteKeys, development, report }: KeysContext,
): Promise<(kid: string) => Promise<JWK | undefined>> {
  const { jwks_file: file, jwks_uri: uri, jwks_ca_file: caFile, algorithms } = source
  if (caFile !== undefined && uri === undefined)
    report(['jwks_ca_file'], 'bad_value', 'jwks_ca_file belongs to jwks_uri')
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
    if (fault !== undefined) report(['jwks_uri'], 'url_forbidden', `jwks_uri ${uri} ${fault}`)
    const pinned = caFile === undefined ? undefined : await keyFiles.certificates(caFile, authorityProblem)
    if (pinned && !pinned.ok) report(['jwks_ca_file'], pinned.code, pinned.message, pinned.suggestion)
    if (fault === undefined && pinned?.ok !== false) {
      return remoteKeys.of(uri!, algorithms, pinned === undefined ? {} : { authorities: pinned.value })
    }
  }
  return async () => {
    throw new Unavailable('jwks_rejected', `issuer ${source.name} has no keys`)
  }
}
