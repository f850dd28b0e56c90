/** The root key under a key in Vault: what Vault is asked, and what is said where it does not do it. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it, vi } from 'vitest'
import { rootSchema, type RootSource } from '../../src/config/root-source.ts'
import { loadRootKey, openRootKey } from '../../src/keys/root-key.ts'
import { openRootGuard } from '../../src/secrets/open-root-guard.ts'
import { createVaultPort } from '../../src/secrets/vault/vault-port.ts'
import { openVaultDouble, type VaultDouble } from '../vault/double.ts'

describe('a root key wrapped by Vault', () => {
  let vault: VaultDouble
  let dir: string
  beforeAll(async () => {
    vault = await openVaultDouble()
    dir = await mkdtemp(join(tmpdir(), 'errand-vault-'))
    for (const [name, text] of [
      ['token', `${vault.token}\n`],
      ['secret-id', vault.secretId],
      ['wrong', 's.wrong'],
    ] as const)
      await writeFile(join(dir, name), text, { mode: 0o600 })
  })
  afterAll(async () => {
    await vault.close()
    await rm(dir, { recursive: true })
  })
  beforeEach(() => {
    vault.world = {}
    vault.asked.length = 0
  })

  type Transit = Partial<NonNullable<RootSource['vault_transit']>>
  const guard = (more: Transit = {}) => {
    const login = more.approle ? {} : { token_file: join(dir, 'token') }
    const source = { address: vault.address, key: 'errand-root', timeout_seconds: 1, ...login, ...more }
    return openRootGuard(rootSchema.parse({ vault_transit: source }), { fetch: globalThis.fetch })!
  }
  const wrongRole = () => ({ ...approle(), role_id: 'somebody' })
  const approle = () => ({ mount: 'approle', role_id: vault.roleId, secret_id_file: join(dir, 'secret-id') })

  it('is made and opened by its transit key, with one request each', async () => {
    const path = join(dir, 'root.key')
    const { key } = await openRootKey(path, guard())
    expect(vault.asked.map(({ line }) => line)).toEqual([
      'POST /v1/transit/encrypt/errand-root',
      'POST /v1/transit/decrypt/errand-root',
    ])
    expect(await loadRootKey(path, guard())).toEqual(key)
    expect(vault.asked.at(-1)?.headers['x-vault-token']).toBe(vault.token)
  })

  it('opens with a login of its own, and gives the token of that back', async () => {
    const path = join(dir, 'by-role.key')
    await openRootKey(path, guard({ approle: approle() }))
    expect(vault.asked.map(({ line }) => line.split('/v1/')[1])).toEqual([
      ...['auth/approle/login', 'transit/encrypt/errand-root', 'auth/token/revoke-self'],
      ...['auth/approle/login', 'transit/decrypt/errand-root', 'auth/token/revoke-self'],
    ])
    expect(vault.liveTokens()).toBe(0)
    expect(vault.asked[0]?.headers['x-vault-token']).toBeUndefined()
  })

  it('O5 says what is wrong, in words that hold no token and nothing of what was asked', async () => {
    const path = join(dir, 'refused.key')
    await openRootKey(path, guard())
    const elsewhere = await openVaultDouble()
    const cases: readonly (readonly [string, VaultDouble['world'], Transit, string, RegExp])[] = [
      ['sealed', { status: 503 }, {}, 'root_key_unavailable', /503: it is sealed/],
      ['a standby', { status: 429 }, {}, 'root_key_unavailable', /answered 429/],
      ['an error', { status: 500 }, {}, 'root_key_unavailable', /answered 500/],
      ['a redirect', { status: 307, location: `${elsewhere.address}/v1/x` }, {}, 'root_key_unavailable', /redirects/],
      ['a hang', { hang: true }, {}, 'root_key_unavailable', /does not answer/],
      ['a denial', { denied: true }, {}, 'root_key_unavailable', /403: may this login/],
      ['another key', {}, { key: 'other' }, 'key_file_unsafe', /another key/],
      ['no key', {}, { key: 'nothing' }, 'root_key_unavailable', /404: is the transit engine/],
      ['a wrong login', {}, { approle: wrongRole() }, 'root_key_unavailable', /refuses the login/],
      ['a wrong token', {}, { token_file: join(dir, 'wrong') }, 'root_key_unavailable', /403/],
      ['nobody there', {}, { address: 'http://127.0.0.1:9' }, 'root_key_unavailable', /does not answer/],
    ]
    for (const [name, world, source, code, message] of cases) {
      vault.world = world
      const error = await loadRootKey(path, guard(source)).catch((thrown: unknown) => thrown)
      expect(error, name).toMatchObject({ code, message: expect.stringMatching(message) })
      for (const secret of [vault.token, 'vault:v1:', 's.wrong'])
        expect(`${(error as Error).message} ${JSON.stringify(error)}`, name).not.toContain(secret)
    }
    // X-Vault-Token went to nobody else.
    expect(elsewhere.asked).toEqual([])
    await elsewhere.close()
  })

  it('is spoken to as the configuration says, whatever the environment of node-vault holds', async () => {
    const told: string[] = []
    const stderr = vi
      .spyOn(process.stderr, 'write')
      .mockImplementation((text) => void told.push(String(text)) === undefined)
    vi.stubEnv('VAULT_ADDR', 'http://127.0.0.1:9')
    vi.stubEnv('VAULT_TOKEN', 'of the environment')
    vi.stubEnv('VAULT_PREFIX', '/elsewhere')
    vi.stubEnv('VAULT_NAMESPACE', 'another')
    vi.stubEnv('DEBUG', 'node-vault')
    try {
      const port = await createVaultPort({ address: vault.address, fetch: globalThis.fetch, timeoutMs: 1000 })
      await expect(port.write(['transit', 'encrypt', 'errand-root'], { plaintext: 'c2VjcmV0' })).rejects.toMatchObject({
        status: 403,
      })
    } finally {
      vi.unstubAllEnvs()
      stderr.mockRestore()
    }
    expect(vault.asked.map(({ line }) => line)).toEqual(['POST /v1/transit/encrypt/errand-root'])
    expect(vault.asked[0]?.headers).not.toHaveProperty('x-vault-token')
    expect(vault.asked[0]?.headers).not.toHaveProperty('x-vault-namespace')
    expect(told.join('')).not.toContain('c2VjcmV0')
  })

  it('goes nowhere by a path that means more than it says', async () => {
    const port = await createVaultPort({ address: vault.address, fetch: globalThis.fetch, timeoutMs: 1000 })
    for (const segment of ['..', '.', 'a/b', 'a?b', 'a#b', 'a%2fb', "a'b", 'a=b', '', '-'.repeat(129)])
      await expect(port.write(['transit', segment], {}), segment).rejects.toThrow('not a path')
    expect(vault.asked).toEqual([])
  })

  it.each([
    ['an address in the clear', { address: 'http://vault.example.com' }],
    ['an address with a user', { address: 'https://u:p@vault.example.com' }],
    ['an address with a path', { address: 'https://vault.example.com/v1' }],
    ['a mount with dots', { mount: '../sys' }],
    ['a key with a slash', { key: 'a/b' }],
    ['two logins', { approle: { role_id: 'r', secret_id_file: '/s' } }],
    ['no login', { token_file: undefined }],
    ['a relative file', { token_file: 'token' }],
  ])('is not configured with %s', (_, more) => {
    const source = { address: 'https://vault.example.com', key: 'k', token_file: '/t' }
    expect(rootSchema.safeParse({ vault_transit: source }).success).toBe(true)
    expect(rootSchema.safeParse({ vault_transit: { ...source, ...more } }).success).toBe(false)
  })
})
