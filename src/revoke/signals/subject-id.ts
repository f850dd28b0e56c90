/** Subject identifiers (RFC 9493): which of our subjects one names. Only what can be mapped for sure is. */
import { readSubjectText } from '@errand/verifier/claims-check.ts'
import type { TrustedIssuer } from '../../tokens/trusted-issuer.ts'

export type NamedSubject =
  | { readonly found: 'subject'; readonly subject: string; readonly issuer: TrustedIssuer }
  /** Of a form that is not, or cannot be, mapped here. */
  | { readonly found: 'unsupported' }
  /** Nobody of an issuer that is configured. */
  | { readonly found: 'nobody' }

const UNSUPPORTED: NamedSubject = { found: 'unsupported' }
const NOBODY: NamedSubject = { found: 'nobody' }

/**
 * `iss_sub` (§3.2.3) as the user's own tokens say it, and `opaque` (§3.2.4) as ours do: `<issuer name>|<sub>`. An email
 * address or a telephone number names whoever has it now: it is not believed to be a user's identifier.
 */
export function subjectNamedBy(
  subjectId: unknown,
  issuers: { readonly all: readonly TrustedIssuer[]; byIss(iss: string): TrustedIssuer | undefined },
): NamedSubject {
  if (typeof subjectId !== 'object' || subjectId === null || Array.isArray(subjectId)) return UNSUPPORTED
  const { format, iss, sub, id } = subjectId as Readonly<Record<string, unknown>>
  if (format === 'iss_sub') {
    const text = readSubjectText(sub)
    if (typeof iss !== 'string' || !text.ok) return UNSUPPORTED
    const issuer = issuers.byIss(iss)
    return issuer ? { found: 'subject', subject: `${issuer.name}|${text.value}`, issuer } : NOBODY
  }
  if (format !== 'opaque' || typeof id !== 'string') return UNSUPPORTED
  const bar = id.indexOf('|')
  const issuer = issuers.all.find(({ name }) => name === id.slice(0, Math.max(bar, 0)))
  const text = readSubjectText(id.slice(bar + 1))
  return issuer && text.ok ? { found: 'subject', subject: id, issuer } : NOBODY
}
