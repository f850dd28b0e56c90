/** What is remembered of join tokens, and of the keys that agents registered with them. */
import type { JWK } from 'jose'

/** What an administrator promised whoever brings the token: at rest there is only its digest. */
export interface JoinOffer {
  readonly clientId: string
  /** Unix seconds from which it is worth nothing. */
  readonly expiresAt: number
  /** Who made it. */
  readonly by: string
}

export interface KnownOffer extends JoinOffer {
  /** The key that spent it. */
  readonly usedBy?: string
}

/** A key that an agent made itself and registered with a join token. */
export interface JoinedKey {
  readonly clientId: string
  /** RFC 7638 thumbprint: a key has one name. */
  readonly kid: string
  readonly jwk: JWK
  /** Unix seconds. */
  readonly joinedAt: number
  /** Who made the token that it came with. */
  readonly by: string
}

/** `again` is the key that spent the token, asking once more while it is registered: its answer may have been lost. */
export type Redeemed = 'joined' | 'again' | 'spent' | 'expired' | 'unknown'

export interface Joining {
  /** Remembers a token by its digest. Durable before it resolves. */
  offer(digest: string, offer: JoinOffer): Promise<void>
  /** Undefined for a token that never was, or that is forgotten since it expired. */
  find(digest: string): Promise<KnownOffer | undefined>
  /**
   * Spends the token and registers the key, in one step: of simultaneous calls, also from several processes, one key is
   * registered. Durable before it resolves. `now` in Unix seconds.
   */
  redeem(digest: string, key: JoinedKey, now: number): Promise<Redeemed>
  /** Of one agent, in the order they came. */
  keysOf(clientId: string): Promise<readonly JoinedKey[]>
  key(clientId: string, kid: string): Promise<JoinedKey | undefined>
  /** False where there is no such key. From then on it proves nothing, at any replica. */
  remove(clientId: string, kid: string): Promise<boolean>
}
