/** Distinguished names and the general names of RFC 5280 §4.2.1.6, each form read strictly or not at all. */
import { cursor, type Der, DerError, context, contextConstructed, only, readOid, several, TAG } from './der.ts'

export type GeneralName =
  | { readonly kind: 'dns' | 'email' | 'uri'; readonly value: string }
  | { readonly kind: 'ip'; readonly value: Uint8Array }
  | { readonly kind: 'directory'; readonly value: DistinguishedName }
  /** A form that nobody here can compare: `tag` tells which. */
  | { readonly kind: 'other'; readonly tag: number }

export interface Attribute {
  readonly oid: string
  /** Type and value as they stand. */
  readonly bytes: Uint8Array
  /** The value folded for comparison (RFC 5280 §7.1), absent where the string type is none that we can fold. */
  readonly folded?: string
}

export interface DistinguishedName {
  readonly bytes: Uint8Array
  /** One entry per relative name: its attributes. */
  readonly relative: readonly (readonly Attribute[])[]
}

const EMAIL_ATTRIBUTE = '1.2.840.113549.1.9.1'

export function readName({ tag, body, whole }: Der): DistinguishedName {
  if (tag !== TAG.sequence) throw new DerError('a Name is a SEQUENCE')
  const relative: Attribute[][] = []
  const sets = cursor(body)
  while (!sets.done()) {
    relative.push(
      several(sets.take(TAG.set).body).map((pair) => {
        if (pair.tag !== TAG.sequence) throw new DerError('an attribute is a SEQUENCE')
        const at = cursor(pair.body)
        const oid = readOid(at.any())
        const value = at.any()
        at.end()
        const folded = fold(value)
        return { oid, bytes: pair.whole, ...(folded === undefined ? {} : { folded }) }
      }),
    )
  }
  return { bytes: whole, relative }
}

function fold({ tag, body }: Der): string | undefined {
  let text: string
  if (tag === TAG.utf8String) {
    try {
      text = new TextDecoder('utf-8', { fatal: true }).decode(body)
    } catch {
      throw new DerError('UTF8String is not UTF-8')
    }
  } else if (tag === TAG.printableString || tag === TAG.ia5String) text = ia5(body)
  else return undefined
  return text.normalize('NFKC').toLowerCase().trim().replace(/\s+/g, ' ')
}

function ia5(body: Uint8Array): string {
  for (const byte of body) if (byte >= 0x80) throw new DerError('IA5String is not ASCII')
  return Buffer.from(body).toString('latin1')
}

/** RFC 5280 §7.1: the same attributes in the same order, in whatever string type and case they are written. */
export function sameName(a: DistinguishedName, b: DistinguishedName): boolean {
  return (
    Buffer.compare(a.bytes, b.bytes) === 0 ||
    (a.relative.length === b.relative.length &&
      a.relative.every((set, i) => {
        const other = b.relative[i]!
        return set.length === other.length && set.every((x) => other.some((y) => sameAttribute(x, y)))
      }))
  )
}

const sameAttribute = (a: Attribute, b: Attribute): boolean =>
  Buffer.compare(a.bytes, b.bytes) === 0 || (a.oid === b.oid && a.folded !== undefined && a.folded === b.folded)

/** Mailboxes in the subject, which email constraints hold for where there is none in the SAN (RFC 5280 §4.2.1.10). */
export const subjectMailboxes = ({ relative }: DistinguishedName): string[] =>
  relative.flat().flatMap((attribute) => (attribute.oid === EMAIL_ATTRIBUTE ? [attribute.folded ?? ''] : []))

const LABEL = /^[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?$/

/** The preferred name syntax of RFC 1034 §3.5, as RFC 5280 §4.2.1.6 asks. */
export function isHostName(text: string): boolean {
  if (text.length === 0 || text.length > 253) return false
  const labels = text.split('.')
  return labels.every((label) => LABEL.test(label)) && !/^\d+$/.test(labels[labels.length - 1]!)
}

const isDnsName = (text: string): boolean => isHostName(text.startsWith('*.') ? text.slice(2) : text)

/** `local@host` of RFC 5321 §4.1.2 without quoting. */
export function isMailbox(text: string): boolean {
  const at = text.indexOf('@')
  const local = text.slice(0, at)
  return (
    at > 0 &&
    at <= 64 &&
    local.split('.').every((atom) => /^[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+$/.test(atom)) &&
    isHostName(text.slice(at + 1))
  )
}

/** Reads one GeneralName. `constraint` keeps the forms of §4.2.1.10 apart, whose syntax is checked where they apply. */
export function readGeneralName(der: Der, constraint = false): GeneralName {
  switch (der.tag) {
    case context(1): {
      const value = ia5(der.body)
      if (!constraint && !isMailbox(value)) throw new DerError('malformed rfc822Name')
      return { kind: 'email', value }
    }
    case context(2): {
      const value = ia5(der.body)
      if (!constraint && !isDnsName(value)) throw new DerError('malformed dNSName')
      return { kind: 'dns', value }
    }
    case contextConstructed(4):
      return { kind: 'directory', value: readName(only(der.body, TAG.sequence)) }
    case context(6): {
      const value = ia5(der.body)
      if (!constraint && !/^[A-Za-z][A-Za-z0-9+.-]*:./.test(value)) throw new DerError('malformed URI')
      return { kind: 'uri', value }
    }
    case context(7):
      if (!constraint && der.body.length !== 4 && der.body.length !== 16) throw new DerError('malformed iPAddress')
      return { kind: 'ip', value: der.body }
    case contextConstructed(0):
    case contextConstructed(3):
    case contextConstructed(5):
    case context(8):
      return { kind: 'other', tag: der.tag }
    default:
      throw new DerError('no such form of GeneralName')
  }
}
