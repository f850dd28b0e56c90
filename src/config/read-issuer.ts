/** issuers/*.yaml → TrustedIssuer of users, or TrustDomain of workloads. */
import type { Grant } from '@errand/verifier/claims.ts'
import { normalGrants } from '@errand/verifier/grants.ts'
import type { JWK } from '../attest/registration.ts'
import { readBundle } from '../attest/bundle.ts'
import type { TrustDomain } from '../attest/trust-domain.ts'
import { Unavailable } from '../oauth/refusal.ts'
import type { Tool } from '../policy/tool.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { urlProblem } from './addresses.ts'
import type { RemoteKeys } from './fetch-jwks.ts'
import type { Declared } from './declared-arguments.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import { readRights } from './rights.ts'
import type { UserIssuerFile, WorkloadIssuerFile } from './schemas.ts'

interface Context {
  readonly keyFiles: KeyFiles
  readonly remoteKeys: RemoteKeys
  readonly development: boolean
  readonly tools: ReadonlyMap<string, Tool>
  readonly declared: Declared
  readonly report: Reporter
}

export async function readUserIssuer(source: UserIssuerFile, context: Context): Promise<TrustedIssuer> {
  const { keyFiles, remoteKeys, development, tools, declared, report } = context
  const issuerFault = urlProblem(source.issuer, { development })
  if (issuerFault !== undefined) report(['issuer'], 'url_forbidden', `the issuer ${source.issuer} ${issuerFault}`)
  if (source.development && !development)
    report(['development'], 'dev_material', 'a development issuer is refused in production mode', 'remove the file')
  if (source.development_users !== undefined && !source.development)
    report(['development_users'], 'dev_material', 'development_users need development: true')

  let keys = async (_kid: string): Promise<JWK | undefined> => {
    throw new Unavailable('jwks_rejected', `issuer ${source.name} has no keys`)
  }
  if ((source.jwks_file === undefined) === (source.jwks_uri === undefined)) {
    report(
      ['kind'],
      source.jwks_file === undefined ? 'missing_key' : 'bad_value',
      'exactly one of jwks_file and jwks_uri names the keys',
    )
  } else if (source.jwks_file !== undefined) {
    const read = await keyFiles.jwks(source.jwks_file, source.algorithms)
    if (read.ok) {
      const byKid = new Map(read.value.map((key) => [key.kid, key]))
      keys = async (kid) => byKid.get(kid)
    } else {
      report(['jwks_file'], read.code, read.message, read.suggestion)
    }
  } else {
    const fault = urlProblem(source.jwks_uri!, { development })
    if (fault === undefined) keys = remoteKeys.of(source.jwks_uri!, source.algorithms)
    else report(['jwks_uri'], 'url_forbidden', `jwks_uri ${source.jwks_uri} ${fault}`)
  }

  const byGroup = new Map<string, readonly Grant[]>()
  for (const [group, entries] of Object.entries(source.rights)) {
    byGroup.set(group, readRights(entries, ['rights', group], { tools, declared, report }))
  }
  for (const [user, { groups }] of Object.entries(source.development_users ?? {})) {
    for (const [index, group] of groups.entries()) {
      if (group === '*')
        report(
          ['development_users', user, 'groups', index],
          'bad_identifier',
          '"*" stands for every user and is no group',
        )
    }
  }

  return {
    name: source.name,
    issuer: source.issuer,
    keys: (kid) => keys(kid),
    algorithms: source.algorithms,
    audiences: source.audiences,
    tokenTypes: source.token_types,
    groupsClaim: source.groups_claim,
    claims: Object.keys(source.claims),
    mayDelegate: source.may_delegate,
    disabledSubjects: new Set(source.disabled_subjects),
    maxTokenLifetimeSeconds: source.max_token_lifetime_seconds,
    development: source.development,
    rights({ groups }) {
      // `*` is ours: a token that says it is in a group of that name gains nothing by it.
      const named = groups.filter((group) => group !== '*')
      return normalGrants(['*', ...named].flatMap((group) => byGroup.get(group) ?? []))
    },
  }
}

export async function readTrustDomain(
  source: WorkloadIssuerFile,
  file: string,
  { keyFiles, report }: Pick<Context, 'keyFiles' | 'report'>,
): Promise<TrustDomain> {
  const { trust_domain: name, bundle_file, path_root: pathRoot } = source
  const root = pathRoot === undefined ? {} : { pathRoot }
  const text = await keyFiles.text(bundle_file)
  if (!text.ok && !(text.code === 'file_missing' && keyFiles.allowMissing))
    report(['bundle_file'], text.code, text.message, text.suggestion)
  if (text.ok) {
    const read = readBundle(text.value, { name, file, ...root })
    if (read.ok) return read.value
    report(['bundle_file'], 'bad_key', `${bundle_file}: ${read.problem}`)
  }
  return { name, jwtKeys: [], x509Anchors: [], ...root, file }
}
