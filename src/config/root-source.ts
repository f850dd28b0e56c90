/** What errand.yaml says of the root key's guard: where a passphrase comes from, or who wraps the key. */
import { z } from 'zod'
import { limit, section } from './schema-parts.ts'
import { absolutePath, loginFields, oneLogin, ONE_LOGIN, segment, vaultFields } from './vault-source.ts'

const label = z.string().regex(/^[A-Za-z0-9][A-Za-z0-9 ._-]{0,31}$/, { error: 'not a label' })

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
  vault_transit: section({
    ...vaultFields,
    key: segment.describe('Its key: one that encrypts, made before.'),
    ...loginFields,
    timeout_seconds: limit(1, 60).default(5).describe('For each answer.'),
  })
    .refine(oneLogin, ONE_LOGIN)
    .optional()
    .describe('A key of the transit engine of Vault or OpenBao.'),
  pkcs11: section({
    module: absolutePath.describe('The library of the token.'),
    token: label.describe('Label of the token.'),
    key_id: z
      .string()
      .regex(/^(?:[0-9a-f]{2}){1,32}$/, { error: 'not an id: lower-case hexadecimal' })
      .describe('Id of the RSA key pair in it, hexadecimal.'),
    pin_file: absolutePath.describe('The PIN in a file with mode 0600.'),
    tool: absolutePath.default('/usr/bin/pkcs11-tool').describe('The program of OpenSC.'),
    environment: z
      .record(z.string().regex(/^[A-Z][A-Z0-9_]{0,63}$/), z.string().max(1024))
      .default({})
      .describe('Variables that the library reads; it gets no others.'),
    timeout_seconds: limit(1, 60).default(10).describe('For each run of the program.'),
  })
    .optional()
    .describe('A key in a hardware token (or SoftHSM), by pkcs11-tool.'),
})
export type RootSource = z.infer<typeof rootSchema>
