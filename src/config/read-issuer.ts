/** issuers/*.yaml → TrustedIssuer of users, or TrustDomain of workloads. */
import type { Grant } from '@errand/verifier/claims.ts'
import { normalGrants } from '@errand/verifier/grants.ts'
import { readBundle } from '../attest/bundle.ts'
import { createRemembered } from '../attest/remembered.ts'
import { isWorkloadId } from '../attest/spiffe-id.ts'
import { authorityProblem } from '../attest/tls-client-auth.ts'
import type { BundleEndpoint, TrustDomain } from '../attest/trust-domain.ts'
import type { Tool } from '../policy/tool.ts'
import type { TrustedIssuer } from '../tokens/trusted-issuer.ts'
import { isLoopbackHttp, urlProblem } from './addresses.ts'
import type { Declared } from './declared-arguments.ts'
import { type KeysContext, readIssuerKeys } from './issuer-keys.ts'
import { readRights } from './rights.ts'
import type { UserIssuerFile, WorkloadIssuerFile } from './issuer-file.ts'
import { readSignals } from './read-signals.ts'

interface Context extends KeysContext {
  readonly tools: ReadonlyMap<string, Tool>
  readonly declared: Declared
}

/** Users in the same groups may do the same. */
const MAX_SETS_OF_GROUPS = 1_000

export async function readUserIssuer(source: UserIssuerFile, context: Context): Promise<TrustedIssuer> {
  const { development, tools, declared, report } = context
  const issuerFault = urlProblem(source.issuer, { development })
  if (issuerFault !== undefined) report(['issuer'], 'url_forbidden', `the issuer ${source.issuer} ${issuerFault}`)
  if (source.development && !development)
    report(['development'], 'dev_material', 'a development issuer is refused in production mode', 'remove the file')
  if (source.development_users !== undefined && !source.development)
    report(['development_users'], 'dev_material', 'development_users need development: true')

  const keys = await readIssuerKeys(source, context)
  const signals = await readSignals(source, keys, context)
  const byGroup = new Map<string, readonly Grant[]>()
  const byGroups = createRemembered<readonly Grant[]>(MAX_SETS_OF_GROUPS)
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
    keys,
    algorithms: source.algorithms,
    audiences: source.audiences,
    tokenTypes: source.token_types,
    groupsClaim: source.groups_claim,
    claims: Object.keys(source.claims),
    mayDelegate: source.may_delegate,
    disabledSubjects: new Set(source.disabled_subjects),
    maxTokenLifetimeSeconds: source.max_token_lifetime_seconds,
    ...(source.id_jag === undefined
      ? {}
      : {
          idJag: {
            maxLifetimeSeconds: source.id_jag.max_lifetime_seconds,
            ...(source.id_jag.tenant === undefined ? {} : { tenant: source.id_jag.tenant }),
          },
        }),
    mayEndUsers: source.global_token_revocation,
    ...(signals === undefined ? {} : { signals }),
    development: source.development,
    rights({ groups }) {
      const key = JSON.stringify(groups)
      const known = byGroups.get(key)
      if (known) return known
      // `*` is ours: a token that says it is in a group of that name gains nothing by it.
      const named = groups.filter((group) => group !== '*')
      const rights = normalGrants(['*', ...named].flatMap((group) => byGroup.get(group) ?? []))
      byGroups.put(key, rights)
      return rights
    },
  }
}

export async function readTrustDomain(
  source: WorkloadIssuerFile,
  file: string,
  { keyFiles, development, report }: Pick<Context, 'keyFiles' | 'development' | 'report'>,
): Promise<TrustDomain> {
  const { trust_domain: name, bundle_file, path_root: pathRoot, image_digest_claim } = source
  const bundleEndpoint = await readBundleEndpoint(source, { keyFiles, development, report })
  const more = {
    ...(pathRoot === undefined ? {} : { pathRoot }),
    ...(image_digest_claim === undefined ? {} : { imageDigestClaim: image_digest_claim }),
    ...(bundleEndpoint === undefined ? {} : { bundleEndpoint }),
  }
  const none = { name, jwtKeys: [], witKeys: [], x509Anchors: [], ...more, file }
  if (bundle_file === undefined) {
    if (source.bundle_endpoint === undefined)
      report(['kind'], 'missing_key', 'bundle_file or bundle_endpoint says where its bundle is')
    return none
  }
  const text = await keyFiles.text(bundle_file)
  if (!text.ok && !(text.code === 'file_missing' && keyFiles.allowMissing))
    report(['bundle_file'], text.code, text.message, text.suggestion)
  if (text.ok) {
    const read = readBundle(text.value, { name, file, ...more })
    if (read.ok) return read.value
    report(['bundle_file'], 'bad_key', `${bundle_file}: ${read.problem}`)
  }
  return none
}

/** SPIFFE Federation §5.2: what each profile needs, and nothing that belongs to the other. */
async function readBundleEndpoint(
  { bundle_endpoint: source, bundle_file, trust_domain }: WorkloadIssuerFile,
  { keyFiles, development, report }: Pick<Context, 'keyFiles' | 'development' | 'report'>,
): Promise<BundleEndpoint | undefined> {
  if (source === undefined) return undefined
  const { url, profile, ca_file, endpoint_spiffe_id: spiffeId } = source
  const at = (member: string) => ['bundle_endpoint', member]
  const fault = urlProblem(url, { development })
  if (fault !== undefined) report(at('url'), 'url_forbidden', `the bundle endpoint ${url} ${fault}`)
  if (profile === 'https_web') {
    if (spiffeId !== undefined)
      report(at('endpoint_spiffe_id'), 'bad_value', 'endpoint_spiffe_id belongs to the profile https_spiffe')
    if (ca_file === undefined) return { url }
    const authorities = await keyFiles.certificates(ca_file, authorityProblem)
    if (authorities.ok) return { url, authorities: authorities.value }
    report(at('ca_file'), authorities.code, authorities.message, authorities.suggestion)
    return undefined
  }
  if (ca_file !== undefined) report(at('ca_file'), 'bad_value', 'ca_file belongs to the profile https_web')
  if (spiffeId === undefined || !isWorkloadId(spiffeId)) {
    report(
      at('endpoint_spiffe_id'),
      spiffeId === undefined ? 'missing_key' : 'bad_identifier',
      'https_spiffe needs the SPIFFE id of the endpoint',
      `spiffe://${trust_domain}/spire/server`,
    )
    return undefined
  }
  if (fault === undefined && isLoopbackHttp(url))
    report(at('url'), 'url_forbidden', 'https_spiffe is spoken over https')
  // §5.2.2: an endpoint that vouches for itself must first be known by another way.
  if (spiffeId.startsWith(`spiffe://${trust_domain}/`) && bundle_file === undefined)
    report(
      at('profile'),
      'missing_key',
      'an endpoint with an SVID of its own trust domain needs a bundle_file to begin',
    )
  return { url, spiffeId }
}
