/** Prometheus metrics: names of routes and reasons, never of people, tokens or tasks. */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'

export interface Metrics {
  request(route: string, method: string, status: number, seconds: number): void
  issued(kind: string): void
  refused(reason: string): void
  revoked(mode: string): void
  unrecorded(type: string): void
  render(): Promise<{ readonly text: string; readonly contentType: string }>
}

export function createMetrics(gauges: {
  readonly auditRecords: () => number
  readonly auditHealthy: () => boolean
  readonly configDegraded: () => boolean
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
  gauge('errand_config_degraded', '1 while the last reload of the configuration was refused', () =>
    gauges.configDegraded() ? 1 : 0,
  )
  return {
    request: (route, method, status, seconds) => requests.labels(route, method, String(status)).observe(seconds),
    issued: (kind) => issued.labels(kind).inc(),
    refused: (reason) => refused.labels(reason).inc(),
    revoked: (mode) => revoked.labels(mode).inc(),
    unrecorded: (type) => unrecorded.labels(type).inc(),
    render: async () => ({ text: await registry.metrics(), contentType: registry.contentType }),
  }
}
