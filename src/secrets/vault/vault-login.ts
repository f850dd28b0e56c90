/** How Vault is entered: by a token that somebody keeps in a file, or by AppRole for one that lives a short time. */
import type { VaultLoginSource } from '../../config/vault-source.ts'
import { readSecretFile } from '../../keys/key-file.ts'
import { type Json, VaultFailure, type VaultPath, type VaultPort } from './vault-port.ts'

/** A token as it is, or what a short-lived one is given for. */
export type VaultLogin =
  | { readonly token: string }
  | { readonly roleId: string; readonly secretId: string; readonly mount: string }

export interface VaultToken {
  readonly token: string
  /** 0 where it has no end. */
  readonly lifetimeSeconds: number
  readonly renewable: boolean
}

export const segments = (mount: string): VaultPath => mount.split('/')

/** Reads the files anew each time: a secret that was replaced is found. Throws `KeyMaterialError` where one is unsafe. */
export const loginFrom =
  ({ token_file, approle }: VaultLoginSource) =>
  async (): Promise<VaultLogin> => {
    const secretIn = async (file: string) => (await readSecretFile(file)).trim()
    return approle
      ? { roleId: approle.role_id, secretId: await secretIn(approle.secret_id_file), mount: approle.mount }
      : { token: await secretIn(token_file!) }
  }

export async function logIn(
  stranger: VaultPort,
  { roleId, secretId, mount }: Extract<VaultLogin, { roleId: string }>,
): Promise<VaultToken> {
  const answer = await stranger
    .write(['auth', ...segments(mount), 'login'], { role_id: roleId, secret_id: secretId })
    .catch((error: unknown): never => {
      // 400 is its word for it, as for much that has nothing to do with a login.
      if (error instanceof VaultFailure && error.status === 400)
        throw new VaultFailure(`Vault refuses the login by auth/${mount}: is the role right, and the secret id?`)
      throw error
    })
  return tokenIn(answer, 'a login')
}

/** Its `auth` block, in the answer to a login or a renewal. */
export function tokenIn(answer: Json, to: string): VaultToken {
  const { client_token, lease_duration, renewable } = (answer['auth'] ?? {}) as Json
  if (typeof client_token !== 'string') throw new VaultFailure(`Vault answered ${to} without a token`)
  return {
    token: client_token,
    lifetimeSeconds: typeof lease_duration === 'number' ? lease_duration : 0,
    renewable: renewable === true,
  }
}
