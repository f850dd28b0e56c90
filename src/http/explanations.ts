/** `GET /explanations/{id}`: why a token was issued or a request refused, for its agent and for administrators. */
import { z } from 'zod'
import { findDecision } from '../audit/explain.ts'
import type { AuditRecord, Json } from '../audit/log.ts'
import { readIntersection } from '../exchange/intersection.ts'
import { isReason, refuse } from '../oauth/refusal.ts'
import { OPERANDS } from '../policy/decision.ts'
import { pageOf } from './refusal-response.ts'
import { refused } from './refused.ts'
import type { Route } from './route.ts'
import { errorAnswers } from './schemas.ts'

const rowSchema = z.object({
  tool: z.string(),
  operation: z.string(),
  effect: z.string().optional(),
  permitted: z.boolean(),
  operands: z.record(z.enum(OPERANDS), z.enum(['yes', 'no', 'not_asked', 'absent'])),
  policies: z.array(z.string()),
  reasons: z.array(z.string()).describe('What the policies say of themselves').optional(),
  constraints: z.record(z.string(), z.unknown()).describe('Constraints on the arguments, by operand').optional(),
})

const objectIn = (value: Json | undefined) => value as { readonly [name: string]: Json } | undefined

/** The rights of a user tell of the groups it is in: they are for administrators. */
function withoutRights(record: AuditRecord): AuditRecord {
  const details = objectIn(record['details'])
  if (!Array.isArray(details?.['held'])) return record
  const held = (details['held'] as readonly string[]).filter((line) => line.split(' ')[1] !== 'subject')
  return { ...record, details: { ...details, held } }
}

export const explanationRoute: Route = {
  method: 'GET',
  path: '/explanations/:id',
  access: ['agent', 'admin'],
  tag: 'Decisions',
  summary: 'Why: by jti of a token or id of a decision',
  answers: {
    200: {
      description: 'The decision as it was recorded, and its intersection operation by operation',
      schema: z.looseObject({
        type: z.string(),
        intersection: z.object({ rows: z.array(rowSchema), more: z.number().int().optional() }).optional(),
        error_uri: z.string().optional(),
      }),
    },
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
    const { sealed: _, ...open } = caller?.kind === 'admin' ? record : withoutRights(record)
    const { settings, policyDigest, policyReason } = deps.snapshot()
    // Policies of another set may have had these ids for another reason.
    const { pol } = { ...objectIn(record['details']), ...objectIn(record['claims']) }
    const sameSet = pol === policyDigest
    const intersection = readIntersection(open as AuditRecord, sameSet ? policyReason : () => undefined)
    const reason = record['reason']
    return Response.json({
      ...open,
      ...(intersection ? { intersection } : {}),
      ...(typeof reason === 'string' && isReason(reason) ? { error_uri: pageOf(settings.issuer, reason) } : {}),
      log: { id: deps.audit.logId, index: record.i },
      ...(unsealed?.subject === undefined ? {} : { subject_name: unsealed.subject }),
      ...(unsealed?.purpose === undefined ? {} : { purpose: unsealed.purpose }),
    })
  },
}
