/** What all schedules begin with, made once: two configurations, keys, and a store with its signing keys. */
import { createPrivateKey } from 'node:crypto'
import { existsSync, mkdirSync, mkdtempSync, readFileSync, writeFileSync } from 'node:fs'
import { cp } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { JWK } from 'jose'
import { createConfigLoader } from '../../../src/config/load.ts'
import type { Snapshot } from '../../../src/config/snapshot.ts'
import { openKeyRing } from '../../../src/keys/key-ring.ts'
import { prepareMaterial } from '../../../src/keys/material.ts'
import { createSealer } from '../../../src/keys/seal.ts'
import { openEmbedded } from '../../../src/store/embedded/open.ts'
import type { Stores } from '../../../src/store/open.ts'
import { type KeyPair, newKeyPair } from '../../house.ts'

export const START = Date.UTC(2026, 10, 23, 10, 0, 0) / 1000
export const PURPOSES = ['token', 'feed'] as const

export interface Template {
  readonly folder: string
  readonly dataDir: string
  readonly rootKey: Uint8Array
  readonly snapshots: readonly [Snapshot, Snapshot]
  readonly keyOf: (file: string) => KeyPair
  readonly proofKeys: Readonly<Record<string, KeyPair>>
}

export async function makeTemplate(): Promise<Template> {
  // Its own fsyncs are tested elsewhere; here only the order of things counts.
  const folder = mkdtempSync(join(existsSync('/dev/shm') ? '/dev/shm' : tmpdir(), 'errand-interleave-'))
  const keysDir = join(folder, 'keys')
  const [one, two] = [join(folder, 'one'), join(folder, 'two')]
  await cp('config', one, { recursive: true })
  await cp('config', two, { recursive: true })
  const policies = join(two, 'policies/base.cedar')
  writeFileSync(policies, readFileSync(policies, 'utf8').replace('@ttl_seconds("120")', '@ttl_seconds("100")'))
  const { rootKey } = await prepareMaterial({
    keysDir,
    mode: 'development',
    agents: ['research', 'payments', 'triage'],
    tools: ['tickets', 'crm', 'payments', 'warehouse', 'github'],
    userIssuer: true,
  })
  const snapshots = await Promise.all(
    [one, two].map(async (dir) => {
      const loaded = await createConfigLoader({ dir, keysDir, now: () => START })()
      if (!loaded.ok) throw new Error(JSON.stringify(loaded.problems))
      return loaded.snapshot
    }),
  )
  const keyPairs = new Map<string, KeyPair>()
  const dataDir = join(folder, 'data')
  mkdirSync(dataDir)
  const stores = await openEmbedded({ dataDir, now: () => START, forgetBefore: () => 0 })
  await openRing(
    stores,
    rootKey,
    () => START,
    async () => undefined,
  )
  await stores.close()
  return {
    folder,
    dataDir,
    rootKey,
    snapshots: [snapshots[0]!, snapshots[1]!],
    keyOf: (file) => {
      const known = keyPairs.get(file)
      if (known) return known
      const jwk = JSON.parse(readFileSync(join(keysDir, file), 'utf8')) as JWK
      const { d: _, ...publicJwk } = jwk
      const pair = { privateKey: createPrivateKey({ key: jwk as never, format: 'jwk' }), publicJwk, kid: jwk.kid! }
      keyPairs.set(file, pair)
      return pair
    },
    proofKeys: { research: newKeyPair(), payments: newKeyPair() },
  }
}

export const openRing = (
  { keyStore }: Pick<Stores, 'keyStore'>,
  rootKey: Uint8Array,
  now: () => number,
  announce: (move: { readonly kid: string; readonly to: string }) => Promise<void>,
) =>
  openKeyRing({
    store: keyStore,
    sealer: createSealer(rootKey),
    now,
    monotonic: () => 0,
    purposes: PURPOSES,
    announce,
    staleAfterSeconds: Number.POSITIVE_INFINITY,
  })
