/**
 * Forms of agents that proved who they are by standing evidence are read once: such an agent asks for the same again and
 * again while its evidence and its user's token stand. What a form says is judged each time.
 */
import { createRemembered } from '../attest/remembered.ts'
import type { TokenRequest } from '../exchange/token-request.ts'

export interface KnownForms {
  /** The same object for the same body, where it was kept. */
  of(body: string): TokenRequest | undefined
  /** For what was proven by standing evidence: strangers must not be able to fill it, nor what comes but once. */
  keep(body: string, request: TokenRequest): void
}

const MAX_FORMS = 1_000
/** Larger ones are rare, and read anew. */
const MAX_LENGTH = 4096

export function createKnownForms(): KnownForms {
  const known = createRemembered<TokenRequest>(MAX_FORMS)
  return {
    of: known.get,
    keep: (body, request) => {
      if (body.length <= MAX_LENGTH && known.get(body) === undefined) known.put(body, request)
    },
  }
}
