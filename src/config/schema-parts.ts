/** What files of config/ have in common: names, paths, lists, keys and rights, each with the words for what is wrong. */
import { z } from 'zod'
import { CLIENT_ID, TOOL_NAME } from '../policy/identifier.ts'
import { CLASSIFICATIONS, ENVIRONMENTS } from '../tasks/task.ts'

export const identifier = (pattern: RegExp, what: string) =>
  z
    .string()
    .regex(pattern, { error: `${what}: lower-case ASCII letters, digits, "_" and "-", beginning with a letter` })
export const clientId = identifier(CLIENT_ID, 'not a client_id')
export const toolName = identifier(TOOL_NAME, 'not a tool name')
/** Groups and subjects come from elsewhere and are compared as they are: printable ASCII, no outer spaces. */
export const foreignName = z
  .string()
  .regex(/^[!-~](?:[ -~]{0,253}[!-~])?$/, { error: 'not a name: printable ASCII without outer spaces, 255 at most' })
export const display = z.string().regex(/^[^\u0000-\u001f\u007f-\u009f\u2028-\u202e\u2066-\u2069]{1,120}$/, {
  error: 'one line of 1 to 120 characters',
})

export const limit = (min: number, max: number) => z.int().min(min).max(max)
/** G7: empty, missing and null all mean none. */
export const list = <T extends z.ZodType>(item: T) =>
  z
    .array(item)
    .max(1000)
    .nullish()
    .transform((value) => value ?? [])
export const section = <T extends z.ZodRawShape>(shape: T) => z.strictObject(shape)

/** Inside keys/, by relative path: no way out of the folder. */
export const keysPath = z.string().regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]*(?:\/[A-Za-z0-9_][A-Za-z0-9_.-]*){0,4}$/, {
  error: 'not a path inside the keys folder: segments of letters, digits, "_", "." and "-"',
})
const publicKey = z.looseObject({ kty: z.string(), kid: z.string() })
export const keyFields = {
  keys_file: keysPath.optional().describe('Public key (JWK or JWKS) by path inside the keys folder.'),
  keys: z.array(publicKey).max(8).optional().describe('Public keys written here instead of in a file.'),
}

export const constraint = z
  .record(z.string(), z.unknown())
  .describe(
    'Closed JSON Schema subset: type, enum, minimum, maximum, minLength, maxLength, minItems, maxItems, items, properties, required, additionalProperties: false.',
  )

const pattern = z
  .string()
  .regex(/^[a-z][a-z0-9_-]{0,31}:(?:\*|[a-z][a-z0-9_.-]{0,63})$/, { error: 'not of the form tool:operation or tool:*' })
  .describe('`tool:operation`, or `tool:*` for all operations of a tool.')
export const rights = list(
  z.union([
    pattern,
    section({ operation: pattern, constraints: constraint.optional().describe('Bounds on the arguments.') }),
  ]),
)

export const url = z.string().min(1).max(2048)

export const defaultTask = section({
  purpose: display.describe('What it does.'),
  environment: z.enum(ENVIRONMENTS).describe('Where it does it.'),
  data_classification: z.enum(CLASSIFICATIONS).describe('With what data at most.'),
  deadline_seconds: limit(1, 604_800)
    .optional()
    .describe('Seconds until it ends; without it tasks.default_deadline_seconds.'),
})
  .optional()
  .describe('Of tasks that its client opens without request_details, because it cannot send them.')
export const claimName = z.string().regex(/^[A-Za-z][A-Za-z0-9_:/.-]{0,127}$/, { error: 'not a claim name' })

export type Rights = z.output<typeof rights>
