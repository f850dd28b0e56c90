/** Where errand.yaml has the audit log copied to, with every way in which that does not hold together. */
import { isAbsolute, resolve } from 'node:path'
import { isIP } from 'node:net'
import { z } from 'zod'
import { isPublicAddress, urlProblem } from './addresses.ts'
import type { Reporter } from './reporter.ts'
import { clientId, keysPath, limit, list, section, url } from './schema-parts.ts'

const common = {
  name: clientId.describe('Its name in metrics and in the service log.'),
  format: z
    .enum(['json', 'ocsf'])
    .default('json')
    .describe('json: records as they stand in the log; ocsf: events of the Open Cybersecurity Schema Framework 1.3.'),
  on_failure: z
    .enum(['continue', 'refuse'])
    .default('continue')
    .describe('Where it is further behind than max_behind: go on and raise the alarm, or issue nothing.'),
  max_behind: limit(1, 100_000_000).default(100_000).describe('Records that may wait in the log until it takes them.'),
}
const reached = {
  ca_file: keysPath
    .optional()
    .describe('Authorities (PEM) by path inside the keys folder that vouch for it, in the place of the system’s.'),
  private: z.boolean().default(false).describe('Whether its address may be private.'),
}

export const mirrorsSchema = list(
  z.discriminatedUnion('to', [
    section({
      to: z.literal('file').describe('A file of lines; others may rotate it away.'),
      path: z.string().min(1).max(1024).describe('Absolute path.'),
      ...common,
    }),
    section({ to: z.literal('stdout').describe('Lines on standard output.'), ...common }),
    section({
      to: z.literal('syslog').describe('RFC 5424 messages over TCP, framed by octet counting.'),
      host: z
        .string()
        .regex(/^[A-Za-z0-9]([A-Za-z0-9.:-]{0,251}[A-Za-z0-9])?$/, { error: 'not a host' })
        .describe('Name or address.'),
      port: limit(1, 65535).default(6514).describe('TCP port.'),
      tls: z.boolean().default(true).describe('Whether over TLS (RFC 5425); without it only to a private address.'),
      ...reached,
      ...common,
    }),
    section({
      to: z.literal('http').describe('Batches of lines by POST.'),
      url: url.describe('Where to, over https.'),
      bearer_file: keysPath
        .optional()
        .describe('Bearer token by path inside the keys folder; read anew for each request.'),
      ...reached,
      ...common,
    }),
  ]),
).describe('Copies of the audit log that are kept up to date, each record at least once.')

type MirrorSource = z.output<typeof mirrorsSchema>[number]

type Target =
  | { readonly to: 'file'; readonly path: string }
  | { readonly to: 'stdout' }
  | {
      readonly to: 'syslog'
      readonly host: string
      readonly port: number
      readonly tls: boolean
      readonly caFile?: string
      readonly private: boolean
    }
  | {
      readonly to: 'http'
      readonly url: string
      readonly bearerFile?: string
      readonly caFile?: string
      readonly private: boolean
    }

export type MirrorSettings = Target & {
  readonly name: string
  readonly format: 'json' | 'ocsf'
  readonly onFailure: 'continue' | 'refuse'
  readonly maxBehind: number
}

export function readMirrors(
  sources: readonly MirrorSource[],
  {
    keysDir,
    development,
    report,
  }: { readonly keysDir: string; readonly development: boolean; readonly report: Reporter },
): readonly MirrorSettings[] {
  const names = new Set<string>()
  return sources.map((source, index) => {
    const { name, format, on_failure: onFailure, max_behind: maxBehind } = source
    const here = (member: string) => ['audit', 'mirrors', index, member]
    if (names.has(name)) report(here('name'), 'duplicate', `there are two mirrors ${name}`)
    names.add(name)
    const fault = problemOf(source, development)
    if (fault) report(here(fault.member), fault.code, fault.message)
    return { ...targetOf(source, keysDir), name, format, onFailure, maxBehind }
  })
}

interface Fault {
  readonly member: string
  readonly code: 'bad_value' | 'url_forbidden'
  readonly message: string
}

function problemOf(source: MirrorSource, development: boolean): Fault | undefined {
  if (source.to === 'file' && !isAbsolute(source.path))
    return { member: 'path', code: 'bad_value', message: 'the path of a mirror must be absolute' }
  if (source.to === 'http') {
    const fault = urlProblem(source.url, { development, privately: source.private })
    if (fault !== undefined) return { member: 'url', code: 'url_forbidden', message: `url ${source.url} ${fault}` }
  }
  if (source.to !== 'syslog') return undefined
  const { host, tls } = source
  if (isIP(host) && !mayReach(source, development)(host)) {
    const message = `${host} is a private or loopback address: say private: true if it is meant`
    return { member: 'host', code: 'url_forbidden', message }
  }
  if (!tls && !source.private && !development) {
    const message = 'without TLS everybody on the way reads the log: only to a private address (private: true)'
    return { member: 'tls', code: 'bad_value', message }
  }
  return undefined
}

/** Loopback is for development; what the configuration calls private may be any address. */
export const mayReach =
  (target: { readonly private: boolean }, development: boolean) =>
  (address: string): boolean =>
    target.private || isPublicAddress(address) || (development && (address === '127.0.0.1' || address === '::1'))

function targetOf(source: MirrorSource, keysDir: string): Target {
  if (source.to === 'file') return { to: 'file', path: source.path }
  if (source.to === 'stdout') return { to: 'stdout' }
  const ca = source.ca_file === undefined ? {} : { caFile: resolve(keysDir, source.ca_file) }
  if (source.to === 'syslog') {
    const { host, port, tls } = source
    return { to: 'syslog', host, port, tls, ...ca, private: source.private }
  }
  const bearer = source.bearer_file === undefined ? {} : { bearerFile: resolve(keysDir, source.bearer_file) }
  return { to: 'http', url: source.url, ...bearer, ...ca, private: source.private }
}
