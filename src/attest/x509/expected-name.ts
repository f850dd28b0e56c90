/**
 * The one name by which a registration knows a certificate (RFC 8705 §2.1.2): a subject in the string form of RFC 4514,
 * or one subject alternative name. Compared as characters: case, spaces and order count, the string type does not.
 */
import { isIPv4, isIPv6 } from 'node:net'
import type { Certificate } from './certificate.ts'
import { cursor, type Der, TAG } from './der.ts'
import type { Attribute } from './names.ts'

export type ExpectedName =
  | { readonly form: 'subject_dn'; readonly value: string; readonly relative: readonly RelativeName[] }
  | { readonly form: 'san_dns' | 'san_uri' | 'san_email'; readonly value: string }
  | { readonly form: 'san_ip'; readonly value: string }

/** The attributes of one relative name, in any order. */
type RelativeName = readonly { readonly oid: string; readonly value: string }[]

export const NAME_FORMS = ['subject_dn', 'san_dns', 'san_uri', 'san_ip', 'san_email'] as const
export type NameForm = (typeof NAME_FORMS)[number]

export type ReadExpectedName =
  | { readonly ok: true; readonly name: ExpectedName }
  | { readonly ok: false; readonly problem: string }

/** RFC 4514 §3; whatever else is written as its OID. */
const KEYWORDS: Readonly<Record<string, string>> = {
  CN: '2.5.4.3',
  L: '2.5.4.7',
  ST: '2.5.4.8',
  O: '2.5.4.10',
  OU: '2.5.4.11',
  C: '2.5.4.6',
  STREET: '2.5.4.9',
  DC: '0.9.2342.19200300.100.1.25',
  UID: '0.9.2342.19200300.100.1.1',
}
const OID = /^(?:[0-2](?:\.(?:0|[1-9][0-9]{0,9})){1,30})$/

export function readExpectedName(form: NameForm, value: string): ReadExpectedName {
  if (form === 'subject_dn') return readDn(value)
  if (form === 'san_ip') {
    const address = canonicalAddress(value)
    if (address === undefined) return { ok: false, problem: `${JSON.stringify(value)} is no IP address` }
    return { ok: true, name: { form, value: address } }
  }
  if (!/^[\x21-\x7e]+$/.test(value)) return { ok: false, problem: 'a name is printable ASCII without spaces' }
  return { ok: true, name: { form, value } }
}

/** RFC 4514 §2, §3: the last relative name comes first. What it would print escaped must be written escaped. */
function readDn(text: string): ReadExpectedName {
  const no = (problem: string) =>
    ({ ok: false, problem: `not a name of RFC 4514 (CN=research,O=Company): ${problem}` }) as const
  const relative: RelativeName[] = []
  let current: { oid: string; value: string }[] = []
  let at = 0
  for (;;) {
    const equals = text.indexOf('=', at)
    const type = equals < 0 ? '' : text.slice(at, equals)
    const keyword = type.toUpperCase()
    const oid = Object.hasOwn(KEYWORDS, keyword) ? KEYWORDS[keyword]! : OID.test(type) ? type : undefined
    if (oid === undefined) return no(`${JSON.stringify(type.slice(0, 40))} is no attribute type`)
    const read = readValue(text, equals + 1)
    if (typeof read === 'string') return no(read)
    if (current.some((each) => each.oid === oid)) return no('one attribute twice in one relative name')
    current.push({ oid, value: read.value })
    const separator = text[read.end]
    if (separator !== '+') {
      relative.unshift(current)
      current = []
    }
    if (separator === undefined) break
    at = read.end + 1
  }
  return { ok: true, name: { form: 'subject_dn', value: text, relative } }
}

function readValue(text: string, start: number): { value: string; end: number } | string {
  const bytes: number[] = []
  let at = start
  while (at < text.length && text[at] !== ',' && text[at] !== '+') {
    const char = text[at]!
    if (char === '\\') {
      const pair = text.slice(at + 1, at + 3)
      if (/^[0-9a-fA-F]{2}$/.test(pair)) {
        bytes.push(Number.parseInt(pair, 16))
        at += 3
      } else if (/^[ "#+,;<=>\\]/.test(pair)) {
        bytes.push(pair.charCodeAt(0))
        at += 2
      } else return 'a backslash that escapes nothing'
      continue
    }
    // §3: these stand for themselves only when escaped; "#" begins a value in hex, which is not read here.
    if (/[";<>\0]/.test(char)) return `${char} must be escaped`
    if (char === '#' && at === start) return '# at the beginning of a value must be escaped'
    if (char === ' ' && (at === start || at + 1 === text.length || /[,+]/.test(text[at + 1]!))) {
      return 'a space at either end of a value must be escaped'
    }
    const point = String.fromCodePoint(text.codePointAt(at)!)
    bytes.push(...Buffer.from(point))
    at += point.length
  }
  if (bytes.length === 0) return 'an empty value'
  try {
    return { value: new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes)), end: at }
  } catch {
    return 'a value is not UTF-8'
  }
}

export function hasName(
  { subject, alternativeNames }: Pick<Certificate, 'subject' | 'alternativeNames'>,
  expected: ExpectedName,
): boolean {
  if (expected.form === 'subject_dn') {
    const { relative } = expected
    return (
      subject.relative.length === relative.length && subject.relative.every((set, i) => sameRelative(set, relative[i]!))
    )
  }
  return alternativeNames.some((name) => {
    if (name.kind === 'ip') return expected.form === 'san_ip' && addressText(name.value) === expected.value
    return (
      (name.kind === 'dns' || name.kind === 'uri' || name.kind === 'email') &&
      `san_${name.kind}` === expected.form &&
      name.value === expected.value
    )
  })
}

function sameRelative(set: readonly Attribute[], expected: RelativeName): boolean {
  return (
    set.length === expected.length &&
    expected.every(({ oid, value }) => set.some((each) => each.oid === oid && textOf(each) === value))
  )
}

/** The characters of an attribute; undefined for string types whose characters are a matter of opinion. */
function textOf({ bytes }: Attribute): string | undefined {
  const pair = cursor(cursor(bytes).any().body)
  pair.any()
  const { tag, body }: Der = pair.any()
  if (tag === TAG.utf8String) return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(body)
  return tag === TAG.printableString || tag === TAG.ia5String ? Buffer.from(body).toString('latin1') : undefined
}

function canonicalAddress(text: string): string | undefined {
  if (isIPv4(text)) return text
  return isIPv6(text) && !text.includes('%') ? new URL(`http://[${text}]`).hostname : undefined
}

/** 4 or 16 bytes, as `readGeneralName` makes sure. */
function addressText(bytes: Uint8Array): string | undefined {
  if (bytes.length === 4) return bytes.join('.')
  const groups = Array.from({ length: 8 }, (_, i) => ((bytes[2 * i]! << 8) | bytes[2 * i + 1]!).toString(16))
  return canonicalAddress(groups.join(':'))
}
