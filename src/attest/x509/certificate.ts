/** Reads a certificate of RFC 5280 §4 from DER, strictly: what the profile forbids is a refusal here already. */
import { createHash } from 'node:crypto'
import type { Reason } from '../../oauth/refusal.ts'
import {
  context,
  contextConstructed,
  cursor,
  type Der,
  DerError,
  only,
  readBoolean,
  readBytesOfBits,
  readInteger,
  readNamedBits,
  readOid,
  readSmallInteger,
  readTime,
  sameBytes,
  several,
  TAG,
} from './der.ts'
import { readSubjectKey, type SubjectKey } from './keys.ts'
import { type NameConstraints, readNameConstraints } from './name-constraints.ts'
import { type DistinguishedName, type GeneralName, readGeneralName, readName } from './names.ts'

export type X509Fault = Extract<Reason, `x509_${string}`>
export type Parsed<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly fault: X509Fault }

/** Above any honest certificate, and refused before a byte of it is read. */
export const MAX_CERTIFICATE_BYTES = 16_384
const MAX_EXTENSIONS = 32
const MAX_NAMES = 256

/** Bits of KeyUsage as `readNamedBits` lays them out (RFC 5280 §4.2.1.3). */
export const KEY_USAGE = { digitalSignature: 0x8000, keyCertSign: 0x0400, cRLSign: 0x0200 } as const

export interface Certificate {
  readonly der: Uint8Array
  /** SHA-256 of the whole, base64url: `x5t#S256` of RFC 8705 §3.1. */
  readonly thumbprint: string
  readonly tbs: Uint8Array
  readonly signatureAlgorithm: Uint8Array
  readonly signature: Uint8Array
  readonly issuer: DistinguishedName
  readonly subject: DistinguishedName
  readonly notBefore: number
  readonly notAfter: number
  readonly key: SubjectKey
  readonly ca: boolean
  readonly pathLength?: number
  /** Absent where the extension is. */
  readonly keyUsage?: { readonly bits: number; readonly critical: boolean }
  readonly extendedKeyUsage?: readonly string[]
  readonly alternativeNames: readonly GeneralName[]
  readonly nameConstraints?: NameConstraints
  readonly subjectKeyId?: Uint8Array
  readonly authorityKeyId?: Uint8Array
  /** A rule of the path that this certificate breaks by what it asks for; looked at only where it is in the path. */
  readonly pathFault?: X509Fault
  /** The same, of a rule about who issued it and how: an anchor is believed without an issuer. */
  readonly issueFault?: X509Fault
}

export function parseCertificate(der: Uint8Array): Parsed<Certificate> {
  if (der.length > MAX_CERTIFICATE_BYTES) return { ok: false, fault: 'x509_policy' }
  try {
    return readCertificate(der)
  } catch (error) {
    if (error instanceof DerError) return { ok: false, fault: 'x509_malformed' }
    throw error
  }
}

interface Extension {
  readonly critical: boolean
  readonly value: Uint8Array
}

function readCertificate(der: Uint8Array): Parsed<Certificate> {
  const outer = cursor(only(der, TAG.sequence).body)
  const tbs = outer.take(TAG.sequence)
  const signatureAlgorithm = outer.take(TAG.sequence).whole
  const signature = readBytesOfBits(outer.take(TAG.bitString))
  outer.end()

  const at = cursor(tbs.body)
  const version = at.maybe(contextConstructed(0))
  if (version === undefined || readSmallInteger(only(version.body, TAG.integer)) !== 2) {
    return { ok: false, fault: 'x509_policy' } // v1 and v2 cannot say whether they are a CA
  }
  const serial = readInteger(at.take(TAG.integer))
  if (serial.length > 20 || serial[0]! >= 0x80) throw new DerError('serial') // §4.1.2.2
  // §4.1.1.2: what is signed names the same algorithm as what stands outside of it.
  if (!sameBytes(at.take(TAG.sequence).whole, signatureAlgorithm)) throw new DerError('two signature algorithms')
  const issuer = readName(at.take(TAG.sequence))
  if (issuer.relative.length === 0) throw new DerError('empty issuer') // §4.1.2.4
  const validity = cursor(at.take(TAG.sequence).body)
  const notBefore = readTime(validity.any())
  const notAfter = readTime(validity.any())
  validity.end()
  const subject = readName(at.take(TAG.sequence))
  const key = readSubjectKey(at.take(TAG.sequence).whole)
  const listed = at.maybe(contextConstructed(3)) // unique identifiers (§4.1.2.8) are refused as what follows
  at.end()
  const extensions = listed === undefined ? new Map<string, Extension>() : readExtensions(listed)

  const base = {
    der,
    thumbprint: createHash('sha256').update(der).digest('base64url'),
    tbs: tbs.whole,
    signatureAlgorithm,
    signature,
    issuer,
    subject,
    notBefore,
    notAfter,
    key,
  }
  return applyExtensions(base, extensions, serial)
}

