/** What errand.yaml says of the root key's guard: where a passphrase comes from, or who wraps the key. */
import { z } from 'zod'
import { limit, section } from './schema-parts.ts'

const absolutePath = z
  .string()
  .regex(/^\/[!-~]{1,1023}$/, { error: 'not an absolute path without spaces' })
  .refine((path) => !path.split('/').includes('..'), { error: 'a path without ".."' })

const oneOf = <T extends z.ZodRawShape>(shape: T) =>
  section(shape).refine((value) => Object.values(value).filter((each) => each !== undefined).length === 1, {
    error: `exactly one of ${Object.keys(shape).join(', ')}`,
  })

export const rootSchema = oneOf({
  passphrase: oneOf({
    file: absolutePath.optional().describe('A file with mode 0600 of the user that runs the service.'),
    fd: limit(0, 1023).optional().describe('An open file descriptor, read to its end.'),
    prompt: z.literal(true).optional().describe('Asked for at the terminal.'),
  })
    .optional()
    .describe('A passphrase of 12 characters or more, through scrypt.'),
})
export type RootSource = z.infer<typeof rootSchema>
