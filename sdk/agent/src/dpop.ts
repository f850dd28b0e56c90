/** Proofs of possession (RFC 9449): a key that never leaves memory, and the nonces that servers asked for. */
import { randomUUID } from 'node:crypto'
import { freshKey, type SigningKey, sha256, signingKey } from './jws.ts'

export interface Dpop {
  /** Thumbprint of the key, the `cnf.jkt` of tokens bound to it. */
  readonly thumbprint: string
  /** One proof for one request; with `accessToken` it is also bound to that token (`ath`, §4.2). */
  proof(request: { readonly method: string; readonly url: string; readonly accessToken?: string }): string
  /** Keeps the nonce of an answer for the next request to that origin (§8.2). */
  remember(url: string, headers: { get(name: string): string | null }): void
}

// An agent talks to a handful of origins; more would be a loop over addresses somebody else chose.
const MAX_ORIGINS = 256

export function createDpop({
  now,
  key = signingKey(freshKey()),
}: {
  readonly now: () => number
  /** The key to prove; a new one by default. */
  readonly key?: SigningKey
}): Dpop {
  const nonces = new Map<string, string>()
  return {
    thumbprint: key.thumbprint,
    proof({ method, url, accessToken }) {
      const target = new URL(url)
      const nonce = nonces.get(target.origin)
      return key.sign(
        { typ: 'dpop+jwt', jwk: key.publicJwk },
        {
          jti: randomUUID(),
          htm: method,
          htu: `${target.origin}${target.pathname}`, // §4.2: without query and fragment
          iat: Math.floor(now()),
          ...(accessToken === undefined ? {} : { ath: sha256(accessToken) }),
          ...(nonce === undefined ? {} : { nonce }),
        },
      )
    },
    remember(url, headers) {
      const nonce = headers.get('dpop-nonce')
      if (nonce === null) return
      const { origin } = new URL(url)
      nonces.delete(origin)
      nonces.set(origin, nonce)
      const oldest = nonces.keys().next()
      if (nonces.size > MAX_ORIGINS && !oldest.done) nonces.delete(oldest.value)
    },
  }
}
