/** What config/errand.yaml sets, after defaults. Durations in seconds. */

import type { DrillSchedule } from '../revoke/drill-timer.ts'
import type { SigningSource } from './signing-source.ts'
import type { MirrorSettings } from './read-mirrors.ts'
import type { Quota } from './tenants.ts'

export interface ServiceSettings {
  /** Issuer identifier (RFC 8414 §2): exact string in `iss`. */
  readonly issuer: string
  readonly mode: 'development' | 'production'
  readonly listen: {
    readonly host: string
    readonly port: number
    readonly tls?: { readonly certFile: string; readonly keyFile: string }
    /** The mTLS listener (`mtls_endpoint_aliases`), absent where there is none. */
    readonly mtls?: {
      readonly host: string
      readonly port: number
      readonly certFile: string
      readonly keyFile: string
    }
    /** Addresses or CIDR blocks of reverse proxies whose forwarded headers are believed; none by default. */
    readonly trustedProxies: readonly string[]
    /** Who may read the metrics beside this machine. */
    readonly metricsFrom: readonly string[]
    /** Header in which a trusted proxy passes the client certificate (RFC 9440 `Client-Cert`); absent is never. */
    readonly clientCertificateHeader?: string
  }
  readonly store:
    | { readonly kind: 'embedded' }
    | {
        readonly kind: 'redis'
        /** With sentinels its host is the name of the primary. */
        readonly url: string
        readonly prefix: string
        readonly sentinels?: readonly string[]
      }
  readonly bounds: {
    readonly maxBodyBytes: number
    readonly maxHeaderBytes: number
    readonly requestTimeoutSeconds: number
    readonly maxConcurrentRequests: number
    readonly maxStreams: number
    readonly maxQueueMilliseconds: number
    readonly requestsPerSecondPerClient: number
    readonly strangersPerSecondPerSource: number
  }
  readonly tokens: {
    readonly maxLifetimeSeconds: number
    readonly handOverLifetimeSeconds: number
    readonly idempotencySeconds: number
  }
  readonly tasks: {
    readonly defaultDeadlineSeconds: number
    readonly maxDeadlineSeconds: number
    readonly maxActors: number
  }
  readonly dpop: {
    readonly requireNonce: boolean
    readonly nonceLifetimeSeconds: number
    readonly proofLifetimeSeconds: number
  }
  readonly keys: {
    readonly lifetimeSeconds: number
    /** How long a key is published before it is used, and verified with after it was used. */
    readonly overlapSeconds: number
    readonly jwksMaxAgeSeconds: number
    /** Absent where all of them are sealed here. */
    readonly signing?: SigningSource
  }
  /** What two people are needed for: dimensions, `component`, `everything`. */
  readonly revocation: { readonly twoPeople: readonly string[] }
  readonly policy: {
    /** What a change of policies does to tokens that the old set decided. */ readonly onChange: 'cut' | 'keep'
  }
  /** Fire drills by the clock; absent where there are none. */
  readonly drill?: DrillSchedule
  readonly audit: { readonly mode: 'strict'; readonly mirrors: readonly MirrorSettings[] }
  readonly log: { readonly level: 'debug' | 'info' | 'warn' | 'error' }
  /** What tenants may take; `quotas` by name. */
  readonly tenants: { readonly quota: Quota; readonly quotas: Readonly<Record<string, Partial<Quota>>> }
  /** Development shortcuts in force, each named in `/ready`, the start banner and every token as `dev: true`. */
  readonly developmentShortcuts: readonly string[]
}
