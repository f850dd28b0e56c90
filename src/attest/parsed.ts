/**
 * Tokens that were found good are parsed once. What they say is not believed for being here: expiry, keys, the
 * registration and what may be used once are looked at each time.
 */
import type { Checked } from '@errand/verifier/checked.ts'
import { type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import { createRemembered } from './remembered.ts'

export interface ParsedTokens {
  /** The same object for the same text, where it was kept. */
  read(text: string): Checked<ParsedJws>
  /** For what was verified: strangers must not be able to fill it. */
  keep(jws: ParsedJws): void
}

/** Larger ones are rare, and parsed anew. */
const MAX_LENGTH = 4096

export function createParsedTokens(max = 1_000): ParsedTokens {
  const known = createRemembered<ParsedJws>(max)
  return {
    read: (text) => {
      const jws = known.get(text)
      return jws === undefined ? parseJws(text) : { ok: true, value: jws }
    },
    keep: (jws) => {
      if (jws.text.length > MAX_LENGTH || known.get(jws.text) !== undefined) return
      // A text of its own: a part of a request's body would keep the whole of it in memory.
      known.put(Buffer.from(jws.text, 'latin1').toString('latin1'), jws)
    },
  }
}
