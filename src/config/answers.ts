/** The answers that `errand init` takes, from a person, from flags or from a file: read strictly. */
import { EFFECTS } from '@errand/verifier/claims.ts'
import { z } from 'zod'
import { STAGES } from '../attest/registration.ts'
import { CLIENT_ID, OPERATION_NAME, TOOL_NAME } from '../policy/identifier.ts'
import { didYouMean } from '../policy/suggest.ts'

const name = (pattern: RegExp, what: string) =>
  z
    .string()
    .regex(pattern, { error: `is no ${what}: lower-case letters, digits, "_" and "-", beginning with a letter` })
const text = z.string().min(1).max(2048)

/** The kinds of evidence that a first configuration can be made for with what a person has at hand. */
const STARTER_EVIDENCE = ['private_key_jwt', 'jwt_svid', 'x509_svid'] as const

const operation = z.union([
  z.enum(EFFECTS),
  z.strictObject({
    effect: z.enum(EFFECTS),
    description: z.string().max(120).optional(),
    routes: z.array(z.string()).max(20).default([]),
    mcp_tools: z.array(z.string()).max(20).default([]),
  }),
])

/** The answers, also as a file: what every question of `errand init` asks. */
const answersSchema = z.strictObject({
  url: text.default('http://127.0.0.1:4460'),
  mode: z.enum(['development', 'production']).optional(),
  idp: z
    .strictObject({
      issuer: text,
      name: name(TOOL_NAME, 'issuer name').default('company'),
      audience: text.optional(),
      groups_claim: text.default('groups'),
      /** A copy of its keys, where they cannot be fetched over the public internet. */
      jwks_file: text.optional(),
    })
    .optional(),
  group: text.optional(),
  trust_domain: z
    .string()
    .regex(/^[a-z0-9](?:[a-z0-9._-]{0,253}[a-z0-9])?$/, { error: 'is no trust domain: lower-case, without scheme' })
    .optional(),
  spiffe_bundle: text.optional(),
  agents: z
    .array(
      z.strictObject({
        client_id: name(CLIENT_ID, 'client_id'),
        display_name: z.string().min(1).max(120).optional(),
        stage: z.enum(STAGES).default('read'),
        evidence: z.array(z.enum(STARTER_EVIDENCE)).min(1).default(['private_key_jwt']),
      }),
    )
    .min(1)
    .max(100),
  tools: z
    .array(
      z.strictObject({
        name: name(TOOL_NAME, 'tool name'),
        audience: text,
        operations: z.record(name(OPERATION_NAME, 'operation name'), operation).optional(),
        openapi: text.optional(),
        mcp_tools: text.optional(),
      }),
    )
    .min(1)
    .max(100),
})
export type Answers = z.output<typeof answersSchema>

/** What is wrong with an answer, and where it stands: `agents.0.stage`. */
interface AnswerProblem {
  readonly path: readonly PropertyKey[]
  readonly message: string
}

export function readAnswers(
  value: unknown,
):
  | { readonly ok: true; readonly value: Answers }
  | { readonly ok: false; readonly problems: readonly AnswerProblem[] } {
  const parsed = answersSchema.safeParse(value)
  if (parsed.success) return { ok: true, value: parsed.data }
  return {
    ok: false,
    problems: parsed.error.issues.flatMap((issue): AnswerProblem[] => {
      const { path } = issue
      if (issue.code === 'unrecognized_keys')
        return issue.keys.map((key) => ({ path: [...path, key], message: 'is no answer that is known here' }))
      if (issue.code === 'invalid_key') return [{ path, message: issue.issues[0]?.message ?? 'is no name' }]
      if (issue.code === 'invalid_union') return [{ path, message: `is no effect: one of ${EFFECTS.join(', ')}` }]
      if (issue.code === 'invalid_value') {
        const values = issue.values.map(String)
        const given = path.reduce<unknown>((at, step) => (at as Record<PropertyKey, unknown>)[step], value)
        const { suggestion } = didYouMean(String(given), values)
        return [
          { path, message: `is none of ${values.join(', ')}${suggestion === undefined ? '' : `; ${suggestion}`}` },
        ]
      }
      if (issue.code === 'invalid_type') return [{ path, message: 'is missing, or is not of the right kind' }]
      return [{ path, message: issue.message }]
    }),
  }
}
