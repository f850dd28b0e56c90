/** What errand.yaml says of keys whose private half is not here: who signs with them, and for which purposes. */
import type { z } from 'zod'
import { limit, section } from './schema-parts.ts'
import { loginFields, oneLogin, ONE_LOGIN, segment, vaultFields } from './vault-source.ts'

/**
 * `feed` is not among them: what tells of revocations must not wait for Vault, nor stop with it. `status` neither: a list
 * of what is dead has to be signed anew while Vault is away.
 */
const keyOf = (type: string, purpose: string) =>
  segment.optional().describe(`Key of type ${type} that signs ${purpose}, made before.`)

const purposes = section({
  token: keyOf('ecdsa-p256', 'access tokens and hand-overs'),
  id_jag: keyOf('ecdsa-p256', 'ID-JAGs'),
  txn_token: keyOf('ecdsa-p256', 'transaction tokens'),
  checkpoint: keyOf('ed25519', 'checkpoints of the audit log, and receipts'),
  security_event: keyOf('rsa-2048 or longer', 'security events'),
})

export const signingSchema = section({
  vault_transit: section({
    ...vaultFields,
    ...loginFields,
    keys: purposes
      .refine((keys) => Object.values(keys).some((name) => name !== undefined), { error: 'no purpose is named' })
      .refine((keys) => new Set(Object.values(keys)).size === Object.values(keys).length, {
        error: 'one key for two purposes: each needs its own',
      })
      .describe('By purpose; those that are not named are signed for here.'),
    timeout_milliseconds: limit(100, 2000)
      .default(1000)
      .describe('For a signature, from when it is asked for; beyond it 503.'),
    max_concurrent: limit(1, 256)
      .default(16)
      .describe('Signatures asked for at once; as many more as 16 times that wait.'),
  })
    .refine(oneLogin, ONE_LOGIN)
    .describe('Keys of the transit engine of Vault or OpenBao.'),
})
export type SigningSource = z.output<typeof signingSchema>
