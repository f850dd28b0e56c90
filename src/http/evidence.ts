/** A task as evidence: its records, proofs, keys and policies in one document that verifies without the service. */
import { z } from 'zod'
import { refuse } from '../oauth/refusal.ts'
import { isId } from '../tasks/ids.ts'
import { adminOf } from './caller.ts'
import { badParam } from './query.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const evidenceRoute: Route = {
  method: 'GET',
  path: '/audit/tasks/:id/bundle',
  access: ['admin'],
  tag: 'Transparency log',
  summary:
    'A task as evidence: every record that names it, with proofs, public keys and policies; that it was taken is recorded',
  answers: {
    200: {
      description: 'What `errand audit verify-bundle` verifies; subjects are keyed hashes',
      schema: z.looseObject({
        format: z.string(),
        task: z.string(),
        log: z.string(),
        size: z.number().int(),
        checkpoint: z.string(),
        records: z.array(z.object({ record: z.looseObject({}), path: z.array(z.string()) })),
        policies: z.array(z.looseObject({ digest: z.string() })),
        jwks: z.object({ keys: z.array(z.looseObject({})) }),
        statement: z.string().describe('Signed note: how many records, policies and keys are in it, and their digests'),
      }),
    },
    ...errorAnswers(400, 401, 403, 404, 429, 503),
  },
  async handle(call) {
    const { deps, c, wire } = call
    const id = c.req.param('id') ?? ''
    const notFound = () => refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    if (!isId('task', id)) return notFound()
    // The store forgets a task that ended long ago; the log does not.
    const known = (await deps.tasks.get(id)) ?? (await deps.reader.search({ mentions: id, limit: 1 }))[0]
    if (known === undefined) return notFound()
    const { index } = await deps.audit.append({
      type: 'admin.acted',
      by: adminOf(call),
      task: id,
      correlation: wire.correlation,
      details: { action: 'audit.bundle' },
    })
    const gathered = await deps.evidence(id, index)
    if (gathered.ok) return Response.json(gathered.evidence)
    const tooMany = `more than ${gathered.most} records name it: prove them one by one (GET /log/proof)`
    return refused(call, badParam(tooMany).refusal)
  },
}