function readExtensions({ body }: Der): Map<string, Extension> {
  const found = new Map<string, Extension>()
  for (const each of several(only(body, TAG.sequence).body)) {
    if (each.tag !== TAG.sequence) throw new DerError('an extension is a SEQUENCE')
    const at = cursor(each.body)
    const oid = readOid(at.take(TAG.oid))
    const flag = at.maybe(TAG.boolean)
    if (flag !== undefined && !readBoolean(flag)) throw new DerError('a default is not encoded') // X.690 §11.5
    const value = at.take(TAG.octetString).body
    at.end()
    if (found.has(oid)) throw new DerError('one extension twice') // §4.2
    found.set(oid, { critical: flag !== undefined, value })
    if (found.size > MAX_EXTENSIONS) throw new DerError('too many extensions')
  }
  return found
}

const ID = {
  subjectKeyId: '2.5.29.14',
  keyUsage: '2.5.29.15',
  alternativeNames: '2.5.29.17',
  basicConstraints: '2.5.29.19',
  nameConstraints: '2.5.29.30',
  certificatePolicies: '2.5.29.32',
  policyMappings: '2.5.29.33',
  authorityKeyId: '2.5.29.35',
  policyConstraints: '2.5.29.36',
  extendedKeyUsage: '2.5.29.37',
  inhibitAnyPolicy: '2.5.29.54',
} as const
const PROCESSED: ReadonlySet<string> = new Set(Object.values(ID))

type Base = Omit<Certificate, 'ca' | 'alternativeNames'>

