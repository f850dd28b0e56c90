/**
 * Tokens that were found good twice are parsed no third time. What they say is not believed for being here: expiry, keys, the
 * registration and what may be used once are looked at each time.
 */
import type { Checked } from '@errand/verifier/checked.ts'
import { type ParsedJws, parseJws } from '@errand/verifier/jws.ts'
import { createRemembered, createSecondSight, ownText } from './remembered.ts'

export interface ParsedTokens {
  /** The same object for the same text, where it was kept. */
  read(text: string): Checked<ParsedJws>
  /** For what was verified: strangers must not be able to fill it. Whether it is kept from now on. */
  keep(jws: ParsedJws): boolean
}

/** Larger ones are rare, and parsed anew. */
const MAX_LENGTH = 4096

export function createParsedTokens(max = 4_000): ParsedTokens {
  const known = createRemembered<ParsedJws>(max)
  const cameBefore = createSecondSight()
  return {
    read: (text) => {
      const jws = known.get(text)
      return jws === undefined ? parseJws(text) : { ok: true, value: jws }
    },
    keep: (jws) => {
      if (jws.text.length > MAX_LENGTH) return false
      if (known.get(jws.text) !== undefined) return true
      if (!cameBefore(jws.text)) return false
      known.put(ownText(jws.text), jws)
      return true
    },
  }
}
