/**
 * Certification path validation of RFC 5280 §6: from a certificate through whatever was presented beside it to a
 * pinned anchor. Anchors are held to the same rules as other CAs (§6.2 lets us), so one that expired anchors nothing.
 *
 *  1. bounds: how many certificates, how large, how many signatures are tried
 *  2. building (RFC 4158): depth first, by name and key id, anchors before what was presented, no key twice
 *  3. §6.1.3 to §6.1.5 over every path that reaches an anchor, from the anchor down, until one holds
 *
 * No revocation list is read: SVIDs live for hours at most, and what must end sooner is banned by Errand itself.
 */
import { type Certificate, KEY_USAGE, type Parsed, parseCertificate, type X509Fault } from './certificate.ts'
import { sameBytes } from './der.ts'
import { signedBy, signingOf } from './keys.ts'
import { type NameConstraints, namesAllowed } from './name-constraints.ts'
import { sameName } from './names.ts'

/** Certificates that may be presented, and that a path may have besides its anchor. */
export const MAX_PATH_CERTIFICATES = 10
/** What building may cost at most, however names and keys are arranged. */
const MAX_SIGNATURES_TRIED = 32

export const PURPOSE = {
  any: '2.5.29.37.0',
  serverAuth: '1.3.6.1.5.5.7.3.1',
  clientAuth: '1.3.6.1.5.5.7.3.2',
} as const

export interface PathQuestion {
  readonly leaf: Uint8Array
  /** In any order; what does not help is ignored. */
  readonly intermediates: readonly Uint8Array[]
  readonly anchors: readonly Uint8Array[]
  /** Unix seconds. */
  readonly now: number
  /** Required wherever a certificate of the path limits its purposes. */
  readonly purpose: string
  /** How many CAs that are not self-issued may stand between anchor and leaf; without it, as many as fit. */
  readonly maxPathLength?: number
}

export interface ValidPath {
  readonly leaf: Certificate
  /** The anchor, and whoever else issued on the way down to the leaf. */
  readonly authorities: readonly Certificate[]
  /** The time in which every certificate of the path is valid, Unix seconds, both ends included. */
  readonly notBefore: number
  readonly notAfter: number
}

export function validatePath(question: PathQuestion): Parsed<ValidPath> {
  if (question.intermediates.length + 1 > MAX_PATH_CERTIFICATES) return { ok: false, fault: 'x509_policy' }
  const leaf = parseCertificate(question.leaf)
  if (!leaf.ok) return leaf

  const presented: Certificate[] = []
  const worst = createWorst()
  for (const der of question.intermediates) {
    const parsed = parseCertificate(der)
    // What is not in the path need not be readable; what stands in for it will be missed.
    if (parsed.ok) presented.push(parsed.value)
    else worst.note(parsed.fault, RANK.edge)
  }
  const anchors = question.anchors.flatMap((der) => {
    const parsed = parseCertificate(der)
    return parsed.ok ? [parsed.value] : []
  })

  let tried = 0
  const issued = (child: Certificate, by: Certificate): boolean => {
    if (signingOf(child.signatureAlgorithm) === undefined || by.key.family === undefined) {
      worst.note('x509_policy', RANK.edge)
      return false
    }
    if (++tried > MAX_SIGNATURES_TRIED) {
      worst.note('x509_policy', RANK.edge)
      return false
    }
    const signed = signedBy(by.key, child.signatureAlgorithm, child.tbs, child.signature)
    if (!signed) worst.note('x509_signature', RANK.edge)
    return signed
  }

  /** `path` runs from the leaf upwards. */
  const climb = (path: readonly Certificate[]): ValidPath | undefined => {
    const top = path[path.length - 1]!
    for (const anchor of anchors) {
      if (!couldIssue(anchor, top) || !issued(top, anchor)) continue
      const verdict = checkPath(anchor, path.toReversed(), question)
      if (verdict.ok) return verdict.value
      worst.note(verdict.fault, RANK.path)
    }
    if (path.length === MAX_PATH_CERTIFICATES) {
      worst.note('x509_policy', RANK.edge)
      return undefined
    }
    for (const candidate of presented) {
      if (!couldIssue(candidate, top)) continue
      if (path.some((member) => sameEntity(member, candidate))) {
        // A certificate that issued itself is merely an anchor that is not ours.
        if (!sameEntity(top, candidate)) worst.note('x509_policy', RANK.edge)
        continue
      }
      if (tried > MAX_SIGNATURES_TRIED) return undefined
      if (!issued(top, candidate)) continue
      const found = climb([...path, candidate])
      if (found !== undefined) return found
    }
    return undefined
  }

  const found = climb([leaf.value])
  return found === undefined ? { ok: false, fault: worst.fault() } : { ok: true, value: found }
}

