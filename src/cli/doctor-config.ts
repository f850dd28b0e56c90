/** What is weak in a configuration that loads. Touches nothing: a snapshot in, findings out. */
import { X509Certificate } from 'node:crypto'
import { type Effect, EVIDENCE_TIERS } from '@errand/verifier/claims.ts'
import type { Snapshot } from '../config/snapshot.ts'
import { stageAllows } from '../policy/stage.ts'
import { type Finding, good, weak, wrong } from './doctor-finding.ts'
import { until } from './print.ts'

const DAY = 86_400
/** Certificates that end sooner should be on their way to being replaced. */
const SOON_SECONDS = 30 * DAY

export function weakSettings(
  snapshot: Snapshot,
  { policyCount, now }: { readonly policyCount: number; readonly now: number },
): readonly Finding[] {
  const findings = [
    ...ofService(snapshot, policyCount),
    ...ofAgents(snapshot),
    ...ofTools(snapshot),
    ...ofIssuers(snapshot),
    ...ofTrustDomains(snapshot, now),
  ]
  return findings.length > 0 ? findings : [good('settings', 'no weak settings')]
}

function* ofService({ settings, machines, agents, tools, issuers }: Snapshot, policyCount: number): Generator<Finding> {
  if (settings.mode === 'development')
    yield weak(
      'development_mode',
      `development mode: ${settings.developmentShortcuts.join('; ') || 'tokens say dev: true'}`,
      'for others: mode: production, an https issuer and users of a real identity provider',
    )
  if (!machines.all.some(({ kind }) => kind === 'admin'))
    yield wrong(
      'no_administrator',
      'there is no administrator: nobody can revoke',
      'name one in errand.yaml, administrators',
    )
  if (policyCount === 0)
    yield wrong(
      'no_policies',
      'there are no policies, so everything is denied',
      'write one in policies/ (docs/policies.md)',
    )
  for (const [what, list] of [
    ['agents', agents.all],
    ['tools', tools.all],
    ['issuers of users', issuers.all],
  ] as const)
    if (list.length === 0)
      yield weak('nothing_registered', `there are no ${what}`, `write one in ${what.split(' ')[0]}/`)
  if (settings.listen.trustedProxies.some((block) => /\/0$/.test(block)))
    yield wrong(
      'proxies_trusted_widely',
      'trusted_proxies believes forwarded headers of everybody',
      'name the addresses of your proxies alone in errand.yaml, listen.trusted_proxies',
    )
  if (!settings.dpop.requireNonce)
    yield weak(
      'dpop_nonce_off',
      'proofs need no nonce: one made in advance works for as long as it is fresh',
      'dpop.require_nonce: true in errand.yaml',
    )
  if (settings.policy.onChange === 'keep')
    yield weak(
      'policy_change_keeps',
      'tokens that an old policy permitted outlive it',
      'policy.on_change: cut in errand.yaml',
    )
  if (settings.keys.lifetimeSeconds > 90 * DAY)
    yield weak(
      'long_key_life',
      `signing keys are used for ${until(settings.keys.lifetimeSeconds, 0).slice(3)}`,
      'keys.lifetime_seconds: 604800 in errand.yaml; rotation costs nothing',
    )
  if (
    settings.store.kind === 'redis' &&
    /^redis:\/\/(?!(?:[^@/]*@)?(?:127\.|localhost|\[::1\]))/.test(settings.store.url)
  )
    yield weak('redis_in_the_clear', 'the store is reached without TLS', 'store.url: rediss://… in errand.yaml')
  if (settings.mode === 'production' && settings.log.level === 'debug')
    yield weak('debug_log', 'the service log is at level debug', 'log.level: info in errand.yaml')
}

function* ofAgents({ agents, tools, settings }: Snapshot): Generator<Finding> {
  const all = tools.all.reduce((sum, tool) => sum + tool.operations.size, 0)
  const effectOf = (tool: string, operation: string): Effect | undefined =>
    tools.byName(tool)?.operations.get(operation)?.effect
  for (const { clientId, ceiling, stage, evidence, autonomous, disabled, file, minimumTier } of agents.all) {
    if (disabled) continue
    const free = new Set(
      ceiling.flatMap(({ tool, operation, constraints }) =>
        constraints === undefined ? [`${tool}:${operation}`] : [],
      ),
    )
    if (tools.all.length > 1 && all > 5 && free.size === all)
      yield weak(
        'wide_ceiling',
        `the agent ${clientId} may do everything at every tool, as far as its stage allows`,
        `name in ${file} the operations that its work needs`,
      )
    const harms = ceiling.some(({ tool, operation }) => {
      const effect = effectOf(tool, operation)
      return effect !== undefined && effect !== 'read' && effect !== 'reversible_write' && stageAllows(stage, effect)
    })
    const onlyKey =
      minimumTier === undefined || minimumTier === 'key'
        ? evidence.some((kind) => EVIDENCE_TIERS[kind] === 'key')
        : false
    if (settings.mode === 'production' && harms && onlyKey)
      yield weak(
        'harm_by_key',
        `the agent ${clientId} may do what cannot be undone, and whoever has its key is it`,
        `let its platform attest it (docs/attestation.md) and set minimum_tier: platform in ${file}`,
      )
    if (autonomous && harms)
      yield weak(
        'harm_without_user',
        `the agent ${clientId} may do what cannot be undone without a user who asked`,
        `autonomous: false in ${file}, or a stage of reversible_write at most`,
      )
    if (ceiling.length === 0)
      yield weak(
        'empty_ceiling',
        `the agent ${clientId} may do nothing: its ceiling is empty`,
        `fill ceiling in ${file}`,
      )
  }
}

