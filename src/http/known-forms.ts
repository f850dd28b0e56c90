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
  const known = createRemembered<{ readonly body: string; readonly request: TokenRequest }>(MAX_FORMS)
  const of = (body: string): TokenRequest | undefined => {
    const found = known.get(placeOf(body))
    return found?.body === body ? found.request : undefined
  }
  return {
    of,
    keep: (body, request) => {
      if (body.length <= MAX_LENGTH && of(body) === undefined)
        known.put(placeOf(body), { body, request: Object.freeze(request) })
    },
  }
}

/** Parts of it that make one unlike another, a few signatures among them: to hash the whole takes longer than to compare it. */
const placeOf = (body: string): string => {
  const quarter = body.length >> 2
  return body.slice(quarter, quarter + PART) + body.slice(2 * quarter, 2 * quarter + PART) + body.slice(-PART)
}
const PART = 48
