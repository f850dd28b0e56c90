/** Who asks Vault to sign: its login through the life of tokens, how many ask, and what is done while nobody answers. */
import { createPublicKey, generateKeyPairSync, type KeyObject } from 'node:crypto'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { signingSchema } from '../../src/config/signing-source.ts'
import { isSignature } from '../../src/keys/sign.ts'
import { createTransitSigner, type TransitSigner } from '../../src/secrets/vault/transit-signer.ts'
import { openVaultDouble, type VaultDouble } from '../vault/double.ts'

const BYTES = Buffer.from('what is signed')
const away = expect.objectContaining({ reason: 'signer_unavailable', retryAfterSeconds: 1 })

describe('a signer in Vault', () => {
  let dir: string
  let vault: VaultDouble
  let clock: { ms: number }
  const open: TransitSigner[] = []
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'errand-signer-'))
  })
  afterAll(() => rm(dir, { recursive: true }))
  beforeEach(async () => {
    vault = await openVaultDouble()
    clock = { ms: 0 }
    await writeFile(join(dir, 'secret-id'), vault.secretId, { mode: 0o600 })
    await writeFile(join(dir, 'token'), vault.limited, { mode: 0o600 })
  })
  afterEach(async () => {
    vault.world = {}
    for (const signer of open.splice(0)) await signer.close()
    await vault.close()
  })

  const opened = (more: object = { token_file: join(dir, 'token') }) => {
    const source = { address: vault.address, keys: { token: 'errand-token' }, timeout_milliseconds: 2000, ...more }
    const { vault_transit } = signingSchema.parse({ vault_transit: source })
    const signer = createTransitSigner(vault_transit, { fetch: globalThis.fetch, monotonic: () => clock.ms })
    open.push(signer)
    return signer
  }
  const byRole = (more: object = {}) =>
    opened({ approle: { role_id: vault.roleId, secret_id_file: join(dir, 'secret-id') }, ...more })
  const keyOf = async (signer: TransitSigner) => {
    const { ref, publicJwk } = await signer.newest('token')
    const key: KeyObject = createPublicKey({ key: publicJwk, format: 'jwk' })
    return { ref, sign: async () => isSignature('ES256', key, BYTES, await signer.sign(ref, 'ES256', BYTES)) }
  }
  const count = (what: string) => vault.asked.filter(({ line }) => line.includes(what)).length

  it('logs in once for all who sign at one time, and gives the token back when it closes', async () => {
    const signer = byRole()
    const { sign } = await keyOf(signer)
    expect(await Promise.all(Array.from({ length: 40 }, sign))).toEqual(Array(40).fill(true))
    expect([count('approle/login'), vault.liveTokens()]).toEqual([1, 1])
    await signer.close()
    expect(vault.liveTokens()).toBe(0)
  })

  it('N2 gets one new login where its token was ended, and no stampede', async () => {
    const { sign } = await keyOf(byRole())
    clock.ms += 6_000
    vault.revokeAll()
    expect(await Promise.all(Array.from({ length: 40 }, sign))).toEqual(Array(40).fill(true))
    expect([count('approle/login'), vault.liveTokens()]).toEqual([2, 1])
  })

  it('does not log in again and again where it is the policy that says no', async () => {
    const signer = byRole()
    const { sign } = await keyOf(signer)
    vault.world = { denied: true }
    for (let turn = 0; turn < 10; turn++) await expect(sign()).rejects.toEqual(away)
    expect(count('approle/login')).toBe(1)
  })

  it('renews its token at half of its life, and goes on by it', async () => {
    vault.tokens = { lifetimeSeconds: 60, renewable: true, renewedSeconds: 60 }
    const { sign } = await keyOf(byRole())
    for (const [after, renewals] of [
      [20, 0],
      [15, 1],
      [20, 1],
      [15, 2],
    ] as const) {
      clock.ms += after * 1000
      expect(await sign()).toBe(true)
      await expect.poll(() => count('renew-self')).toBe(renewals)
    }
    expect(count('approle/login')).toBe(1)
  })

  it('N6 logs in anew where renewing gives less and less, and where a token cannot be renewed', async () => {
    vault.tokens = { lifetimeSeconds: 60, renewable: true, renewedSeconds: 5 }
    const { sign } = await keyOf(byRole())
    clock.ms += 31_000
    expect(await sign()).toBe(true)
    await expect.poll(() => [count('renew-self'), count('approle/login')]).toEqual([1, 2])
    vault.tokens = { lifetimeSeconds: 60, renewable: false, renewedSeconds: 60 }
    clock.ms += 61_000
    expect(await sign()).toBe(true)
    clock.ms += 31_000
    expect(await sign()).toBe(true)
    await expect.poll(() => [count('renew-self'), count('approle/login')]).toEqual([1, 4])
  })

  it('goes on by its token while a renewal is not answered, and reads a token that was put in the place of the old one', async () => {
    const signer = opened()
    const { ref, sign } = await keyOf(signer)
    await writeFile(join(dir, 'token'), `${vault.token}\n`, { mode: 0o600 })
    clock.ms += 61_000
    expect(await sign()).toBe(true)
    expect(vault.asked.at(-1)?.headers['x-vault-token']).toBe(vault.token)
    expect(ref).toEqual({ mount: 'transit', key: 'errand-token', version: 1 })
  })

  it('H6 O6 asks for so many at a time, lets so many wait, and refuses the rest within its time', async () => {
    const { sign } = await keyOf(byRole({ max_concurrent: 4 }))
    let go = () => {}
    vault.world = { wait: new Promise((resolve) => (go = resolve)) }
    const asked = Array.from({ length: 4 + 64 + 10 }, sign).map((each) => each.catch((error: unknown) => error))
    // Those beyond what may wait hear it at once, while nobody else has heard anything.
    expect(await Promise.all(asked.slice(-10))).toEqual(Array(10).fill(away))
    vault.world = {}
    go()
    expect(await Promise.all(asked.slice(0, 68))).toEqual(Array(68).fill(true))
    expect(vault.mostAtOnce()).toBeLessThanOrEqual(4)
    const hasty = await keyOf(byRole({ max_concurrent: 4, timeout_milliseconds: 300 }))
    vault.world = { hang: true }
    const late = Array.from({ length: 20 }, hasty.sign).map((each) => each.catch((error: unknown) => error))
    expect(await Promise.all(late)).toEqual(Array(20).fill(away))
  })

  it.each([
    ['sealed', { status: 503 }, /503: it is sealed/],
    ['a standby', { status: 429 }, /429/],
    ['a standby of performance', { status: 473 }, /473/],
    ['an error', { status: 500 }, /500/],
    ['a redirect', { status: 307, location: 'http://127.0.0.1:9/v1/x' }, /redirects are not followed/],
    ['a hang', { hang: true }, /within 300 ms/],
    ['a denial', { denied: true }, /403: may this login update transit\/sign\/errand-token/],
  ] as const)(
    'N1 says what Vault answers (%s), asks no more after the third, and again after a second',
    async (_, world, message) => {
      const signer = byRole(Object.hasOwn(world, 'hang') ? { timeout_milliseconds: 300 } : {})
      const { sign } = await keyOf(signer)
      vault.world = world
      for (let turn = 0; turn < 3; turn++) {
        expect(signer.answers()).toBe(true)
        await expect(sign()).rejects.toMatchObject({
          reason: 'signer_unavailable',
          message: expect.stringMatching(message),
        })
      }
      expect(signer.answers()).toBe(false)
      expect(() => signer.ready()).toThrow(away)
      const before = vault.asked.length
      await expect(sign()).rejects.toEqual(away)
      expect(vault.asked).toHaveLength(before)
      clock.ms += 1_100
      vault.world = {}
      signer.ready()
      expect(await sign()).toBe(true)
      expect(signer.answers()).toBe(true)
    },
  )

  it('is not kept from other keys by one that is not there', async () => {
    const signer = byRole({ keys: { token: 'errand-token', id_jag: 'nothing' } })
    const { sign } = await keyOf(signer)
    for (let turn = 0; turn < 5; turn++)
      await expect(signer.newest('id_jag')).rejects.toMatchObject({ message: expect.stringMatching(/404/) })
    expect(await sign()).toBe(true)
  })

  it('takes no key of another type, without its public half, or smaller than it says', async () => {
    const signer = byRole({
      keys: { token: 'errand-root', checkpoint: 'errand-checkpoint', security_event: 'errand-events' },
    })
    await expect(signer.newest('token')).rejects.toMatchObject({
      message: expect.stringMatching(/no key of type ecdsa/),
    })
    const small = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey.export({ type: 'spki', format: 'pem' })
    for (const public_key of [undefined, 'none', small]) {
      vault.world = { instead: (data) => ({ ...data, keys: { 1: { public_key } } }) }
      await expect(signer.newest('security_event')).rejects.toMatchObject({ reason: 'signer_unavailable' })
      await expect(signer.newest('checkpoint')).rejects.toMatchObject({ reason: 'signer_unavailable' })
    }
  })

  it.each([
    ['an address in the clear', { address: 'http://vault.example.com' }],
    ['two logins', { approle: { role_id: 'r', secret_id_file: '/s' } }],
    ['no login', { token_file: undefined }],
    ['no purpose', { keys: {} }],
    ['one key for two purposes', { keys: { token: 'k', id_jag: 'k' } }],
    ['the feed', { keys: { feed: 'k' } }],
    ['the status of tokens', { keys: { status: 'k' } }],
    ['a time that an exchange does not have', { timeout_milliseconds: 5000 }],
  ])('is not configured with %s', (_, more) => {
    const source = { address: 'https://vault.example.com', token_file: '/t', keys: { token: 'k' } }
    expect(signingSchema.safeParse({ vault_transit: source }).success).toBe(true)
    expect(signingSchema.safeParse({ vault_transit: { ...source, ...more } }).success).toBe(false)
  })
})
