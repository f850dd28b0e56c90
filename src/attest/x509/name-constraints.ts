/** Name constraints (RFC 5280 §4.2.1.10): what a CA may name, in every form that appears, or it is refused. */
import { contextConstructed, cursor, DerError, only, TAG } from './der.ts'
import {
  type Attribute,
  type DistinguishedName,
  type GeneralName,
  isHostName,
  isMailbox,
  readGeneralName,
  subjectMailboxes,
} from './names.ts'

export interface NameConstraints {
  readonly permitted: readonly GeneralName[]
  readonly excluded: readonly GeneralName[]
}

/** Names of one certificate times subtrees of its issuers is what checking costs. */
const MAX_SUBTREES = 128

export function readNameConstraints(value: Uint8Array): NameConstraints {
  const at = cursor(only(value, TAG.sequence).body)
  const permitted = at.maybe(contextConstructed(0))
  const excluded = at.maybe(contextConstructed(1))
  at.end()
  if (permitted === undefined && excluded === undefined) throw new DerError('empty name constraints')
  return {
    permitted: permitted === undefined ? [] : readSubtrees(permitted.body),
    excluded: excluded === undefined ? [] : readSubtrees(excluded.body),
  }
}

function readSubtrees(bytes: Uint8Array): GeneralName[] {
  const at = cursor(bytes)
  const all: GeneralName[] = []
  do {
    const subtree = cursor(at.take(TAG.sequence).body)
    const base = readGeneralName(subtree.any(), true)
    subtree.end() // minimum is 0 and so absent, maximum is absent: nothing else is in use
    if (!wellFormed(base)) throw new DerError('malformed name constraint')
    all.push(base)
    if (all.length > MAX_SUBTREES) throw new DerError('too many name constraints')
  } while (!at.done())
  return all
}

function wellFormed(base: GeneralName): boolean {
  switch (base.kind) {
    case 'dns':
      return base.value === '' || isHostName(base.value)
    case 'uri':
      return isHostName(base.value.replace(/^\./, ''))
    case 'email':
      return base.value.includes('@') ? isMailbox(base.value) : isHostName(base.value.replace(/^\./, ''))
    case 'ip':
      return (base.value.length === 8 || base.value.length === 32) && contiguous(base.value)
    case 'directory':
    case 'other':
      return true
  }
}

/** A mask is ones and then zeros. */
function contiguous(addressAndMask: Uint8Array): boolean {
  const bits = [...addressAndMask.subarray(addressAndMask.length / 2)].map((b) => b.toString(2).padStart(8, '0'))
  return /^1*0*$/.test(bits.join(''))
}

/** Whether every name of a certificate is allowed by the constraints of every CA above it. */
export function namesAllowed(
  subject: DistinguishedName,
  alternative: readonly GeneralName[],
  constraints: readonly NameConstraints[],
): boolean {
  const names: GeneralName[] = [...alternative]
  if (subject.relative.length > 0) names.push({ kind: 'directory', value: subject })
  if (!alternative.some(({ kind }) => kind === 'email')) {
    for (const value of subjectMailboxes(subject)) names.push({ kind: 'email', value })
  }
  return constraints.every(({ permitted, excluded }) =>
    names.every((name) => {
      const allowed = permitted.filter((base) => sameForm(base, name))
      if (allowed.length > 0 && !allowed.some((base) => within(name, base))) return false
      return !excluded.some((base) => sameForm(base, name) && touches(name, base))
    }),
  )
}

const sameForm = (base: GeneralName, name: GeneralName): boolean =>
  base.kind === name.kind && (base.kind !== 'other' || name.kind !== 'other' || base.tag === name.tag)

const under = (host: string, domain: string): boolean => host.endsWith(`.${domain}`)

