/** Certificate chains with things wrong in them, as a random generator would have it: each knows what was done to it. */
import { Buffer } from 'node:buffer'
import fc from 'fast-check'
import { type CertificateWish, der, type Issued, issue, nameConstraints, NOW, newKey, USAGE, x509 } from '../pki.ts'

const PURPOSES = { client: '1.3.6.1.5.5.7.3.2', server: '1.3.6.1.5.5.7.3.1', any: '2.5.29.37.0' } as const

/** Level 0 is the anchor; the last one is the leaf. */
type Change = (wish: CertificateWish & { issuer?: Issued }, level: Level) => CertificateWish
interface Level {
  readonly leaf: boolean
  readonly root: boolean
  readonly strangerKeys: Issued['keys']
}

export const LEAF_URI = 'spiffe://company.example/agents/research'
const LEAF_NAMES = [
  { type: 'url', value: LEAF_URI },
  { type: 'dns', value: 'research.company.example' },
] as const

const uri = (value: string): [number, string] => [0x86, value]
const dns = (value: string): [number, string] => [0x82, value]
const extra =
  (...extensions: x509.Extension[]): Change =>
  (wish) => ({
    ...wish,
    // The later one of a kind: two of them are refused for being two, whatever they say, and not by every judge.
    extra: [...(wish.extra ?? []).filter(({ type }) => extensions.every((each) => each.type !== type)), ...extensions],
  })
const onCa =
  (change: Change): Change =>
  (wish, level) =>
    level.leaf ? wish : change(wish, level)
const onLeaf =
  (change: Change): Change =>
  (wish, level) =>
    level.leaf ? change(wish, level) : wish
const issued =
  (change: (issuer: Issued, level: Level) => Issued): Change =>
  (wish, level) =>
    wish.issuer ? { ...wish, issuer: change(wish.issuer, level) } : wish

/** By name; each may happen to any certificate of a chain. */
const CHANGES: Readonly<Record<string, Change>> = {
  expired: (wish) => ({ ...wish, notAfter: NOW - 1 }),
  'not yet valid': (wish) => ({ ...wish, notBefore: NOW + 60 }),
  'ends this second': (wish) => ({ ...wish, notAfter: NOW }),
  'authority that is none': onCa((wish) => ({ ...wish, ca: false, usage: USAGE.keyCertSign, purposes: null })),
  'leaf that is an authority': onLeaf((wish) => ({ ...wish, ca: true })),
  'path length 0': onCa((wish) => ({ ...wish, ca: 0 })),
  'path length 1': onCa((wish) => ({ ...wish, ca: 1 })),
  'no key usage': (wish) => ({ ...wish, usage: null }),
  'key usage not critical': (wish) => ({ ...wish, usageCritical: false }),
  'authority that may not sign certificates': onCa((wish) => ({ ...wish, usage: USAGE.digitalSignature })),
  'leaf for key agreement': onLeaf((wish) => ({ ...wish, usage: USAGE.keyAgreement })),
  'for servers': (wish) => ({ ...wish, purposes: [PURPOSES.server] }),
  'for clients': (wish) => ({ ...wish, purposes: [PURPOSES.client] }),
  'for any purpose': (wish) => ({ ...wish, purposes: [PURPOSES.any] }),
  'for no stated purpose': onLeaf((wish) => ({ ...wish, purposes: null })),
  'permits its URI': onCa(extra(nameConstraints({ permitted: [uri('company.example')] }))),
  'permits another URI': onCa(extra(nameConstraints({ permitted: [uri('other.example')] }))),
  'permits URIs below only': onCa(extra(nameConstraints({ permitted: [uri('.company.example')] }))),
  'excludes its URI': onCa(extra(nameConstraints({ excluded: [uri('company.example')] }))),
  'permits its DNS name': onCa(extra(nameConstraints({ permitted: [dns('company.example')] }))),
  'permits another DNS name': onCa(extra(nameConstraints({ permitted: [dns('other.example')] }))),
  'excludes its DNS name': onCa(extra(nameConstraints({ excluded: [dns('research.company.example')] }))),
  'name constraints not critical': onCa(extra(nameConstraints({ permitted: [uri('company.example')] }, false))),
  'unknown critical extension': extra(new x509.Extension('1.3.6.1.4.1.99999.1', true, der(0x05))),
  'unknown extension': extra(new x509.Extension('1.3.6.1.4.1.99999.1', false, der(0x05))),
  'SHA-1': (wish) => ({ ...wish, hash: 'SHA-1' }),
  'SHA-384': (wish) => ({ ...wish, hash: 'SHA-384' }),
  'no key ids': (wish) => ({ ...wish, noKeyIds: true }),
  'signed by another key of the same name': issued((issuer, { strangerKeys }) => ({ ...issuer, keys: strangerKeys })),
  'issued under another name': issued((issuer) => ({ ...issuer, name: 'CN=somebody else' })),
  'issued under the name in other case': issued((issuer) => ({ ...issuer, name: issuer.name.toUpperCase() })),
  'issued under the name with a space more': issued((issuer) => ({ ...issuer, name: `${issuer.name} ` })),
}
/** What happens to the bytes, or to what is presented, and not to what is asked of the issuer. */
const AFTERWARDS = [
  'signature bit',
  'to-be-signed bit',
  'missing issuer',
  'a stranger beside it',
  'in reverse',
] as const

