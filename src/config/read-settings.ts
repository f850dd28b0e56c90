/** errand.yaml → ServiceSettings and administrators. */
import { resolve } from 'node:path'
import type { MachineClient } from '../attest/registration.ts'
import { jwkThumbprint } from '@errand/verifier/signature.ts'
import { isLoopbackHttp, urlProblem } from './addresses.ts'
import { readMirrors } from './read-mirrors.ts'
import type { KeyFiles } from './key-files.ts'
import type { Reporter } from './reporter.ts'
import type { ErrandFile } from './errand-file.ts'
import type { ServiceSettings } from './settings.ts'
import type { HostSettings, Quota } from './tenants.ts'

/** What the caller's environment sets instead of the file; values, so that nothing here reads the environment. */
export interface Overrides {
  readonly issuer?: string
  readonly host?: string
  readonly port?: number
  readonly mtlsPort?: number
  readonly redisUrl?: string
  readonly logLevel?: ServiceSettings['log']['level']
}

export function readSettings(
  source: ErrandFile,
  {
    keysDir,
    overrides,
    report,
    host: within,
    stated,
  }: {
    readonly keysDir: string
    readonly overrides: Overrides
    readonly report: Reporter
    /** Given for a tenant. */
    readonly host?: HostSettings
    readonly stated: Stated
  },
): ServiceSettings {
  const development = source.mode === 'development'
  const issuer = overrides.issuer ?? source.issuer
  const fault = issuerProblem(issuer, { development })
  if (fault !== undefined) report(['issuer'], 'url_forbidden', `the issuer ${issuer} ${fault}`)

  const { listen } = source
  if (
    within === undefined &&
    !development &&
    listen.tls === undefined &&
    listen.trusted_proxies.length === 0 &&
    !isLoopbackAddress(overrides.host ?? listen.host)
  ) {
    report(
      ['listen'],
      'missing_key',
      'in production a listener that others can reach needs tls, or trusted_proxies in front of it',
    )
  }
  if (listen.client_certificate_header !== undefined && listen.trusted_proxies.length === 0) {
    report(
      ['listen', 'client_certificate_header'],
      'bad_value',
      'a header with a certificate is believed from trusted_proxies only, and there are none',
    )
  }
  if (source.tasks.default_deadline_seconds > source.tasks.max_deadline_seconds) {
    report(['tasks', 'default_deadline_seconds'], 'bad_limit', 'default_deadline_seconds is above max_deadline_seconds')
  }
  if (source.keys.overlap_seconds >= source.keys.lifetime_seconds) {
    report(['keys', 'overlap_seconds'], 'bad_limit', 'overlap_seconds must be below lifetime_seconds')
  }
  if (source.keys.overlap_seconds < source.keys.jwks_max_age_seconds) {
    report(
      ['keys', 'overlap_seconds'],
      'bad_limit',
      'a new key must be published for as long as an old JWKS may be cached: overlap_seconds is below jwks_max_age_seconds',
    )
  }
  if (source.store.kind === 'redis' && !/^rediss?:\/\/[^\s]+$/.test(source.store.url)) {
    report(['store', 'url'], 'url_forbidden', 'the url of the store must begin with redis:// or rediss://')
  }
  for (const [index, each] of (source.store.kind === 'redis' ? (source.store.sentinels ?? []) : []).entries()) {
    if (!/^rediss?:\/\/[^\s]+$/.test(each) || !URL.canParse(each) || new URL(each).hostname === '')
      report(['store', 'sentinels', index], 'url_forbidden', 'a Sentinel is redis:// or rediss:// with host and port')
  }

  const inKeys = ({ cert_file, key_file }: { readonly cert_file: string; readonly key_file: string }) => ({
    certFile: resolve(keysDir, cert_file),
    keyFile: resolve(keysDir, key_file),
  })
  const host = overrides.host ?? listen.host
  const settings: ServiceSettings = {
    issuer,
    mode: source.mode,
    listen: {
      host,
      port: overrides.port ?? listen.port,
      ...(listen.tls === undefined ? {} : { tls: inKeys(listen.tls) }),
      ...(listen.mtls === undefined
        ? {}
        : {
            mtls: {
              host: listen.mtls.host ?? host,
              port: overrides.mtlsPort ?? listen.mtls.port,
              ...inKeys(listen.mtls),
            },
          }),
      trustedProxies: listen.trusted_proxies,
      metricsFrom: listen.metrics_from,
      ...(listen.client_certificate_header === undefined
        ? {}
        : { clientCertificateHeader: listen.client_certificate_header }),
    },
    store: storeOf(source, overrides),
    bounds: {
      maxBodyBytes: source.bounds.max_body_bytes,
      maxHeaderBytes: source.bounds.max_header_bytes,
      requestTimeoutSeconds: source.bounds.request_timeout_seconds,
      maxConcurrentRequests: source.bounds.max_concurrent_requests,
      maxStreams: source.bounds.max_streams ?? source.bounds.max_concurrent_requests,
      maxQueueMilliseconds: source.bounds.max_queue_milliseconds,
      requestsPerSecondPerClient: source.bounds.requests_per_second_per_client,
      strangersPerSecondPerSource: source.bounds.strangers_per_second_per_source,
    },
    tokens: {
      maxLifetimeSeconds: source.tokens.max_lifetime_seconds,
      handOverLifetimeSeconds: source.tokens.hand_over_lifetime_seconds,
      idempotencySeconds: source.tokens.idempotency_seconds,
    },
    tasks: {
      defaultDeadlineSeconds: source.tasks.default_deadline_seconds,
      maxDeadlineSeconds: source.tasks.max_deadline_seconds,
      maxActors: source.tasks.max_actors,
    },
    dpop: {
      requireNonce: source.dpop.require_nonce,
      nonceLifetimeSeconds: source.dpop.nonce_lifetime_seconds,
      proofLifetimeSeconds: source.dpop.proof_lifetime_seconds,
    },
    keys: {
      lifetimeSeconds: source.keys.lifetime_seconds,
      overlapSeconds: source.keys.overlap_seconds,
      jwksMaxAgeSeconds: source.keys.jwks_max_age_seconds,
      ...(source.keys.signing === undefined ? {} : { signing: source.keys.signing }),
    },
    tenants: {
      quota: quotaFrom(source.tenants.quota) as Quota,
      quotas: Object.fromEntries(
        Object.entries(source.tenants.quotas).map(([name, quota]) => [name, quotaFrom(quota)]),
      ),
    },
    revocation: { twoPeople: source.revocation.two_people },
    policy: { onChange: source.policy.on_change },
    ...(source.drill === undefined ? {} : { drill: drillFrom(source.drill, keysDir) }),
    audit: { mode: source.audit.mode, mirrors: readMirrors(source.audit.mirrors, { keysDir, development, report }) },
    log: { level: overrides.logLevel ?? source.log.level },
    // Completed by what issuers and tools use of it.
    developmentShortcuts:
      development && fault === undefined && isLoopbackHttp(issuer) ? [`the issuer ${issuer} is served over http`] : [],
  }
  return within === undefined ? settings : withinHost(settings, source, { host: within, stated, report })
}

