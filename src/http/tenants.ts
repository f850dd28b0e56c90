/** What the service's own administrator sees of its tenants: that they are there, and how much of it they take. */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const tenantSchema = z
  .object({
    name: z.string(),
    state: z.enum(['serving', 'refused']),
    issuer: z.string().optional(),
    problems: z.string().optional(),
    data_mib: z.number().optional(),
    quota: z.object({
      requests_per_second: z.number(),
      max_concurrent_requests: z.number(),
      max_data_mib: z.number(),
    }),
  })
  .meta({ id: 'Tenant' })

export const tenantsRoute: Route = {
  method: 'GET',
  path: '/tenants',
  access: ['admin'],
  tag: 'Administration',
  summary: 'The tenants of this service, and their quotas; a tenant itself has none',
  answers: {
    200: { description: 'Tenants', schema: z.object({ tenants: z.array(tenantSchema) }) },
    ...errorAnswers(401, 403, 404, 429, 503),
  },
  handle(call) {
    const { tenants } = call.deps
    if (!tenants) return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    return Response.json({
      tenants: tenants().map(({ name, state, issuer, problems, dataMib, quota }) => ({
        name,
        state,
        ...(issuer === undefined ? {} : { issuer }),
        ...(problems === undefined ? {} : { problems }),
        ...(dataMib === undefined ? {} : { data_mib: dataMib }),
        quota: {
          requests_per_second: quota.requestsPerSecond,
          max_concurrent_requests: quota.maxConcurrentRequests,
          max_data_mib: quota.maxDataMib,
        },
      })),
    })
  },
}