/** What is told when no path holds: a fault of a whole path before a fault of a step, each the first one met. */
const RANK = { none: 0, edge: 1, path: 2 } as const

function createWorst(): { note(fault: X509Fault, rank: number): void; fault(): X509Fault } {
  let worst: { fault: X509Fault; rank: number } = { fault: 'x509_untrusted', rank: RANK.none }
  return {
    note: (fault, rank) => {
      if (rank > worst.rank) worst = { fault, rank }
    },
    fault: () => worst.fault,
  }
}

/** §6.1.3 (a)(4), and the key id where both say one. */
function couldIssue(issuer: Certificate, child: Certificate): boolean {
  if (!sameName(issuer.subject, child.issuer)) return false
  const { subjectKeyId } = issuer
  const { authorityKeyId } = child
  return subjectKeyId === undefined || authorityKeyId === undefined || sameBytes(subjectKeyId, authorityKeyId)
}

/** RFC 4158 §2.4.2: one name with one key is one place in a path, however many certificates say so. */
const sameEntity = (a: Certificate, b: Certificate): boolean =>
  sameBytes(a.key.spki, b.key.spki) && sameBytes(a.subject.bytes, b.subject.bytes)

const selfIssued = (certificate: Certificate): boolean => sameBytes(certificate.subject.bytes, certificate.issuer.bytes)

/** §6.1 over one path whose signatures are verified; `path` runs from below the anchor to the leaf. */
function checkPath(
  anchor: Certificate,
  path: readonly Certificate[],
  { now, purpose, maxPathLength }: PathQuestion,
): Parsed<ValidPath> {
  const refuse = (fault: X509Fault) => ({ ok: false, fault }) as const
  const constraints: NameConstraints[] = []
  // §6.1.2 (k), with the anchor's own limit from the start.
  let left = Math.min(maxPathLength ?? path.length, anchor.pathLength ?? path.length)
  let notBefore = 0
  let notAfter = Number.POSITIVE_INFINITY

  for (const [i, certificate] of [anchor, ...path].entries()) {
    const isAnchor = i === 0
    const isLeaf = i === path.length
    const { keyUsage, extendedKeyUsage } = certificate

    if (now < certificate.notBefore || now > certificate.notAfter) return refuse('x509_validity') // §6.1.3 (a)(2)
    notBefore = Math.max(notBefore, certificate.notBefore)
    notAfter = Math.min(notAfter, certificate.notAfter)

    if (!isLeaf) {
      if (!certificate.ca) return refuse('x509_ca') // §6.1.4 (k)
      if (keyUsage !== undefined && (keyUsage.bits & KEY_USAGE.keyCertSign) === 0) return refuse('x509_key_usage') // (n)
    }
    if (certificate.pathFault !== undefined) return refuse(certificate.pathFault)
    if (!isAnchor && certificate.issueFault !== undefined) return refuse(certificate.issueFault)
    if (certificate.key.family === undefined) return refuse('x509_policy')
    if (
      extendedKeyUsage !== undefined &&
      !extendedKeyUsage.includes(purpose) &&
      !extendedKeyUsage.includes(PURPOSE.any)
    ) {
      return refuse('x509_policy') // §4.2.1.12; a CA's purposes bind what is below it
    }

    // §6.1.3 (b), (c): a self-issued CA is the same CA with another key.
    if (!isAnchor && (isLeaf || !selfIssued(certificate))) {
      if (!namesAllowed(certificate.subject, certificate.alternativeNames, constraints)) {
        return refuse('x509_name_constraints')
      }
    }
    if (!isLeaf && certificate.nameConstraints !== undefined) constraints.push(certificate.nameConstraints)

    // §6.1.4 (l), (m)
    if (!isAnchor && !isLeaf) {
      if (!selfIssued(certificate)) {
        if (left <= 0) return refuse('x509_path_length')
        left--
      }
      if (certificate.pathLength !== undefined) left = Math.min(left, certificate.pathLength)
    }
  }
  const authorities = [anchor, ...path.slice(0, -1)]
  return { ok: true, value: { leaf: path[path.length - 1]!, authorities, notBefore, notAfter } }
}