const drillFrom = (
  { every_seconds, agent, agent_key_file, tasks, timeout_seconds }: NonNullable<ErrandFile['drill']>,
  keysDir: string,
): NonNullable<ServiceSettings['drill']> => ({
  everySeconds: every_seconds,
  agent,
  agentKeyFile: resolve(keysDir, agent_key_file ?? `agents/${agent}.jwk`),
  tasks,
  timeoutSeconds: timeout_seconds,
})

function quotaFrom(quota: ErrandFile['tenants']['quotas'][string]): Partial<Quota> {
  const { requests_per_second, max_concurrent_requests, max_data_mib } = quota
  return {
    ...(requests_per_second === undefined ? {} : { requestsPerSecond: requests_per_second }),
    ...(max_concurrent_requests === undefined ? {} : { maxConcurrentRequests: max_concurrent_requests }),
    ...(max_data_mib === undefined ? {} : { maxDataMib: max_data_mib }),
  }
}

/** A tenant's errand.yaml: what belongs to the whole service is set there, and only there. */
function withinHost(
  settings: ServiceSettings,
  source: ErrandFile,
  { host, stated, report }: { readonly host: HostSettings; readonly stated: Stated; readonly report: Reporter },
): ServiceSettings {
  const own = (path: readonly string[]) =>
    report(
      path,
      'bad_value',
      `${path.join('.')} belongs to the whole service: it is set in the service's own errand.yaml`,
    )
  for (const name of ['listen', 'store', 'log', 'tenants']) if (stated([name])) own([name])
  for (const { to, ...mirror } of settings.audit.mirrors)
    if (to === 'file' || to === 'stdout' || ('private' in mirror && mirror.private))
      report(['audit', 'mirrors'], 'bad_value', 'the mirrors of a tenant go by syslog or http, to public addresses')
  for (const name of ['max_header_bytes', 'request_timeout_seconds'])
    if (stated(['bounds', name])) own(['bounds', name])
  // A tenant's file could name any host to send any readable secret to; and two issuers never share a key.
  for (const name of ['root', 'signing']) if (stated(['keys', name])) own(['keys', name])
  if (source.mode === 'development' && host.mode === 'production') {
    report(
      ['mode'],
      'bad_value',
      'a service in production has no tenant in development: it would take development keys',
    )
  }
  return {
    ...settings,
    listen: host.listen,
    store: host.store,
    log: host.log,
    bounds: { ...settings.bounds, ...host.bounds },
  }
}

