/** What Errand does with a transit engine, from end to end: the root key wrapped, and each algorithm signed and rotated. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { importJWK, jwtVerify } from 'jose'
import { afterAll, beforeAll, expect, it } from 'vitest'
import { rootSchema } from '../../src/config/root-source.ts'
import { signingSchema } from '../../src/config/signing-source.ts'
import { openKeyRing } from '../../src/keys/key-ring.ts'
import type { KeyPurpose } from '../../src/keys/key-store.ts'
import { loadRootKey, openRootKey } from '../../src/keys/root-key.ts'
import { createSealer } from '../../src/keys/seal.ts'
import { openRootGuard } from '../../src/secrets/open-root-guard.ts'
import { openSigner } from '../../src/secrets/open-signer.ts'
import { memoryKeyStore } from '../keys/memory-key-store.ts'
import type { VaultUnderTest } from './contract.ts'

const PURPOSES = ['token', 'id_jag', 'checkpoint', 'security_event', 'feed'] as const satisfies readonly KeyPurpose[]
const KEYS = {
  token: 'errand-token',
  id_jag: 'errand-jag',
  checkpoint: 'errand-checkpoint',
  security_event: 'errand-events',
}

export function worksWithTransit(name: string, open: () => VaultUnderTest): void {
  let dir: string
  const file = (which: string) => join(dir, which)
  beforeAll(async () => {
    dir = await mkdtemp(join(tmpdir(), 'errand-transit-'))
    const { tokens, secretId } = open()
    for (const [which, text] of Object.entries({ root: tokens.root, limited: tokens.limited, secret: secretId }))
      await writeFile(file(which), text, { mode: 0o600 })
  })
  afterAll(() => rm(dir, { recursive: true }))

  it(`wraps the root key by ${name}, and opens it again`, async () => {
    const { address, mount } = open()
    const source = { address, mount, key: 'errand-root', token_file: file('root') }
    const guard = () => openRootGuard(rootSchema.parse({ vault_transit: source }), { fetch: globalThis.fetch })!
    const { key, made } = await openRootKey(file('root.key'), guard())
    expect(made).toBe(true)
    expect(await loadRootKey(file('root.key'), guard())).toEqual(key)
    const other = { vault_transit: { ...source, key: 'other' } }
    await expect(
      loadRootKey(file('root.key'), openRootGuard(rootSchema.parse(other), { fetch: globalThis.fetch })),
    ).rejects.toMatchObject({ code: 'key_file_unsafe' })
  })

  it.each(['token_file', 'approle'] as const)(
    `signs by ${name}, each purpose by its algorithm, entered by %s`,
    async (by) => {
      const { address, mount, approle } = open()
      const entered =
        by === 'token_file'
          ? { token_file: file('limited') }
          : { approle: { mount: approle, role_id: 'errand', secret_id_file: file('secret') } }
      const source = signingSchema.parse({ vault_transit: { address, mount, keys: KEYS, ...entered } })
      const signer = openSigner(source, { fetch: globalThis.fetch, monotonic: () => performance.now() })!
      const ring = await openKeyRing({
        store: memoryKeyStore(),
        sealer: createSealer(new Uint8Array(32).fill(5)),
        now: () => 1_800_000_000,
        monotonic: () => 0,
        purposes: PURPOSES,
        announce: async () => {},
        signer,
      })
      for (const purpose of PURPOSES) {
        const before = ring.activeKid(purpose)
        const kid = await ring.prepare(purpose, 'asked')
        expect(await ring.activate(kid, 'asked')).toBe(true)
        const jws = await ring.sign(purpose, { typ: 'x+jwt' }, { iss: 'us' })
        const jwk = ring.jwks().keys.find((key) => key.kid === kid)!
        const { payload, protectedHeader } = await jwtVerify(jws, await importJWK(jwk))
        expect(payload).toEqual({ iss: 'us' })
        expect(protectedHeader).toEqual({ typ: 'x+jwt', alg: jwk.alg, kid })
        // The one before signs for a moment yet, by its own version.
        await jwtVerify(
          await ring.signWith(before, { typ: 'x+jwt' }, {}),
          await importJWK(ring.jwks().keys.find((key) => key.kid === before)!),
        )
        expect(ring.signerOf(kid)?.ref['key']).toBe(purpose === 'feed' ? undefined : KEYS[purpose])
      }
      await signer.close()
    },
  )
}