export interface Chain {
  /** `level: change`, for messages and for the tables of differences. */
  readonly changes: readonly string[]
  readonly root: Uint8Array
  readonly intermediates: readonly Uint8Array[]
  readonly leaf: Uint8Array
}

export interface Wished {
  /** How many authorities stand between anchor and leaf. */
  readonly between: number
  /** Each at a level counted from the anchor, cut to the length of the chain. */
  readonly changes: readonly { readonly level: number; readonly name: string }[]
}

export const NAMES: readonly string[] = [...Object.keys(CHANGES), ...AFTERWARDS]
export const wished: fc.Arbitrary<Wished> = fc.record({
  between: fc.nat({ max: 3 }),
  changes: fc.array(fc.record({ level: fc.nat({ max: 4 }), name: fc.constantFrom(...NAMES) }), { maxLength: 3 }),
})

/** Keys are the slow part of making chains, and nothing here depends on which they are. */
export async function createChains(): Promise<(wish: Wished) => Promise<Chain>> {
  const keys = await Promise.all(Array.from({ length: 7 }, () => newKey()))
  const stranger = await issue({ name: 'CN=a stranger', ca: true, keys: keys[6]! })

  return async ({ between, changes }) => {
    const last = between + 1
    const made: Issued[] = []
    const done: string[] = []
    for (let level = 0; level <= last; level++) {
      const leaf = level === last
      const issuer = made.at(-1)
      let wish: CertificateWish = {
        name: leaf ? 'CN=leaf' : `CN=authority ${level}`,
        keys: keys[level]!,
        ca: !leaf,
        ...(issuer ? { issuer } : {}),
        ...(leaf ? { names: LEAF_NAMES } : {}),
      }
      for (const { name } of changes.filter((each) => Math.min(each.level, last) === level)) {
        done.push(`${leaf ? 'leaf' : level === 0 ? 'anchor' : `authority ${level}`}: ${name}`)
        wish = CHANGES[name]?.(wish, { leaf, root: level === 0, strangerKeys: keys[5]! }) ?? wish
      }
      made.push(await issue(wish))
    }
    let [root, ...rest] = made.map(({ der: bytes }) => bytes) as [Uint8Array, ...Uint8Array[]]
    for (const { level, name } of changes) {
      const at = Math.min(level, last)
      const flip = (bytes: Uint8Array, where: number): Uint8Array => {
        const copy = Buffer.from(bytes)
        copy[where]! ^= 1
        return copy
      }
      if (name === 'signature bit' || name === 'to-be-signed bit') {
        // The last byte of a signature, and the last of a common name: both leave DER that can be read.
        const where = (bytes: Uint8Array) =>
          name === 'signature bit'
            ? bytes.length - 1
            : Buffer.from(bytes).lastIndexOf(at === last ? 'leaf' : 'authority') + 3
        if (at === 0) root = flip(root, where(root))
        else rest = rest.map((bytes, i) => (i === at - 1 ? flip(bytes, where(bytes)) : bytes))
      }
    }
    const leaf = rest.at(-1)!
    let intermediates = rest.slice(0, -1).toReversed()
    for (const { name } of changes) {
      if (name === 'missing issuer') intermediates = intermediates.slice(1)
      if (name === 'a stranger beside it') intermediates = [stranger.der, ...intermediates]
      if (name === 'in reverse') intermediates = intermediates.toReversed()
    }
    return { changes: done, root, intermediates, leaf }
  }
}
