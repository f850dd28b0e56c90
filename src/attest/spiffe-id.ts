/**
 * SPIFFE ids (SPIFFE-ID §2): read in their one canonical spelling and compared as bytes. An id that would have to be
 * normalised before it means something is refused.
 */
import type { TrustDomain } from './trust-domain.ts'

export type SpiffeIdFault = 'noncanonical_id' | 'not_descendant' | 'origin_not_authorized' | 'bad_subject'
export type ReadSpiffeId =
  | { readonly ok: true; readonly value: { readonly id: string; readonly trustDomain: TrustDomain } }
  | { readonly ok: false; readonly fault: SpiffeIdFault }

/** §2.3: 2048 bytes in all, 255 for the name of the trust domain. */
const MAX_ID_BYTES = 2048
const TRUST_DOMAIN = /^[a-z0-9._-]{1,255}$/
const SEGMENT = /^[A-Za-z0-9._-]+$/

const SCHEME = 'spiffe://'

export const isTrustDomainName = (name: string): boolean => TRUST_DOMAIN.test(name)

/** The canonical id of a workload: a trust domain and a path of one segment at least (X509-SVID §5.2). */
export function isWorkloadId(id: string): boolean {
  if (!id.startsWith(SCHEME) || id.length > MAX_ID_BYTES) return false
  const [name, ...segments] = id.slice(SCHEME.length).split('/')
  return (
    isTrustDomainName(name!) &&
    segments.length > 0 &&
    segments.every((segment) => SEGMENT.test(segment) && segment !== '.' && segment !== '..')
  )
}

/** Reads an id that evidence claims, and finds the trust domain whose keys must have said so. */
export function readSpiffeId(text: unknown, trustDomains: (name: string) => TrustDomain | undefined): ReadSpiffeId {
  const no = (fault: SpiffeIdFault) => ({ ok: false, fault }) as const
  if (typeof text !== 'string' || text.length === 0 || text.length > MAX_ID_BYTES) return no('bad_subject')
  if (text.startsWith('wimse://')) return no('origin_not_authorized')
  if (!/^spiffe:/i.test(text)) return no('bad_subject')
  const name = text.startsWith(SCHEME) ? text.slice(SCHEME.length).split('/', 1)[0]! : ''
  if (!isTrustDomainName(name)) return no('noncanonical_id')
  const trustDomain = trustDomains(name)
  if (trustDomain === undefined) return no('origin_not_authorized')
  // A spelling that is not canonical is below no root, whatever it would resolve to.
  if (trustDomain.pathRoot !== undefined && !isBelow(text, `${SCHEME}${name}${trustDomain.pathRoot}`)) {
    return no('not_descendant')
  }
  return isWorkloadId(text) ? { ok: true, value: { id: text, trustDomain } } : no('noncanonical_id')
}

/** Whole segments: `/payroll` is not below `/pay`. */
const isBelow = (id: string, root: string): boolean => isWorkloadId(id) && id.startsWith(`${root.replace(/\/$/, '')}/`)
