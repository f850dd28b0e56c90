/** What `errand top` watches: counters since the start, and how things stand at this moment. */
import { formatEpoch } from '@errand/verifier/epoch.ts'
import { z } from 'zod'
import { verifiersBehind } from '../revoke/acks.ts'
import { readinessChecks } from './discovery.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const counts = z.record(z.string(), z.number())
const statsSchema = z
  .object({
    at: z.number().describe('Unix seconds'),
    issuer: z.string(),
    uptime_seconds: z.number(),
    cpu_seconds: z.number(),
    resident_mib: z.number(),
    in_flight: z.number(),
    requests: z
      .array(z.object({ route: z.string(), method: z.string(), statuses: counts, within: counts }))
      .describe('By route: answers by status, and by the seconds within which they were given, cumulative'),
    issued: counts.describe('Tokens by type'),
    refused: counts.describe('By reason'),
    revoked: counts.describe('Entries by mode'),
    epoch: z.string(),
    verifiers: z.array(
      z.object({
        verifier: z.string(),
        epoch: z.string(),
        behind: z.number(),
        at: z.number(),
        instances: z.number().describe('Processes; the epoch is the one that all of them have reached'),
        regression: z
          .object({ before: z.string(), after: z.string() })
          .describe('Two signed checkpoints by which it saw the audit log shrink or change')
          .optional(),
      }),
    ),
    audit_records: z.number(),
    checks: z.record(z.string(), z.enum(['ok', 'degraded', 'unavailable'])),
    tenants: z.array(z.object({ name: z.string(), state: z.string() })).optional(),
  })
  .meta({ id: 'Stats' })

export const statsRoute: Route = {
  method: 'GET',
  path: '/stats',
  access: ['admin'],
  tag: 'Operation',
  summary: 'Counters since the start and how things stand now: what errand top shows',
  answers: { 200: { description: 'Figures', schema: statsSchema }, ...errorAnswers(401, 403, 429, 503) },
  async handle({ deps }) {
    const epoch = await deps.revocations.epoch()
    const behind = new Map(verifiersBehind(epoch, deps.acks.all()).map(({ verifier, entries }) => [verifier, entries]))
    const { rssBytes, cpuSeconds, uptimeSeconds } = deps.resources()
    return Response.json({
      at: deps.nowMs() / 1000,
      issuer: deps.snapshot().settings.issuer,
      uptime_seconds: uptimeSeconds,
      cpu_seconds: cpuSeconds,
      resident_mib: Math.round(rssBytes / 104_857.6) / 10,
      in_flight: deps.limits.running(),
      ...(await deps.metrics.read()),
      epoch: formatEpoch(epoch),
      verifiers: deps.acks.all().map(({ epoch: said, ...acknowledged }) => ({
        ...acknowledged,
        epoch: formatEpoch(said),
        behind: behind.get(acknowledged.verifier) ?? 0,
      })),
      audit_records: deps.reader.size,
      checks: await readinessChecks(deps),
      ...(deps.tenants === undefined || deps.tenants().length === 0
        ? {}
        : { tenants: deps.tenants().map(({ name, state }) => ({ name, state })) }),
    })
  },
}
