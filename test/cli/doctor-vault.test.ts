/** What `errand doctor` says of keys in Vault. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, it } from 'vitest'
import { signingFindings } from '../../src/cli/doctor-vault.ts'
import { signingSchema } from '../../src/config/signing-source.ts'
import { openVaultDouble, type VaultDouble } from '../vault/double.ts'

describe('errand doctor where Vault signs', () => {
  let vault: VaultDouble
  let dir: string
  beforeAll(async () => {
    vault = await openVaultDouble()
    dir = await mkdtemp(join(tmpdir(), 'errand-doctor-'))
    for (const [name, text] of Object.entries({ limited: vault.limited, root: vault.token, wrong: 's.wrong' }))
      await writeFile(join(dir, name), text, { mode: 0o600 })
    await writeFile(join(dir, 'open'), vault.limited, { mode: 0o644 })
    vault.transit.add('loose', 'ecdsa-p256', { exportable: true, deletion_allowed: true })
  })
  afterAll(async () => {
    await vault.close()
    await rm(dir, { recursive: true })
  })
  beforeEach(() => {
    vault.world = {}
    vault.asked.length = 0
  })

  const look = async (keys: object, file = 'limited') => {
    const source = { address: vault.address, token_file: join(dir, file), keys }
    const findings = await signingFindings(signingSchema.parse({ vault_transit: source }), { fetch: globalThis.fetch })
    for (const { level, mend, message } of findings) {
      expect(mend === undefined).toBe(level === 'good')
      for (const secret of [vault.token, vault.limited, 's.wrong']) expect(message).not.toContain(secret)
    }
    return findings.map(({ level, code, message }) => [level, code, message] as const)
  }

  it('finds nothing wrong with keys that stay there and a login that may do what it needs, and changes nothing', async () => {
    expect(await look({ token: 'errand-token', checkpoint: 'errand-checkpoint' })).toEqual([
      ['good', 'signing_key', 'token is signed by transit/errand-token (ecdsa-p256, 1 versions)'],
      ['good', 'signing_key', 'checkpoint is signed by transit/errand-checkpoint (ed25519, 1 versions)'],
    ])
    expect(vault.asked.map(({ line }) => line).filter((line) => /sign|rotate/.test(line))).toEqual([])
  })

  it.each([
    ['a key of another type', { token: 'errand-checkpoint' }, 'limited', 'wrong', 'signing_key_unfit', /ecdsa-p256/],
    ['no such key', { token: 'nothing' }, 'root', 'wrong', 'signing_key_unfit', /404/],
    ['a key that may leave', { token: 'loose' }, 'root', 'weak', 'signing_key_loose', /exportable, deletion_allowed/],
    ['another key than it may use', { token: 'loose' }, 'limited', 'wrong', 'signer_login_lacks', /read transit\/keys/],
    ['a login that may do all', { token: 'errand-token' }, 'root', 'weak', 'signer_login_broad', /root/],
    ['a token that is none', { token: 'errand-token' }, 'wrong', 'wrong', 'signer_away', /403: may this login log in/],
    ['a token that others can read', { token: 'errand-token' }, 'open', 'wrong', 'signer_away', /mode 0644/],
    ['no token', { token: 'errand-token' }, 'none', 'wrong', 'signer_away', /does not exist/],
  ] as const)('says what is wrong with %s', async (_, keys, file, level, code, message) => {
    const found = await look(keys, file)
    expect(found).toContainEqual([level, code, expect.stringMatching(message)])
  })

  it('says so where Vault is sealed', async () => {
    vault.world = { status: 503 }
    expect(await look({ token: 'errand-token' })).toEqual([
      ['wrong', 'signer_away', expect.stringMatching(/503: it is sealed/)],
    ])
  })
})
