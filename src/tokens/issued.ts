/** The port of whoever counts what is issued. Told of each token once its record is durable, before it leaves. */
import type { Epoch } from '@errand/verifier/epoch.ts'
import type { CheckedHop } from '@errand/verifier/shapes.ts'
import type { TokenFacts } from './issue.ts'

export interface IssuedToken
  extends Pick<TokenFacts, 'kid' | 'audience' | 'expiresAt' | 'clientId' | 'policyDigest' | 'task' | 'actor'> {
  readonly attestation: { readonly release?: string }
  readonly hops: readonly { readonly jti: string }[]
}

/** `hops` is asked only for a token unlike those before it; the own hop stands first. Never throws, never waits. */
export type NoteIssued = (token: IssuedToken, rev: Epoch, hops: () => readonly CheckedHop[] | undefined) => void
