/** Keys whose private half is elsewhere and never here: somebody is asked for each signature. */
import type { JWK } from 'jose'
import type { KeyAlgorithm, KeyPurpose } from './key-store.ts'

/** What the signer knows the key by: JSON, sealed with the key and given back as it was. */
export type RemoteRef = Readonly<Record<string, string | number>>

export interface RemoteKey {
  readonly ref: RemoteRef
  readonly publicJwk: JWK
}

export interface RemoteSigner {
  /** Stands with each key of its, so that nobody else is asked for it. */
  readonly kind: string
  /** Whether new keys of this purpose are its own. */
  makes(purpose: KeyPurpose): boolean
  /** The newest key that it has for that purpose. Throws `Unavailable('signer_unavailable')`, as all of these. */
  newest(purpose: KeyPurpose): Promise<RemoteKey>
  /** One made now; those from before are left as they are. */
  make(purpose: KeyPurpose): Promise<RemoteKey>
  /** Over the bytes, as a JWS carries it (RFC 7518 §3.3 and §3.4, RFC 8037 §3.1). Within a bound, however many ask. */
  sign(ref: RemoteRef, alg: KeyAlgorithm, bytes: Uint8Array): Promise<Uint8Array>
  /** Throws where it has not answered lately: before anything is done that a signature is to follow. */
  ready(): void
  /** Whether it has answered lately, as far as anybody asked. */
  answers(): boolean
}