function applyExtensions(
  base: Base,
  extensions: ReadonlyMap<string, Extension>,
  serial: Uint8Array,
): Parsed<Certificate> {
  const of = (oid: string) => extensions.get(oid)
  const faults: X509Fault[] = []

  for (const [oid, { critical }] of extensions) {
    if (critical && !PROCESSED.has(oid)) faults.push('x509_critical_extension')
  }
  // §4.2.1.1, §4.2.1.2: never critical.
  if (of(ID.subjectKeyId)?.critical || of(ID.authorityKeyId)?.critical) faults.push('x509_critical_extension')
  // Policies bind nobody unless a certificate demands an explicit one (§6.1.1: we demand none). That demand, and
  // qualifiers marked critical, would have to be processed, so they are refused.
  if (of(ID.policyConstraints) !== undefined) faults.push('x509_critical_extension')
  const policies = of(ID.certificatePolicies)
  if (policies?.critical && hasQualifiers(policies.value)) faults.push('x509_critical_extension')

  const { ca, pathLength } = readBasicConstraints(of(ID.basicConstraints))
  if (ca && !of(ID.basicConstraints)!.critical) faults.push('x509_ca') // §4.2.1.9
  if (ca && base.subject.relative.length === 0) faults.push('x509_ca') // §4.1.2.6

  const usage = of(ID.keyUsage)
  const keyUsage = usage && { bits: readNamedBits(only(usage.value, TAG.bitString)), critical: usage.critical }
  if (keyUsage?.bits === 0) throw new DerError('empty key usage') // §4.2.1.3
  const signsCertificates = keyUsage === undefined ? ca : (keyUsage.bits & KEY_USAGE.keyCertSign) !== 0
  if (signsCertificates !== ca) faults.push('x509_key_usage') // §4.2.1.3, §4.2.1.9

  const constraints = of(ID.nameConstraints)
  const nameConstraints = constraints && readNameConstraints(constraints.value)
  if (constraints && (!ca || !constraints.critical)) faults.push('x509_name_constraints') // §4.2.1.10

  const names = of(ID.alternativeNames)
  const alternativeNames = names === undefined ? [] : readNames(names.value)
  if (names && !names.critical && base.subject.relative.length === 0) faults.push('x509_san') // §4.2.1.6

  const purposes = of(ID.extendedKeyUsage)
  const extendedKeyUsage = purposes && several(only(purposes.value, TAG.sequence).body).map(readOid)

  const subjectId = of(ID.subjectKeyId)
  const subjectKeyId = subjectId && only(subjectId.value, TAG.octetString).body
  if (ca && subjectKeyId === undefined) faults.push('x509_ca') // §4.2.1.2
  const authorityKeyId = readAuthorityKeyId(of(ID.authorityKeyId))

  const [pathFault] = faults
  const issueFault = issueFaultOf(authorityKeyId !== undefined, serial, base)
  return {
    ok: true,
    value: {
      ...base,
      ca,
      alternativeNames,
      ...(pathLength === undefined ? {} : { pathLength }),
      ...(keyUsage === undefined ? {} : { keyUsage }),
      ...(extendedKeyUsage === undefined ? {} : { extendedKeyUsage }),
      ...(nameConstraints === undefined ? {} : { nameConstraints }),
      ...(subjectKeyId === undefined ? {} : { subjectKeyId }),
      ...(authorityKeyId === undefined ? {} : { authorityKeyId }),
      ...(pathFault === undefined ? {} : { pathFault }),
      ...(issueFault === undefined ? {} : { issueFault }),
    },
  }
}

function issueFaultOf(
  hasAuthorityKeyId: boolean,
  serial: Uint8Array,
  { subject, issuer }: Base,
): X509Fault | undefined {
  if (serial.every((byte) => byte === 0)) return 'x509_malformed' // §4.1.2.2: positive
  // §4.2.1.1: only a self-signed one may do without.
  return hasAuthorityKeyId || sameBytes(subject.bytes, issuer.bytes) ? undefined : 'x509_policy'
}

function readBasicConstraints(extension: Extension | undefined): { ca: boolean; pathLength?: number } {
  if (extension === undefined) return { ca: false }
  const at = cursor(only(extension.value, TAG.sequence).body)
  const flag = at.maybe(TAG.boolean)
  if (flag !== undefined && !readBoolean(flag)) throw new DerError('a default is not encoded')
  const length = at.maybe(TAG.integer)
  at.end()
  const ca = flag !== undefined
  if (length === undefined) return { ca }
  if (!ca) throw new DerError('path length of a certificate that is no CA')
  return { ca, pathLength: readSmallInteger(length) }
}

function readNames(value: Uint8Array): GeneralName[] {
  const all = several(only(value, TAG.sequence).body)
  if (all.length > MAX_NAMES) throw new DerError('too many names')
  return all.map((name) => readGeneralName(name))
}

function readAuthorityKeyId(extension: Extension | undefined): Uint8Array | undefined {
  if (extension === undefined) return undefined
  const at = cursor(only(extension.value, TAG.sequence).body)
  const keyId = at.maybe(context(0))
  const issuer = at.maybe(contextConstructed(1))
  const serial = at.maybe(context(2))
  at.end()
  if ((issuer === undefined) !== (serial === undefined)) throw new DerError('issuer and serial come together')
  if (issuer !== undefined) for (const name of several(issuer.body)) readGeneralName(name)
  return keyId?.body
}

function hasQualifiers(value: Uint8Array): boolean {
  return several(only(value, TAG.sequence).body).some((policy) => several(policy.body).length > 1)
}