function* ofTools({ tools, settings }: Snapshot): Generator<Finding> {
  for (const { name, file, acceptsBearer, followsFeed, keys, stalenessSeconds, operations } of tools.all) {
    if (acceptsBearer)
      yield weak(
        'accepts_bearer',
        `the tool ${name} accepts bearer tokens: whoever sees one can use it for a minute`,
        `accepts_bearer: false in ${file}, and DPoP at its clients`,
      )
    if (!followsFeed)
      yield weak(
        'follows_no_feed',
        `the tool ${name} does not follow revocations: its tokens live out their minute`,
        `follows_feed: true and keys_file in ${file}, and key: in its verifier`,
      )
    else if (keys.length === 0)
      yield wrong(
        'follows_without_key',
        `the tool ${name} is to follow revocations and has no key registered: it cannot`,
        `keys_file in ${file}, with the public half of its verifier’s key`,
      )
    const slow = Object.entries(stalenessSeconds).filter(([effect, seconds]) => effect !== 'read' && seconds > 30)
    for (const [effect, seconds] of slow)
      yield weak(
        'stale_writes',
        `the tool ${name} does ${effect} on revocation state that is up to ${seconds} s old`,
        `staleness_seconds.${effect}: 5 or less in ${file}`,
      )
    if (operations.size === 0) yield weak('no_operations', `the tool ${name} has no operations`, `name them in ${file}`)
    if (
      settings.mode === 'production' &&
      /^https?:\/\/(?:127\.|localhost|\[::1\])/.test(tools.byName(name)?.audience ?? '')
    )
      yield weak(
        'loopback_audience',
        `the tool ${name} has a loopback audience`,
        `its public URI as audience in ${file}`,
      )
  }
}

function* ofIssuers({ issuers, tools }: Snapshot): Generator<Finding> {
  for (const { name, maxTokenLifetimeSeconds, audiences, rights } of issuers.all) {
    if (maxTokenLifetimeSeconds > DAY)
      yield weak(
        'long_user_tokens',
        `tokens of the issuer ${name} are taken for ${until(maxTokenLifetimeSeconds, 0).slice(3)} after they were made`,
        `max_token_lifetime_seconds: 3600 in the file of the issuer ${name}`,
      )
    for (const audience of audiences) {
      const tool = tools.byAudience(audience)
      if (tool)
        yield wrong(
          'audience_of_a_tool',
          `user tokens meant for the tool ${tool.name} are taken for tokens meant for Errand (audience ${audience})`,
          `in the file of the issuer ${name}: an audience that your identity provider gives to Errand alone`,
        )
    }
    const forAll = rights({ sub: '', groups: [] })
    const change = forAll.find(
      ({ tool, operation }) => tools.byName(tool)?.operations.get(operation)?.effect !== 'read',
    )
    if (change)
      yield weak(
        'everybody_may_change',
        `every user of the issuer ${name} may do ${change.tool}:${change.operation}`,
        'name a group instead of "*" in its rights',
      )
  }
}

function* ofTrustDomains({ trustDomains, agents, settings }: Snapshot, now: number): Generator<Finding> {
  const users = (kind: string, domain: string) =>
    agents.all.filter(
      ({ evidence, spiffeId }) =>
        (evidence as readonly string[]).includes(kind) && spiffeId.startsWith(`spiffe://${domain}/`),
    )
  for (const { name, jwtKeys, x509Anchors, file } of trustDomains.all) {
    const [byJwt] = users('jwt_svid', name)
    if (byJwt && jwtKeys.length === 0)
      yield wrong(
        'bundle_without_jwt_keys',
        `the bundle of ${name} has no key for JWT-SVIDs, and the agent ${byJwt.clientId} attests by them`,
        `the bundle that ${file} names must hold keys with use jwt-svid`,
      )
    const [byX509] = users('x509_svid', name)
    if (byX509 && x509Anchors.length === 0)
      yield wrong(
        'bundle_without_anchors',
        `the bundle of ${name} has no certificate, and the agent ${byX509.clientId} attests by X.509-SVIDs`,
        `the bundle that ${file} names must hold keys with use x509-svid`,
      )
    if (byX509 && settings.listen.mtls === undefined)
      yield wrong(
        'no_mtls_listener',
        `the agent ${byX509.clientId} attests by X.509-SVIDs, and nothing listens for client certificates`,
        'listen.mtls in errand.yaml',
      )
    for (const der of x509Anchors)
      yield* certificateFindings(new X509Certificate(der), `an anchor of ${name}`, now, 'fetch the bundle anew')
  }
}

/** A certificate by its dates; `what` begins the sentence. */
export function* certificateFindings(
  certificate: X509Certificate,
  what: string,
  now: number,
  mend: string,
): Generator<Finding> {
  const [from, to] = [Date.parse(certificate.validFrom) / 1000, Date.parse(certificate.validTo) / 1000]
  if (now < from) yield wrong('certificate_not_yet_valid', `${what} is not valid yet: ${until(from, now)}`, mend)
  else if (now >= to) yield wrong('certificate_expired', `${what} expired ${until(to, now)}`, mend)
  else if (to - now < SOON_SECONDS) yield weak('certificate_expires', `${what} expires ${until(to, now)}`, mend)
}
