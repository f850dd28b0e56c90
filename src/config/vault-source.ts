/** What errand.yaml says of a transit engine in Vault or OpenBao: where it is, and how it is entered. */
import { checkServiceUrl } from '@errand/verifier/http.ts'
import { z } from 'zod'
import { section, url } from './schema-parts.ts'

export const absolutePath = z
  .string()
  .regex(/^\/[!-~]{1,1023}$/, { error: 'not an absolute path without spaces' })
  .refine((path) => !path.split('/').includes('..'), { error: 'a path without ".."' })

export const segment = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}$/, { error: 'not a name in Vault' })
const segments = z.string().regex(/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}(?:\/[A-Za-z0-9_-][A-Za-z0-9._-]{0,127}){0,7}$/, {
  error: 'not a path in Vault, without outer slashes',
})

function isHttpsOrLoopback(text: string): boolean {
  try {
    return checkServiceUrl(text).pathname === '/'
  } catch {
    return false
  }
}

export const vaultFields = {
  address: url
    .refine((text) => isHttpsOrLoopback(text), { error: 'not https (or http on loopback), or more than an address' })
    .describe('Where Vault or OpenBao is reached.'),
  namespace: segments.optional().describe('Namespace of the engine, where there are any.'),
  mount: segments.default('transit').describe('Where the transit engine is mounted.'),
}

export const loginFields = {
  token_file: absolutePath.optional().describe('A token in a file with mode 0600.'),
  approle: section({
    mount: segments.default('approle').describe('Where the auth method is mounted.'),
    role_id: segment.describe('The role.'),
    secret_id_file: absolutePath.describe('Its secret id in a file with mode 0600.'),
  })
    .optional()
    .describe('A login for a token that is given back when it is needed no more.'),
}

interface Login {
  readonly token_file?: string | undefined
  readonly approle?: object | undefined
}
export const oneLogin = (value: Login): boolean => (value.token_file === undefined) !== (value.approle === undefined)
export const ONE_LOGIN = { error: 'exactly one of token_file, approle' }

/** As both readers of it have it. */
export type VaultLoginSource = {
  readonly token_file?: string | undefined
  readonly approle?: { readonly mount: string; readonly role_id: string; readonly secret_id_file: string } | undefined
}
