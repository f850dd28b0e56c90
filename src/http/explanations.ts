/** `GET /explanations/{id}`: why a token was issued or a request refused, for its agent and for administrators. */
import { z } from 'zod'
import { findDecision } from '../audit/explain.ts'
import { refuse } from '../oauth/refusal.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

export const explanationRoute: Route = {
  method: 'GET',
  path: '/explanations/:id',
  access: ['agent', 'admin'],
  tag: 'Decisions',
  summary: 'Why: by jti of a token or id of a decision',
  answers: {
    200: { description: 'The decision as it was recorded', schema: z.looseObject({ type: z.string() }) },
    ...errorAnswers(401, 403, 404, 429, 503),
  },
  async handle(call) {
    const { deps, caller, c } = call
    const id = c.req.param('id') ?? ''
    const record = await findDecision(deps.reader, id)
    const mine = caller?.kind === 'agent' && record?.['agent'] === caller.proven.attested.agent.clientId
    if (!record || (caller?.kind !== 'admin' && !mine)) {
      return refused(call, refuse('not_found', 'request', { proven: true }).refusal)
    }
    // What is sealed in the record is for administrators.
    const unsealed = caller?.kind === 'admin' ? await deps.reader.unseal(record) : undefined
    const { sealed: _, ...open } = record
    return Response.json({
      ...open,
      log: { id: deps.audit.logId, index: record.i },
      ...(unsealed?.subject === undefined ? {} : { subject_name: unsealed.subject }),
      ...(unsealed?.purpose === undefined ? {} : { purpose: unsealed.purpose }),
    })
  },
}
