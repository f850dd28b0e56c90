/** Where signing keys rest, sealed, with their place in the life prepared → active → retiring → retired. */
import type { JWK } from 'jose'

export const KEY_STATES = ['prepared', 'active', 'retiring', 'retired', 'compromised'] as const
export type KeyState = (typeof KEY_STATES)[number]
export type KeyAlgorithm = 'ES256' | 'EdDSA' | 'RS256'
/** One key, one purpose; one purpose, one algorithm. */
export const ALGORITHM = {
  token: 'ES256',
  feed: 'ES256',
  id_jag: 'ES256',
  txn_token: 'ES256',
  checkpoint: 'EdDSA', // signed notes have Ed25519 (c2sp.org/signed-note)
  security_event: 'RS256', // what the CAEP interoperability profile asks of every transmitter
  status: 'ES256',
} as const satisfies Readonly<Record<string, KeyAlgorithm>>
export type KeyPurpose = keyof typeof ALGORITHM

export interface StoredKey {
  /** Never used again, also after the key is gone. */
  readonly kid: string
  readonly purpose: KeyPurpose
  readonly alg: KeyAlgorithm
  readonly state: KeyState
  readonly publicJwk: JWK
  /** The private JWK, sealed under the root key; text that only `keys/seal.ts` reads. */
  readonly sealed: string
  /** Unix seconds. */
  readonly preparedAt: number
  readonly activatedAt?: number
  readonly retiringAt?: number
  /** When it was retired, or given up as compromised. */
  readonly retiredAt?: number
}

export interface KeyStore {
  list(): Promise<readonly StoredKey[]>
  /** False where the kid was ever used. */
  insert(key: StoredKey): Promise<boolean>
  /**
   * In one step: the active key of that purpose (if any) becomes `retiring`, and `kid`, which must be `prepared`,
   * becomes `active`. False where `kid` is not prepared or `expectedActive` is not the active one any more: of two
   * replicas one succeeds, and there are never two active keys of one purpose.
   */
  activate(kid: string, expectedActive: string | undefined, at: number): Promise<boolean>
  /** `retiring` → `retired`, or any → `compromised`. False where the key is in none of `from`. */
  move(kid: string, from: readonly KeyState[], to: 'retired' | 'compromised', at: number): Promise<boolean>
}