/** Whether the file itself says something at this place. */
export type Stated = (path: readonly string[]) => boolean

/** RFC 8414 §2: no query; and one spelling only, so without the trailing slash that clients lose. */
export const issuerProblem = (issuer: string, mode: { readonly development: boolean }): string | undefined =>
  urlProblem(issuer, mode) ?? issuerForm(issuer)

function issuerForm(issuer: string): string | undefined {
  const url = new URL(issuer)
  if (url.search !== '' || issuer.includes('?')) return 'has a query'
  const canonical = url.pathname === '/' ? url.origin : url.href
  return issuer === canonical && !issuer.endsWith('/')
    ? undefined
    : `is not in canonical form: write ${canonical.replace(/\/+$/, '')}`
}

const isLoopbackAddress = (host: string): boolean => host === '127.0.0.1' || host === '::1' || host === 'localhost'

function storeOf({ store }: ErrandFile, { redisUrl }: Overrides): ServiceSettings['store'] {
  if (redisUrl !== undefined)
    return { kind: 'redis', url: redisUrl, prefix: store.kind === 'redis' ? store.prefix : 'errand' }
  if (store.kind !== 'redis') return store
  const { sentinels, ...place } = store
  return sentinels === undefined ? place : { ...place, sentinels }
}

export async function readAdministrators(
  source: ErrandFile,
  { keyFiles, report }: { readonly keyFiles: KeyFiles; readonly report: Reporter },
): Promise<readonly MachineClient[]> {
  const clients: MachineClient[] = []
  for (const [index, administrator] of source.administrators.entries()) {
    const here = ['administrators', index]
    if (administrator.keys === undefined && administrator.keys_file === undefined)
      report(here, 'missing_key', 'an administrator needs a public key: keys_file or keys')
    const keys = await keyFiles.ownKeys(administrator)
    if (!keys.ok)
      report(
        [...here, administrator.keys === undefined ? 'keys_file' : 'keys'],
        keys.code,
        keys.message,
        keys.suggestion,
      )
    clients.push({ clientId: administrator.client_id, kind: 'admin', keys: keys.ok ? keys.value : [] })
  }
  if (source.revocation.two_people.length > 0) {
    const problem = twoPeopleProblem(clients)
    if (problem !== undefined) report(['revocation', 'two_people'], 'bad_value', problem)
  }
  return clients
}

/** Two names that one key speaks for are one person; and where there is nobody to confirm, nothing could be revoked. */
function twoPeopleProblem(administrators: readonly MachineClient[]): string | undefined {
  const keys = new Map<string, string>()
  for (const { clientId, keys: own } of administrators) {
    if (own.length === 0) keys.set(clientId, clientId)
    for (const key of own) {
      const thumbprint = jwkThumbprint(key)
      const other = keys.get(thumbprint)
      if (other !== undefined && other !== clientId)
        return `${other} and ${clientId} have the same key: they are one person`
      keys.set(thumbprint, clientId)
    }
  }
  return new Set(keys.values()).size < 2 ? 'it takes two administrators, each with a key of their own' : undefined
}

export async function readReceivers(
  source: ErrandFile,
  {
    keyFiles,
    development,
    report,
  }: { readonly keyFiles: KeyFiles; readonly development: boolean; readonly report: Reporter },
): Promise<readonly MachineClient[]> {
  const clients: MachineClient[] = []
  const names = new Set<string>()
  for (const [index, each] of source.signal_receivers.entries()) {
    const here = ['signal_receivers', index]
    if (names.has(each.name)) report([...here, 'name'], 'duplicate', `there are two receivers ${each.name}`)
    names.add(each.name)
    if (each.keys === undefined && each.keys_file === undefined)
      report(here, 'missing_key', 'a receiver needs a public key: keys_file or keys')
    const keys = await keyFiles.ownKeys(each)
    const keysAt = [...here, each.keys === undefined ? 'keys_file' : 'keys']
    if (!keys.ok) report(keysAt, keys.code, keys.message, keys.suggestion)
    const { push_url: pushUrl, audience } = each
    const fault = pushUrl === undefined ? undefined : urlProblem(pushUrl, { development })
    if (fault !== undefined) report([...here, 'push_url'], 'url_forbidden', `push_url ${pushUrl} ${fault}`)
    clients.push({
      clientId: `receiver:${each.name}`,
      kind: 'receiver',
      keys: keys.ok ? keys.value : [],
      receiver: { audience, ...(pushUrl === undefined ? {} : { pushUrl }) },
    })
  }
  return clients
}
