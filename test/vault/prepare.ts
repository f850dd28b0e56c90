/** A server made ready for the contract: mounts, keys, policy and tokens of its own on a real one; the double has them. */
import { randomBytes } from 'node:crypto'
import { ask, type VaultUnderTest } from './contract.ts'
import { LIMITED, openVaultDouble, type VaultDouble } from './double.ts'

type Tokens = VaultUnderTest['tokens']

interface Made {
  readonly auth?: { readonly client_token?: string }
}

async function tokensAt(address: string, root: string, policy: string, limited?: string): Promise<Tokens> {
  const make = async (more: object) => {
    const body = { policies: [policy], ttl: '60s', ...more }
    const made = (await ask({ address }, root, 'POST', 'auth/token/create', body)).body as Made
    return made.auth?.client_token ?? ''
  }
  const revoked = await make({})
  await ask({ address }, revoked, 'POST', 'auth/token/revoke-self', {})
  return {
    root,
    limited: limited ?? (await make({})),
    revoked,
    batch: await make({ type: 'batch' }),
    fixed: await make({ renewable: false }),
    wrong: 'wrong',
    nobody: '',
  }
}

export interface Prepared extends VaultUnderTest {
  close(): Promise<void>
}

export async function prepareDouble(): Promise<Prepared & { readonly double: VaultDouble }> {
  const double = await openVaultDouble()
  const { address, token, limited, secretId } = double
  const tokens = await tokensAt(address, token, 'limited', limited)
  return { address, tokens, mount: 'transit', approle: 'approle', secretId, double, close: () => double.close() }
}

const TYPES: Readonly<Record<string, string>> = { 'errand-checkpoint': 'ed25519', 'errand-events': 'rsa-2048' }

/** Of mounts that nobody else has, taken away again by `close`. */
export async function prepareServer(address: string, root: string): Promise<Prepared> {
  const name = `errand-test-${randomBytes(6).toString('hex')}`
  const [mount, approle] = [`${name}-transit`, `${name}-approle`]
  const post = async (path: string, body: object) => {
    const { status, body: said } = await ask({ address }, root, 'POST', path, body)
    if (status >= 300) throw new Error(`${path}: ${status} ${JSON.stringify(said.errors)}`)
    return said
  }
  await post(`sys/mounts/${mount}`, { type: 'transit' })
  for (const key of ['errand-root', 'other']) await post(`${mount}/keys/${key}`, {})
  for (const key of LIMITED) await post(`${mount}/keys/${key}`, { type: TYPES[key] ?? 'ecdsa-p256' })
  const rules = LIMITED.flatMap((key) => [
    `path "${mount}/sign/${key}" { capabilities = ["update"] }`,
    `path "${mount}/keys/${key}" { capabilities = ["read"] }`,
    `path "${mount}/keys/${key}/rotate" { capabilities = ["update"] }`,
  ])
  await post(`sys/policy/${name}`, { policy: rules.join('\n') })
  await post(`sys/auth/${approle}`, { type: 'approle' })
  await post(`auth/${approle}/role/errand`, { token_policies: [name], token_ttl: '60s', token_max_ttl: '3600s' })
  await post(`auth/${approle}/role/errand/role-id`, { role_id: 'errand' })
  const given = (await post(`auth/${approle}/role/errand/secret-id`, {})).data as { readonly secret_id: string }
  return {
    address,
    tokens: await tokensAt(address, root, name),
    mount,
    approle,
    secretId: given.secret_id,
    async close() {
      for (const path of [`sys/mounts/${mount}`, `sys/auth/${approle}`, `sys/policy/${name}`])
        await ask({ address }, root, 'DELETE', path)
    },
  }
}
