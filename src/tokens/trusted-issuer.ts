/** A user issuer whose tokens count as subject tokens, and what its users may do. */
import type { Grant } from '@errand/verifier/claims.ts'
import type { JWK } from 'jose'

export interface TrustedIssuer {
  /** Our name for it: the part of `sub` before the bar. */
  readonly name: string
  /** Compared as an exact string with `iss`. */
  readonly issuer: string
  /** The public keys in force now (file, or fetched by `jwks_uri`); throws `Unavailable('jwks_rejected')` where there are none. */
  keys(kid: string): Promise<JWK | undefined>
  readonly algorithms: readonly ('ES256' | 'EdDSA' | 'RS256' | 'PS256' | 'ES384')[]
  /** Exact values of `aud` that are accepted; a token must have one of them. */
  readonly audiences: readonly string[]
  /** `typ` values accepted: `JWT`/absent for id tokens, `at+jwt` for access tokens. */
  readonly tokenTypes: readonly ('id_token' | 'access_token')[]
  readonly groupsClaim: string
  /** Names of further claims that policies may read. */
  readonly claims: readonly string[]
  /** Whether `act` in its tokens is believed; otherwise such a token is `forged_actor`. */
  readonly mayDelegate: boolean
  readonly disabledSubjects: ReadonlySet<string>
  /** Longest life of its tokens that we accept, seconds. */
  readonly maxTokenLifetimeSeconds: number
  /** Present where it may vouch for its users in ID-JAGs; `tenant` is ours at an issuer of several. */
  readonly idJag?: { readonly maxLifetimeSeconds: number; readonly tenant?: string }
  /** Whether it may have everything of a user of its own ended (draft-parecki-oauth-global-token-revocation). */
  readonly mayEndUsers: boolean
  /** Present where its security events count (Shared Signals Framework). */
  readonly signals?: SignalSource
  /** Whether it is the development issuer made on first start. */
  readonly development: boolean
  /** What a subject with these groups and claims may do at most: the operand `subject`. */
  rights(facts: { readonly sub: string; readonly groups: readonly string[] }): readonly Grant[]
}

/** Whence an issuer's security events come, and by whose keys. */
export interface SignalSource {
  /** `iss` of its events. */
  readonly transmitter: string
  keys(kid: string): Promise<JWK | undefined>
  readonly algorithms: TrustedIssuer['algorithms']
  /** What stands in `aud` for us; without it, our issuer identifier. */
  readonly audience?: string
  /** Where they are fetched; without it they are pushed. */
  readonly poll?: { readonly url: string; readonly bearer?: string; readonly intervalSeconds: number }
}
