/** The folders of config/tenants/: which tenants there are, and which issuers they may have beside one another. */
import { readdir } from 'node:fs/promises'
import { join } from 'node:path'
import type { ServiceSettings } from './settings.ts'

/** A tenant's folders and its prefix in Redis are named after it. */
export const TENANT_NAME = /^[a-z](?:[a-z0-9-]{0,30}[a-z0-9])?$/
export const TENANTS_FOLDER = 'tenants'

/** What one tenant may take of the service. */
export interface Quota {
  readonly requestsPerSecond: number
  readonly maxConcurrentRequests: number
  readonly maxDataMib: number
}

/** What belongs to the process and not to one of its tenants: set in the service's own errand.yaml alone. */
export type HostSettings = Pick<ServiceSettings, 'listen' | 'store' | 'log' | 'mode' | 'issuer'> & {
  readonly bounds: Pick<ServiceSettings['bounds'], 'maxHeaderBytes' | 'requestTimeoutSeconds'>
}

/** The part of a service's settings that all of its tenants share. */
export function hostPartOf({ listen, store, log, mode, issuer, bounds }: ServiceSettings): HostSettings {
  const { maxHeaderBytes, requestTimeoutSeconds } = bounds
  return { listen, store, log, mode, issuer, bounds: { maxHeaderBytes, requestTimeoutSeconds } }
}

/** Names of the folders, sorted; what is no folder or has no name for one is left to the check of the configuration. */
export async function tenantNames(configDir: string): Promise<readonly string[]> {
  const entries = await readdir(join(configDir, TENANTS_FOLDER), { withFileTypes: true }).catch(
    (error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT' || error.code === 'ENOTDIR') return []
      throw error
    },
  )
  return entries
    .filter((entry) => (entry.isDirectory() || entry.isSymbolicLink()) && TENANT_NAME.test(entry.name))
    .map(({ name }) => name)
    .sort()
}

export interface TenantPlaces {
  readonly configDir: string
  readonly keysDir: string
  readonly dataDir: string
}

/** Each of the three folders has one of the tenant's in it. */
export const placesOfTenant = (places: TenantPlaces, name: string): TenantPlaces => ({
  configDir: join(places.configDir, TENANTS_FOLDER, name),
  keysDir: join(places.keysDir, TENANTS_FOLDER, name),
  dataDir: join(places.dataDir, TENANTS_FOLDER, name),
})

export const quotaOf = ({ tenants }: ServiceSettings, name: string): Quota => ({
  ...tenants.quota,
  ...(Object.hasOwn(tenants.quotas, name) ? tenants.quotas[name] : {}),
})

/** First segments of the service's own paths: an issuer below one of them would take its place. */
export const RESERVED_SEGMENTS: readonly string[] = [
  '.well-known',
  'access',
  'agents',
  'audit',
  'authorize',
  'challenge',
  'config',
  'console',
  'credentials',
  'docs',
  'drills',
  'explanations',
  'global-token-revocation',
  'health',
  'introspect',
  'keys',
  'leases',
  'log',
  'metrics',
  'proxy',
  'ready',
  'releases',
  'revocations',
  'revoke',
  'seal',
  'ssf',
  'stats',
  'status-lists',
  'tasks',
  'tenants',
  'token',
  'tools',
  'unseal',
]

/** What is wrong with this issuer beside those that are taken; undefined where nothing is. */
export function issuerConflict(
  issuer: string,
  host: string,
  others: readonly { readonly name: string; readonly issuer: string }[],
): string | undefined {
  const taken = others.find((other) => other.issuer === issuer)
  if (taken !== undefined) return `the issuer ${issuer} is already taken by the tenant ${taken.name}`
  const own = new URL(issuer)
  const service = new URL(host)
  if (issuer === host) return `the issuer ${issuer} is the service's own`
  // Also at another host: where a proxy has put its own there, the path alone says who is meant.
  const within = service.pathname === '/' ? '' : service.pathname
  const places = own.pathname.startsWith(`${within}/`)
    ? [own.pathname, own.pathname.slice(within.length)]
    : [own.pathname]
  const first = places.map((path) => path.split('/')[1] ?? '').find((name) => RESERVED_SEGMENTS.includes(name))
  return first === undefined
    ? undefined
    : `the issuer ${issuer} takes the place of the service's own paths below /${first}: choose another, like /t/${own.pathname.split('/').at(-1)}`
}
