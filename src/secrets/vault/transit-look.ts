/** What of the keys that sign in Vault is weak or wrong: for `errand doctor`. Nothing is signed, rotated or changed. */
import type { Fetch } from '@errand/verifier/http.ts'
import { KeyMaterialError } from '../../keys/key-file.ts'
import { ALGORITHM, type KeyPurpose } from '../../keys/key-store.ts'
import { pathOf, readKey, type TransitFacts, type TransitKey } from './transit-keys.ts'
import { openVaultSession, type TransitSource, whyOf } from './transit-signer.ts'
import { type Json, VaultFailure, type VaultPort } from './vault-port.ts'

export interface TransitLook {
  readonly purpose: KeyPurpose
  readonly key: TransitKey
  /** Or why it cannot be had. */
  readonly found: TransitFacts | string
  /** What the login would need, and may not do. */
  readonly lacks: readonly string[]
  /** What it may do and does not need. */
  readonly spare: readonly string[]
}

/** A text where nobody can be asked at all. */
export async function lookAtTransit(
  source: TransitSource,
  deps: { readonly fetch: Fetch; readonly monotonic: () => number },
): Promise<readonly TransitLook[] | string> {
  const session = openVaultSession(source, deps)
  const named = Object.entries(source.keys) as readonly (readonly [KeyPurpose, string])[]
  try {
    return await session.ask(async (vault) => {
      const looks: TransitLook[] = []
      for (const [purpose, key] of named) looks.push(await lookAt(vault, purpose, { mount: source.mount, key }))
      return looks
    })
  } catch (error) {
    if (error instanceof KeyMaterialError) return error.message
    if (error instanceof VaultFailure) return whyOf(error, 'log in')
    throw error
  } finally {
    await session.close()
  }
}

async function lookAt(vault: VaultPort, purpose: KeyPurpose, key: TransitKey): Promise<TransitLook> {
  const needs = new Map([
    [pathOf(key, 'keys').join('/'), 'read'],
    [pathOf(key, 'keys', 'rotate').join('/'), 'update'],
    [pathOf(key, 'sign').join('/'), 'update'],
  ])
  const answer = await vault.write(['sys', 'capabilities-self'], { paths: [...needs.keys()] })
  const told = (answer['data'] ?? {}) as Json
  const lacks: string[] = []
  const spare = new Set<string>()
  for (const [path, needed] of needs) {
    const capabilities = told[path]
    const may = Array.isArray(capabilities) ? capabilities.map(String) : []
    if (!may.includes(needed) && !may.includes('root')) lacks.push(`${needed} ${path}`)
    for (const each of may) if (each !== needed && each !== 'deny') spare.add(each)
  }
  const found = await readKey(vault, key, ALGORITHM[purpose]).catch((error: unknown) => {
    if (error instanceof VaultFailure) return whyOf(error, `read ${pathOf(key, 'keys').join('/')}`)
    throw error
  })
  return { purpose, key, found, lacks, spare: [...spare] }
}
