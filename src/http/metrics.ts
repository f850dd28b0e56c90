/** Prometheus metrics: names of routes and reasons, never of people, tokens or tasks. */
import type { MirrorState } from '../audit/mirror.ts'
import type { DrillTimer } from '../revoke/drill-timer.ts'
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  request(route: string, method: string, status: number, seconds: number): void
  issued(kind: string): void
  refused(reason: string): void
  revoked(mode: string): void
  unrecorded(type: string): void
  render(): Promise<{ readonly text: string; readonly contentType: string }>
  /** The same counters since the start, for `errand top`. */
  read(): Promise<Counted>
}

export interface Counted {
  /** Of each route: how many answers of each status, and how many within so many seconds, cumulative. */
  readonly requests: readonly {
    readonly route: string
    readonly method: string
    readonly statuses: Readonly<Record<string, number>>
    readonly within: Readonly<Record<string, number>>
  }[]
  readonly issued: Readonly<Record<string, number>>
  readonly refused: Readonly<Record<string, number>>
  readonly revoked: Readonly<Record<string, number>>
}

export function createMetrics(gauges: {
  readonly auditRecords: () => number
  readonly auditHealthy: () => boolean
  readonly configDegraded: () => boolean
  readonly storeHealthy: () => Promise<boolean>
  /** It waits to be given back what it lost. */
  readonly storeSealed: () => boolean
  readonly requestsInFlight: () => number
  readonly mirrors: () => readonly MirrorState[]
  readonly drills: Pick<DrillTimer, 'failing' | 'last'>
  /** How many entries each verifier that has ever acknowledged is behind; sequence numbers, within one generation. */
  readonly verifiersBehind: () => Promise<readonly { readonly verifier: string; readonly entries: number }[]>
  /** Whether the figures of the process stand beside them; they are everybody's, so one issuer tells them. */
  readonly process: boolean
}): Metrics {
  const registry = new Registry()
  if (gauges.process) collectDefaultMetrics({ register: registry })
  const registers = [registry]
  const requests = new Histogram({
    name: 'errand_http_request_duration_seconds',
    help: 'Time from the first byte of a request to the last of its answer',
    labelNames: ['route', 'method', 'status'],
    buckets: [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5],
    registers,
  })
  const issued = new Counter({
    name: 'errand_tokens_issued_total',
    help: 'Tokens issued',
    labelNames: ['kind'],
    registers,
  })
  const refused = new Counter({
    name: 'errand_refusals_total',
    help: 'Requests refused, by reason',
    labelNames: ['reason'],
    registers,
  })
  const revoked = new Counter({
    name: 'errand_revocations_total',
    help: 'Entries added to the revocation log',
    labelNames: ['mode'],
    registers,
  })
  const unrecorded = new Counter({
    name: 'errand_unrecorded_effects_total',
    help: 'Revocations and endings whose audit record could not be written; they are in force all the same',
    labelNames: ['type'],
    registers,
  })
  const gauge = (name: string, help: string, read: () => number) =>
    new Gauge({
      name,
      help,
      registers,
      collect() {
        this.set(read())
      },
    })
  gauge('errand_audit_records', 'Records in the audit log', gauges.auditRecords)
  gauge('errand_audit_healthy', '1 while the audit log takes records', () => (gauges.auditHealthy() ? 1 : 0))
  gauge('errand_store_sealed', '1 while the store answers nothing because it may have lost something', () =>
    gauges.storeSealed() ? 1 : 0,
  )
  gauge('errand_requests_in_flight', 'Requests worked on at this moment', gauges.requestsInFlight)
  const ofMirrors = (name: string, help: string, read: (state: MirrorState) => number) =>
    new Gauge({
      name,
      help,
      labelNames: ['mirror'],
      registers,
      collect() {
        for (const state of gauges.mirrors()) this.labels(state.name).set(read(state))
      },
    })
  ofMirrors('errand_audit_mirror_records_behind', 'Records that a mirror has not taken yet', ({ behind }) => behind)
  ofMirrors('errand_audit_mirror_failing', '1 while a mirror takes no records', ({ problem }) => (problem ? 1 : 0))
  new Gauge({
    name: 'errand_store_healthy',
    help: '1 while the store takes writes',
    registers,
    async collect() {
      this.set((await gauges.storeHealthy()) ? 1 : 0)
    },
  })
  new Gauge({
    name: 'errand_verifier_entries_behind',
    help: 'Revocations that a verifier has not acknowledged yet',
    labelNames: ['verifier'],
    registers,
    async collect() {
      this.reset()
      // Where the store is away there is nothing to compare with, and errand_store_healthy says so.
      const all = await gauges.verifiersBehind().catch(() => [])
      for (const { verifier, entries } of all) this.labels(verifier).set(entries)
    },
  })
  gauge('errand_config_degraded', '1 while the last reload of the configuration was refused', () =>
    gauges.configDegraded() ? 1 : 0,
  )
  gauge('errand_drill_failing', '1 while the last fire drill by the clock did not hold, or the next is overdue', () =>
    gauges.drills.failing() ? 1 : 0,
  )
  gauge(
    'errand_drill_seconds',
    'Time to containment of the last fire drill by the clock; 0 before the first',
    () => (gauges.drills.last()?.milliseconds ?? 0) / 1000,
  )
  return {
    request: (route, method, status, seconds) => requests.labels(route, method, String(status)).observe(seconds),
    issued: (kind) => issued.labels(kind).inc(),
    refused: (reason) => refused.labels(reason).inc(),
    revoked: (mode) => revoked.labels(mode).inc(),
    unrecorded: (type) => unrecorded.labels(type).inc(),
    render: async () => ({ text: await registry.metrics(), contentType: registry.contentType }),
    async read() {
      const counted = async (counter: Counter<string>, label: string) =>
        Object.fromEntries((await counter.get()).values.map(({ labels, value }) => [String(labels[label]), value]))
      return {
        requests: byRoute((await requests.get()).values),
        issued: await counted(issued, 'kind'),
        refused: await counted(refused, 'reason'),
        revoked: await counted(revoked, 'mode'),
      }
    },
  }
}

/** One line for each route, of the histogram's many. */
function byRoute(
  values: readonly {
    readonly labels: Readonly<Record<string, unknown>>
    readonly value: number
    readonly metricName?: string
  }[],
): Counted['requests'] {
  const routes = new Map<
    string,
    { route: string; method: string; statuses: Record<string, number>; within: Record<string, number> }
  >()
  for (const { labels, value, metricName } of values) {
    const { route, method, status, le } = labels
    const key = `${String(method)} ${String(route)}`
    const line = routes.get(key) ?? { route: String(route), method: String(method), statuses: {}, within: {} }
    routes.set(key, line)
    if (le !== undefined) line.within[String(le)] = (line.within[String(le)] ?? 0) + value
    else if (metricName?.endsWith('_count')) line.statuses[String(status)] = value
  }
  return [...routes.values()]
}
