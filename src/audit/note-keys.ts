/** The Ed25519 keys in a JWKS, which sign notes under the name of their log. */

interface Candidate {
  readonly kty?: unknown
  readonly crv?: unknown
  readonly x?: unknown
  readonly errand_use?: unknown
  readonly errand_state?: unknown
}

/**
 * Their 32 bytes each. What is not a JWKS has none. A key that says it is for something else signs no checkpoint, and
 * what one signs that is in other hands proves nothing; `compromisedToo` is for who compares what it signed before that.
 */
export function readNoteKeys(
  jwks: string,
  { compromisedToo = false }: { readonly compromisedToo?: boolean } = {},
): readonly Buffer[] {
  const keys = listIn(jwks)
  return keys.flatMap(({ kty, crv, x, errand_use, errand_state }) => {
    const good = compromisedToo || errand_state !== 'compromised'
    const forNotes = good && (errand_use === undefined || errand_use === 'checkpoint')
    if (!forNotes || kty !== 'OKP' || crv !== 'Ed25519' || typeof x !== 'string') return []
    const raw = Buffer.from(x, 'base64url')
    return raw.length === 32 ? [raw] : []
  })
}

function listIn(text: string): readonly Candidate[] {
  try {
    const parsed = JSON.parse(text) as { readonly keys?: unknown } | null
    const keys = parsed?.keys
    return Array.isArray(keys) ? keys.filter((key) => typeof key === 'object' && key !== null) : []
  } catch {
    return []
  }
}