/** Permitted: the whole of `name` lies in the subtree. Where that cannot be known it does not. */
function within(name: GeneralName, base: GeneralName): boolean {
  if (name.kind === 'dns' && base.kind === 'dns') return dnsWithin(name.value, base.value)
  if (name.kind === 'uri' && base.kind === 'uri') return hostWithin(hostOf(name.value), base.value)
  if (name.kind === 'email' && base.kind === 'email') return mailboxWithin(name.value, base.value)
  if (name.kind === 'ip' && base.kind === 'ip') return addressWithin(name.value, base.value)
  if (name.kind === 'directory' && base.kind === 'directory') {
    return prefix(name.value, base.value, (a, b) => Buffer.compare(a.bytes, b.bytes) === 0)
  }
  return false
}

/** Excluded: any part of `name` lies in the subtree. Where that cannot be known it does. */
function touches(name: GeneralName, base: GeneralName): boolean {
  if (name.kind === 'dns' && base.kind === 'dns') {
    if (dnsWithin(name.value, base.value)) return true
    // A wildcard stands for hosts that may be excluded one by one.
    return name.value.startsWith('*.') && under(base.value.toLowerCase(), name.value.slice(2).toLowerCase())
  }
  if (name.kind === 'uri' && base.kind === 'uri') {
    const host = hostOf(name.value)
    return host === undefined || hostWithin(host, base.value)
  }
  if (name.kind === 'email' && base.kind === 'email') {
    return !isMailbox(name.value) || mailboxWithin(name.value, base.value)
  }
  if (name.kind === 'ip' && base.kind === 'ip') return addressWithin(name.value, base.value)
  if (name.kind === 'directory' && base.kind === 'directory') {
    // Folded, so that another spelling of an excluded name does not slip past.
    return prefix(
      name.value,
      base.value,
      (a, b) => a.oid === b.oid && (a.folded === undefined || b.folded === undefined || a.folded === b.folded),
    )
  }
  return true
}

function dnsWithin(name: string, base: string): boolean {
  const host = name.toLowerCase()
  const domain = base.toLowerCase()
  return domain === '' || host === domain || under(host, domain)
}

/** `host` names itself alone, `.domain` whatever is below it (RFC 5280 §4.2.1.10, for URIs and mailboxes). */
function hostWithin(host: string | undefined, base: string): boolean {
  if (host === undefined) return false
  const domain = base.toLowerCase()
  return domain.startsWith('.') ? host.endsWith(domain) && host.length > domain.length : host === domain
}

function mailboxWithin(mailbox: string, base: string): boolean {
  if (!isMailbox(mailbox)) return false
  const at = mailbox.indexOf('@')
  const host = mailbox.slice(at + 1).toLowerCase()
  if (!base.includes('@')) return hostWithin(host, base)
  const split = base.indexOf('@')
  return mailbox.slice(0, at) === base.slice(0, split) && host === base.slice(split + 1).toLowerCase()
}

/** The host of a URI's authority; without one, or with an address in its place, constraints cannot be applied. */
function hostOf(uri: string): string | undefined {
  const authority = /^[A-Za-z][A-Za-z0-9+.-]*:\/\/([^/?#]*)/.exec(uri)?.[1]
  if (authority === undefined || authority.includes('@')) return undefined
  const host = authority.replace(/:\d*$/, '').toLowerCase()
  return isHostName(host) ? host : undefined
}

function addressWithin(address: Uint8Array, base: Uint8Array): boolean {
  if (base.length !== address.length * 2) return false
  return address.every((byte, i) => (byte & base[address.length + i]!) === (base[i]! & base[address.length + i]!))
}

function prefix(
  name: DistinguishedName,
  base: DistinguishedName,
  same: (a: Attribute, b: Attribute) => boolean,
): boolean {
  return (
    base.relative.length <= name.relative.length &&
    base.relative.every((set, i) => {
      const of = name.relative[i]!
      return set.length === of.length && set.every((attribute) => of.some((other) => same(other, attribute)))
    })
  )
}
